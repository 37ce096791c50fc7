"""The documentation site, built offline in `doc_path`: every notebook a page, with nbdev's
documentation of every exported name.

    python tools/website.py              make it from clean
    python tools/website.py --serve      make it, then serve it on http://127.0.0.1:8000 until
                                         Ctrl-C

nbdev's own docs processors (`nbdev.serve.proc_nbs`) document the exported names and link them;
MyST-NB reads the processed notebooks with the outputs that are recorded in them (no cell of a
notebook runs here but imports and exports, which nbdev needs for the signatures); Sphinx with the
PyData theme makes the pages. Why these: all of it comes from PyPI, so that `pip` is the only thing
to install (Quarto, which nbdev calls by itself, is a program of its own to download); MyST-NB is
the one renderer that takes outputs as they are and never needs to execute; Sphinx has a full-text
search that works from any static server; the PyData theme has light and dark pages, a phone layout
and all of its fonts in the package. Formulas become MathML while the site is built: no script is
needed to show them. A dead link is an error, and so is any warning.
"""

import argparse
import ast
import base64
import configparser
import contextlib
import html
import io
import itertools
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell
from PIL import Image
from extras import (
    LOST,
    drop_icon_script,
    root_links,
    server,
    shrink_pictures,
    shrink_styles,
    write_inventory,
    write_sitemap,
)
import try_page
from glossary import add_search_entries, link_mentions, read_terms
from pages import ROOT, directives, page_name, relink, slug, visible
from signatures import documentation

HERE = Path(__file__).resolve().parent / 'website'
# (section, first page, notebooks in order as globs below nbs/); a first page that no notebook makes
# is an overview with a card for every page.
SECTIONS = [
    ('Start here', 'index.html', ['index.ipynb', 'tutorials/*.ipynb']),
    ('Labs', 'chapters/index.html', ['chapters/*.ipynb']),
    ('Lab machinery', 'labs/index.html', ['labs/*.ipynb']),
    (
        'Data',
        'data/index.html',
        ['data/*.ipynb', 'foundation/04_arrays.ipynb', 'synthetic/*.ipynb'],
    ),
    (
        'Models and training',
        'models/index.html',
        ['models/*.ipynb', 'train/*.ipynb', 'compress/*.ipynb', 'export/*.ipynb', 'zoo/*.ipynb'],
    ),
    (
        'Measuring',
        'evaluate/index.html',
        ['evaluate/*.ipynb', 'cost/*.ipynb', 'plot/*.ipynb', 'foundation/03_interpret.ipynb'],
    ),
    ('Tasks', 'pairs/index.html', ['pairs/*.ipynb', 'segment/*.ipynb']),
    (
        'Runs',
        'runs/index.html',
        [
            'runs/*.ipynb',
            'foundation/00_core.ipynb',
            'foundation/01_devices.ipynb',
            'foundation/02_report.ipynb',
        ],
    ),
    ('Interface', 'studio/index.html', ['studio/*.ipynb', 'widgets/*.ipynb']),
    ('Results', 'results/results.html', ['results/*.ipynb']),
]
ABOUT = {
    'Labs': (
        'A chapter for every lab: one question, the central thing done in a few cells, what was '
        'recorded, and exercises that check themselves.'
    ),
    'Lab machinery': (
        'What runs a lab: its configurations and variants, all tables over seeds and folds, '
        'reports and predictions. One protocol for all: choices on validation data, test data '
        'used once, intervals beside every number.'
    ),
    'Data': (
        'From a folder to batches: data cards, files, splits without leakage, loaders; and '
        'drawn stand-ins for all five data sets.'
    ),
    'Models and training': (
        'Pretrained backbones and small networks, training that resumes after '
        'any kill, compression, and export to other programs.'
    ),
    'Measuring': (
        'Metrics with intervals, paired comparisons, what a network costs, and figures '
        'in one style.'
    ),
    'Tasks': 'Verification of shoe pairs, and segmentation of facades.',
    'Runs': 'Runs on disk, their tables, sweeps and searches, and what all of it stands on.',
    'Interface': 'The `fashion_lab` command, explorers with controls, and all labs in one go.',
}
REDIRECTS = HERE / 'redirects.json'  # pages of earlier versions -> where they are now


def settings(root=ROOT):
    cfg = configparser.ConfigParser(delimiters=['='])
    cfg.read(root / 'settings.ini', encoding='utf-8')
    return cfg['DEFAULT']


# Processed notebooks become notebooks that Sphinx can show


