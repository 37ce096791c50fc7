"""Run folders that somebody else made, or that something has damaged: beside a good run, under
the same root."""

import functools
import io
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np

from . import Case
from .desk import in_every_way, must, no_crash, refused
from .files import good_photos
from .sets import photo, plant
from .trained import closures_run


@dataclass(frozen=True)
class Folder:
    "A run's folder, and what a user must see of it."

    change: object  # what is done to a whole run's folder
    words: tuple | None = ()  # who names it is refused with these words; `None`: it answers
    # it is found out only when it is used: then whoever chooses among all runs may be refused, too
    late: bool = False
    either: bool = False  # refusing is fine, and so is answering
    export: bool = False  # export it, too: where the files go is the question


# What is done to a run


def entry(path) -> dict:
    import hashlib

    data = path.read_bytes()
    return dict(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def put(name, content):  # a file's content; run.json still has the old digest
    def change(run):
        (run / name).write_bytes(
            content if isinstance(content, bytes) else content((run / name).read_bytes())
        )

    return change


def stamped(name, content):  # the same, with a digest that fits
    def change(run):
        put(name, content)(run)
        info = json.loads((run / 'run.json').read_text())
        info['files'][name] = entry(run / name)
        (run / 'run.json').write_text(json.dumps(info))

    return change


def fields(name, **changes):  # entries of a JSON file; `...` takes one out
    def edit(data):
        found = json.loads(data) | changes
        return json.dumps({k: v for k, v in found.items() if v is not ...}).encode()

    return put(name, edit) if name == 'run.json' else stamped(name, edit)


def info(**changes):
    return fields('run.json', **changes)


def gone(name):
    return lambda run: (run / name).unlink()


def listed(name, value):  # what run.json says of a file
    def change(run):
        found = json.loads((run / 'run.json').read_text())
        found['files'][name] = value
        (run / 'run.json').write_text(json.dumps(found))

    return change


def unlisted(name):
    def change(run):
        found = json.loads((run / 'run.json').read_text())
        del found['files'][name]
        (run / 'run.json').write_text(json.dumps(found))

    return change


def as_pipe(name):
    def change(run):
        (run / name).unlink()
        os.mkfifo(run / name)

    return change


def as_folder(name):
    def change(run):
        (run / name).unlink()
        (run / name).mkdir()

    return change


def as_link(name, target):
    def change(run):
        (run / name).unlink()
        (run / name).symlink_to(target)

    return change


def elsewhere(run):  # the folder is a link
    home = run.parents[2] / 'elsewhere'
    shutil.move(run, home)
    run.symlink_to(home)


def link_to_nothing(run):
    shutil.rmtree(run)
    run.symlink_to('gone')


def a_file(run):
    shutil.rmtree(run)
    run.write_text('no folder')


def nothing(run):
    shutil.rmtree(run)
    run.mkdir()


def not_finite(data):
    from safetensors.torch import load, save

    return save(
        {k: v * float('nan') if v.is_floating_point() else v for k, v in load(data).items()}
    )


def of_another_network(data):
    from safetensors.torch import save
    import torch

    return save(dict(weight=torch.zeros(3, 3)))


def pickled(data):
    out = io.BytesIO()
    np.savez(out, probs=np.array([{'a': 1}], object), allow_pickle=True)
    return out.getvalue()


def flipped(data):
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


def half(data):
    return data[: len(data) // 2]


def deep(data):
    return b'[' * 100_000


def with_mark(data):
    return b'\xef\xbb\xbf' + data


def one_class_less(run):
    fields('extra.json', classes=['a', 'b'])(run)


DAMAGED = ('damaged|cannot|not a|unreadable|broken|wrong|lacks|invalid|must|fit',)
OF = {'a null': None, 'a number': 5, 'a list': [1], 'no entry': ...}

FOLDERS = {
    'a whole run': Folder(lambda run: None, None),
    # run.json
    'run.json is missing': Folder(gone('run.json'), ('run.json|not a finished run',)),
    'run.json is empty': Folder(put('run.json', b''), DAMAGED),
    'run.json is cut': Folder(put('run.json', half), DAMAGED),
    'run.json is no UTF-8': Folder(put('run.json', b'{"lab": "\xe9"}'), DAMAGED),
    'run.json is a list': Folder(put('run.json', b'[1]'), DAMAGED),
    'run.json is a word': Folder(put('run.json', b'"finished"'), DAMAGED),
    'run.json is null': Folder(put('run.json', b'null'), DAMAGED),
    'run.json is a hundred thousand brackets': Folder(put('run.json', deep), DAMAGED),
    'run.json has a byte order mark': Folder(put('run.json', with_mark), DAMAGED, either=True),
    'run.json is a folder': Folder(as_folder('run.json'), ('run.json|not a finished run',)),
    'run.json is a pipe': Folder(as_pipe('run.json'), ('run.json|not a finished run',)),
    'run.json is a link to nothing': Folder(
        as_link('run.json', 'gone'), ('run.json|not a finished run',)
    ),
    'run.json is empty braces': Folder(put('run.json', b'{}'), ('format|lacks|damaged',)),
    'a format of the future': Folder(info(format=99), ('format 99|format', 'version')),
    'a format in words': Folder(info(format='1'), ('format',)),
    'a format that is true': Folder(info(format=True), ('format',), either=True),
    'not finished': Folder(info(status='unfinished'), ('finished',)),
    'a lab elsewhere': Folder(info(lab='../../escaped/evil'), ('lab|damaged|another',)),
    'a lab from the root': Folder(info(lab='/tmp/evil'), ('lab|damaged',)),
    'a lab with a line break': Folder(info(lab='closures\n'), ('lab|damaged',)),
    'a lab that is another one': Folder(info(lab='segmentation'), ('segmentation',)),
    'a variant that goes up': Folder(
        info(variant='/../../../x'), ('variant|damaged',), either=True, export=True
    ),
    'a variant from the root': Folder(
        info(variant='/escaped/x'), ('variant|damaged',), either=True, export=True
    ),
    'a variant of markup': Folder(
        info(variant='<script>alert(1)</script>'), ('variant|damaged',), either=True, export=True
    ),
    'a variant of 5,000 letters': Folder(
        info(variant='x' * 5000), ('variant|damaged',), either=True, export=True
    ),
    'a variant with commands for the terminal': Folder(
        info(variant='\x1b[31mred\n'), ('variant|damaged',), either=True
    ),
    'an empty variant': Folder(info(variant=''), ('variant|damaged',), either=True),
    'a file elsewhere': Folder(
        listed('../../../../secret.txt', dict(bytes=1, sha256='0')), ('file|damaged',), either=True
    ),
    'a file from the root': Folder(
        listed('/etc/passwd', dict(bytes=1, sha256='0')), ('file|damaged',), either=True
    ),
    'a digest of weights that is wrong': Folder(
        listed('weights.safetensors', dict(bytes=1, sha256='0')), DAMAGED, late=True
    ),
    'bytes in words': Folder(
        listed('weights.safetensors', dict(bytes='many', sha256='0')), DAMAGED, late=True
    ),
    'a file without its digest': Folder(listed('weights.safetensors', {}), DAMAGED, late=True),
    'a file that is a number': Folder(listed('weights.safetensors', 5), DAMAGED, late=True),
    'weights are not listed': Folder(unlisted('weights.safetensors'), ('weights',), late=True),
    'a configuration that is not listed': Folder(
        unlisted('config.json'), ('config.json',), late=True
    ),
    'metrics are not listed': Folder(
        unlisted('metrics.json'), ('metrics.json',), late=True, either=True
    ),
    # config.json
    'config.json is missing': Folder(gone('config.json'), ('config.json',), late=True),
    'config.json is cut': Folder(stamped('config.json', half), ('config.json',), late=True),
    'config.json is a list': Folder(stamped('config.json', b'[]'), ('config.json',), late=True),
    'config.json is another one': Folder(put('config.json', b'{}'), ('config.json',), late=True),
    'no configuration': Folder(
        stamped('config.json', b'{}'), ('config.json|damaged|options',), late=True
    ),
    'an option that nobody knows': Folder(
        fields('config.json', options=[['magic', 1]]), ('magic',), late=True
    ),
    'options in words': Folder(
        fields('config.json', options='all'), ('options|config',), late=True
    ),
    'a source that nobody knows': Folder(
        fields('config.json', source='dreams'), ('dreams|source',), late=True
    ),
    'a profile that nobody knows': Folder(
        fields('config.json', profile='tiny'), ('tiny|profile',), late=True
    ),
    'a seed in words': Folder(fields('config.json', seed='a'), ('seed',), late=True, either=True),
    'folds in words': Folder(fields('config.json', folds='many'), ('folds',), late=True),
    'data elsewhere': Folder(
        fields('config.json', data='../../../escaped'), ('data',), late=True, either=True
    ),
    # metrics.json, extra.json, environment.json, history.csv
    'metrics.json is missing': Folder(
        gone('metrics.json'), ('metrics.json',), late=True, either=True
    ),
    'metrics.json is cut': Folder(
        stamped('metrics.json', half), ('metrics.json',), late=True, either=True
    ),
    'no metrics': Folder(stamped('metrics.json', b'{}'), ('metrics',), late=True, either=True),
    'metrics in words': Folder(
        fields('metrics.json', test=dict(accuracy='high', weighted_f1='high')),
        ('metrics',),
        late=True,
        either=True,
    ),
    'metrics that are null': Folder(
        fields('metrics.json', test=None), ('metrics',), late=True, either=True
    ),
    'a score without a number': Folder(
        fields('metrics.json', test=dict(weighted_f1=dict(value=None))),
        ('metrics',),
        late=True,
        either=True,
    ),
    'a split that goes up': Folder(
        fields('metrics.json', **{'../../x': dict(accuracy=0.5)}),
        ('metrics|split',),
        late=True,
        either=True,
    ),
    'extra.json is missing': Folder(gone('extra.json'), ('extra.json',), late=True),
    'extra.json is cut': Folder(stamped('extra.json', half), ('extra.json',), late=True),
    'extra.json is a list': Folder(stamped('extra.json', b'[]'), ('extra.json',), late=True),
    'a fit that nobody knows': Folder(fields('extra.json', fit='twist'), ('twist|fit',), late=True),
    'an environment in words': Folder(
        stamped('environment.json', b'{"versions": "new", "commit": 5}'),
        ('environment',),
        late=True,
        either=True,
    ),
    'environment.json is missing': Folder(
        gone('environment.json'), ('environment.json',), late=True, either=True
    ),
    'history.csv is rubbish': Folder(
        stamped('history.csv', b'\0\0"'), ('history',), late=True, either=True
    ),
    # predictions and weights
    'predictions are missing': Folder(gone('predictions-test.npz'), ('predictions',), late=True),
    'predictions are cut': Folder(
        stamped('predictions-test.npz', half), ('predictions',), late=True
    ),
    'predictions are pickled': Folder(
        stamped('predictions-test.npz', pickled), ('predictions',), late=True
    ),
    'predictions are a text': Folder(
        stamped('predictions-test.npz', b'none'), ('predictions',), late=True
    ),
    'predictions are not listed': Folder(
        unlisted('predictions-test.npz'), ('predictions|split',), late=True
    ),
    'weights are missing': Folder(gone('weights.safetensors'), ('weights',), late=True),
    'weights are empty': Folder(stamped('weights.safetensors', b''), ('weights',), late=True),
    'weights are cut': Folder(stamped('weights.safetensors', half), ('weights',), late=True),
    'weights with one bit turned': Folder(
        put('weights.safetensors', flipped), ('weights',), late=True
    ),
    'weights are a pickle': Folder(
        stamped('weights.safetensors', pickled), ('weights',), late=True
    ),
    'weights of another network': Folder(
        stamped('weights.safetensors', of_another_network), ('weights',), late=True
    ),
    'weights that are no numbers': Folder(
        stamped('weights.safetensors', not_finite), ('weights|finite|NaN|number',), late=True
    ),
    'weights are a pipe': Folder(as_pipe('weights.safetensors'), ('weights',), late=True),
    'weights are a folder': Folder(as_folder('weights.safetensors'), ('weights',), late=True),
    # the folder itself
    'the folder is a link': Folder(elsewhere, None),
    'the folder is a link to nothing': Folder(link_to_nothing, ('no run',)),
    'the folder is a file': Folder(a_file, ('no run',)),
    'the folder is empty': Folder(nothing, ('run.json|not a finished run',)),
}
for field in ('lab', 'variant', 'digest', 'files', 'finished', 'status', 'format'):
    for what, value in OF.items():
        FOLDERS[f'{field}: {what}'] = Folder(
            info(**{field: value}),
            (f'{field}|damaged|finished',),
            either=field in ('finished', 'digest', 'variant'),
        )

NAMES = {
    'a line break': 'head\nrun',
    'terminal commands': '\x1b[31mhead',
    'markup': '<img src=x>',
    'no UTF-8': os.fsdecode(b'h\xe9ad'),
    'a formula': '=1+1',
    'spaces': ' head ',
    '200 letters': 'n' * 200,
}


# The calls


def check_folder(folder, desk, name='suspect'):
    """Who names the run gets a sentence or an answer, who asks for any the good one; nothing is
    written elsewhere."""
    place = desk.folder / 'one' / 'two' / 'three'  # what goes up two or three folders is still seen
    place.mkdir(parents=True)
    os.chdir(place)
    root = place / 'runs'
    good = copied(desk, root, 'good', seed=1)
    suspect = copied(desk, root, name, seed=2)
    folder.change(suspect)
    good_photos()
    before = everything(desk.folder)
    photo = 'good-1.jpg'
    answers = folder.words is None

    def named():
        seen = desk.command('predict', 'closures', photo, '--run', suspect)
        no_crash(seen)
        answered = answers or folder.either and seen.code == 0
        must(seen.code == 0, seen, 'an answer') if answered else refused(seen, folder.words)
        if answered:
            must(
                'nan' not in seen.out and not set('\x1b\r') & set(seen.out),
                seen,
                'numbers, and no commands for the terminal',
            )

    def among_others():
        seen = desk.command('predict', 'closures', photo, '--out', root)
        no_crash(seen)
        if folder.late and seen.code:
            return refused(seen, folder.words)
        must(seen.code == 0 and 'network:' in seen.out, seen, 'an answer of the good run')

    def in_a_list():
        from fashion_lab.runs.run import all_runs

        seen = desk.call(all_runs, root)
        no_crash(seen)
        must(
            seen.code == 0 and good.name in [run.name for run in seen.value],
            seen,
            'a list with the good run',
        )
        if folder.late or folder.either or answers:
            return
        must(
            name not in [run.name for run in seen.value] or not (suspect / 'run.json').is_file(),
            seen,
            'a list without the bad run',
        )

    def published():
        seen = desk.command('publish', 'closures', '--out', root, '--results', place / 'results')
        no_crash(seen)
        if seen.code:
            must(seen.code in (2, 3) and '[Errno' not in seen.err, seen, 'published, or a sentence')

    def exported():
        if not folder.export:
            return
        with mock.patch('fashion_lab.export.formats.write_export', place_only):
            seen = desk.command('export', 'closures', '--run', suspect)
        no_crash(seen)
        must(seen.code in (0, 2, 3) and '[Errno' not in seen.err, seen, 'exported, or a sentence')

    def nothing_elsewhere():
        new = everything(desk.folder) - before
        strange = [
            p
            for p in new
            if not p.startswith(('one/two/three/results/', 'one/two/three/closures-'))
        ]
        if strange:
            raise AssertionError(f'files elsewhere: {", ".join(sorted(strange)[:3])}')

    in_every_way(named, among_others, in_a_list, published, exported, nothing_elsewhere)


def place_only(
    net, shape, folder, *args, **kwargs
):  # in the place of `export.formats.write_export`: where the files would go
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / 'network.onnx').touch()
    return [Path(folder) / 'network.onnx']


def copied(
    desk, root, name, seed
) -> Path:  # a whole run under another name, finished later for a larger seed
    run = root / 'closures' / name
    shutil.copytree(desk.trained['closures'], run)
    fields('config.json', seed=seed)(run)
    info(finished=f'2026-01-0{seed}T00:00:00+00:00', digest=f'{seed:012d}')(run)
    return run


def everything(folder) -> set:  # all files below, as text
    return {
        os.path.relpath(os.path.join(base, f), folder).encode('utf-8', 'replace').decode()
        for base, _, files in os.walk(folder)
        for f in files
    }


def check_name(name, desk):
    check_folder(Folder(lambda run: None, None), desk, name)


# What users call their classes

WORDS = (
    'error',
    'file',
    'answer',
    'notes',
    'probability',
    'mask',
    'overlay',
    'low',
    'high',
    'images',
    'id',
    'class',
    'turn',
    'floor',
    'label',
    'split',
    'path',
    'source',
    'variant',
    'value',
)
CLASSES = {
    'called like columns': WORDS,
    'called like columns, others': (
        'n',
        'mean',
        'sd',
        'metric',
        'fold',
        'seed',
        'index',
        'self',
        'support',
        'precision',
        'recall',
        'f1',
    ),
    'numbers': ('1', '2', '10'),
    'words for nothing': ('nan', 'None', 'NA'),
    'markup': ('<script>alert(1)</script>', 'hat'),
    'formulas': ('=1+1', '@SUM(A1)', 'hat'),
    'a line break': ('rain\ncoat', 'hat'),
    'terminal commands': ('\x1b[31mred', 'hat'),
    'commas and quotation marks': ('a,b', 'say "x"'),
    'other scripts': ('\u978b', 'b\u00e9ret'),
    'capitals alone': ('hat', 'HAT'),
}


def check_classes(classes, desk):
    """A network for these classes answers with all probabilities and without an error, and can
    be published."""
    run = closures_run(desk.folder / 'runs', classes).path
    Path('photo.jpg').write_bytes(Path(put_photo()).read_bytes())

    def in_python():
        from fashion_lab.runs.run import Run
        from fashion_lab.labs.closures import predict

        seen = desk.call(predict, ['photo.jpg', 'gone.jpg'], Run(run))
        no_crash(seen)
        table = seen.value
        seen.out = table.to_csv(index=False)
        must(
            table.error.iloc[0] == '' and table.error.iloc[1] != '',
            seen,
            'an empty error for the photo, and a reason for what is not there',
        )
        must(
            table.answer.iloc[0] in classes and table.file.iloc[0] == 'photo.jpg',
            seen,
            'an answer that is a class',
        )
        must(
            abs(sum(numbers_of(table.iloc[0])) - 1) < 1e-3,
            seen,
            'probabilities of all classes that sum to 1',
        )

    def by_command():
        seen = desk.command('predict', 'closures', 'photo.jpg', '--run', run)
        no_crash(seen)
        must(seen.code == 0 and seen.out.startswith('photo.jpg: '), seen, 'an answer')
        must(not set('\x1b') & set(seen.out), seen, 'no commands for the terminal')

    def as_csv():
        seen = desk.command('predict', 'closures', 'photo.jpg', '--csv', '--run', run)
        no_crash(seen)
        must(seen.code == 0, seen, 'a table')
        import csv

        rows = list(csv.reader(io.StringIO(seen.out, newline='')))
        must(
            len(rows) == 2
            and len(rows[0]) == len(rows[1]) == len(set(rows[0])) == 6 + len(classes),
            seen,
            'a row with a column of its own for every class',
        )
        must(
            not [c for c in rows[0] + rows[1] if c[:1] in ('=', '@', '+')],
            seen,
            'no cell that a spreadsheet computes',
        )

    def published():
        seen = desk.command(
            'publish',
            'closures',
            '--out',
            desk.folder / 'runs',
            '--results',
            desk.folder / 'results',
        )
        no_crash(seen)
        must(seen.code == 0, seen, 'published')

    in_every_way(in_python, by_command, as_csv, published)


def numbers_of(row) -> list:  # the probabilities of classes in a row of answers
    return [float(v) for k, v in row.items() if k.startswith('p(')]


def put_photo():
    good_photos()
    return 'good-1.jpg'


# Trainings with names that break tables and terminals: what fails after the training loses it

TRAINED = {
    'classes called like columns': {name: 2 for name in WORDS},
    'classes that are no UTF-8': {b'caf\xe9': 4, 'hat': 4},
    'photos that are no UTF-8': {'coat': 4, 'hat': 4, b'hat/caf\xe9.jpg': photo(70)},
    'classes of markup and formulas': {'<script>alert(1)<': 4, '=1+1': 4, 'a|b': 4},
    'photos of markup and formulas': {
        'coat': 4,
        'hat': 4,
        'hat/<b>x.jpg': photo(70),
        'hat/=1+1.jpg': photo(71),
    },
    'classes of several lines': {'rain\ncoat': 4, 'hat': 4},
}


def check_trained(tree, desk):
    "A whole run: trained, reported, asked, published."
    own = plant(desk.folder / 'own', tree)
    home = desk.folder / 'runs'
    options = (
        '--profile',
        'smoke',
        '--variants',
        'linear-probe',
        '--device',
        'cpu',
        '--threads',
        '1',
        '--out',
        home,
    )
    seen = desk.command('run', 'closures', '--source', own, *options, train=True)
    no_crash(seen)
    must(seen.code == 0, seen, 'a finished run with its report')
    pages = [page.read_text(encoding='utf-8') for page in home.rglob('*.html')]
    must(
        pages and not any('<script>alert' in page or '<b>x' in page for page in pages),
        seen,
        'a page without foreign markup',
    )
    run = next(home.glob('closures/*/run.json')).parent
    good_photos()
    seen = desk.command('predict', 'closures', 'good-1.jpg', '--run', run)
    no_crash(seen)
    must(seen.code == 0, seen, 'an answer')
    seen = desk.command(
        'publish', 'closures', '--out', home, '--results', desk.folder / 'results', '--allow-dirty'
    )
    no_crash(seen)
    must(seen.code == 0, seen, 'published')


CASES = [
    Case(f'runs/{name}', functools.partial(check_folder, folder))
    for name, folder in FOLDERS.items()
]
CASES += [
    Case(f'runs/a folder named with {what}', functools.partial(check_name, name))
    for what, name in NAMES.items()
]
CASES += [
    Case(f'classes/{what}', functools.partial(check_classes, classes))
    for what, classes in CLASSES.items()
]
CASES += [
    Case(f'classes/trained with {what}', functools.partial(check_trained, tree), 120.0)
    for what, tree in TRAINED.items()
]
