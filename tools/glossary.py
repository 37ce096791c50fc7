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

NOTEBOOK = 'tutorials/05_glossary.ipynb'
PAGE = 'tutorials/glossary'
TERM = re.compile(r'^### (.+)\n((?:(?!#).*\n?)*)', re.M)
LINKING = ('labs/', 'tutorials/')  # the pages that students read
# mostly said in another sense, which a link would confuse
NOT_LINKED = {'run', 'profile', 'precision', 'recall'}
# what readers look for besides, or where neither a title nor the glossary leads: the page that answers
SOUGHT = {
    'install': 'index',
    'gpu': 'tutorials/train_on_a_gpu',
    'own photos': 'tutorials/your_own_photos',
    'grouped k-fold': 'data/folds',
    'mixed precision': 'train/loop',
    'linear probe': 'models/features',
    'quantisation': 'export/int8',
    'int8': 'export/int8',
    'knowledge distillation': 'compress/distill',
}


@dataclass(frozen=True)
class Term:
    "A term of the glossary."

    heading: str
    page: str  # the page that treats it, without its ending; the glossary's own if there is none

    @property
    def anchor(self):
        "As the site makes it of a heading."
        return re.sub(r'\s+', '-', re.sub(r'[^\w\s.-]', '', self.heading).strip().lower())

    @property
    def names(self):
        "`MACs and FLOPs` has two, `Average precision (AP)` as well; a plural is its singular."
        names = re.split(r',| and |[()]', self.heading)
        return [re.sub(r's$', '', n.strip()) for n in names if n.strip()]


def read_terms(
    nbs,  # the folder of the notebooks
    pages,  # {title: page} of the site; a page that has the name of a term treats it
    page_name,  # the function from a notebook's path to its page's
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
    return re.sub(r'[\W_]', '', text.lower()).removesuffix('s')


def add_search_entries(doctree, docname, terms):
    "Make the page the first answer of the search to the terms that it treats."
    entries = [(word, '') for word, page in SOUGHT.items() if page == docname]
    for term in terms:
        anchor = term.anchor if term.page == PAGE else ''
        if term.page == docname:
            entries += [(name, anchor) for name in term.names if name.lower() not in SOUGHT]
    if entries:
        found = [('single', word, anchor, 'main', None) for word, anchor in entries]
        doctree.insert(0, index(entries=found))


def pattern(terms):
    "What finds mentions of the terms, long names first: plural forms and capitals included."
    names = {n for term in terms for n in term.names if n.lower() not in NOT_LINKED}
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
    anchors = {name.lower(): term.anchor for term in terms for name in term.names}
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
