"""Pairs of shoes: the layout of the course, tables of pairs, and heaps that `predict` is given."""

import csv
import functools
import io
import os
from dataclasses import dataclass, field
from pathlib import Path

from . import Case
from .desk import in_every_way, must, no_crash, refused, says
from .sets import Refused, all_told, photo, plain, plant, rightly_refused


@dataclass(frozen=True)
class Pairs:
    "The input is read as so many pairs, in these parts."

    pairs: int | None  # `None`: as many as are said
    splits: dict | None = None  # part -> pairs, where the input says so
    problems: dict = field(default_factory=dict)  # what a line begins with or holds -> words in it
    said: tuple = ()
    or_refused: tuple | None = None  # refusing with these words is fine, too
    run_refuses: tuple = ()  # `run` cannot learn from it and says so


@dataclass(frozen=True)
class Source:
    build: object  # folder -> the path to give
    right: object  # `Pairs` or `Refused`


# The layout of the course

STUDENTS = dict(train=(1, 2, 3, 4), test_m=(5, 6), test_w=(7, 8))
COURSE = dict(train=12, test_m=6, test_w=6)


def course_files(students=STUDENTS) -> dict:  # name -> content
    tree = {}
    serial = 0
    for part, numbers in students.items():
        for student in numbers:
            for k in (1, 2, 3):
                for side in ('left', 'right'):
                    serial += 1
                    tree[
                        f'{part}/u{student:03d}_{k}_{side}_{"m" if part == "test_m" else "w"}.jpg'
                    ] = photo(serial)
    return tree


def course(
    renamed=None, students=STUDENTS, **changes
):  # changes: a file's new content, or `None` for a file that is missing
    def build(folder):
        tree = course_files(students) | changes
        return plant(
            folder,
            {
                renamed(n) if renamed else n: content
                for n, content in tree.items()
                if content is not None
            },
        )

    return build


def course_part(folder):
    return course()(folder) / 'train'


def one_name(old, new):
    return lambda name: name.replace(old, new)


def student(k) -> dict:
    return {name: None for name in course_files() if f'/u{k:03d}_' in name}


def fewer(*gone):
    return dict(COURSE) | dict(train=12 - 3 * len(gone))


def both_tags(folder):  # half of a student's files say m, the others w
    return course(
        lambda name: (
            name.replace('_w', '_m') if '/u001_1' in name or '/u001_2_left' in name else name
        )
    )(folder)


def piped(folder):
    course(**{'train/u001_1_left_w.jpg': None})(folder)
    os.mkfifo(folder / 'train' / 'u001_1_left_w.jpg')
    return folder


# Tables

HEAD = 'pair,person,image_left,image_right'
PERSONS = 8


def rows(more=lambda k: '') -> list:  # three pairs of each person
    return [f'q{k},person{k // 3},l{k}.jpg,r{k}.jpg{more(k)}' for k in range(3 * PERSONS)]


def table(lines, head=HEAD, encoding='utf-8', **more):
    def build(folder):
        photos = {
            f'{side}{k}.jpg': photo(100 + 2 * k + (side == 'r'))
            for k in range(3 * PERSONS)
            for side in 'lr'
        }
        plant(folder, {n: c for n, c in (photos | more).items() if c is not None})
        (folder / 'pairs.csv').write_bytes('\n'.join([head, *lines, '']).encode(encoding))
        return folder / 'pairs.csv'

    return build


def with_column(name, value):
    return table(rows(lambda k: f',{value(k)}'), f'{HEAD},{name}')


def part_of(k):
    if k < 15:
        return 'train'
    return 'valid' if k < 18 else 'test'


PARTS = dict(train=15, valid=3, test=6)
ALL = 3 * PERSONS


def a_bad_row(file, words, shown=None):
    return Source(
        table([*rows(), f'q99,person0,{file},r0.jpg']), Pairs(ALL, problems={shown or file: words})
    )


def a_pipe_row(folder):
    path = table([*rows(), 'q99,person0,pipe.jpg,r0.jpg'])(folder)
    os.mkfifo(folder / 'pipe.jpg')
    return path


