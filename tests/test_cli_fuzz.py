"""The command with arguments that nobody foresaw: an exit code and a sentence, never a
traceback, never a hang. Nothing is trained, exported or fetched."""

import contextlib
import io
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fashion_lab.runs.sweeps import Sweep
from fashion_lab.labs.registry import lab_module, LABS
from fashion_lab.studio import cli, data_command

ODD = [
    '',
    ' ',
    'x',
    '0',
    '-1',
    '3',
    '1.5',
    '1e9',
    '99999999999',
    'nan',
    'None',
    '-',
    '=',
    ',,',
    'a,b',
    'é',
    'bro\udce9ken.jpg',
    '~nobody',
    '=1+1',
    '\u202e',
    'a\nb',
    'x' * 300,
    '/dev/null',
    '..',
    'file',
    'folder',
    'empty.csv',
    'photo.png',
    'folder/photo.png',
    'no/such/place',
    'link',
]
GRIDS = [
    'lr=.1,.2',
    'lr=x',
    'epochs=1',
    'options=3',
    'share=x',
    'batches=3',
    'seed=-1',
    'seed=0,1',
    'limit=None',
    'size=x',
    'lr',
    '=1',
    'lr=',
    'lr=(',
    'folds=[]',
]
INPUTS = ['1,28,28', '3,28,28', '1,8,8', '0,0,0', '1,-1,1', '1', '784', 'a,b,c', '1;2;3', '']
MODELS = [
    'SmallCNN',
    'LogisticBaseline',
    'SmalCNN',
    'no.such:net',
    'torch.nn:Linear',
    'torch.nn',
    ':',
    'torch:float32',
]
FLAGS = 'find fetch verify clear csv json int8 allow-dirty help version'.split()
CHOICES = dict(
    profile=['smoke', 'quick', 'full', 'fast'],
    source=['real', 'synthetic', 'folder', 'empty.csv'],
    device=['cpu', 'cuda:7', 'auto'],
    protocol=['fast', 'as-published'],
    variants=['FashionCNN', 'recipe', 'linear-probe', 'unet'],
    seeds=['1', '2', '0', '100000000'],
    executor=['sequential', 'processes', 'rays'],
    grid=GRIDS,
    input=INPUTS,
    repeats=['0', '1', '-1'],
    format=['onnx', 'safetensors', 'pickle'],
    labs=['fashion_mnist', 'closures,clothing'],
    threads=['1', '2'],
)
DATA = ['fashion_mnist', 'photos', 'clothing', 'closures', 'facades', 'shoe_pairs']
PHOTO = 'image label group split size fit backbone epochs'.split()
RUN = [
    'profile',
    'seeds',
    'variants',
    'protocol',
    'source',
    'data',
    'device',
    'threads',
    'out',
    *PHOTO,
]
COMMANDS = dict(
    list=([], []),
    data=([DATA], 'source find fetch verify clear image label group split'.split()),
    run=([[*LABS]], RUN),
    sweep=([[*LABS]], [*RUN, *'grid executor workers cpus gpus memory address storage'.split()]),
    **{'run-all': ([], 'profile labs source device threads out'.split())},
    report=([[*LABS]], 'profile source out folder'.split()),
    publish=([[*LABS]], 'profile source out results allow-dirty'.split()),
    verify=(
        [[*LABS]],
        'rows minutes seed costly tolerance profile variants protocol source results out'.split(),
    ),
    predict=(
        [['fashion_mnist'], ['photo.png', 'file']],
        'run out device csv json folder heat picture'.split(),
    ),
    compute=([MODELS], 'input repeats threads csv html'.split()),
    export=([[*LABS]], 'format int8 run out folder'.split()),
    evaluate=([['trained']], 'source classes image label group split device folder'.split()),
    runs=([['list', 'show', 'remove'], ['trained', 'closures']], ['out']),
    search=(
        [['fashion_mnist', 'shoe_pairs']],
        'source variant space trials storage size backbone'.split(),
    ),
    share=([[*LABS]], 'run out folder licence push'.split()),
)


