"""Names that users give to files, classes and columns: in any encoding, and equal to names that
the package itself uses."""

import io
import os
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fashion_lab.report import class_values, plain_cells
from fashion_lab.data.photo_tables import load_csv
from fashion_lab.data.pairs import load_shoe_pairs
from fashion_lab.runs.run import Run
from fashion_lab.evaluate.calibration import OTHER
from fashion_lab.studio import cli, predict_command
from fashion_lab.labs import segmentation
from shell import shell

COLOURS = np.random.default_rng(0)


def photo(path):
    "A JPEG file under a name that may be bytes."
    content = io.BytesIO()
    Image.fromarray(COLOURS.integers(0, 255, (32, 32, 3)).astype(np.uint8)).save(content, 'JPEG')
    with open(path, 'wb') as f:
        f.write(content.getvalue())


@pytest.fixture(scope='module')
def odd(tmp_path_factory):
    """Photos in three classes called `error`, `file` and `rob\\xe9`, some files with names that
    are no UTF-8; and the folder of a lab's runs on them."""
    home = tmp_path_factory.mktemp('odd')
    photos = os.fsencode(home / 'photos')
    classes = [b'error', b'file', b'rob\xe9']
    for name in classes:
        os.makedirs(os.path.join(photos, name))
        for file in [b'=1+1.jpg', b'0.jpg', *(b'bro\xe9ken%d.jpg' % i for i in range(8))]:
            photo(os.path.join(photos, name, file))
        with open(os.path.join(photos, name, b'\xff.jpg'), 'wb') as f:
            f.write(b'no photo')
    done = shell(
        'run',
        'closures',
        '--profile',
        'smoke',
        '--variants',
        'linear-probe',
        '--source',
        home / 'photos',
        '--device',
        'cpu',
        '--threads',
        1,
        '--out',
        home / 'runs',
        FASHION_LAB_CACHE=str(home / 'cache'),
    )
    assert done.returncode == 0, done.stderr
    return home


linux = pytest.mark.skipif(
    not sys.platform.startswith('linux'), reason='file systems of other systems take no such names'
)


@linux
def test_a_run_on_names_that_are_no_utf8_is_finished(odd):
    (run,) = (Run(p) for p in (odd / 'runs' / 'closures').glob('linear-probe-*'))
    assert set(run.predictions('test').classes) == {'error', 'file', r'rob\xe9'}
    assert any(r'/bro\xe9ken' in i for i in run.predictions('test').ids)
    assert any(r'\xff.jpg' in said for said in run.extra['warnings'])