def plain(text):
    """Markdown as plain words: no links, emphasis or code marks; what is in code marks stays as
    it is."""
    parts = re.split(r'`([^`]*)`', re.sub(r'!?\[([^\]]*)\]\([^)]*\)', r'\1', text))
    words = ''.join(
        p if i % 2 else re.sub(r'\*+|(?<!\w)_{1,2}(?=\w)|(?<=\w)_{1,2}(?!\w)', '', p)
        for i, p in enumerate(parts)
    )
    return re.sub(r'\s+', ' ', words).strip()


def outside_code(text, change):
    "`text` with `change` applied to what is not in a fenced block."
    return ''.join(
        p if i % 2 else change(p)
        for i, p in enumerate(re.split(r'(^```.*?^```\s*?$)', text, flags=re.S | re.M))
    )


class Levels:
    """Headings of a page that go down by one level at a time: `###` right below the title
    becomes `##`."""

    def __init__(self):
        self.open = []

    def __call__(self, match):
        while self.open and self.open[-1] >= len(match[1]):
            self.open.pop()
        self.open.append(len(match[1]))
        return (
            '#' * (len(self.open) + 1)
            + ' '
            + re.sub(r'\s*(?: -)?\s*(?:\{[^}\n]*\})?\s*$', '', match[2])
        )


def documents(cell):
    return (
        cell.cell_type == 'code'
        and re.search(r'^show_doc\(', cell.source, re.M)
        and len(cell.get('outputs', [])) > 0
    )


def in_source_order(cells):
    """nbdev documents what one cell exports from the last name to the first; here in the order
    of the source, as a reader meets it."""

    def line(cell):
        return int((re.search(r'#L(\d+)\)', cell.outputs[0].data['text/markdown']) or [0, 0])[1])

    for docs, group in itertools.groupby(cells, lambda c: bool(documents(c))):
        yield from sorted(group, key=line) if docs else group


def shown_doc(text):
    """nbdev's documentation of one name: (name, one line about it, Markdown in which the name
    comes first and the link to its source is a plain link)."""
    text = text.replace('.py#LNone)', '.py)')  # a line that nbdev does not know
    name = re.search(r'^### (.+)$', text, re.M)[1].strip()
    source = re.search(r'\[source\]\(([^)\s]+)\)', text)
    rest = re.sub(r'^---\n|^\[source\].*$|^### .+$', '', text, flags=re.M).strip()
    # no links in code
    rest = re.sub(
        r'^```.*?^```',
        lambda m: re.sub(r'\[(`[^`\n]+`)\]\([^)\s]+\)', r'\1', m[0]),
        rest,
        flags=re.S | re.M,
    )
    rest = documentation(rest, text, name)
    about = re.search(r'^\*([^*\n].*?)\*$', rest, re.M)
    link = f'[source]({source[1]}){{.source}}\n\n' if source else ''
    return (
        name,
        plain(about[1]) if about else '',
        f'### {name.replace("_", chr(92) + "_")}\n\n{link}{rest}',
    )


def caption(cell, heading, before):
    """What a figure shows, for those who cannot see it: its own `fig-alt`, or the heading and
    the sentence above it."""
    if said := directives(cell).get('fig-alt'):
        return said
    before = (
        plain(re.sub(r'^(```.*?```|\|.*|#.*|>.*)$', '', before, flags=re.S | re.M))
        if before
        else ''
    )
    sentence = re.split(r'(?<=[.:?])\s', before)[-1] if before else ''
    return ' '.join(filter(None, [f'Figure in “{heading}”.', sentence[:300]]))


def sentences(output):
    """Whether an output is text that may be broken where the page ends: no columns, no
    indentation, nothing richer beside it."""
    data = output.get('data', {})
    text = ''
    if output.output_type == 'stream':
        text = output.get('text', '')
    elif set(data) == {'text/plain'}:
        text = data['text/plain']
    return bool(text.strip()) and not re.search(r'\S {2,}\S|^(?: {2}|\t| \S)', text, re.M)


def fold_title(cell):
    """What stands on a folded code cell: its own `code-summary`, or `Checks` or `Imports` where
    there is nothing else in it; empty for a cell that stays open."""
    d = directives(cell)
    if d.get('code-fold') == 'true':
        return d.get('code-summary') or 'Show code'
    if cell.cell_type != 'code' or cell.outputs:
        return ''
    try:
        statements = ast.parse(cell.source).body
    except SyntaxError:
        return ''
    if statements and all(map(is_check, statements)):
        return 'Checks'
    if len(statements) > 2 and all(isinstance(s, ast.Import | ast.ImportFrom) for s in statements):
        return 'Imports'
    return ''


def is_check(statement):
    "Whether a statement is an assertion, or one of fastcore's tests."
    if isinstance(statement, ast.Assert):
        return True
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return False
    return getattr(statement.value.func, 'id', '').startswith('test_')


