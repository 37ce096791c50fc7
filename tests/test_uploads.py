"""Uploads: a file from outside passes one check, and the lab's own predict answers.

What cannot be used is explained, and no older answer stays below the explanation."""

import io
import types

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fashion_lab.report import answer_row, no_answer
from fashion_lab.widgets import match_pair, open_segments, pairs, segments, try_photo, uploads as up


def as_file(kind='PNG', size=(40, 30), mode='RGB', **options):
    "A picture with a box on it, which is not blank."
    image = Image.new(mode, size, 90)
    image.paste(Image.new(mode, (size[0] // 2, size[1] // 2), 0))
    image.save(f := io.BytesIO(), kind, **options)
    return f.getvalue()


def cut_off():
    "A photo that ends in the middle."
    whole = as_file('JPEG', size=(400, 300))
    return whole[: len(whole) * 3 // 4]


CLASSES = ['boot', 'sandal']


def lab(error='', notes='turned upright'):
    "A lab whose network always says sandal, and notes what it was given."
    asked = []

    def predict(paths, run):
        asked.append((paths[0].name, paths[0].exists()))
        if error:
            return pd.DataFrame([no_answer(paths[0], f'{paths[0]} {error}')])
        return pd.DataFrame([answer_row(paths[0], CLASSES, [0.25, 0.75], [notes])])

    predictions = types.SimpleNamespace(classes=CLASSES)
    run = types.SimpleNamespace(
        variant='net', config=dict(source='synthetic'), predictions=lambda split: predictions
    )
    return types.SimpleNamespace(LAB='shoes', predict=predict, chosen_run=lambda: run, asked=asked)


@pytest.mark.parametrize(
    'kind, mode, suffix',
    [
        ('JPEG', 'RGB', '.jpg'),
        ('JPEG', 'CMYK', '.jpg'),
        ('PNG', 'RGBA', '.png'),
        ('PNG', 'I;16', '.png'),
        ('WEBP', 'RGB', '.webp'),
        ('GIF', 'P', '.gif'),
        ('TIFF', 'L', '.tif'),
    ],
)
def test_the_content_decides_what_a_file_is(kind, mode, suffix):
    assert up.checked_upload(as_file(kind, mode=mode), 'anything.exe') == suffix


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'MZ\x90\x00',
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b'%PDF-1.7',
        b'\x89PNG\r\n\x1a\n' + bytes(30),
        as_file('ICO'),
        as_file('PPM'),
    ],
)
def test_what_is_no_photo_is_refused(content):
    with pytest.raises(ValueError, match='photo.jpg (is empty|is no picture)'):
        up.checked_upload(content, 'photo.jpg')


def test_large_files_are_refused_before_they_are_looked_at(monkeypatch):
    monkeypatch.setattr(up.Image, 'open', lambda *a: pytest.fail('it was opened'))
    with pytest.raises(ValueError, match='a.png has 3.0 MB; at most 2 MB'):
        up.checked_upload(bytes(3_000_000), 'a.png', limit=2e6)


@pytest.mark.parametrize(
    'side, message',
    [
        (13_000, 'a.png has 13,000 x 13,000 pixels, and the limit is 89,478,485 in all'),
        (14_000, 'a.png has more than 89,478,485 pixels'),
    ],
)
def test_files_that_unpack_to_gigabytes_are_refused(side, message):
    out = io.BytesIO()
    Image.new('1', (side, side)).save(out, 'PNG')
    with pytest.raises(ValueError, match=message):
        up.checked_upload(out.getvalue(), 'a.png')


def test_every_box_says_how_large_a_file_may_be_and_keeps_to_it():
    """A larger message than 10 MiB is dropped by Jupyter's server without a word, so it has to
    be said beforehand."""
    for made in (try_photo(lab()), match_pair(RUN)):
        assert 'at most 10 MB' in made.note.value
        assert made.limit == up.LIMIT < 10 * 2**20
    trial = try_photo(lab(), limit=1000)
    trial.ask(as_file('BMP'))
    assert 'at most 0.001 MB are taken' in trial.note.value
    assert trial.answer is None


@pytest.mark.parametrize(
    'name',
    [
        '../../etc/passwd',
        'C:\\x\\y.png',
        '<img src=x onerror=alert(1)>.png',
        'a' * 500,
        '',
        '\x00\n',
    ],
)
def test_names_are_shown_and_never_used(name):
    shoes = lab()
    trial = try_photo(shoes)
    trial.ask(as_file(), name)
    trial.ask(b'nothing', name)
    assert shoes.asked == [('photo.png', True)]
    assert '<img' not in trial.note.value
    assert len(trial.note.value) < 300


def test_an_answer_is_shown_with_its_notes():
    trial = try_photo(lab())
    trial.ask(as_file())
    assert 'sandal, 75.0%; turned upright' in trial.note.value
    assert bytes(trial.image.value).startswith(b'\x89PNG')
    assert trial.probabilities().index.tolist() == ['sandal', 'boot']
    assert list(trial.pictures) == ['the photo']


def test_a_photo_that_cannot_be_decoded_is_said_without_its_path():
    trial = try_photo(lab(error='is cut off'))
    trial.ask(as_file())
    assert 'the photo is cut off' in trial.note.value
    assert '/' not in trial.note.value.replace('</p>', '')
    assert trial.answer is None


def test_nothing_is_kept_of_a_photo():
    shoes = lab()
    seen = []
    inner = shoes.predict

    def predict(paths, run):
        seen.append(paths[0])
        return inner(paths, run)

    shoes.predict = predict
    try_photo(shoes).ask(as_file())
    assert seen
    assert not seen[0].exists()
    assert not seen[0].parent.exists()


def test_after_a_file_that_cannot_be_used_no_answer_is_left():
    trial = try_photo(lab())
    for bad in (b'%PDF-1.7', cut_off(), blank()):
        trial.ask(as_file())
        assert trial.image.value and trial.answer is not None
        trial.ask(bad, 'x.jpg')
        assert trial.image.value == b''
        assert trial.image.layout.display == 'none'
        assert trial.answer is None
        with pytest.raises(ValueError, match='no photo yet'):
            trial.figure()


def blank(level=250, noise=0):
    pixels = (
        np.random.default_rng(0).normal(level, noise, (200, 300, 3)).clip(0, 255).astype(np.uint8)
    )
    Image.fromarray(pixels).save(f := io.BytesIO(), 'JPEG')
    return f.getvalue()


@pytest.mark.parametrize('level, noise', [(250, 0), (0, 0), (128, 8)])
def test_a_blank_photo_gets_no_class(level, noise):
    shoes = lab()
    trial = try_photo(shoes)
    trial.ask(blank(level, noise), 'paper.jpg')
    assert 'paper.jpg is blank' in trial.note.value
    assert trial.answer is None
    assert not shoes.asked


def test_a_small_thing_on_white_is_not_blank():
    image = Image.new('RGB', (640, 480), 'white')
    image.paste((20, 20, 20), (300, 220, 340, 250))
    image.save(f := io.BytesIO(), 'JPEG')
    assert up.contrast(up.read_upload(f.getvalue()).pixels) >= up.LEAST_CONTRAST


def test_ones_own_photo_is_not_synthetic_whatever_the_network_was_trained_on():
    trial = try_photo(lab())
    trial.ask(as_file())
    bars = trial.figure().axes[-1]
    assert bars.get_title(loc='left') == 'sandal'
    assert 'trained on synthetic data' in [t.get_text() for t in bars.texts]


def test_the_picture_that_the_network_gets_is_shown():
    garments = lab()
    garments.chosen_run().config['data'] = 'fashion_mnist'
    trial = try_photo(garments)
    trial.ask(as_file(size=(200, 300)))
    assert trial.pictures['what the network gets'].shape == (28, 28)
    assert [ax.get_title() for ax in trial.figure().axes[:2]] == [
        'the photo',
        'what the network gets',
    ]


# Two shoes


def pair_lab(monkeypatch, answer='same', error='', heat=True):
    "The pair lab, whose network always gives one answer; what it was asked is in the list."
    asked = []

    def predict(paths, run, heat=None):
        asked.append(dict(names=[p.name for p in paths], heat=heat is not None))
        if heat is not None:
            heat.mkdir()
            Image.new('RGB', (60, 20)).save(heat / 'left-right.png')
        if error:
            other = no_answer('left.png', 'cannot be compared: the other photo cannot be read')
            return pd.DataFrame([other, no_answer(paths[1], f'{paths[1]} {error}')])
        notes = f'turned upright; of test pairs 90% were right; heat map: {heat}'
        return pd.DataFrame(
            [dict(file='left + right', answer=answer, probability=0.8, notes=notes, error='')]
        )

    monkeypatch.setattr(pairs.shoe_pairs, 'predict', predict)
    return asked


RUN = types.SimpleNamespace(variant='pairs', config=dict(source='synthetic'))


@pytest.mark.parametrize(
    'answer, verdict', [('same', 'one pair'), ('different', 'two different pairs')]
)
def test_two_shoes_get_a_verdict(monkeypatch, answer, verdict):
    asked, pair = pair_lab(monkeypatch, answer), match_pair(RUN)
    pair.put('right', as_file(), 'a left shoe.png')
    assert not asked and 'now the left one' in pair.note.value
    pair.put('left', as_file('JPEG'), 'b.jpg')
    # the box says which foot, whatever the files are called
    assert asked == [dict(names=['left.jpg', 'right.png'], heat=True)]
    assert f'{verdict}, 80.0%; turned upright; of test pairs 90% were right' in pair.note.value
    assert 'heat map' not in pair.note.value
    bars = pair.figure().axes[-1].patches
    assert bars[0].get_width() == pytest.approx(0.8 if answer == 'same' else 0.2)
    assert sum(b.get_width() for b in bars) == pytest.approx(1)
    assert len(pair.figure().axes) == 2
    assert bytes(pair.image.value).startswith(b'\x89PNG')
    pair.heat.value = False
    assert asked[-1]['heat'] is False and len(pair.figure().axes) == 3


def test_a_shoe_that_cannot_be_used_leaves_no_answer(monkeypatch):
    pair_lab(monkeypatch)
    pair = match_pair(RUN, heat=False)
    for side in ('left', 'right'):
        pair.put(side, as_file())
    assert pair.image.value and pair.answer is not None
    pair.put('left', b'%PDF-1.7', 'x.png')
    assert 'no picture' in pair.note.value
    assert pair.image.value == b''
    assert pair.answer is None
    with pytest.raises(ValueError, match='no pair yet'):
        pair.figure()
    pair.put('left', as_file())
    assert pair.image.value and pair.answer is not None
    pair_lab(monkeypatch, error='is cut off')
    pair.put('right', as_file(size=(8, 8)), 'x.png')
    assert 'the right shoe is cut off' in pair.note.value
    assert '/' not in pair.note.value.replace('</p>', '')
    assert pair.image.value == b'' and list(pair.shoes) == ['left']


def test_a_broken_shoe_is_named_by_its_box():
    pair = match_pair(RUN)
    pair.put('right', cut_off(), '/home/me/x.jpg')
    assert 'the right shoe is broken' in pair.note.value
    assert '/' not in pair.note.value.replace('</p>', '')
    assert not pair.shoes


# A street


@pytest.fixture
def street(monkeypatch):
    "Three judged photos of a network that always says what the truth is, but for one column."
    truth = np.arange(48, dtype=np.uint8).reshape(6, 8) % 2
    answer = truth.copy()
    answer[:, 0] = 1
    image = np.full((6, 8, 3), 120, np.uint8)

    def predict(paths, run, folder):
        if run.broken:
            return pd.DataFrame([dict(error=f'{paths[0]} is cut off', mask='')])
        folder.mkdir()
        m = Image.new('P', Image.open(paths[0]).size, 1)
        m.putpalette([0, 0, 0, 255, 0, 0])
        m.save(folder / 'm.png')
        return pd.DataFrame([dict(error='', mask=str(folder / 'm.png'))])

    monkeypatch.setattr(segments.segmentation, 'predict', predict)
    monkeypatch.setattr(
        segments.segmentation, 'shown', lambda run, ids: (image[None], truth[None], answer[None])
    )
    monkeypatch.setattr(segments.segmentation, 'evaluated_on', lambda run, split: None)
    rows = pd.DataFrame(dict(id=['a/one', 'two', 'three'], accuracy=[0.9, 0.5, 0.7]))
    monkeypatch.setattr(segments, 'image_table', lambda s: rows)
    extra = dict(classes=['wall', 'window'], colours=[[0, 0, 255], [255, 0, 0]])
    config = dict(source='synthetic')
    run = types.SimpleNamespace(
        variant='net', splits=['test'], extra=extra, config=config, broken=False
    )
    return open_segments(run)


def test_judged_photographs_come_from_difficult_to_easy(street):
    assert street.names == ['two', 'three', 'one']
    assert f'two, {1 - 6 / 48:.1%} of the pixels right' in street.note.value
    assert [n for n, _ in street.panels()] == ['answer', 'truth']


def test_opacity_and_classes_are_laid_over_the_photograph(street):
    street.opacity.value = 1
    assert {tuple(p) for p in street.panels()[1][1].reshape(-1, 3)} == {(0, 0, 255), (255, 0, 0)}
    street.visible['wall'].value = False
    assert {tuple(p) for p in street.panels()[1][1].reshape(-1, 3)} == {
        (120, 120, 120),
        (255, 0, 0),
    }
    street.opacity.value = 0
    assert {tuple(p) for p in street.panels()[0][1].reshape(-1, 3)} == {(120, 120, 120)}


def test_every_view_changes_the_picture_and_none_is_said(street):
    seen = {bytes(street.image.value)}
    for v in ('error', 'photo'):
        street.views[v].value = True
        seen.add(bytes(street.image.value))
    assert len(seen) == 3
    assert [n for n, _ in street.panels()] == [
        'photo',
        'answer',
        'truth',
        'error',
    ]
    for v in street.views.values():
        v.value = False
    assert 'nothing is chosen' in street.note.value
    assert bytes(street.image.value) not in (b'',)


def test_ones_own_street_has_an_answer_and_no_truth(street):
    street.ask(as_file(size=(1440, 90)), 'my street.png')
    assert street.names[-1] == 'my street.png'
    assert street.which.value == 3
    assert [(n, p.shape) for n, p in street.panels()] == [('answer', (45, 720, 3))]
    street.run.broken = True
    street.ask(as_file(), '<img src=x>.png')
    assert 'the photo is cut off' in street.note.value
    assert '/' not in street.note.value.replace('</p>', '')
    assert len(street.names) == 4
    street.ask(b'MZ', '<img src=x>.png')
    assert 'no picture' in street.note.value
    assert '<img' not in street.note.value
    assert street.image.value == b'', 'no street stands below the error'
    street.opacity.value = 0.9
    assert street.image.value, 'the photo that is chosen comes back'


def test_ones_own_street_is_not_synthetic(street):
    assert '(synthetic data)' in street.figure().get_suptitle()
    street.ask(as_file(size=(90, 60)), 'my street.png')
    assert street.figure().get_suptitle() == 'my street.png'


def test_photographs_that_are_not_here_are_said_and_an_upload_still_works(street, monkeypatch):
    def missing(run, ids):
        raise FileNotFoundError('the facades are nowhere: make data')

    monkeypatch.setattr(segments.segmentation, 'shown', missing)
    other = open_segments(street.run)
    assert 'nowhere' in other.note.value and other.image.value == b''
    other.ask(as_file())
    assert other.image.value
    assert [n for n, _ in other.panels()] == ['answer']
