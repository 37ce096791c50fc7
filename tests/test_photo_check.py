"""Looking at photos before training: what is planted is found, and nothing is lost."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter

from fashion_lab.data.folders import load_folder
from fashion_lab.studio.check_page import cleaned, page_of_check, worst
from fashion_lab.studio.cli import main
from fashion_lab.studio.photo_check import check_photos
from fashion_lab.synthetic.fashion_mnist import draw_garment


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "Forty drawings in two classes, with a copy under the other label, a dark and a blurred photo."
    home = tmp_path_factory.mktemp('checked') / 'photos'
    for label, kind in dict(trousers=1, bag=8).items():
        (home / label).mkdir(parents=True)
        for i in range(20):
            rng = np.random.default_rng(100 * kind + i)
            pixels = draw_garment(kind, rng, 128).astype(float)
            noisy = 60 + 0.6 * pixels + rng.normal(0, 12, pixels.shape)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(home / label / f'{i}.png')
    Image.open(home / 'trousers' / '3.png').resize((100, 100)).save(home / 'bag' / 'copy.png')
    for name, change in dict(
        dark=lambda image: image.point(lambda v: v // 8),
        blurred=lambda image: image.filter(ImageFilter.GaussianBlur(5)),
    ).items():
        path = home / 'bag' / '5.png' if name == 'dark' else home / 'bag' / '6.png'
        change(Image.open(path)).save(path.with_name(f'{name}.png'))
        path.unlink()
    (home / 'bag' / 'broken.png').write_bytes(b'no photo')
    return home


@pytest.fixture(scope='module')
def check(folder):
    return check_photos(load_folder(folder, size=128))


def named(check, finding):
    return [check.table.id[i].split('/')[-1] for i in worst(check, finding)]


def test_planted_faults_are_found(check):
    assert named(check, 'dark') == ['dark.png']
    assert named(check, 'blurred')[0] == 'blurred.png'
    t = check.table[check.table['copy']]
    assert {*t.id, *t.copy_of} == {'bag/copy.png', 'trousers/3.png'}
    assert t.other_label.all()
    assert check.photos.problems.file.tolist() == ['bag/broken.png']
    counts = check.counts().set_index('finding').photos
    assert counts['cannot be read'] == 1 and counts['dark'] == 1


def test_the_page_shows_every_finding_and_runs_no_name(check):
    page = page_of_check(check)
    assert 'bag/dark.png' in page and 'bag/broken.png is not an image' in page
    assert page.count('<script') == 2 and 'src="' not in page


def test_the_cleaned_list_is_a_source(check, folder, tmp_path):
    t = cleaned(check, folder)
    assert len(t) == len(check.table) - 1 and (folder / t.file[0]).is_file()


def test_the_command_writes_page_table_and_list(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, tmp_path / 'mine')
    assert main(['data', '--check', 'mine', '--write', 'mine/good.csv']) == 0
    said = capsys.readouterr().out
    assert 'copies of a photo with another label' in said and 'good.csv' in said
    table = pd.read_csv('check-mine/check.csv', keep_default_na=False)
    assert table.dark.sum() == 1
    good = pd.read_csv('mine/good.csv')
    assert len(good) == len(table) - 1 and not good.file.str.startswith('/').any()
    assert main(['data', '--check', 'nowhere/']) == 3


def test_a_set_that_cannot_be_checked_is_refused(folder):
    s = load_folder(folder, size=128)
    with pytest.raises(ValueError, match='at least 10 are needed'):
        check_photos(s.subset(np.arange(5)))