GONE = 'exist|not there|no file|missing'
BROKEN = photo(5)[:200]
SOURCES = {
    # the course
    'the course': Source(course(), Pairs(24, COURSE)),
    'in capitals': Source(course(lambda n: n.upper().replace('TRAIN', 'Train')), Pairs(24, COURSE)),
    'with hyphens and spaces': Source(
        course(lambda n: n.replace('_left', ' - left').replace('_right', '-right')),
        Pairs(24, COURSE),
    ),
    'parts called otherwise': Source(
        course(lambda n: n.replace('test_m', 'test men').replace('test_w', 'Test-Women')),
        Pairs(24, COURSE),
    ),
    'a folder too high': Source(
        lambda folder: course()(folder / 'course_photos').parent, Pairs(24, COURSE)
    ),
    'a folder too low': Source(course_part, Refused(('train', 'folder'))),
    'a part alone': Source(
        course(students=dict(train=(1, 2, 3, 4))), Pairs(12, run_refuses=('test',))
    ),
    'tests alone': Source(course(students=dict(test_m=(5, 6))), Pairs(6, run_refuses=('train',))),
    'with validation': Source(
        course(students=STUDENTS | dict(valid=(9, 10))), Pairs(30, dict(COURSE, valid=6))
    ),
    'a shoe is missing': Source(
        course(**{'train/u001_2_left_w.jpg': None}),
        Pairs(21, fewer(1), problems={'u001': '2_left'}),
    ),
    'a student is missing': Source(course(**student(1)), Pairs(21, fewer(1))),
    'a shoe cannot be read': Source(
        course(**{'train/u001_2_left_w.jpg': BROKEN}),
        Pairs(23, problems={'u001_2_left_w.jpg': 'broken|truncated'}),
    ),
    'a shoe is empty': Source(
        course(**{'train/u001_2_left_w.jpg': b''}),
        Pairs(21, problems={'u001_2_left_w.jpg': 'empty'}),
    ),
    'a shoe is a text': Source(
        course(**{'train/u001_2_left_w.jpg': b'no photo'}),
        Pairs(23, problems={'u001_2_left_w.jpg': 'not an image'}),
    ),
    'a shoe is a pipe': Source(
        piped, Pairs(21, problems={'u001_1_left_w.jpg': 'ordinary|regular|pipe'})
    ),
    'a shoe twice': Source(
        course(**{'train/u1_2_left_w.png': photo(90)}),
        Pairs(24, COURSE, problems={'u1_2_left_w.png': 'already|twice'}),
    ),
    'a fourth pair': Source(
        course(**{'train/u001_4_left_w.jpg': photo(90), 'train/u001_4_right_w.jpg': photo(91)}),
        Pairs(24, COURSE, said=('u001', '4')),
    ),
    'both tags in one student': Source(both_tags, Pairs(None, said=('u001',))),
    'another name': Source(
        course(**{'train/shoe.jpg': photo(90)}),
        Pairs(24, COURSE, problems={'train/shoe.jpg': 'name'}),
    ),
    'a shoe in no part': Source(
        course(**{'extra/u050_1_left_w.jpg': photo(90)}),
        Pairs(24, COURSE, problems={'u050_1_left_w.jpg': 'none of the folders'}),
    ),
    'left and right are one photo': Source(
        course(**{'train/u001_1_right_w.jpg': photo(1)}), Pairs(24, said=('u001-1',))
    ),
    'one photo for two students': Source(
        course(**{'train/u002_1_left_w.jpg': photo(1)}),
        Pairs(24, said=('more than one shoe|same photo|twice',)),
    ),
    'one photo in train and test': Source(
        course(**{'test_m/u005_1_left_m.jpg': photo(1)}),
        Pairs(24, said=('more than one shoe|same photo|twice',)),
    ),
    'what a Mac puts into archives': Source(
        course(
            **{
                '__MACOSX/train/._u001_1_left_w.jpg': b'no',
                '__MACOSX/train/u001_1_left_w.jpg': b'no',
            }
        ),
        Pairs(24, COURSE),
    ),
    'one student': Source(
        course(students=dict(train=(1,), test_w=(7,))), Pairs(6, dict(train=3, test_w=3))
    ),
    'no photo at all': Source(
        course(students={}, **{'train/readme.txt': b'later'}),
        Refused(('photo|image|found|student',)),
    ),
    # tables
    'a table': Source(table(rows()), Pairs(ALL)),
    'a table in UTF-16': Source(table(rows(), encoding='utf-16'), Pairs(ALL)),
    'a table with semicolons': Source(
        table([r.replace(',', ';') for r in rows()], HEAD.replace(',', ';')), Pairs(ALL)
    ),
    'with parts': Source(with_column('split', part_of), Pairs(ALL, PARTS)),
    'with parts in capitals': Source(
        with_column('split', lambda k: part_of(k).title()), Pairs(ALL, PARTS, or_refused=('split',))
    ),
    'with a part called DEV': Source(
        with_column('split', lambda k: part_of(k).replace('valid', 'DEV')),
        Pairs(ALL, PARTS, or_refused=('DEV',)),
    ),
    'with parts that are partly empty': Source(
        with_column('split', lambda k: part_of(k) if k % 4 else ''),
        Pairs(None, or_refused=('split',), said=('split',)),
    ),
    'with a part that nobody knows': Source(
        with_column('split', lambda k: part_of(k).replace('valid', 'later')),
        Pairs(ALL, said=('later',), or_refused=('later',)),
    ),
    'tested alone': Source(
        with_column('split', lambda k: 'test'), Pairs(ALL, dict(test=ALL), run_refuses=('train',))
    ),
    'a person in two parts': Source(
        with_column('split', lambda k: part_of(k + 1)), Refused(('person', 'split|part'))
    ),
    'columns called like ours': Source(
        table(
            rows(lambda k: f',{k},v,1,yes,{k % 2},a'), f'{HEAD},id,turn,floor,same,label,negative'
        ),
        Pairs(ALL),
    ),
    'a pair twice': Source(table([*rows(), rows()[0]]), Refused(('q0', 'duplicat|twice|once'))),
    'a pair without a person': Source(
        table([*rows(), 'q99,,l0.jpg,r1.jpg']), Refused(('person', 'q99|24|26'))
    ),
    'a pair without a shoe': Source(
        table([*rows(), 'q99,person0,,r1.jpg']),
        Pairs(
            ALL,
            problems={'q99': 'image_left|no file|exist|one image'},
            or_refused=('image_left', 'line'),
        ),
    ),
    'no column person': Source(
        table(['q0,l0.jpg,r0.jpg'], 'pair,image_left,image_right'), Refused(('person',))
    ),
    'no rows': Source(table([]), Refused(('no items|no rows|empty',))),
    'one person': Source(table(rows()[:3]), Pairs(3, run_refuses=('person|train|test',))),
    'one pair of each person': Source(table(rows()[::3]), Refused(('person', 'two'))),
    'a photo is not there': a_bad_row('gone.jpg', GONE),
    'no photo is there': Source(
        table([r.replace('l', 'gone/l') for r in rows()]), Refused(('gone/l0.jpg',))
    ),
    'a home that nobody has': a_bad_row('~nouser/x.jpg', f'{GONE}|home'),
    'a name of 300 letters': a_bad_row('n' * 300 + '.jpg', f'{GONE}|long', 'n' * 50),
    'an address': a_bad_row('http://127.0.0.1:9/x.jpg', f'{GONE}|address|download'),
    'a pipe': Source(a_pipe_row, Pairs(ALL, problems={'pipe.jpg': f'{GONE}|ordinary|regular'})),
    'a broken shoe': Source(
        table(rows(), **{'l0.jpg': BROKEN}), Pairs(ALL - 1, problems={'l0.jpg': 'broken|truncated'})
    ),
    'a text for a shoe': Source(
        table(rows(), **{'l0.jpg': b'no photo'}),
        Pairs(ALL - 1, problems={'l0.jpg': 'not an image'}),
    ),
    'one file for both shoes': Source(
        table([*rows()[1:], 'q0,person0,l0.jpg,l0.jpg']), Pairs(ALL, said=('q0',))
    ),
    'numbers for pairs and persons': Source(
        table([r.replace('q', '').replace('person', '') for r in rows()]), Pairs(ALL)
    ),
}


