// fashion_lab: a click on a column's name sorts its table; a table that is wider than the page scrolls by itself.
// Without JavaScript they are plain tables.
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
    if (head[0].cells[0]?.textContent.trim() === 'parameter') return;  // these have the order of the call
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
  // wide tables scroll, also by the keyboard, and show on which side there is more
  const widen = table => {
    const box = document.createElement('div');
    box.className = 'wide'; table.replaceWith(box); box.append(table);
    const look = () => {
      const scrolls = box.scrollWidth > box.clientWidth + 1;
      box.classList.toggle('scrolls', scrolls);
      box.classList.toggle('at-end', box.scrollLeft + box.clientWidth >= box.scrollWidth - 1);
      if (!scrolls) return ['tabindex', 'role', 'aria-label'].forEach(a => box.removeAttribute(a));
      box.tabIndex = 0; box.setAttribute('role', 'region'); box.setAttribute('aria-label', `Table ${tables.indexOf(table) + 1}, scrolls to the side`);
    };
    box.addEventListener('scroll', look, { passive: true });
    new ResizeObserver(look).observe(box);
    new ResizeObserver(look).observe(table);
  };
  const tables = [...document.querySelectorAll('.bd-article table')].filter(t => !t.parentElement.closest('table'));
  tables.forEach(widen);
  // what is wider than its box can be scrolled by the keyboard
  document.querySelectorAll('.bd-article :is(pre, div.cell_output)').forEach(e => { if (e.scrollWidth > e.clientWidth + 1) e.tabIndex = 0; });
  // how a result was made can be copied
  document.querySelectorAll('details.origin').forEach(details => {
    const button = document.createElement('button');
    button.type = 'button'; button.textContent = 'Copy';
    button.addEventListener('click', async () => {
      await navigator.clipboard.writeText(details.querySelector('pre').textContent);
      button.textContent = 'Copied'; setTimeout(() => { button.textContent = 'Copy'; }, 1500);
    });
    details.append(button);
  });
  // "Run it" closes like a menu
  document.addEventListener('click', e => document.querySelectorAll('.run-it details[open]').forEach(d => d.contains(e.target) || d.removeAttribute('open')));
  document.addEventListener('keydown', e => e.key === 'Escape' && document.querySelectorAll('.run-it details[open]').forEach(d => d.removeAttribute('open')));
})();
