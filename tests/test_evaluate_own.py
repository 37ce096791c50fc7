"""Finished runs on pairs and masks that somebody else labelled, and masks of every kind. All
pictures are drawn (synthetic) and tiny."""

import functools
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fashion_lab.data.cards import CMP_CLASSES, CMP_VALUES
from fashion_lab.data.resizing import decode_mask
from fashion_lab.labs import segmentation, shoe_pairs
from fashion_lab.labs.evaluation import evaluate_run, evaluation_report
from fashion_lab.segment import metrics
from fashion_lab.studio import cli
from fashion_lab.synthetic.classes import FACADE_CLASSES
from fashion_lab.synthetic.facade_drawer import synthetic_facades
from fashion_lab.synthetic.pair_drawer import PairDrawer

pytestmark = pytest.mark.filterwarnings('ignore')
CMP_OF = {name: value for value, name in enumerate(CMP_CLASSES, 1)}
CMP_OF['others'] = CMP_OF['background']


@pytest.fixture(scope='module', autouse=True)
def isolated(tmp_path_factory):
    with pytest.MonkeyPatch.context() as m:
        m.delenv('FASHION_LAB_DATA', raising=False)
        m.setenv('FASHION_LAB_CACHE', str(tmp_path_factory.mktemp('cache')))
        yield
    shoe_pairs.shoes_of.cache_clear()
    segmentation.photos_of.cache_clear()
    segmentation.pixels_of.cache_clear()


# Pairs


def course(folder, split, people, first=1):
    "Pairs in the layout of the course: every shoe has a photo of its own."
    drawer = PairDrawer(first + people - 1, seed=3)
    (folder / split).mkdir(parents=True)
    for k, (person, gender) in enumerate(zip(drawer.items.person, drawer.items.gender)):
        if person < first - 1:
            continue
        for side in ('left', 'right'):
            name = f'u{person + 1:03d}_{k % 3 + 1}_{side}_{gender}.jpg'
            Image.fromarray(drawer.shoe(k, side, 48)).save(folder / split / name)
    return folder


@pytest.fixture(scope='module')
def pairs_run(tmp_path_factory):
    "(A finished run, the folder of its pairs.)"
    folder = tmp_path_factory.mktemp('pairs')
    course(folder / 'shoes', 'train', 8)
    course(folder / 'shoes', 'test_w', 4, 9)
    (cfg,) = shoe_pairs.configs(
        'smoke', variants='mirrored', source=str(folder / 'shoes'), device='cpu'
    )
    return shoe_pairs.run(cfg, folder / 'runs', show=False), folder / 'shoes'


def test_pairs_of_other_people_in_one_folder(pairs_run, tmp_path, capsys):
    "A set to be asked about needs neither a training part nor a test part of its own."
    made, _ = pairs_run
    source = course(tmp_path / 'theirs', 'test_m', 3, 13)
    assert cli.main(['evaluate', str(made.path), '--source', str(source)]) == 0
    out = capsys.readouterr().out
    assert '18 items of theirs@' in out and 'balanced_accuracy' in out
    page = re.search(r'report: (.*index.html)', out)[1]
    text = open(page).read()
    for part in ('confusion.png', 'mistakes.png', 'reliability.png', 'Those with the most wrong'):
        assert part in text, part
    assert 'the run was made with' not in text


def test_pairs_that_were_trained_on_are_named(pairs_run, tmp_path):
    made, own = pairs_run
    found = evaluate_run(made, own)
    assert any('72 of the 72 photos are those that the run was made with' in n for n in found.notes)
    assert found.n == 72
    assert len(found.tables['people']) == 12
    with pytest.raises(ValueError, match='pairs belong together or not'):
        evaluate_run(made, own, classes='same=different')


# Masks

SIDE = 64


def write_masks(folder, values, first=0, n=14, prefix='', dtype=np.uint8):
    "Drawn facades with masks in which class k has the number `values[k]`."
    images, masks, _ = synthetic_facades(n, seed=first, size=SIDE)
    folder.mkdir(parents=True)
    for k, (image, mask) in enumerate(zip(images, masks)):
        Image.fromarray(image).save(folder / f'{prefix}{k:03d}.jpg')
        Image.fromarray(np.asarray(values, dtype)[mask]).save(folder / f'{prefix}{k:03d}.png')
    return folder


def named(folder, names):
    (folder / 'classes.txt').write_text('\n'.join(names))
    return folder


def trained(source, root, **options):
    (cfg,) = segmentation.configs('smoke', 1, 'unet', source=str(source), device='cpu', **options)
    return segmentation.run(cfg, root, show=False)


@pytest.fixture(scope='module')
def facades_run(tmp_path_factory):
    "A finished run of five classes."
    folder = tmp_path_factory.mktemp('facades')
    source = named(write_masks(folder / 'street', range(5), n=30), FACADE_CLASSES)
    return trained(source, folder / 'runs')


def test_twelve_labels_are_read_as_five_classes(facades_run, tmp_path):
    "By the names of the files, and by a list of names: the same masks, the same score."
    values = [CMP_OF[name] for name in FACADE_CLASSES]
    by_files = write_masks(tmp_path / 'cmp', values, 5, prefix='cmp_b')
    by_names = write_masks(tmp_path / 'list', values, 5)
    present = sorted(values)
    named(by_names, [CMP_CLASSES[v - 1] for v in present])
    found = [evaluate_run(facades_run, source) for source in (by_files, by_names)]
    assert found[0].metrics == found[1].metrics
    for e in found:
        text = evaluation_report(e, tmp_path / e.data.partition('@')[0]).read_text()
        for part in ('confusion.png', 'worst.png', 'mean_ap', 'What the labels are read as'):
            assert part in text, part
    table = found[0].tables['labels'].set_index('label')['class']
    assert len(table) == 12 and table['door'] == 'others' and table['window'] == 'window'
    assert dict(table) == {name: FACADE_CLASSES[CMP_VALUES[CMP_OF[name]]] for name in CMP_CLASSES}


