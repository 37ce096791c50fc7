"""How an exported name is called, for its page: the call in one block, and a table of its
parameters with the comments that stand beside them in the source (fastcore's docments), those of a
dataclass's fields included."""

import dataclasses
import importlib
import inspect
import re

from fastcore.docments import docments

NOTHING = inspect.Parameter.empty
WIDTH = 88  # characters of a line of code on the site
LONG = 60  # characters of a default that is shown whole


def find_object(
    text,  # nbdev's documentation of a name, with the link to its source
    name,  # as it is documented: `Predictions.save`
):  # the object; `None` where it is not found, or is nothing that can be called
    "What a documented name stands for."
    link = re.search(r'\[source\]\(\S+/(fashion_lab/\S+)\.py', text)
    if not link:
        return None
    try:
        found = importlib.import_module(link[1].replace('/', '.'))
        for part in name.split('.'):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return found if callable(found) else None


def readable_type(annotation):
    "`fashion_lab.data.cards.Card | None` as `Card | None`; empty where nothing is said."
    if annotation in (NOTHING, None, type(None)):
        return ''
    text = getattr(annotation, '__name__', None)
    if text is None or getattr(annotation, '__args__', None):
        text = str(annotation)
    return re.sub(r'(?:\w+\.)+(?=\w)', '', text)


def readable_default(value):
    "A default as one would write it."
    if hasattr(value, '__name__'):
        return value.__name__
    if isinstance(value, float):
        return f'{value:.4g}'
    text = repr(value)
    if text == '<factory>':
        return '...'
    if len(text) <= LONG:
        return text
    return f'{type(value).__name__}(...)' if dataclasses.is_dataclass(value) else '...'


def parameters_of(thing):
    "The parameters a caller gives: {name: dict of `docment`, `anno`, `default`, `kind`}, and `return`."
    found = docments(thing, full=True)
    first = next(iter(found), '')
    is_method = inspect.isfunction(thing) and '.' in thing.__qualname__.split('<locals>.')[-1]
    if first == 'self' and (is_method or inspect.isclass(thing)):
        found = {k: v for k, v in found.items() if k != 'self'}
    return share_comments(found, source_of(thing))


def says_how_it_is_made(kind):
    "Whether a class says in this project what it is made of, and not only in the class it extends."
    if dataclasses.is_dataclass(kind):
        return True
    made = kind.__init__
    return inspect.isfunction(made) and made.__module__.startswith('fashion_lab')


def source_of(thing):
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        return ''


def share_comments(parameters, source):
    "One comment for several parameters on a line (`height, width, # pixels`) is said of each."
    names = [n for n in parameters if n != 'return']
    for name, following in reversed(list(zip(names, names[1:]))):
        on_one_line = rf'^[^#\n]*\b{name}\b[^#\n]*,\s*\*{{0,2}}{following}\b[^#\n]*#'
        if not parameters[name]['docment'] and re.search(on_one_line, source, re.M):
            parameters[name]['docment'] = parameters[following]['docment']
    return parameters


def call_of(name, parameters):
    "`f(x, n=3, *, seed=0)`, in several lines where it is long."
    parts = []
    for key, p in parameters.items():
        if key == 'return':
            continue
        star = {'VAR_POSITIONAL': '*', 'VAR_KEYWORD': '**'}.get(p['kind'].name, '')
        if p['kind'].name == 'KEYWORD_ONLY' and not any(x.startswith('*') for x in parts):
            parts.append('*')
        default = '' if p['default'] is NOTHING else f'={readable_default(p["default"])}'
        parts.append(star + key + default)
    line = f'{name}({", ".join(parts)})'
    if len(line) <= WIDTH:
        return line
    return f'{name}(\n' + ''.join(f'    {part},\n' for part in parts) + ')'


def table_of(parameters):
    "Parameters as a Markdown table; columns in which nothing stands are left out."
    rows = []
    for key, p in parameters.items():
        kind, about = readable_type(p['anno']), (p['docment'] or '').strip()
        if key == 'return':
            if kind or about:
                rows.append(['*returns*', kind, '', about])
            continue
        default = '' if p['default'] is NOTHING else readable_default(p['default'])
        rows.append([f'`{key}`', kind, default, about])
    rows = [[row[0], code(row[1]), code(row[2]), escape(row[3])] for row in rows]
    if not any(about for *_, about in rows):
        return ''
    kept = [k for k in range(4) if k in (0, 3) or any(row[k] for row in rows)]
    titles = ['parameter', 'type', 'default', 'what it is']
    lines = [[titles[k] for k in kept], ['---'] * len(kept), *([r[k] for k in kept] for r in rows)]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def code(text):
    return f'`{escape(text)}`' if text else ''


def escape(text):
    return re.sub(r'(?<!\\)\|', r'\\|', ' '.join(text.split()))


def documentation(
    text,  # nbdev's documentation of a name, in Markdown, from its signature on
    source,  # the same with the link to the source
    name,  # as it is documented
):  # the same with the call and a table in place of the signature
    "An exported name's documentation with its parameters in a table."
    thing = find_object(source, name)
    if thing is None:
        return text
    if inspect.isclass(thing) and not says_how_it_is_made(thing):
        return re.sub(r'^```python\n.*?^```\n*', '', text, count=1, flags=re.S | re.M)
    try:
        parameters = parameters_of(thing)
    except (TypeError, ValueError):
        return text
    block = f'```python\n{call_of(name, parameters)}\n```'
    text = re.sub(r'^```python\n.*?^```', lambda m: block, text, count=1, flags=re.S | re.M)
    table = table_of(parameters)
    return f'{text}\n\n{table}' if table else text
