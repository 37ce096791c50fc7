"""README.md and the static pages, made from the notebooks with nbconvert.

    python tools/pages.py readme    README.md and its pictures from nbs/index.ipynb
    python tools/pages.py docs      every notebook as a page of _docs, through nbdev's own docs processors

Nothing is executed for the README: it shows the outputs that are recorded in the notebook. The pages need no Quarto.
"""
import argparse, base64, configparser, html, os, posixpath, re, shutil, sys
from pathlib import Path

import nbformat
import yaml
from nbconvert import HTMLExporter, MarkdownExporter
from nbformat.v4 import new_markdown_cell, new_output

ROOT = Path(__file__).resolve().parent.parent
DIRECTIVE = re.compile(r'^\s*#\s*\|\s*([\w-]+)\s*:?\s*(.*?)\s*$')


def directives(cell):
    "The `#| name: value` lines at the head of a code cell, as a dict."
    found = {}
    for line in cell.source.splitlines() if cell.cell_type == 'code' else []:
        if line.strip() and not (m := DIRECTIVE.match(line)): break
        if line.strip(): found[m[1]] = m[2].strip('"\'')
    return found


def visible(cell):
    "The cell as a reader should see it (directive lines gone, `echo: false` and `output: false` obeyed), or None if it is hidden."
    d = directives(cell)
    if 'hide' in d or d.get('include') == 'false': return None
    cell = cell.copy()
    if cell.cell_type == 'code':
        if 'hide_output' in d or d.get('output') == 'false': cell.outputs = []
        lines = [] if 'hide_input' in d or d.get('echo') == 'false' else cell.source.splitlines()
        while lines and (not lines[0].strip() or DIRECTIVE.match(lines[0])): lines.pop(0)
        cell.source = '\n'.join(lines)
        if not cell.source and not cell.outputs: return None
        if not cell.source: cell.metadata = dict(transient=dict(remove_source=True))
    return cell


def relink(text, change):
    "`text` with every relative link target `t` outside code blocks replaced by `change(t)`."
    def one(m): return m[0] if re.match(r'[a-z]+:|#|/|$', m[2]) else m[1] + change(m[2]) + m[3]
    parts = re.split(r'(^```.*?^```\s*?$|`[^`\n]+`)', text, flags=re.S | re.M)
    return ''.join(p if i % 2 else re.sub(r'(\]\()([^)\s#]*)((?:#[^)\s]*)?(?:\s+"[^"]*")?\))', one, p) for i, p in enumerate(parts))


def readme(root=ROOT):
    "The files that `make readme` writes: {path below the project's root: text or bytes}."
    nb, files, cells = nbformat.read(root/'nbs'/'index.ipynb', as_version=4), {}, []
    for cell in nb.cells:
        if (shown := visible(cell)) is None: continue
        d = directives(cell)
        for out in shown.get('outputs', []):
            data = out.get('data', {})
            if 'image/png' in data:
                name = f"images/index-{d.get('label', cell.id)}.png"
                files[f'nbs/{name}'] = base64.b64decode(data['image/png'])
                out.data = {'text/markdown': f"![{d.get('fig-alt', '')}]({name})"}
            elif 'text/markdown' in data: out.data = {'text/markdown': data['text/markdown']}
        cells.append(shown)
    for cell in cells:
        below = lambda t: posixpath.normpath('nbs/' + t)  # noqa: E731
        if cell.cell_type == 'markdown': cell.source = relink(cell.source, below)
        for out in cell.get('outputs', []):
            if 'text/markdown' in out.get('data', {}): out.data['text/markdown'] = relink(out.data['text/markdown'], below)
    text, _ = MarkdownExporter().from_notebook_node(nbformat.from_dict(dict(nb, cells=cells)))
    note = '<!-- Made from nbs/index.ipynb by `make readme`: edit the notebook, not this file. -->\n'
    files['README.md'] = note + re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'
    return files


def stale(root=ROOT):
    "What differs between the project and `readme()`: paths that are missing, different or left over."
    want = readme(root)
    have = {p.relative_to(root).as_posix() for p in (root/'nbs'/'images').glob('index-*.png')}
    as_bytes = {k: v.encode() if isinstance(v, str) else v for k, v in want.items()}
    return sorted([k for k, v in as_bytes.items() if not (root/k).exists() or (root/k).read_bytes() != v] + list(have - set(want)))


def write_readme(root=ROOT):
    "Write README.md and its pictures; remove pictures that it no longer shows."
    changed, want = stale(root), readme(root)
    for name in changed:
        path = root/name
        if name not in want: path.unlink(); continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(want[name].encode() if isinstance(want[name], str) else want[name])
    print('README: ' + (', '.join(changed) + ' written' if changed else 'nothing to do'))