def test_labels_without_a_class_leave_their_pixels_out(facades_run, tmp_path):
    theirs = named(write_masks(tmp_path / 'theirs', range(5), 5), ['sky', *FACADE_CLASSES[1:]])
    with pytest.raises(ValueError, match="does not know 'sky'"):
        evaluate_run(facades_run, theirs)
    part = evaluate_run(facades_run, theirs, classes='sky=')
    whole = evaluate_run(facades_run, theirs, classes='sky=others')
    counted = [sum(c.sum() for c in e.predictions.confusion) for e in (part, whole)]
    assert counted[1] == 14 * 32**2 and 0 < counted[0] < counted[1]
    assert np.stack(part.predictions.confusion).sum(0)[0].sum() == 0
    assert any('pixels labelled sky are left out' in n for n in part.notes)


def told(folder, capsys):
    assert cli.main(['data', 'facades', '--source', str(folder)]) == 0
    return capsys.readouterr().out


KINDS = {  # what: (number of each class, words of the sentence)
    'a rim of 255': ([0, 1, 2, 3, 255], '255 is a class here; .* --ignore-index 255'),
    'the CMP labels': (None, 'values 1 to 12 are how the CMP facade database counts'),
    'five numbers': ([0, 1, 2, 3, 7], '5 values have no names: classes.txt'),
    'black and white': ([0, 0, 255, 255, 255], None),
}


@pytest.mark.parametrize('what', KINDS)
def test_masks_of_several_kinds_are_told_apart(what, tmp_path, capsys):
    values, words = KINDS[what]
    folder = write_masks(tmp_path / 'own', values or range(5), n=30)
    if values is None:  # all twelve labels: each facade in stripes of them
        for file in folder.glob('*.png'):
            stripes = np.arange(SIDE)[None] * 12 // SIDE + 1
            Image.fromarray(np.repeat(stripes, SIDE, 0).astype(np.uint8)).save(file)
    text = told(folder, capsys)
    sentences = [k for k, (_, w) in KINDS.items() if w and re.search(w, text)]
    assert sentences == ([what] if words else []), text
    made = trained(folder, tmp_path / 'runs')
    assert [bool(words)] == [bool(words and re.search(words, ' '.join(made.extra['warnings'])))]


def blocks(n_classes, k):
    "A mask with all of `n_classes` in blocks of 8 x 8 pixels, in an order of its own."
    across = 20 if n_classes > 20 else 2
    cells = np.random.default_rng(k).permutation(n_classes).reshape(-1, across)
    return cells.repeat(8, 0).repeat(8, 1)


@pytest.mark.parametrize('n_classes', (2, 300))
def test_any_number_of_classes(n_classes, tmp_path, capsys, monkeypatch):
    "From `data` to `run`, `evaluate` and `predict`; with few bootstrap draws, to save time."
    monkeypatch.setattr(metrics, 'replicates', functools.partial(metrics.replicates, n=100))
    for part in ('images', 'masks'):
        (tmp_path / 'own' / part).mkdir(parents=True)
    for k in range(14):
        mask = blocks(n_classes, k) if n_classes > 2 else np.tile(blocks(2, k), (2, 2))
        colours = (mask[..., None] * np.array([7, 3, 1]) + 40 * k) % 256
        Image.fromarray(colours.astype(np.uint8)).save(tmp_path / 'own' / 'images' / f'{k}.png')
        dtype = np.uint16 if n_classes > 256 else np.uint8
        Image.fromarray(mask.astype(dtype)).save(tmp_path / 'own' / 'masks' / f'{k}.png')
    assert f'; {n_classes} classes' in told(tmp_path / 'own', capsys)
    made = trained(tmp_path / 'own', tmp_path / 'runs')
    assert len(made.extra['classes']) == n_classes
    assert segmentation.report(made).is_file()
    made_by = ['--run', str(made.path)]
    assert cli.main(['evaluate', str(made.path), '--source', str(tmp_path / 'own')]) == 0
    assert 'the run was made with' in capsys.readouterr().out
    photo = tmp_path / 'own' / 'images' / '0.png'
    folder = ['--folder', str(tmp_path / 'answers')]
    assert cli.main(['predict', 'segmentation', str(photo), *folder, *made_by]) == 0
    (answer,) = (tmp_path / 'answers').glob('*mask*.png')
    values = decode_mask(answer, most=65535)[0]
    assert values.max() < n_classes and values.shape == Image.open(photo).size[::-1]


def test_names_that_are_lacking_get_advice(tmp_path, capsys):
    folder = write_masks(tmp_path / 'own', [0, 1, 2, 3, 255])
    named(folder, ['sky', 'wall', 'door', 'window'])
    assert cli.main(['data', 'facades', '--source', str(folder)]) == 2
    assert 'leave it out: --ignore-index 255' in capsys.readouterr().err
    named(folder, ['sky', 'wall', 'door', 'window', 'roof', 'tree'])
    assert cli.main(['data', 'facades', '--source', str(folder)]) == 2
    assert 'classes.csv with the columns name,value says' in capsys.readouterr().err
    pd.DataFrame(
        dict(name=['a', 'b', 'c', 'd', 'e', 'never'], value=[0, 1, 2, 3, 255, 300])
    ).to_csv(folder / 'classes.csv', index=False)
    (folder / 'classes.txt').unlink()
    assert cli.main(['data', 'facades', '--source', str(folder)]) == 0
