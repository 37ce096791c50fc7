"""The labs of photos: one protocol over folds, from the shell and from Python; bad input is one
sentence."""

import shutil
import zlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fashion_lab.data.cards import DataError
from fashion_lab.data.photo_tables import load_csv
from fashion_lab.data.registry import load_photos
from fashion_lab.labs.cross_validation import Config, assigned_folds, photos_of, prepare, run_folds
from fashion_lab.labs.registry import lab_module
from fashion_lab.labs import closures
from fashion_lab.labs import clothing
from fashion_lab.labs import cross_validation as photo_folds
from shell import shell


@pytest.mark.parametrize('lab', ('clothing', 'closures'))
def test_smoke_from_the_shell(smoke, lab):
    root, out = smoke(lab)
    assert out.returncode == 0, out.stderr
    assert 'synthetic' in out.stdout
    assert 'report:' in out.stdout
    assert '\r' not in out.stderr
    page = (root / lab / 'report-smoke' / 'index.html').read_text()
    assert '(synthetic)' in page and 'confusion.png' in page
    again = shell(
        'run', lab, '--profile', 'smoke', '--device', 'cpu', '--threads', 1, '--out', root
    )
    # nothing is trained twice
    assert f"({len(lab_module(lab).configs('smoke'))} of them before)" in again.stdout


def photo(path, seed=0, size=(300, 200)):
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)).save(path)
    return path


def test_predict_writes_heat_maps_and_goes_on_after_a_bad_file(smoke, tmp_path):
    root, _ = smoke('closures')
    run = next(p for p in (root / 'closures').iterdir() if p.name.startswith('linear-probe-s0'))
    good = photo(tmp_path / 'shoe.png')
    bad = tmp_path / 'text.jpg'
    bad.write_text('no photo')
    out = shell('predict', 'closures', good, bad, '--run', run, '--heat', tmp_path / 'heat')
    assert out.returncode == 1
    assert 'shoe.png' in out.stdout
    assert 'error' in out.stdout
    assert 'were right' in out.stdout
    assert Image.open(tmp_path / 'heat' / 'shoe-heat.png').size == (32, 32)
    again = shell('predict', 'closures', good, '--run', run, '--heat', tmp_path / 'heat')
    # the first one is not written over
    assert again.returncode == 0 and (tmp_path / 'heat' / 'shoe-heat-2.png').exists()


def test_a_cat_is_named_as_a_garment_and_the_answer_says_how_sure_it_was(smoke, tmp_path):
    root, _ = smoke('clothing')
    run = next(p for p in (root / 'clothing').iterdir() if p.name.startswith('linear-probe-s0'))
    out = shell('predict', 'clothing', photo(tmp_path / 'cat.png', 3), '--run', run)
    assert out.returncode == 0
    assert 'of held-out photos with answers about as sure' in out.stdout


def test_a_run_of_another_lab_does_not_answer(smoke, tmp_path):
    root, _ = smoke('clothing')
    run = next(p for p in (root / 'clothing').iterdir() if p.name.startswith('linear-probe-s0'))
    out = shell('predict', 'closures', photo(tmp_path / 'shoe.png'), '--run', run)
    assert out.returncode == 2
    assert 'is a run of clothing, not of closures' in out.stderr
    assert not out.stdout


def test_no_trained_network_is_an_error_that_says_how_to_get_one(tmp_path):
    out = shell('predict', 'closures', photo(tmp_path / 'a.png'), '--out', tmp_path / 'none')
    assert out.returncode == 3
    assert 'fashion_lab run closures' in out.stderr
    assert 'Traceback' not in out.stderr


def own_photos(folder, **classes):
    for name, n in classes.items():
        (folder / name).mkdir(parents=True)
        for i in range(n):
            photo(folder / name / f'{i}.png', zlib.crc32(f'{name} {i}'.encode()), (40, 40))
    return folder


def own(folder, **changes):
    return replace(
        closures.configs('smoke')[0], source='real', limit=None, data_path=str(folder), **changes
    )


@pytest.mark.filterwarnings('ignore')
def test_own_photos_with_a_class_of_one(tmp_path):
    with pytest.raises(
        DataError, match='a class with one photo cannot be learned and evaluated: zip'
    ):
        prepare(own(own_photos(tmp_path / 'a', laces=9, zip=1)))


@pytest.mark.filterwarnings('ignore')
def test_own_photos_that_are_too_few(tmp_path):
    with pytest.raises(DataError, match='too few for 3 folds'):
        prepare(own(own_photos(tmp_path / 'a', laces=3, zip=2)))


@pytest.mark.filterwarnings('ignore')
def test_folders_that_differ_in_case_and_spaces_are_one_class(tmp_path):
    s = photos_of(
        own(own_photos(tmp_path / 'a', **{'hook and loop': 5, 'Hook  and Loop': 5, 'laces': 6}))
    )
    assert len(s.classes) == 2 and len(s) == 16


