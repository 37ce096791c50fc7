"""README.md, made from the index notebook with nbconvert, and what the site (website.py) reads
notebooks with.

    python tools/pages.py readme    README.md and its pictures from nbs/index.ipynb

Nothing is executed: the README shows the outputs that are recorded in the notebook.
"""

import argparse
import base64
import posixpath
import re
from pathlib import Path

import nbformat
import yaml
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parent.parent
DIRECTIVE = re.compile(r'^\s*#\s*\|\s*([\w-]+)\s*:?\s*(.*?)\s*$')


def directives(cell):
    "The `#| name: value` lines at the head of a code cell, as a dict."
    found = {}
    for line in cell.source.splitlines() if cell.cell_type == 'code' else []:
        if line.strip() and not (m := DIRECTIVE.match(line)):
            break
        if line.strip():
            found[m[1]] = m[2].strip('"\'')
    return found


def visible(cell):
    """The cell as a reader should see it (directive lines gone, `echo: false` and `output:
    false` obeyed), or None if it is hidden."""
    d = directives(cell)
    if 'hide' in d or d.get('include') == 'false':
        return None
    cell = cell.copy()
    if cell.cell_type == 'code':
        if 'hide_output' in d or d.get('output') == 'false':
            cell.outputs = []
        lines = [] if 'hide_input' in d or d.get('echo') == 'false' else cell.source.splitlines()
        while lines and (not lines[0].strip() or DIRECTIVE.match(lines[0])):
            lines.pop(0)
        cell.source = '\n'.join(lines)
        if not cell.source and not cell.outputs:
            return None
        if not cell.source:
            cell.metadata = dict(transient=dict(remove_source=True))
    return cell


def relink(text, change):
    "`text` with every relative link target `t` outside code blocks replaced by `change(t)`."

    def one(m):
        return m[0] if re.match(r'[a-z]+:|#|/|$', m[2]) else m[1] + change(m[2]) + m[3]

    parts = re.split(r'(^```.*?^```\s*?$|`[^`\n]+`)', text, flags=re.S | re.M)
    return ''.join(
        p if i % 2 else re.sub(r'(\]\()([^)\s#]*)((?:#[^)\s]*)?(?:\s+"[^"]*")?\))', one, p)
        for i, p in enumerate(parts)
    )


def readme(root=ROOT):
    "The files that `make readme` writes: {path below the project's root: text or bytes}."
    nb = nbformat.read(root / 'nbs' / 'index.ipynb', as_version=4)
    files = {}
    cells = []
    for cell in nb.cells:
        if (shown := visible(cell)) is None:
            continue
        d = directives(cell)
        for out in shown.get('outputs', []):
            data = out.get('data', {})
            if 'image/png' in data:
                name = f"images/index-{d.get('label', cell.id)}.png"
                files[f'nbs/{name}'] = base64.b64decode(data['image/png'])
                out.data = {'text/markdown': f"![{d.get('fig-alt', '')}]({name})"}
            elif 'text/markdown' in data:
                out.data = {'text/markdown': data['text/markdown']}
        cells.append(shown)
    for cell in cells:

        def below(t):
            return posixpath.normpath('nbs/' + t)

        if cell.cell_type == 'markdown':
            cell.source = relink(cell.source, below)
        for out in cell.get('outputs', []):
            if 'text/markdown' in out.get('data', {}):
                out.data['text/markdown'] = relink(out.data['text/markdown'], below)
    text, _ = MarkdownExporter().from_notebook_node(nbformat.from_dict(dict(nb, cells=cells)))
    note = (
        '<!-- Made from nbs/index.ipynb by `make readme`: edit the notebook, not this file. -->\n'
    )
    files['README.md'] = note + re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'
    return files


def stale(root=ROOT):
    """What differs between the project and `readme()`: paths that are missing, different or
    left over."""
    want = readme(root)
    have = {p.relative_to(root).as_posix() for p in (root / 'nbs' / 'images').glob('index-*.png')}
    as_bytes = {k: v.encode() if isinstance(v, str) else v for k, v in want.items()}
    return sorted(
        [k for k, v in as_bytes.items() if not (root / k).exists() or (root / k).read_bytes() != v]
        + list(have - set(want))
    )


def write_readme(root=ROOT):
    "Write README.md and its pictures; remove pictures that it no longer shows."
    changed, want = stale(root), readme(root)
    for name in changed:
        path = root / name
        if name not in want:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(want[name].encode() if isinstance(want[name], str) else want[name])
    print('README: ' + (', '.join(changed) + ' written' if changed else 'nothing to do'))


def page_name(path):
    "Where nbdev puts a notebook's page: `foundation/00_core.ipynb` -> `foundation/core.html`."
    folder, name = posixpath.split(path)
    return posixpath.join(
        folder, re.sub(r'^\d+[a-zA-Z]?_', '', name).lower().removesuffix('.ipynb') + '.html'
    )


def slug(text, taken=()):
    """The anchor of a heading, as Quarto and nbdev's links have it: `Predictions.save` ->
    `predictions.save`; a second one of a page gets a number."""
    base = re.sub(r'\s+', '-', re.sub(r'[^\w\s.-]', '', text).strip().lower()) or 'section'
    return next(s for s in [base, *(f'{base}-{i}' for i in range(1, 1000))] if s not in taken)


def sidebar(nbs, pages):
    "[(section, [notebook, ...]), ...] as `sidebar.yml` orders them; entries may be globs."
    sections = []
    for entry in yaml.safe_load((nbs / 'sidebar.yml').read_text())['website']['sidebar'][
        'contents'
    ]:
        title, inside = (
            ('', [entry]) if isinstance(entry, str) else (entry['section'], entry['contents'])
        )
        globs = [inside] if isinstance(inside, str) else inside
        sections.append(
            (
                title,
                [
                    p.relative_to(nbs).as_posix()
                    for g in globs
                    for p in sorted(nbs.glob(g))
                    if p.relative_to(nbs).as_posix() in pages
                ],
            )
        )
    return [s for s in sections if s[1]]


if __name__ == '__main__':
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument('what', choices=['readme'])
    {'readme': write_readme}[ap.parse_args().what]()
