"""Chapters: how long their cells are, and that their exercises ask something; test_repository runs them."""

import json
import re
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / 'nbs' / 'chapters').glob('*.ipynb'))
LONGEST_CELL = 12  # lines of code, without comments and imports
LONGEST_LINE = 100  # characters
BEFORE_A_RESULT = 60  # lines of code above the first figure or table, without imports


def cells(chapter):
    "The cells of a chapter: (kind, source)."
    notebook = json.loads(chapter.read_text(encoding='utf-8'))
    return [(cell['cell_type'], ''.join(cell['source'])) for cell in notebook['cells']]


def code_lines(source):
    "Lines of code, without blank ones, comments and directives."
    return [
        line for line in source.splitlines() if line.strip() and not line.lstrip().startswith('#')
    ]


def is_imports(source):
    return all(line.startswith(('import', 'from', ' ', ')')) for line in code_lines(source))


@pytest.fixture(params=CHAPTERS, ids=lambda p: p.stem)
def chapter(request):
    return request.param


def test_cells_are_short(chapter):
    for kind, source in cells(chapter):
        if kind != 'code' or is_imports(source):
            continue
        assert len(code_lines(source)) <= LONGEST_CELL, source
        lines = [line for line in source.splitlines() if '%pip install' not in line]
        assert max(map(len, lines)) <= LONGEST_LINE, source


def test_a_result_comes_early(chapter):
    "A figure stands within the first lines of code."
    lines = 0
    for kind, source in cells(chapter):
        if kind != 'code' or is_imports(source):
            continue
        if 'fig-alt' in source:
            break
        lines += len(code_lines(source))
    else:
        pytest.fail('the chapter has no figure')
    assert lines <= BEFORE_A_RESULT


def test_reader_is_told_what_to_expect(chapter):
    "Title, question, goals, what to read before, and how long it takes."
    (_, title), (_, opening) = [cell for cell in cells(chapter) if cell[0] == 'markdown'][:2]
    assert re.match(r'# .+\n\n> .+', title)
    for part in ('**You will**', '**Before this**', '**Time**', '**The machinery**'):
        assert part in opening, part


def test_a_fresh_runtime_gets_the_package(chapter):
    "The first code cell installs it from where the project is, and only where it is missing."
    settings = ConfigParser(delimiters=['='])
    settings.read(ROOT / 'settings.ini', encoding='utf-8')
    project = settings['DEFAULT']
    first = next(source for kind, source in cells(chapter) if kind == 'code')
    attempt, failure, install = first.splitlines()[-3:]
    assert attempt.strip() == "__import__('fashion_lab')"
    assert failure.startswith('except ModuleNotFoundError:')
    source = re.escape(project['git_url'])
    extras = re.fullmatch(
        rf'%pip install -q "fashion_lab\[(.+)\] @ git\+{source}"', install.strip()
    )
    wanted = ['train', 'weights']
    if 'fashion_lab.cost.macs' in '\n'.join(text for _, text in cells(chapter)):
        wanted.append('compute')  # fvcore
    assert extras[1].split(',') == wanted
    assert {f'{extra}_requirements' for extra in wanted} <= set(project)
    binder = (ROOT / '.binder' / 'requirements.txt').read_text(encoding='utf-8')
    assert set(wanted) <= set(re.search(r'^\.\[(.+)\]$', binder, re.M)[1].split(','))


def test_exercises_are_proven(chapter):
    "Four to six exercises; each has a place for an answer, and a solution that passes where a wrong answer does not."
    text = '\n'.join(source for kind, source in cells(chapter) if kind == 'code')
    names = re.findall(r'^(\w+) = Exercise\(', text, re.M)
    assert 4 <= len(names) <= 6
    for name in names:
        assert f'{name}(...)' in text, f'{name} has no place for an answer'
        assert f'{name}.prove(' in text, f'{name} has no solution'


def test_nothing_stands_between_reader_and_subject(chapter):
    "No plumbing for missing results, no paths."
    text = '\n'.join(source for kind, source in cells(chapter) if kind == 'code')
    assert 'is not None' not in text and '../' not in text