STYLE = """<style>
body.jp-Notebook { margin: 0 auto 4rem; padding: 0 1rem; max-width: 62rem; }
nav.rooms { font: 14px/1.9 system-ui, sans-serif; border-bottom: 1px solid #8884; padding: .6rem 0; }
nav.rooms a { margin-right: .8rem; white-space: nowrap; text-decoration: none } nav.rooms a[aria-current] { font-weight: 700 }
nav.rooms b { margin-right: .5rem; font-weight: 400; opacity: .6 }
img { max-width: 100% }
.jp-RenderedMarkdown .highlight pre { font-family: var(--jp-code-font-family); font-size: var(--jp-code-font-size); line-height: 1.4 }
</style>"""


def page_name(path):
    "Where nbdev puts a notebook's page: `foundation/00_core.ipynb` -> `foundation/core.html`."
    folder, name = posixpath.split(path)
    return posixpath.join(folder, re.sub(r'^\d+[a-zA-Z]?_', '', name).lower().removesuffix('.ipynb') + '.html')


def sidebar(nbs, pages):
    "[(section, [notebook, ...]), ...] as `sidebar.yml` orders them; entries may be globs."
    sections = []
    for entry in yaml.safe_load((nbs/'sidebar.yml').read_text())['website']['sidebar']['contents']:
        title, inside = ('', [entry]) if isinstance(entry, str) else (entry['section'], entry['contents'])
        globs = [inside] if isinstance(inside, str) else inside
        sections.append((title, [p.relative_to(nbs).as_posix() for g in globs for p in sorted(nbs.glob(g)) if p.relative_to(nbs).as_posix() in pages]))
    return [s for s in sections if s[1]]


def navigation(here, sections, titles):
    "The links at the top of the page `here`."
    def link(path):
        current = ' aria-current="page"' if path == here else ''
        href = posixpath.relpath(page_name(path), posixpath.dirname(here) or '.')
        return f'<a href="{href}"{current}>{html.escape(titles[path])}</a>'
    rows = (''.join(([f'<b>{html.escape(title)}</b>'] if title else []) + [link(p) for p in paths]) for title, paths in sections)
    return '<nav class="rooms">' + '<br>'.join(rows) + '</nav>'


def as_page(nb, front):
    "A notebook that nbdev's docs processors went through, ready for nbconvert: front matter as a heading, Quarto's attributes gone."
    head = f"# {front['title']}\n\n> {front.get('description', '')}".rstrip('> \n')
    cells = [new_markdown_cell(head)]
    for cell in nb.cells:
        if cell.cell_type == 'raw' or (shown := visible(cell)) is None or cell.source.startswith('<!-- WARNING'): continue
        for i, out in enumerate(shown.get('outputs', [])):
            if 'text/markdown' not in out.get('data', {}): continue
            text = re.sub(r'(?<=\))\{[^}\n]*\}', '', out.data['text/markdown'])
            shown.outputs[i] = new_output('display_data', {'text/markdown': re.sub(r'^---\n', '', text)})
        shown.source = re.sub(r'^(#+ .*?)(?: -)?\s*(?:\{[^}\n]*\})?$', r'\1', shown.source, flags=re.M) if shown.cell_type == 'markdown' else shown.source
        cells.append(shown)
    nb.cells = cells
    return nb


def docs(root=ROOT):
    "Make one static page per notebook in `doc_path`, with nbdev's documentation of every exported name."
    from nbdev.serve import proc_nbs
    os.chdir(root)
    cfg = configparser.ConfigParser(delimiters=['=']); cfg.read(root/'settings.ini', encoding='utf-8')
    done, nbs, out = Path(proc_nbs(n_workers=0, force=True)), root/'nbs', root/cfg['DEFAULT']['doc_path']
    pages = {p.relative_to(done).as_posix(): nbformat.read(p, as_version=4) for p in sorted(done.rglob('*.ipynb'))}
    fronts = {n: yaml.safe_load(nb.cells[0].source.strip('-\n ')) for n, nb in pages.items()}
    sections = sidebar(nbs, pages)
    if missing := set(pages) - {p for _, paths in sections for p in paths}: sys.exit(f"nbs/sidebar.yml does not show {', '.join(sorted(missing))}")
    shutil.rmtree(out, ignore_errors=True)
    for name, nb in pages.items():
        def to_page(t): return page_name(t) if t.endswith('.ipynb') else t
        for cell in (nb := as_page(nb, fronts[name])).cells:
            if cell.cell_type == 'markdown': cell.source = relink(cell.source, to_page)
        text, _ = HTMLExporter(template_name='lab', exclude_input_prompt=True, exclude_output_prompt=True).from_notebook_node(
            nb, resources=dict(metadata=dict(name=fronts[name]['title'])))
        nav = navigation(name, sections, {n: f['title'] for n, f in fronts.items()})
        text = re.sub(r'(<body[^>]*>)', lambda m: m[1] + nav, text.replace('</head>', STYLE + '</head>', 1), count=1)
        path = out/page_name(name)
        path.parent.mkdir(parents=True, exist_ok=True); path.write_text(text, encoding='utf-8')
    print(f'{len(pages)} pages in {out.name}, beginning with {out.name}/index.html')


if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('what', choices=['readme', 'docs'])
    {'readme': write_readme, 'docs': docs}[ap.parse_args().what]()