def test_what_is_wrong_with_own_photos_is_said_once(tmp_path):
    f = own_photos(tmp_path / 'a', **{'hook and loop': 5, 'Hook  and Loop': 4, 'laces': 6})
    (f / 'laces' / 'bad.jpg').write_text('no photo')
    (f / 'laces' / 'phone.jpg').write_bytes(b'\0\0\0\x18ftypheic' + bytes(99))
    out = shell(
        'run',
        'closures',
        '--profile',
        'smoke',
        '--variants',
        'linear-probe',
        '--source',
        f,
        '--device',
        'cpu',
        '--threads',
        1,
        '--out',
        tmp_path / 'runs',
    )
    assert out.returncode == 0 and 'UserWarning' not in out.stderr, out.stderr
    for said in (
        'note: 2 not used: laces/bad.jpg is not an image',
        'export it as JPEG',
        'spellings joined',
        'does not say who took the photos',
    ):
        assert out.stdout.count(said) == 1, said
    (report,) = (tmp_path / 'runs' / 'closures').glob('report-smoke-*/index.html')
    page = report.read_text()
    assert 'export it as JPEG' in page and 'spellings joined' in page


def test_an_empty_folder(tmp_path):
    (tmp_path / 'empty').mkdir()
    out = shell(
        'run',
        'closures',
        '--profile',
        'smoke',
        '--source',
        tmp_path / 'empty',
        '--out',
        tmp_path / 'runs',
    )
    assert out.returncode in (2, 3)
    assert 'Traceback' not in out.stderr
    assert str(tmp_path / 'empty') in out.stderr


@pytest.mark.parametrize(
    'arguments, said',
    [
        (('--variants', 'last-stage'), "Did you mean 'last-stages'?"),
        (('--profile', 'fast'), 'allowed: smoke, quick, full'),
        (('--protocol', 'by-hand'), 'grouped-folds'),
        (('--seeds', '0'), 'at least 1'),
    ],
)
def test_arguments_that_cannot_be_meant(arguments, said):
    out = shell('run', 'clothing', *arguments)
    assert out.returncode == 2
    assert said in out.stderr
    assert 'Traceback' not in out.stderr


def test_folds_by_sender_hold_nobody_twice_and_every_photo_once():
    s = load_photos('closures', source='synthetic', n=150, size=32)
    for seed in range(3):
        cfg = Config(
            data='closures', source='synthetic', folds=4, seed=seed, options=(('size', 32),)
        )
        fold, _ = assigned_folds(s, cfg)
        assert sorted(set(fold)) == [0, 1, 2, 3]
        for who in np.unique(s.groups):
            assert len(set(fold[s.groups == who])) == 1
        random, _ = assigned_folds(s, replace(cfg, protocol='random-folds'))
        assert any(len(set(random[s.groups == who])) > 1 for who in np.unique(s.groups))


def test_the_same_configuration_gives_the_same_answers(tmp_path):
    cfg = replace(clothing.configs('smoke')[0], device='cpu')
    a, b = (run_folds('clothing', cfg, tmp_path / k) for k in 'ab')
    assert (a.predictions('test').probs == b.predictions('test').probs).all()
    assert all((a.weights()[k] == b.weights()[k]).all() for k in a.weights())
    other = run_folds('clothing', replace(cfg, seed=1), tmp_path / 'c')
    assert not set(other.predictions('test').ids) == set(a.predictions('test').ids)


@pytest.mark.filterwarnings('ignore:not every class')
def test_what_cannot_be_told_apart_or_held_out_is_refused_in_words_of_photos(tmp_path):
    with pytest.raises(DataError, match='one class only, laces: a classifier needs two'):
        prepare(own(own_photos(tmp_path / 'a', laces=8)))
    folder = own_photos(tmp_path / 'b', laces=4, zip=4)
    photos = [f.relative_to(folder) for f in sorted(folder.rglob('*.png'))]
    table = pd.DataFrame(dict(file=photos, label=[f.parent.name for f in photos], sender_id='ann'))
    table.to_csv(folder / 't.csv', index=False)
    with pytest.warns(UserWarning, match='names 1 contributor in sender_id'):
        load_csv(folder / 't.csv', size=32)
    cfg = own(folder / 't.csv')
    assert (
        't names one contributor for all photos: folds by contributor are random folds'
        in assigned_folds(photos_of(cfg), cfg)[1]
    )
    table.assign(sender_id=['ann', 'bob'] * 4).to_csv(folder / 't.csv', index=False)
    with pytest.raises(
        DataError, match='photos of 2 contributors, and 3 folds by contributor need 3'
    ):
        prepare(own(folder / 't.csv'))


def test_a_photo_with_two_labels_is_said_in_the_notes(tmp_path):
    folder = own_photos(tmp_path / 'a', laces=4, zip=4)
    shutil.copy(sorted((folder / 'laces').iterdir())[0], folder / 'zip' / 'copy.png')
    (said,) = [n for n in photo_folds._about(photos_of(own(folder))) if 'the same photo' in n]
    assert ' = zip/copy.png (two labels: laces, zip)' in said


def test_a_fold_on_a_full_disk_says_what_to_do(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(photo_folds, 'save_weights', full)
    with pytest.raises(OSError, match='fold 0 cannot be written .*No space left.*free some space'):
        photo_folds._keep_fold(tmp_path, 0, None, None, {})