@st.composite
def arguments(draw, command):
    "A command line: what is needed, some options, sometimes nonsense in the place of a value."

    def value(usual):
        return draw(st.sampled_from(usual if usual and draw(st.integers(0, 3)) else ODD))

    needed, options = COMMANDS[command]
    words = [value(choices) for choices in needed]
    for option in draw(
        st.lists(
            st.sampled_from([*options, 'help'] if options else ['help']), max_size=4, unique=True
        )
    ):
        words.append(f'--{option}')
        if option not in FLAGS:
            words.append(value(['trained'] if option == 'run' else CHOICES.get(option, [])))
    if not draw(st.integers(0, 9)):
        words.append(draw(st.sampled_from(ODD)))
    return [command, *words]


@pytest.fixture(scope='module')
def place(tmp_path_factory, smoke):
    "A working folder with odd things in it, two levels down."
    home = tmp_path_factory.mktemp('fuzz') / 'a' / 'b'
    (home / 'folder').mkdir(parents=True)
    (home / 'file').write_text('no photo')
    (home / 'empty.csv').touch()
    (home / 'link').symlink_to('nowhere')
    for path in ('photo.png', 'folder/photo.png'):
        Image.fromarray(np.full((40, 30, 3), 200, np.uint8)).save(home / path)
    trained = next((smoke('fashion_mnist')[0] / 'fashion_mnist').glob('FashionCNN-*'))
    (home / 'trained').symlink_to(trained)
    return home


@pytest.fixture
def stubbed(place, monkeypatch):
    "Nothing is trained, drawn at length, exported, fetched or written outside of the folder."
    from fashion_lab.studio import all_labs

    monkeypatch.chdir(place)
    for name in ('CACHE', 'DATA', 'RUNS', 'RESULTS'):
        monkeypatch.setenv(f'FASHION_LAB_{name}', str(place / name.lower()))
    nothing = Sweep([], pd.DataFrame(columns=['index', 'variant', 'seed', 'error', 'traceback']))
    monkeypatch.setattr(
        'fashion_lab.runs.sweeps.sweep', lambda run, configs, *args, **kwargs: nothing
    )
    monkeypatch.setattr(
        data_command, 'fetch_set', lambda name, path=None: data_command.place_of(name, path)
    )
    monkeypatch.setattr(
        all_labs,
        'run_lab',
        lambda name, *args, **kwargs: all_labs.LabResult(
            name, note='nothing is trained here', failed=True
        ),
    )
    monkeypatch.setattr(
        'fashion_lab.studio.package.export_run', lambda *args: [place / 'example.py']
    )
    monkeypatch.setattr('fashion_lab.runs.ray.on_ray', lambda *args, **kwargs: iter(()))
    for name in LABS:
        lab = lab_module(name)

        def prepare(cfg, before=lab.prepare):
            if getattr(cfg, 'source', '') == 'real':
                before(cfg)

        monkeypatch.setattr(lab, 'prepare', prepare)
        monkeypatch.setattr(lab, 'report', lambda runs, folder=None: place / 'index.html')


def command(argv):
    "(exit code, what was said) of a command."
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main(argv)
        except SystemExit as e:
            code = e.code
    return code, out.getvalue(), err.getvalue()


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', COMMANDS)
def test_no_argument_ends_in_a_traceback(stubbed, name):
    @settings(
        max_examples=40, deadline=timedelta(seconds=20), suppress_health_check=list(HealthCheck)
    )
    @given(arguments(name))
    def check(argv):
        code, out, err = command(argv)
        assert code in (0, 1, 2, 3, 130), (argv, code)
        assert 'Traceback' not in out + err, (argv, err)
        if code in (2, 3):
            assert err.strip(), argv

    check()
