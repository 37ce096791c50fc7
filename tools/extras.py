"""What the site has besides its pages: a list of pages for search engines, a list of names for
other projects' documentation (`objects.inv`), small pictures, a page for addresses that lead
nowhere, and a server that answers as GitHub Pages does."""

import html
import io
import re
import zlib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import tinycss2
from PIL import Image

from pages import slug

DRAWN = 120_000  # bytes of a PNG; one that is larger holds photos
QUALITY = 75
LOST = '404.html'  # what GitHub Pages shows for an address that leads nowhere


def write_sitemap(
    out,  # the folder of the site
    base,  # its address, with a slash at the end
    pages,  # addresses below it
):
    "List every page for search engines."
    places = '\n'.join(f'  <url><loc>{html.escape(base + page)}</loc></url>' for page in pages)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    space = 'http://www.sitemaps.org/schemas/sitemap/0.9'
    text = f'{head}<urlset xmlns="{space}">\n{places}\n</urlset>\n'
    (out / 'sitemap.xml').write_text(text, encoding='utf-8')


def inventory_lines(
    pages,  # with `url`, `title`, `module` and `names` as (name, one line about it)
):  # the lines of an inventory: name, what it is, priority, address, title
    "Every page and every documented name as Sphinx's inventories have them."
    lines = []
    for page in pages:
        lines.append(f'{page.doc} std:doc -1 {page.url} {page.title}')
        if not page.module:
            continue
        lines.append(f'{page.module} py:module 0 {page.url} -')
        for name, _ in page.names:
            role = 'class' if name[0].isupper() else 'function'
            role = 'method' if '.' in name else role
            lines.append(f'{page.module}.{name} py:{role} 1 {page.url}#{slug(name)} -')
    return lines


def write_inventory(out, project, version, pages):
    "Write `objects.inv`, by which intersphinx finds the names of this project."
    head = (
        f'# Sphinx inventory version 2\n# Project: {project}\n# Version: {version}\n'
        '# The remainder of this file is compressed using zlib.\n'
    )
    body = '\n'.join(inventory_lines(pages)) + '\n'
    (out / 'objects.inv').write_bytes(head.encode() + zlib.compress(body.encode(), 9))


def as_webp(png):
    "A PNG as WebP: drawings as they are, photos with a loss that is hard to see."
    lossy = len(png) > DRAWN
    options = dict(quality=QUALITY, method=6) if lossy else dict(lossless=True, quality=60)
    Image.open(io.BytesIO(png)).save(small := io.BytesIO(), 'WEBP', **options)
    return small.getvalue()


def shrink_pictures(out):
    "Replace the pictures of the pages by smaller ones where there is something to gain."
    names = {}
    for path in sorted((out / '_images').glob('*.png')):
        png = path.read_bytes()
        small = as_webp(png)
        if len(small) < len(png):
            path.with_suffix('.webp').write_bytes(small)
            path.unlink()
            names[path.name] = path.with_suffix('.webp').name
    if not names:
        return
    for page in out.rglob('*.html'):
        text = page.read_text(encoding='utf-8')
        changed = re.sub(r'(?<=_images/)\w+\.png', lambda m: names.get(m[0], m[0]), text)
        if changed != text:
            page.write_text(changed, encoding='utf-8')


def split_selectors(text):
    "`a, b:is(c, d)` at its outer commas."
    parts, depth = [''], 0
    for letter in text:
        depth += (letter in '([') - (letter in ')]')
        if letter == ',' and not depth:
            parts.append('')
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def is_used(
    selector,  # of one rule
    words,  # everything that may be a class or an id
):
    "Whether a selector may match: all its classes and ids are used, but for those it excludes."
    if '\\' in selector:
        return True  # escaped characters are not read here
    asked = re.sub(r':(?:not|is|where|has)\([^)]*\)', '', selector)
    return all(name in words for name in re.findall(r'[.#]([A-Za-z_][\w-]*)', asked))