def exported_code(text):
    "The code that a documented name links to as its source; empty where it is not found."
    link = re.search(r'\[source\]\(\S+/(fashion_lab/\S+\.py)#L(\d+)\)', text)
    if not link or not (ROOT / link[1]).is_file():
        return ''
    code = (ROOT / link[1]).read_text(encoding='utf-8')
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            continue
        first = min([node.lineno] + [d.lineno for d in node.decorator_list])
        if int(link[2]) in (first, node.lineno):
            return '\n'.join(code.splitlines()[first - 1 : node.end_lineno])
    return ''


def folded(cell, title):
    "The cell with its source folded away under a title."
    cell.metadata.setdefault('tags', []).append('hide-input')
    cell.metadata['mystnb'] = dict(code_prompt_show=title, code_prompt_hide=title)
    return cell


def in_parts(cell, fold=''):
    """A code cell, with every Markdown output as a cell of its own: headings, links and tables
    in it are the page's. Source comes first, and only where it is shown; folded under a title
    where there is one."""
    parts = []
    source = cell.source

    def code(outputs):
        # MyST-NB leaves empty cells out, output and all
        part = new_code_cell(source or '# not shown', outputs=outputs)
        tags = []
        if not source:
            tags.append('remove-input')
        if outputs and all(map(sentences, outputs)):
            tags.append('sentences')
        if tags:
            part.metadata['tags'] = tags
        return folded(part, fold) if source and fold else part

    for markdown, outs in itertools.groupby(
        cell.outputs, lambda o: 'text/markdown' in o.get('data', {})
    ):
        if not markdown or source:
            parts.append(code([] if markdown else list(outs)))
        if markdown:
            parts += [new_markdown_cell(o.data['text/markdown']) for o in outs]
        source = ''
    return parts or [code([])]


def adapt(nb, front, links, title=None):
    """All that stands between a notebook that nbdev processed and one that MyST-NB can show:
    (the notebook, [(name, one line about it), ...])."""
    levels = Levels()
    names = {}
    heading = front['title']
    before = ''
    cells = []
    for cell in in_source_order(nb.cells):
        if (
            cell.cell_type == 'raw'
            or cell.source.startswith('<!-- WARNING')
            or (shown := visible(cell)) is None
        ):
            continue
        if documents(cell):
            name, about, text = shown_doc(shown.outputs[0].data['text/markdown'])
            if name in names:
                continue  # a method that is documented with its class, and once more below
            names[name] = about
            code = exported_code(cell.outputs[0].data['text/markdown'])
            parts = [new_markdown_cell(text)]
            if code:
                parts.append(folded(new_code_cell(code), 'Show code'))
        elif shown.cell_type == 'markdown':
            parts = [shown]
        else:
            parts = in_parts(shown, fold_title(cell))
        for part in parts:
            if part.cell_type == 'markdown':
                part.source = links(
                    outside_code(
                        part.source, lambda t: re.sub(r'^(#+) (.*)$', levels, t, flags=re.M)
                    )
                )
                if found := re.findall(
                    r'^#+ (.+)$', re.sub(r'^```.*?^```', '', part.source, flags=re.S | re.M), re.M
                ):
                    heading = plain(found[-1])
                before = re.split(r'\n\s*\n', part.source.strip())[-1]
            elif any(k.startswith('image/') for o in part.outputs for k in o.get('data', {})):
                image = dict(alt=caption(cell, heading, before))
                part.metadata['mystnb'] = part.metadata.get('mystnb', {}) | dict(image=image)
            part.pop('id', None)
            cells.append(nbformat.from_dict(dict(part, id=f'cell-{len(cells)}')))
    lead = f"\n\n{{.lead}}\n{front['description']}" if front.get('description') else ''
    cells.insert(0, new_markdown_cell(f"# {title or front['title']}{lead}", id='title'))
    info = dict(
        kernelspec=nb.metadata.get('kernelspec', dict(name='python3', display_name='python3')),
        language_info=dict(name='python', pygments_lexer='ipython3'),
    )
    return nbformat.from_dict(dict(nb, cells=cells, metadata=info)), list(names.items())


def readable(title):
    "`labs.shoe_pairs` -> `Shoe pairs`: labs are named for readers, modules stay modules."
    words = re.sub('fashion mnist', 'Fashion-MNIST', title.removeprefix('labs.').replace('_', ' '))
    return words[:1].upper() + words[1:] if title.startswith('labs.') else title


def anchors(nb):
    "The names that a processed notebook documents, as anchors."
    texts = [c.outputs[0].data['text/markdown'] for c in nb.cells if documents(c)]
    return {slug(re.search(r'^### (.+)$', t, re.M)[1]) for t in texts}