@linux
@pytest.mark.parametrize(
    'env',
    [dict(PYTHONIOENCODING='ascii'), dict(LC_ALL='POSIX', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0')],
    ids=['ascii', 'POSIX'],
)
def test_no_answer_is_lost_whatever_the_terminal_can_show(odd, env):
    run = next((odd / 'runs' / 'closures').glob('linear-probe-*'))
    # two that can be read, one that cannot
    photos = [p for folder in (odd / 'photos').iterdir() for p in sorted(folder.iterdir())[-3:]]
    said = shell('predict', 'closures', *photos, '--run', run, '--csv', cwd=odd, **env)
    table = plain_cells(pd.read_csv(io.StringIO(said.stdout), keep_default_na=False))
    assert said.returncode == 1 and len(table) == 9, said.stderr
    assert list(table)[:6] == ['file', 'answer', 'probability', 'notes', 'error', 'set']
    assert list(table)[6:] == ['p(error)', 'p(file)', r'p(rob\xe9)']
    assert (table.error != '').sum() == 3
    classes = ['error', 'file', r'rob\xe9']
    assert table.answer[table.error == ''].isin([*classes, OTHER]).all()


@linux
def test_no_line_for_people_is_lost_either(odd):
    run = next((odd / 'runs' / 'closures').glob('linear-probe-*'))
    photos = sorted((odd / 'photos' / 'file').iterdir())[-3:]
    said = shell('predict', 'closures', *photos, '--run', run, cwd=odd, LC_ALL='C', LANG='C')
    assert said.returncode == 1
    answered = said.stdout.count('were right') + said.stdout.count('unlike the photos')
    assert answered == 2
    assert 'Traceback' not in said.stderr


@linux
def test_names_that_begin_like_formulas_are_text_in_csv(odd, monkeypatch, capsys):
    monkeypatch.chdir(odd / 'photos' / 'error')
    run = next((odd / 'runs' / 'closures').glob('linear-probe-*'))
    cli.main(['predict', 'closures', '=1+1.jpg', '0.jpg', '--run', str(run), '--csv'])
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert table.file.tolist() == ["'=1+1.jpg", '0.jpg']
    assert plain_cells(table).file.tolist() == [
        '=1+1.jpg',
        '0.jpg',
    ]


def test_classes_of_masks_called_as_columns_are():
    names = ['low', 'high', 'images', 'mask']
    measures = dict(mean_ap=0.5, mean_iou=0.4, accuracy=0.9, mean_boundary_f=0.3)
    rows = measures | {f'ap_{c}': k / 10 for k, c in enumerate(names)}
    fixed = dict(
        data='own',
        source='real',
        protocol='reduced',
        split='test',
        variant='unet',
        n=4,
        ci_low=0.4,
        ci_high=0.6,
        params=1,
        macs=1e9,
        train_s=1.0,
        infer_ms=1.0,
    )
    t = segmentation.comparison(
        pd.DataFrame([fixed | dict(metric=m, value=v) for m, v in rows.items()])
    )
    assert t.images[0] == 4
    assert t.low[0] == 0.4
    assert [t[f'ap_{c}'][0] for c in names] == [0, 0.1, 0.2, 0.3]


def test_the_most_probable_classes_are_found_whatever_they_are_called():
    row = {
        'file': 'a.jpg',
        'notes': 'x',
        'probability': 0.5,
        'p(notes)': 0.5,
        'p(probability)': 0.3,
        'p(mask)': 0.2,
    }
    assert predict_command.ranking(row, 2) == 'notes 50.0%, probability 30.0%'
    assert class_values(row) == dict(notes=0.5, probability=0.3, mask=0.2)


@pytest.mark.parametrize(
    'column', 'id class label_ path source owner file problem index turn floor'.split()
)
def test_a_table_of_photos_may_have_any_further_column(tmp_path, column):
    for i in range(12):
        photo(tmp_path / f'{i}.jpg')
    table = pd.DataFrame(dict(image=[f'{i}.jpg' for i in range(12)], label=['a', 'b'] * 6)).assign(
        **{column: 'x'}
    )
    s = load_csv(table, root=tmp_path, size=32)
    assert s.items['class'].tolist() == table.label.tolist()
    assert s.ids.tolist() == table.image.tolist()
    assert s.images(32).shape[0] == 12


@pytest.mark.parametrize('column', 'id class label turn floor box_left same negative path'.split())
def test_a_table_of_pairs_may_have_any_further_column(tmp_path, column):
    for i in range(16):
        photo(tmp_path / f'{i}.jpg')
    table = pd.DataFrame(
        [
            dict(
                pair=f'p{i}',
                person=f'q{i // 2}',
                image_left=f'{2 * i}.jpg',
                image_right=f'{2 * i + 1}.jpg',
            )
            for i in range(8)
        ]
    ).assign(**{column: 'x'})
    table.to_csv(tmp_path / 'pairs.csv', index=False)
    s = load_shoe_pairs(tmp_path / 'pairs.csv', size=32)
    assert len(s) == 16
    assert s.items.label.tolist().count(1) == 8
    assert s.items.image_left.tolist().count('0.jpg') == 2


def test_a_picture_of_answers_takes_a_free_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert predict_command.picture_of(['a.png', 'b.png']) == ''
    assert predict_command.picture_of(['a.png', 'b.png', 'c.png']).name == 'heap-answers.png'
    (tmp_path / 'heap-answers.png').touch()
    assert (
        predict_command.picture_of(['a.png', 'b.png', 'heap-answers.png']).name
        == 'heap-answers-2.png'
    )
    assert predict_command.picture_of(['.']).name == f'{tmp_path.name}-answers.png'


@pytest.mark.parametrize('option', ['--csv', '--html'])
@pytest.mark.parametrize('path, why', [(os.devnull, 'a device'), ('.', 'is a folder')])
def test_costs_replace_no_device_and_no_folder(tmp_path, monkeypatch, capsys, option, path, why):
    monkeypatch.chdir(tmp_path)
    assert (
        cli.main(['compute', 'SmallCNN', '--input', '1,28,28', '--repeats', '0', option, path]) == 2
    )
    assert why in capsys.readouterr().err
    assert os.path.exists(os.devnull)
    assert not os.path.isfile(os.devnull)


@pytest.mark.parametrize(
    'argv, env, why',
    [
        (['run', 'fashion_mnist', '--threads', '99999999999'], {}, 'threads must be at most 1024'),
        (['run', 'fashion_mnist', '--seeds', '100000000'], {}, 'seeds must be at most 10,000'),
        (['run', 'fashion_mnist'], dict(WORLD_SIZE='abc'), "WORLD_SIZE must be a whole number"),
        (['sweep', 'closures', '--grid', 'options=3'], {}, 'options must be a tuple, got 3'),
        (['sweep', 'closures', '--grid', 'share=x'], {}, "share must be a number, got 'x'"),
        (
            ['sweep', 'data_prep', '--grid', 'limit=x'],
            {},
            "limit must be a whole number or None, got 'x'",
        ),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(tmp_path, monkeypatch, capsys, argv, env, why):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert (
        cli.main([*argv, '--profile', 'smoke', '--source', 'synthetic', '--out', str(tmp_path)])
        == 2
    )
    err = capsys.readouterr().err
    assert why in err and len(err.strip().splitlines()) == 1
