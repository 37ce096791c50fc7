"""The glossary on the site: the search finds its terms, and other pages link the first place where
they mention one.

A term is a heading `### Term` of nbs/tutorials/05_glossary.ipynb, or several names: `### MACs and
FLOPs`, `### Average precision (AP)`. The page that treats a term is the one with its name, else the
first one that its text links.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import index
from sphinx.util.osutil import relative_uri

from pages import page_name, slug

NOTEBOOK = 'tutorials/05_glossary.ipynb'
PAGE = 'tutorials/glossary'
TERM = re.compile(r'^### (.+)\n((?:(?!#).*\n?)*)', re.M)
LINKING = ('chapters/', 'labs/', 'tutorials/')  # the pages that students read
# words that mostly mean something else, or too much
EVERYDAY = {'training', 'validation', 'precision', 'recall', 'calibration', 'run', 'profile'}
# what readers look for where neither a title nor the glossary leads: the page that answers
SOUGHT = {
    'install': 'tutorials/install',
    'gpu': 'tutorials/train_on_a_gpu',
    'own photos': 'tutorials/your_own_photos',
    'mixed precision': 'train/loop',
    'int8': 'export/int8',
}


@dataclass(frozen=True)
class Term:
    "A term of the glossary."

    heading: str
    page: str  # the page that treats it, without its ending; the glossary's own if there is none

    @property
    def names(self):
        "`MACs and FLOPs` has two, `Average precision (AP)` as well; a plural is its singular."
        names = [n.strip() for n in re.split(r',| and |[()]', self.heading)]
        return [singular(n) for n in names if n and n.lower() not in EVERYDAY]


def singular(name):
    return re.sub(r'(?<!s)s$', '', name)


def read_terms(
    nbs,  # the folder of the notebooks
    pages,  # {title: page} of the site; a page that has the name of a term treats it
):  # the terms, in the order of the glossary
    cells = json.loads((Path(nbs) / NOTEBOOK).read_text(encoding='utf-8'))['cells']
    text = '\n\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'markdown')
    by_title = {letters(title): page for title, page in pages.items()}
    terms = []
    for heading, about in TERM.findall(text):
        term = Term(heading, PAGE)
        titled = [by_title[letters(name)] for name in term.names if letters(name) in by_title]
        link = re.search(r'\]\(\.\./([^)#\s]+\.ipynb)', about)
        if titled:
            term = Term(heading, titled[0])
        elif link:
            term = Term(heading, page_name(link[1]).removesuffix('.html'))
        terms.append(term)
    return terms


def letters(text):
    "`Receptive field` and `Receptive fields` are the same words."
    return singular(re.sub(r'[\W_]', '', text.lower()))


def add_search_entries(doctree, docname, terms):
    "Make the page the first answer of the search to the terms that it treats."
    entries = [(word, '') for word, page in SOUGHT.items() if page == docname]
    for term in terms:
        anchor = slug(term.heading) if term.page == PAGE else ''
        if term.page == docname:
            entries += [(name, anchor) for name in term.names if name.lower() not in SOUGHT]
    if entries:
        found = [('single', word, anchor, 'main', None) for word, anchor in entries]
        doctree.insert(0, index(entries=found))


def pattern(terms):
    "What finds mentions of the terms, long names first: plural forms and capitals included."
    names = {name for term in terms for name in term.names}
    longest_first = sorted(names, key=lambda n: (-len(n), n))
    return re.compile(rf'(?<![\w-])({"|".join(map(re.escape, longest_first))})s?(?![\w-])', re.I)


def is_prose(text):
    "Whether a text may get a link: in a paragraph, outside of links, code, emphasis and tables."
    node = text.parent
    if not isinstance(node, nodes.paragraph):
        return False
    while node:
        if isinstance(node, (nodes.table, nodes.reference, nodes.title)):
            return False
        node = node.parent
    return True


def link_mentions(doctree, docname, terms):
    "Link the first mention of each term to the glossary."
    if not docname.startswith(LINKING) or docname == PAGE:
        return
    anchors = {name.lower(): slug(term.heading) for term in terms for name in term.names}
    mentions = pattern(terms)
    linked = set()
    for text in [t for t in doctree.findall(nodes.Text) if is_prose(t)]:
        parts, end = [], 0
        for match in mentions.finditer(text):
            anchor = anchors[match[1].lower()]
            if anchor in linked:
                continue
            linked.add(anchor)
            parts.append(nodes.Text(text[end : match.start()]))
            to = f'{relative_uri(docname, PAGE)}.html#{anchor}'
            parts.append(nodes.reference('', match[0], refuri=to, internal=True, classes=['term']))
            end = match.end()
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(text[end:])])