def linker(here, pages, s):
    """A function that makes the links of the page `here` lead to pages of the site, or to the
    file's source if it has none; `pages`: {path below nbs/: its anchors}."""
    base = s['doc_host'] + s['doc_baseurl'] + '/'
    folder = posixpath.dirname(here)
    known = {page_name(p): names for p, names in pages.items()}

    def below(target):
        return posixpath.relpath(target, folder or '.')

    def one(target):
        path = posixpath.normpath(posixpath.join('nbs', folder, target))
        if path == 'CONTRIBUTING.md':
            return below('contributing.html')
        if path.startswith('nbs/') and path[4:] in pages:
            return below(page_name(path[4:]))
        return target if target.endswith('.html') else f"{s['git_url']}/blob/{s['branch']}/{path}"

    def symbol(m):
        "nbdev links every name that it knows, also those it documents nowhere: these stay code."
        return f'[{m[1]}]({below(m[2])}#{m[3]})' if m[3] in known.get(m[2], ()) else m[1]

    def change(text):
        return outside_code(
            relink(text, one),
            lambda t: re.sub(
                r'\[([^\]\n]+)\]\(' + re.escape(base) + r'([^)\s#]+)#([^)\s]*)\)', symbol, t
            ),
        )

    return change


# The pages of the site


@dataclass
class Page:
    """What templates and overviews know of a page: where it is, what it is called, and which
    notebook it comes from."""

    url: str
    title: str
    about: str = ''
    notebook: str = ''
    picture: str = ''
    names: tuple = ()
    module: str = ''
    runs_anywhere: bool = False  # its first cell installs the package where it is missing

    @property
    def doc(self):
        return self.url.removesuffix('.html')

    @property
    def card(self):
        "The small picture for our own pages."
        return self.picture.replace('.jpg', '.webp')


def sections(names):
    """[(section, first page, [notebook, ...]), ...]: every notebook of `names` has its place,
    or that is an error."""
    done = [
        (title, first, [n for g in globs for n in sorted(names) if Path(n).match(g)])
        for title, first, globs in SECTIONS
    ]
    placed = [n for _, _, ns in done for n in ns]
    if wrong := sorted(set(names) - set(placed)) + sorted(
        {n for n in placed if placed.count(n) > 1}
    ):
        raise ValueError(
            f"{', '.join(wrong)}: SECTIONS in tools/website.py must place every notebook once"
        )
    return [d for d in done if d[2]]