def used_rules(nodes, words):
    "The rules of a style sheet that may match something, as CSS."
    kept = []
    for node in nodes:
        if node.type == 'qualified-rule':
            selectors = split_selectors(tinycss2.serialize(node.prelude))
            selectors = [x for x in selectors if is_used(x, words)]
            if selectors:
                kept.append(f'{",".join(selectors)}{{{tinycss2.serialize(node.content)}}}')
        elif node.type == 'at-rule' and node.lower_at_keyword in ('media', 'supports', 'layer'):
            if node.content is None:
                kept.append(node.serialize())
                continue
            inside = tinycss2.parse_rule_list(node.content, True, True)
            if rules := used_rules(inside, words):
                kept.append(f'@{node.at_keyword}{tinycss2.serialize(node.prelude)}{{{rules}}}')
        elif node.type != 'comment' or node.value.startswith('!'):
            kept.append(node.serialize())
    return ''.join(kept)


def drop_icon_script(out):
    """Leave out the theme's script that draws icons: the fonts that its style sheets name show the
    same ones."""
    tag = re.compile(r'\s*<(?:script|link)[^>]*scripts/fontawesome\.js[^>]*>(?:</script>)?')
    for path in out.rglob('*.html'):
        path.write_text(tag.sub('', path.read_text(encoding='utf-8')), encoding='utf-8')
    for path in (out / '_static' / 'scripts').glob('fontawesome.js*'):
        path.unlink()


def shrink_styles(out):
    "Leave out the rules of the theme's style sheets whose classes stand in no page and no script."
    words = set()
    for path in out.rglob('*.html'):
        for names in re.findall(r'\b(?:class|id)="([^"]*)"', path.read_text(encoding='utf-8')):
            words |= set(names.split())
    for path in (out / '_static').rglob('*.js'):
        words |= set(re.findall(r'[\w-]+', path.read_text(encoding='utf-8')))
    for path in (out / '_static').rglob('*.css'):
        nodes = tinycss2.parse_stylesheet(path.read_text(encoding='utf-8'), False, True)
        path.write_text(used_rules(nodes, words), encoding='utf-8')


def root_links(text, prefix):
    """A page whose links lead from the root of the host: it is shown at addresses of any depth.
    `#place` stays in the page."""

    def one(m):
        parts = urlsplit(m[2])
        outside = parts.scheme or parts.netloc or m[2].startswith(('#', '/'))
        return m[0] if outside else f'{m[1]}"{prefix}{m[2].removeprefix("./")}"'

    return re.sub(r'\b((?:href|src|action|data-content_root)=)"([^"]*)"', one, text)


class Pages(SimpleHTTPRequestHandler):
    "The site below its path on the host, `LOST` for what is not there; nothing is logged."

    def __init__(self, *args, prefix='/', **kwargs):
        self.prefix = prefix
        super().__init__(*args, **kwargs)

    def log_message(self, *args):
        pass

    def translate_path(self, path):
        "Where a file lies; an address outside of the site's path is none of its files."
        if not path.startswith(self.prefix):
            return str(Path(self.directory) / 'outside of the site')
        return super().translate_path('/' + path.removeprefix(self.prefix))

    def do_GET(self):
        if self.path == '/' != self.prefix:
            self.send_response(302)
            self.send_header('Location', self.prefix)
            self.end_headers()
            return
        super().do_GET()

    def send_error(self, code, message=None, explain=None):
        lost = Path(self.directory) / LOST
        if code != 404 or not lost.is_file():
            return super().send_error(code, message, explain)
        body = lost.read_bytes()
        self.send_response(404)
        self.send_header('Content-Type', 'text/html; charset=utf-8')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)


def server(out, prefix, port=0):
    "A server of the site on this machine alone; `port` 0 takes a free one."
    handler = partial(Pages, directory=out, prefix=prefix)
    return ThreadingHTTPServer(('127.0.0.1', port), handler)