# The calls


def check_source(source, desk):
    from fashion_lab.data.pairs import load_shoe_pairs
    from fashion_lab.data.registry import noted

    path = source.build(desk.folder / 'own')

    def load_own():
        return noted(load_shoe_pairs, path, size=32, download=False)

    def by_python():
        check_pairs(source.right, desk.call(load_own), 'Python')

    def by_data():
        check_page(source.right, desk.command('data', 'shoe_pairs', '--source', path))

    def by_run():
        seen = desk.run_smoke('shoe_pairs', path)
        check_pairs(source.right, with_set(seen, desk), 'run')

    in_every_way(by_python, by_data, by_run)


def with_set(seen, desk):
    if seen.value is None:
        return seen
    from fashion_lab.labs.shoe_data import shoes_of

    told = desk.call(shoes_of, seen.value)
    seen.value, seen.crash, seen.err = told.value and told.value[0], told.crash, seen.err + told.err
    return seen


def check_pairs(right, seen, way):
    "A set of pairs holds what it must, or there is none."
    if rightly_refused(right, seen, way):
        return
    pairs = seen.value
    told = all_told(seen)
    seen.out = f'{pairs!r}; {told.strip()}'
    whole = pairs.items[pairs.items.label == 1]
    must(right.pairs in (None, len(whole)), seen, f'{right.pairs} pairs, not {len(whole)}')
    if right.splits:
        must(
            agrees(whole.split.value_counts().to_dict(), right.splits),
            seen,
            f'the parts {right.splits}, valid taken from train',
        )
    for name, words in right.problems.items():
        must(
            any(name in line and says(line, [words]) for line in told.splitlines()),
            seen,
            f'{name} named, with {words}',
        )
    if way == 'run':
        must(says(told, right.said), seen, f'said: {" and ".join(right.said)}')