def thumbnail(nb, path, width=640, card_width=400):
    """Write a notebook's figure for its card, small: that of a cell with `#| card: true`, else
    the richest (the one that takes most bytes); False if it has none. A card is 16:10: it shows
    the top of a high figure, and the whole of a low one. The JPEG is for other sites that show
    a link to the page, the WebP beside it for our own pages."""
    pictures = [
        (directives(c).get('card') == 'true', len(v), v)
        for c in nb.cells
        for o in c.get('outputs', [])
        for k, v in o.get('data', {}).items()
        if k in ('image/png', 'image/jpeg')
    ]
    for *_, data in sorted(pictures, reverse=True):
        im = Image.open(io.BytesIO(base64.b64decode(data)))
        if im.width < 200 or not 0.2 < im.height / im.width < 2:
            continue
        im = im.convert('RGBA')
        white = Image.new('RGBA', im.size, 'white')
        white.alpha_composite(im)
        high = round(im.width * 10 / 16)
        card = Image.new('RGB', (im.width, high), 'white')
        card.paste(white.convert('RGB'), (0, max(0, (high - im.height) // 2)))
        im = card
        im.thumbnail((width, width))
        path.parent.mkdir(parents=True, exist_ok=True)
        im.save(path, quality=82, optimize=True)
        im.thumbnail((card_width, card_width))
        im.save(path.with_suffix('.webp'), quality=75, method=6)
        return True
    return False


def cards(pages, here=''):
    """Pages as a grid of cards, in HTML: a picture where the notebook has one, the title, the
    question it answers."""

    def card(p):
        to = posixpath.relpath(p.url, posixpath.dirname(here) or '.')
        picture = posixpath.relpath(p.card, posixpath.dirname(here) or '.') if p.picture else ''
        top = (
            f'<img src="{picture}" alt="" loading="lazy" width="400" height="250">'
            if picture
            else f'<span class="card-blank" aria-hidden="true">{html.escape(p.title)}</span>'
        )
        return (
            f'<a class="card-link" href="{to}">{top}<span '
            f'class="card-name">{html.escape(p.title)}</span><span '
            f'class="card-about">{html.escape(plain(p.about))}</span></a>'
        )

    return '<div class="cards">\n' + '\n'.join(map(card, pages)) + '\n</div>'


# what several labs share
SHARED = (
    'labs/base.html',
    'labs/chapters.html',
    'labs/cross_validation.html',
    'labs/photo_base.html',
    'labs/registry.html',
)


def shared(page):
    return page.url in SHARED


def overview(title, first, pages):
    "An overview page in Markdown: cards, and below them what the pages above share."
    own = [p for p in pages if not shared(p)] or pages
    text = f'# {title}\n\n{{.lead}}\n{ABOUT.get(title, "")}\n\n{cards(own, first)}\n'
    if rest := [p for p in pages if p not in own]:
        text += f'\n## What they share\n\n{cards(rest, first)}\n'
    return text + (
        '\nEvery function and class of the project is listed in [all names](../names.html).\n'
        if title == 'Runs'
        else ''
    )


def all_names(pages):
    "Every documented name, by letter, in Markdown."
    rows = sorted(
        ((n, a, p) for p in pages for n, a in p.names if n[0] != '_'),
        key=lambda r: (r[0].lower(), r[2].url),
    )
    text = [
        (
            '# All names\n\n{.lead}\nEvery function and class of `fashion_lab` that is meant to be '
            'used, and the page that shows it at work.\n'
        )
    ]
    letters = sorted({name[0].upper() for name, _, _ in rows})
    bar = ' '.join(f'<a href="#{slug(c)}">{c}</a>' for c in letters)
    text.append(f'<nav class="letters" aria-label="Letters">{bar}</nav>\n')
    letter = ''
    for name, about, page in rows:
        if name[0].upper() != letter:
            letter = name[0].upper()
            text.append(f'\n## {letter}\n\n| name | module | what it is |\n|---|---|---|')
        text.append(
            f"| [`{name}`]({page.url}#{slug(name)}) | {page.title} | "
            f"{about.replace('|', chr(92) + '|')} |"
        )
    return '\n'.join(text) + '\n'


def module_of(notebook):
    "The module that a notebook exports; empty where it exports none."
    found = re.search(r'#\| default_exp ([\w.]+)', notebook.read_text(encoding='utf-8'))
    return f'fashion_lab.{found[1]}' if found else ''


def installs_itself(notebook):
    "Whether a notebook has a cell that installs the package in a fresh runtime."
    return '%pip install -q \\"fashion_lab' in notebook.read_text(encoding='utf-8')


NOT_HERE = '''---
orphan: true
nosearch: true
---
# This page does not exist

{.lead}
The address may have changed, or was never right.

Search for what you want (Ctrl + K), look at [all labs](chapters/index.html), or at
[every function and class by letter](names.html).
'''


def sources(root, src):
    "Write everything that Sphinx reads into `src`: [(section, [page, ...]), ...]."
    s = settings(root)
    done = root / '_proc'
    nbs = {
        p.relative_to(done).as_posix(): nbformat.read(p, as_version=4)
        for p in sorted(done.rglob('*.ipynb'))
    }
    made = {}
    known = {name: anchors(nb) for name, nb in nbs.items()}
    for name, nb in nbs.items():
        front = yaml.safe_load(nb.cells[0].source.strip('-\n '))
        title, url = readable(front['title']), page_name(name)
        thumb = '_thumbs/' + url.replace('/', '-').replace('.html', '.jpg')
        new, names = adapt(nb, front, linker(name, known, s), title)
        made[name] = Page(
            url,
            title,
            front.get('description', ''),
            name,
            thumb if thumbnail(nb, src / '_extra' / thumb) else '',
            names,
            module_of(root / 'nbs' / name),
            installs_itself(root / 'nbs' / name),
        )
        (src / url).parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(new, (src / url).with_suffix('.ipynb'))
    parts = [(title, first, [made[n] for n in ns]) for title, first, ns in sections(nbs)]
    extra = {
        'Start here': Page(
            'contributing.html',
            'Contributing',
            'The loop, how a notebook is written, how results are recorded',
        ),
        'Runs': Page('names.html', 'All names', 'Every function and class, by letter'),
    }
    whole = []
    for title, first, pages in parts:
        if first not in [p.url for p in pages]:
            (src / first).with_suffix('.md').write_text(
                overview(title, first, pages), encoding='utf-8'
            )
            pages = [Page(first, title, ABOUT.get(title, '')), *pages]
        whole.append((title, [*pages, extra[title]] if title in extra else pages))
    (src / 'contributing.md').write_text(
        linker('../CONTRIBUTING.md', known, s)(
            (root / 'CONTRIBUTING.md').read_text(encoding='utf-8')
        ),
        encoding='utf-8',
    )
    # the search finds a name where it is explained, and not in this list
    names = '---\nnosearch: true\n---\n' + all_names(made.values())
    (src / 'names.md').write_text(names, encoding='utf-8')
    (src / LOST).with_suffix('.md').write_text(NOT_HERE, encoding='utf-8')
    if try_page.write(src):
        whole[0][1].insert(1, Page('try/index.html', 'Try it', try_page.ABOUT))
    home(src, whole)
    return whole


def home(src, whole):
    """The first page: the notebook's own cells, the labs as cards below its three paths, and
    (unseen) the order of all pages."""
    index = nbformat.read(src / 'index.ipynb', as_version=4)
    paths = [k for k, c in enumerate(index.cells) if c.source.startswith('## Three paths')]
    at = paths[0] + 1 if paths else len(index.cells)
    labs = [
        p
        for title, pages in whole
        if title == 'Labs'
        for p in pages
        if p.notebook and not shared(p)
    ]
    if labs:
        index.cells.insert(at, new_markdown_cell('## The labs\n\n' + cards(labs), id='labs'))
    order = '\n'.join(
        f'{p.title} <{"self" if p.doc == "index" else p.doc}>' for _, pages in whole for p in pages
    )
    index.cells.append(
        new_markdown_cell('```{toctree}\n:hidden:\n\n' + order + '\n```', id='order')
    )
    nbformat.write(index, src / 'index.ipynb')


# Sphinx


def configuration(root, src, whole):
    "Sphinx's configuration."
    s = settings(root)
    every_page = [p for _, pages in whole for p in pages]

    def git(*args):
        return subprocess.run(
            ['git', *args], cwd=root, capture_output=True, text=True
        ).stdout.strip()

    options = dict(
        logo=dict(
            text=s['title'],
            image_light='_static/logo.svg',
            image_dark='_static/logo.svg',
            alt_text='',
        ),
        navbar_center=['site-nav.html'],
        navbar_align='left',
        navbar_end=['theme-switcher.html', 'navbar-icon-links.html'],
        icon_links=[
            dict(
                name='GitHub', url=s['git_url'], icon='fa-solid fa-code-branch', type='fontawesome'
            )
        ],
        article_header_start=['where.html'],
        article_header_end=['run-it.html'],
        secondary_sidebar_items=['page-toc.html'],
        show_toc_level=2,
        footer_start=['site-footer.html'],
        footer_end=[],
        article_footer_items=['page-links.html'],
        pygments_light_style='a11y-high-contrast-light',
        pygments_dark_style='github-dark',
        back_to_top_button=True,
        search_bar_text='Search the site',
        show_prev_next=True,
    )
    return dict(
        project=s['title'],
        author=s['author'],
        version=s['version'],
        release=s['version'],
        language='en',
        root_doc='index',
        nitpicky=False,
        extensions=['myst_nb', 'sphinx_copybutton', 'sphinx.ext.githubpages', 'website'],
        html_math_renderer='mathml',
        nb_execution_mode='off',
        nb_render_markdown_format='myst',
        nb_ipywidgets_js={},
        nb_merge_streams=True,
        myst_enable_extensions=['dollarmath', 'amsmath', 'attrs_inline', 'attrs_block'],
        myst_all_links_external=True,
        myst_disable_syntax=['myst_block_break', 'myst_line_comment', 'myst_target', 'colon_fence'],
        html_theme='pydata_sphinx_theme',
        html_theme_options=options,
        html_title=s['title'],
        html_baseurl=s['doc_host'] + s['doc_baseurl'] + '/',
        html_favicon=str(HERE / 'static' / 'logo.svg'),
        html_static_path=[str(HERE / 'static')],
        html_extra_path=['_extra'],
        html_css_files=['site.css'],
        html_js_files=[('site.js', dict(defer='defer'))],
        templates_path=[str(HERE / 'templates')],
        html_sidebars={'**': ['site-pages.html']},
        html_copy_source=False,
        html_show_sourcelink=False,
        html_use_index=False,
        html_domain_indices=False,
        html_permalinks_icon='#',
        copybutton_prompt_text=r'>>> |\.\.\. |\$ ',
        copybutton_prompt_is_regexp=True,
        copybutton_selector='div.highlight pre:not(.plain)',
        suppress_warnings=['config.cache'],
        html_context=dict(
            sections=whole,
            by_doc={p.doc: p for p in every_page},
            section_of={p.doc: t for t, pages in whole for p in pages},
            terms=read_terms(root / 'nbs', {p.title: p.doc for p in every_page}),
            git_url=s['git_url'],
            branch=s['branch'],
            user=s['user'],
            repo=s['repo'],
            licence='Apache licence 2.0',
            commit=git('rev-parse', '--short', 'HEAD'),
            version_text=s['version'],
            html_baseurl_text=s['doc_host'] + s['doc_baseurl'] + '/',
            default_mode='auto',
        ),
    )


def number_headings(app, doctree):
    "Give every heading the anchor that nbdev's links use, besides Sphinx's own."
    from docutils import nodes

    taken = set()
    for section in doctree.findall(nodes.section):
        anchor = slug(section.next_node(nodes.title).astext(), taken)
        taken.add(anchor)
        section['ids'] = [anchor] + [i for i in section['ids'] if i != anchor]


def add_terms(app, doctree):
    add_search_entries(doctree, app.env.docname, app.config.html_context['terms'])


def link_terms(app, doctree, docname):
    link_mentions(doctree, docname, app.config.html_context['terms'])


def finish_page(app, pagename, templatename, context, doctree):
    """Description for search engines; pictures that load when they come into view; numbers in
    tables that keep their unit."""
    page = app.config.html_context['by_doc'].get(pagename)
    if page:
        context['metatags'] = context.get('metatags', '') + metatags(page, app.config)
    if 'body' not in context:
        return
    body = re.sub(
        r'<img (?![^>]*loading=)', '<img loading="lazy" decoding="async" ', context['body']
    )
    # a corner above the names of rows is no header
    body = re.sub(r'<th\b([^>]*)>(?:\s|&nbsp;|&#160;)*</th>', r'<td\1></td>', body)
    # a number and its unit stay on one line
    together = re.compile(r'(?<=\d) (?=(?:%|±|s|ms|kB|MB|GB)(?![\w/]))|(?<=±) (?=\d)')

    def cell(m):
        short = len(re.sub(r'<[^>]*>|\s+', ' ', m[2]).strip()) <= 24  # which does not wrap
        return (
            ('<td data-short' if short else '<td')
            + m[1]
            + '>'
            + together.sub('\u00a0', m[2])
            + '</td>'
        )

    context['body'] = re.sub(r'<td\b([^>]*)>(.*?)</td>', cell, body, flags=re.S)
    if page:
        context['body'] = opened(context['body'], page)


def opened(body, page):
    "A page whose first section shows no figure begins with a small picture of one further down."
    title_end = body.find('</h1>') + len('</h1>')
    second = [m.start() for m in re.finditer('<h2', body)][1:2]
    soon = '_images/' in body[: second[0] if second else len(body)]
    if not page.picture or soon or page.doc == 'index':
        return body
    picture = posixpath.relpath(page.card, posixpath.dirname(page.url) or '.')
    image = f'<img class="opening" src="{picture}" alt="" width="400" height="250">'
    return body[:title_end] + '\n' + image + body[title_end:]


def metatags(page, config):
    "What search engines, and sites that show a link to the page, are told of it."
    first = config.html_context['by_doc']['index']
    about = plain(page.about) or plain(first.about)
    picture = page.picture or first.picture
    said = {
        'og:type': 'website',
        'og:site_name': config.project,
        'og:title': page.title,
        'og:description': about,
        'og:url': config.html_baseurl + page.url,
        'og:image': config.html_baseurl + picture if picture else '',
    }
    tags = [f'<meta name="description" content="{html.escape(about)}"/>']
    for key, value in said.items():
        if value:
            tags.append(f'<meta property="{key}" content="{html.escape(value)}"/>')
    tags.append('<meta name="twitter:card" content="summary_large_image"/>')
    return '\n'.join(tags) + '\n'


def show_math(translator, node):
    "A formula as MathML, which browsers draw without a script or a font from elsewhere."
    from docutils import nodes
    from latex2mathml.converter import convert

    block = isinstance(node, nodes.math_block)
    text = convert(node.astext(), display='block' if block else 'inline')
    translator.body.append(
        f'<div class="math">{text}</div>' if block else f'<span class="math">{text}</span>'
    )
    raise nodes.SkipNode


def setup(app):
    "What Sphinx calls to add the parts above."
    app.add_html_math_renderer('mathml', (show_math, None), (show_math, None))
    app.connect('doctree-read', number_headings, priority=100)
    app.connect('doctree-read', add_terms)
    app.connect('doctree-resolved', link_terms)
    app.connect('html-page-context', finish_page, priority=900)
    return dict(parallel_read_safe=True, parallel_write_safe=True)


# Links


class Links(HTMLParser):
    "The anchors that a page has, and everything it points to."

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.ids, self.targets = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if 'id' in a:
            self.ids.add(a['id'])
        for key in ('href', 'src'):
            if a.get(key) is not None and not (tag == 'link' and a.get('rel') == 'canonical'):
                self.targets.append(a[key])


def dead_links(out):
    """[(page, target), ...]: links, pictures, styles and scripts of the site that lead nowhere
    in it. Other hosts are not asked."""
    found = {
        p.relative_to(out).as_posix(): Links(p.read_text(encoding='utf-8'))
        for p in sorted(out.rglob('*.html'))
        if '_static' not in p.parts
    }
    dead = []
    for name, page in found.items():
        for target in dict.fromkeys(page.targets):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            path = (
                posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path)))
                if parts.path
                else name
            )
            if not (out / path).is_file():
                dead.append((name, target))
            elif (
                parts.fragment and path in found and unquote(parts.fragment) not in found[path].ids
            ):
                dead.append((name, target))
    return dead


