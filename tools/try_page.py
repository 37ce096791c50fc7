"""The page "Try it" of the site: the shipped networks, answering in the visitor's browser. Its
scripts and its networks are what `fashion_lab export --format web` writes; the page around them is
the site's."""

import html
import importlib.util
import re
import sys

from fashion_lab.data.cards import DataError
from fashion_lab.export.web import page_source, runtime_files, WebNetwork, write_parts

ABOUT = 'Drop a photo, and a network answers in your browser'
INPUTS = {28: dict(shape=['N', 28, 28, 1], colours='grey')}  # side -> what goes in; others are RGB
PAGE = """# Try it

> $about

Choose a network, and give it a photo. The networks came with the package, are small, and were trained on a few thousand
photos that people took of their own clothes at home: expect good answers for such photos, and worse ones for others.

```{raw} html
<link rel="stylesheet" href="page.css">
$app
<script type="module" src="app.js"></script>
```

The same page with a network of your own is one command: `fashion_lab export closures --format web --folder page/`
writes a folder for any web host.
"""
OFFLINE = """# Try it

> $about

This copy of the site was built without a network, so the page lacks the runtime that computes in the browser.
"""


def card_facts(text):
    "Rows of a model card's table, and its limits: {name: words}."
    facts = dict(re.findall(r'^\| (\S.*?) \| (.*?) \|$', text, re.M))
    limits = re.search(r'^## Limits\n+(.+?)(?=\n#|\Z)', text, re.M | re.S)
    if limits:
        facts['limits'] = ' '.join(limits[1].split())
    return {name: words.replace('`', '') for name, words in facts.items()}


def networks():
    "The networks that come with the package, for the page; none where it has none yet."
    if importlib.util.find_spec('fashion_lab.zoo') is None:
        return []
    from fashion_lab.zoo import models

    return [network(models, name) for name in models.model_names()]


def network(zoo, name):
    "One of the shipped networks, for the page."
    about = zoo.model_facts(name)
    prepared = about['preparation']
    side = prepared['size']
    preparation = dict(size=[side, side], fit=prepared.get('fit', 'crop'))
    if prepared['kind'] == 'garment':
        preparation = dict(steps='garment_pixels')
    facts = dict(
        input=INPUTS.get(side, dict(shape=['N', side, side, 3], colours='RGB')),
        preparation=preparation,
        classes=[] if prepared['kind'] == 'pair' else about['classes'],
    )
    files = [zoo.checked_file(file) for file in about['files']]
    card = card_facts(zoo.model_card(name))
    return WebNetwork(name.replace('_', '-'), about['title'], files, facts, about['question'], card)


def write(src):
    """Write the page's source below `src`, and its scripts and networks into what is copied as it
    is; whether there is such a page."""
    shipped = networks()
    if not shipped:
        return False
    (src / 'try').mkdir()
    text = OFFLINE
    try:
        runtime_files()
    except DataError as e:
        print(f'The page "Try it" has no runtime: {e}', file=sys.stderr)
    else:
        parts = src / '_extra' / 'try'
        parts.mkdir(parents=True)
        write_parts(parts, shipped)
        text = PAGE.replace('$app', page_source('app.html'))
    (src / 'try' / 'index.md').write_text(
        text.replace('$about', html.escape(ABOUT)), encoding='utf-8'
    )
    return True