def agrees(found, right) -> bool:  # validation may come out of training
    if 'valid' in right:
        return found == right
    joined = dict(found, train=found.get('train', 0) + found.get('valid', 0), valid=0)
    return {part: n for part, n in joined.items() if n} == right


def check_page(right, seen):
    no_crash(seen)
    if isinstance(right, Refused):
        return refused(seen, right.words)
    if right.run_refuses and seen.code:
        return refused(seen, right.run_refuses)
    if right.or_refused is not None and seen.code:
        return refused(seen, right.or_refused)
    must(seen.code == 0, seen, 'a page (exit code 0)')
    must('Not on this machine' not in seen.out, seen, 'a page about what is there')
    for name, words in right.problems.items():
        must(
            name in plain(seen.text) and says(plain(seen.text), [words]),
            seen,
            f'{name} on the page, with {words}',
        )


# Heaps for `predict`


@dataclass(frozen=True)
class Heap:
    "What `predict shoe_pairs` is given, and what must come of it."

    files: dict  # name -> content
    given: tuple  # arguments
    words: tuple | None = None  # it is refused with these words
    errors: dict = field(default_factory=dict)  # how a file's name ends -> words in its row
    answers: int | None = None  # rows with an answer; `None`: at least one
    kept: tuple = ()  # files that must be what they were


def shoes(*names) -> dict:
    return {name: photo(200 + k) for k, name in enumerate(names)}