# All together


def process(root):
    "nbdev's processed notebooks in `_proc`."
    from nbdev.serve import proc_nbs

    with contextlib.chdir(root), contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            proc_nbs(n_workers=0, force=True)
        except BaseException:
            sys.stderr.write(said.getvalue())
            raise


def build(root=ROOT, parallel=None):
    """Make the site from clean; the folder it is in. An old one is replaced only when the new
    one is whole."""
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    start = time.perf_counter()
    final = root / settings(root)['doc_path']
    process(root)
    with tempfile.TemporaryDirectory() as tmp:
        src, out = Path(tmp) / 'src', Path(tmp) / 'site'
        src.mkdir()
        whole = sources(root, src)
        for page in (p for _, pages in whole for p in pages if p.notebook):
            (to := src / '_extra' / 'notebooks' / page.notebook).parent.mkdir(
                parents=True, exist_ok=True
            )
            shutil.copyfile(root / 'nbs' / page.notebook, to)
        said = io.StringIO()
        with patch_docutils(), docutils_namespace():
            app = Sphinx(
                src,
                None,
                out,
                Path(tmp) / 'doctrees',
                'html',
                confoverrides=configuration(root, src, whole),
                status=None,
                warning=said,
                freshenv=True,
                parallel=parallel or min(4, os.cpu_count() or 1),
            )
            app.build(force_all=True)
        (out / '.buildinfo').unlink(missing_ok=True)
        shutil.rmtree(out / '_sources', ignore_errors=True)
        if text := said.getvalue().strip():
            raise SystemExit(f'The site has faults:\n{text}')
        write_redirects(out)
        if dead := dead_links(out):
            raise SystemExit('Links that lead nowhere:\n' + '\n'.join(f'{p}: {t}' for p, t in dead))
        finish_site(out, settings(root), [p for _, pages in whole for p in pages])
        shutil.rmtree(final, ignore_errors=True)
        shutil.move(out, final)
    print(
        f'{len(list(final.rglob("*.html")))} pages in {final.name} after '
        f'{time.perf_counter() - start:.0f} s, beginning with {final.name}/index.html'
    )
    return final


