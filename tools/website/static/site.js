// fashion_lab: a click on a column's name sorts its table. Without JavaScript they are plain tables.
(() => {
  const value = cell => {
    const text = (cell.dataset.sort ?? cell.textContent).trim();
    const plain = text.replace(/,(?=\d{3})/g, '').replace('−', '-');
    const number = /^[-+]?[\d.]+(e[-+]?\d+)?(?![\w.-])/i.test(plain) ? parseFloat(plain) : NaN;  // a date or a digest is no number
    return [Number.isNaN(number) ? null : number, text];
  };
  const compare = (a, b) => {
    if (a[1] === '' || b[1] === '') return (a[1] === '') - (b[1] === '') || 0;
    return a[0] !== null && b[0] !== null ? a[0] - b[0] : a[1].localeCompare(b[1], 'en', { numeric: true });
  };
  const sortable = table => {
    const head = table.tHead?.rows, body = table.tBodies;
    if (!head || head.length !== 1 || body.length !== 1 || body[0].rows.length < 3) return;
    if ([...table.querySelectorAll('[rowspan],[colspan]')].some(c => c.rowSpan > 1 || c.colSpan > 1)) return;
    [...head[0].cells].forEach((th, column) => {
      if (!th.textContent.trim() || th.querySelector('button, a')) return;
      const button = document.createElement('button');
      button.type = 'button'; button.className = 'sort'; button.title = 'Sort by this column';
      button.append(...th.childNodes); th.append(button);
      button.addEventListener('click', () => {
        const down = th.getAttribute('aria-sort') === 'ascending';
        [...head[0].cells].forEach(c => c.removeAttribute('aria-sort'));
        th.setAttribute('aria-sort', down ? 'descending' : 'ascending');
        const rows = [...body[0].rows].map(row => [value(row.cells[column]), row]);
        rows.sort((a, b) => (a[0][1] === '' || b[0][1] === '' ? 1 : down ? -1 : 1) * compare(a[0], b[0]));
        body[0].append(...rows.map(r => r[1]));
      });
    });
  };
  document.querySelectorAll('.bd-article table').forEach(sortable);
  // "Run it" closes like a menu
  document.addEventListener('click', e => document.querySelectorAll('.run-it details[open]').forEach(d => d.contains(e.target) || d.removeAttribute('open')));
  document.addEventListener('keydown', e => e.key === 'Escape' && document.querySelectorAll('.run-it details[open]').forEach(d => d.removeAttribute('open')));
})();
