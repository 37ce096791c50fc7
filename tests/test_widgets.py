"""Explorers: what is uploaded is a stranger's file, and whatever goes wrong is said while the last picture stays. Their use is shown in the notebook."""
import io, types

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import fashion_lab.widgets as wd


def as_file(kind='PNG', size=(40, 30), mode='RGB', **options):
    Image.new(mode, size, 90).save(f := io.BytesIO(), kind, **options)
    return f.getvalue()


CLASSES = ['boot', 'sandal']


def lab(error='', notes='turned upright'):
    "A lab whose network always says sandal, and notes what it was given."
    asked = []
    def predict(paths, run):
        asked.append((paths[0].name, paths[0].exists()))
        return pd.DataFrame([dict(file=str(paths[0]), answer='' if error else 'sandal', probability=np.nan if error else .75, notes=notes, error=error and f'{paths[0]} {error}', boot=.25, sandal=.75)])
    run = types.SimpleNamespace(variant='net', config=dict(source='synthetic'), predictions=lambda split: types.SimpleNamespace(classes=CLASSES))
    return types.SimpleNamespace(LAB='shoes', predict=predict, chosen_run=lambda: run, asked=asked)


@pytest.mark.parametrize('kind, mode, suffix', [('JPEG', 'RGB', '.jpg'), ('JPEG', 'CMYK', '.jpg'), ('PNG', 'RGBA', '.png'), ('PNG', 'I;16', '.png'), ('WEBP', 'RGB', '.webp'), ('GIF', 'P', '.gif'), ('TIFF', 'L', '.tif')])
def test_the_content_decides_what_a_file_is(kind, mode, suffix): assert wd.checked_upload(as_file(kind, mode=mode), 'anything.exe') == suffix


@pytest.mark.parametrize('content', [b'', b'MZ\x90\x00', b'<svg xmlns="http://www.w3.org/2000/svg"/>', b'%PDF-1.7', b'\x89PNG\r\n\x1a\n' + bytes(30), as_file('ICO'), as_file('PPM')])
def test_what_is_no_photo_is_refused(content):
    with pytest.raises(ValueError, match='photo.jpg (is empty|is no picture)'): wd.checked_upload(content, 'photo.jpg')


def test_large_files_are_refused_before_they_are_looked_at(monkeypatch):
    monkeypatch.setattr(wd.Image, 'open', lambda *a: pytest.fail('it was opened'))
    with pytest.raises(ValueError, match=r'a.png has 3.0 MB; at most 2 MB'): wd.checked_upload(bytes(3_000_000), 'a.png', limit=2e6)


@pytest.mark.parametrize('name', ['../../etc/passwd', 'C:\\x\\y.png', '<img src=x onerror=alert(1)>.png', 'a' * 500, '', '\x00\n'])
def test_names_are_shown_and_never_used(name):
    shoes = lab()
    trial = wd.try_photo(shoes)
    trial.ask(as_file(), name)
    trial.ask(b'nothing', name)
    assert shoes.asked == [('photo.png', True)] and '<img' not in trial.note.value and len(trial.note.value) < 300


def test_an_answer_is_shown_with_its_notes():
    trial = wd.try_photo(lab())
    trial.ask(as_file())
    assert 'sandal, 75.0%. turned upright' in trial.note.value and bytes(trial.image.value).startswith(b'\x89PNG')
    assert trial.probabilities().index.tolist() == ['sandal', 'boot'] and trial.heat is None


def test_a_photo_that_cannot_be_decoded_is_said_without_its_path():
    trial = wd.try_photo(lab(error='is cut off'))
    trial.ask(as_file())
    assert 'the photo is cut off' in trial.note.value and '/' not in trial.note.value.replace('</p>', '') and trial.answer is None


def test_nothing_is_kept_of_a_photo():
    shoes, seen = lab(), []
    inner = shoes.predict
    def predict(paths, run): seen.append(paths[0]); return inner(paths, run)
    shoes.predict = predict
    wd.try_photo(shoes).ask(as_file())
    assert seen and not seen[0].exists() and not seen[0].parent.exists()


def test_a_page_shows_the_figure_and_a_person_the_widget(monkeypatch):
    trial = wd.try_photo(lab())
    trial.ask(as_file())
    monkeypatch.setattr(wd, 'is_interactive', lambda: False)
    assert set(trial._repr_mimebundle_()) == {'image/png', 'text/plain'}
    monkeypatch.setattr(wd, 'is_interactive', lambda: True)
    assert 'application/vnd.jupyter.widget-view+json' in str(trial._repr_mimebundle_())