def finish_site(
    out,  # the folder of the site
    s,  # the project's settings
    pages,  # every `Page`
):
    "What is made from the whole: lists of pages and names, small pictures, the page for lost readers."
    base = s['doc_host'] + s['doc_baseurl'] + '/'
    write_sitemap(out, base, [p.url for p in pages])
    write_inventory(out, s['title'], s['version'], pages)
    shrink_pictures(out)
    drop_icon_script(out)
    shrink_styles(out)
    lost = out / LOST
    text = root_links(lost.read_text(encoding='utf-8'), s['doc_baseurl'] + '/')
    lost.write_text(text, encoding='utf-8')


REDIRECT = '''<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>This page has moved</title><meta name="robots" content="noindex">
<link rel="canonical" href="$target"><noscript><meta http-equiv="refresh" content="0; url=$target"></noscript></head>
<body><p>This page has moved: <a id="there" href="$target">$target</a></p>
<script>
const moved = $moved, name = decodeURIComponent(location.hash.slice(1));
location.replace((moved[name] || "$target") + location.hash);
</script></body></html>
'''


def write_redirects(out):
    """A small page at every address of earlier versions that leads on to where its content is
    now, name by name."""
    for old, places in json.loads(REDIRECTS.read_text(encoding='utf-8')).items():
        if (out / old).exists():
            raise SystemExit(f'{old} is a page again: take it out of {REDIRECTS.name}')
        here = posixpath.dirname(old) or '.'
        moved = {name: posixpath.relpath(page, here) for name, page in places.items()}
        text = REDIRECT.replace('$target', moved.pop('')).replace('$moved', json.dumps(moved))
        (out / old).parent.mkdir(parents=True, exist_ok=True)
        (out / old).write_text(text, encoding='utf-8')


def serve(out, port=8000):
    "Serve the site on this machine alone, until Ctrl-C."
    prefix = settings()['doc_baseurl'] + '/'
    print(f'http://127.0.0.1:{port}{prefix} (Ctrl-C ends it)')
    with contextlib.suppress(KeyboardInterrupt):
        server(out, prefix, port).serve_forever()


if __name__ == '__main__':
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument('--serve', action='store_true', help='serve the site when it is made')
    ap.add_argument('--port', type=int, default=8000)
    args = ap.parse_args()
    # this file, under the name that Sphinx loads it by: nbdev puts another module in the place of
    # __main__
    import website

    made = website.build()
    if args.serve:
        website.serve(made, args.port)