HEAPS = {
    'one shoe': Heap(shoes('a.jpg'), ('a.jpg',), ('two photos',)),
    'an empty folder': Heap({'heap/x.txt': b''}, ('heap',), ('image|photo',)),
    'a folder with one shoe': Heap(shoes('heap/a.jpg'), ('heap',), ('two photos',)),
    'a folder with broken shoes': Heap(
        shoes('heap/a.jpg', 'heap/b.jpg', 'heap/c.jpg')
        | {'heap/bad.jpg': BROKEN, 'heap/no.jpg': b'no'},
        ('heap',),
        errors={'bad.jpg': 'broken|truncated', 'no.jpg': 'not an image'},
    ),
    'a folder with an empty file': Heap(
        shoes('heap/a.jpg', 'heap/b.jpg', 'heap/c.jpg') | {'heap/bad.jpg': b''},
        ('heap',),
        errors={'bad.jpg': 'empty'},
    ),
    'a folder and a shoe': Heap(
        shoes('heap/a.jpg', 'heap/b.jpg', 'c.jpg'),
        ('heap', 'c.jpg'),
        errors={'heap': 'folder', 'c.jpg': 'compared'},
        answers=0,
    ),
    'two folders': Heap(
        shoes('one/a.jpg', 'two/b.jpg'),
        ('one', 'two'),
        errors={'one': 'folder', 'two': 'folder'},
        answers=0,
    ),
    'the same file twice': Heap(shoes('a.jpg'), ('a.jpg', 'a.jpg'), answers=1),
    'the same photo three times': Heap(
        {n: photo(1) for n in ('a.jpg', 'b.jpg', 'c.jpg')},
        ('a.jpg', 'b.jpg', 'c.jpg'),
        errors={'b.jpg': 'same photo', 'c.jpg': 'same photo'},
    ),
    'two left shoes': Heap(shoes('left1.jpg', 'left2.jpg'), ('left1.jpg', 'left2.jpg'), answers=1),
    'a broken left shoe': Heap(
        shoes('a.jpg') | {'b.jpg': BROKEN},
        ('b.jpg', 'a.jpg'),
        errors={'b.jpg': 'broken|truncated'},
        answers=0,
    ),
    'two broken shoes': Heap(
        {'a.jpg': BROKEN, 'b.jpg': b''},
        ('a.jpg', 'b.jpg'),
        errors={'a.jpg': 'broken|truncated', 'b.jpg': 'empty|not an image'},
        answers=0,
    ),
    'an input called like the picture': Heap(
        shoes('a.png', 'b.png', 'answers.png'),
        ('a.png', 'b.png', 'answers.png'),
        kept=('answers.png',),
    ),
    'a picture over an input': Heap(
        shoes('a.png', 'b.png', 'c.png'),
        ('a.png', 'b.png', 'c.png', '--picture', 'c.png'),
        ('c.png',),
        kept=('c.png',),
    ),
    'a picture over a folder': Heap(
        shoes('a.png', 'b.png', 'c.png', 'out.png/x.jpg'),
        ('a.png', 'b.png', 'c.png', '--picture', 'out.png'),
        ('out.png', 'folder'),
        kept=('out.png/x.jpg',),
    ),
    'a heat map over an input': Heap(
        shoes('a.png', 'b.png', 'a-b.png'),
        ('a.png', 'b.png', '--heat', '.'),
        answers=1,
        kept=('a-b.png',),
    ),
    'names that say the same foot': Heap(
        shoes('left.jpg', 'LEFT.JPG', 'left (1).jpg'), ('left.jpg', 'LEFT.JPG', 'left (1).jpg')
    ),
    'a masked folder': Heap(shoes('heap/.hidden.jpg', 'heap/a.jpg', 'heap/b.jpg'), ('heap',)),
}


def check_heap(heap, desk):
    """The command: a reason, or a table with a row for everything that was given; no input is
    changed."""
    plant(desk.folder, heap.files)
    seen = desk.command(
        'predict', 'shoe_pairs', *heap.given, '--csv', '--run', desk.trained['shoe_pairs']
    )
    no_crash(seen)
    for name in heap.kept or heap.files:
        must(Path(name).read_bytes() == heap.files[name], seen, f'{name} as it was')
    if heap.words is not None:
        return refused(seen, heap.words)
    must(seen.code == (1 if heap.errors else 0), seen, f'exit code {1 if heap.errors else 0}')
    table = list(csv.DictReader(io.StringIO(seen.out, newline='')))
    answered = [row for row in table if row['answer']]
    must(
        len(answered) == heap.answers if heap.answers is not None else answered,
        seen,
        f'{heap.answers or "some"} answers',
    )
    for name, words in heap.errors.items():
        rows_of = [row['error'] for row in table if row['file'].endswith(name) and row['error']]
        must(
            len(rows_of) == 1 and says(f'{name} {rows_of[0]}', [words]),
            seen,
            f'{name} in a row of its own, with {words}',
        )


CASES = [
    Case(f'pairs/{name}', functools.partial(check_source, source))
    for name, source in SOURCES.items()
]
CASES += [
    Case(f'heaps/{name}', functools.partial(check_heap, heap)) for name, heap in HEAPS.items()
]
