"""The shipped models: their files, their answers on drawn pictures, and the small set of packages
that they need."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from fashion_lab.studio.cli import main
from fashion_lab.synthetic.fashion_mnist import FASHION_CLASSES, draw_garment
from fashion_lab.synthetic.clothing_drawer import ClothingDrawer
from fashion_lab.synthetic.closure_drawer import ClosureDrawer
from fashion_lab.zoo.models import FOLDER, checked_file, model_facts, model_names, zoo_facts

REFERENCE = Path(__file__).parent / 'zoo_reference.json'
# what answering must not load: it is not there where only numpy, Pillow and onnxruntime are
ABSENT = 'torch fastai pandas scipy sklearn matplotlib fastcore tqdm filelock platformdirs'.split()


def drawn_pictures():
    "A dozen pictures: (kind of preparation, uint8 (H, W, C))."
    shoes = ClosureDrawer(6, seed=5, size=224)
    clothes = ClothingDrawer(17, seed=5, size=224)
    garments = [draw_garment(k, np.random.default_rng(k))[..., None] for k in range(0, 10, 3)]
    return dict(
        photo=np.stack([*shoes[:4], *clothes[:4]]),
        garment=np.stack(garments),
        pair=np.asarray(shoes[:4]),
    )


def answers_now():
    "Model -> its answers for the drawn pictures of its kind."
    from fashion_lab.zoo.models import probabilities

    pictures = drawn_pictures()
    return {
        name: probabilities(name, pictures[model_facts(name)['preparation']['kind']])
        for name in model_names()
    }


def test_answers_are_those_of_the_reference():
    "Stored with the models by `python tests/test_zoo.py`; every processor must come close."
    reference = json.loads(REFERENCE.read_text())
    for name, answers in answers_now().items():
        assert np.abs(answers - np.array(reference[name])).max() < 0.02, name


def test_every_file_is_there_unchanged_and_small():
    files = zoo_facts(FOLDER)['files']
    assert sum(f['bytes'] for f in files.values()) < 8_000_000
    for name in files:
        checked_file(name)
    named = {*files, 'zoo.json', 'NOTICE.txt'}
    assert named == {p.name for p in FOLDER.iterdir()}


@pytest.mark.parametrize('model', model_names())
def test_card_tells_score_and_limits(model):
    facts = model_facts(model)
    text = checked_file(facts['card']).read_text(encoding='utf-8')
    assert f"{facts['score']['value']:.1%}" in text
    assert '## Limits' in text and 'licence' in text and '$' not in text


@pytest.mark.parametrize('model', [m for m in model_names() if model_facts(m)['stored']])
def test_stored_network_answers_as_the_exact_one(model):
    stored = model_facts(model)['stored']
    assert stored['agreement'] >= 0.99
    assert abs(stored['accuracy'] - stored['exact_accuracy']) <= 0.005


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / 'shoe.jpg'
    Image.fromarray(ClosureDrawer(6, size=300)[0]).save(path)
    return path


def without_packages(code, cwd):
    "Run code in a process in which the large packages cannot be imported."
    block = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {ABSENT}:
            raise ModuleNotFoundError(f'No module named {{name}}', name=name)
sys.meta_path.insert(0, Absent())
from fashion_lab.studio.cli import main
"""
    command = [sys.executable, '-c', block + code]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def test_answers_need_no_large_package(photo, tmp_path):
    code = f"""
assert main(['predict', 'closures', {str(photo)!r}]) == 0
assert main(['predict', 'shoe_pairs', {str(photo)!r}, {str(photo)!r}, '--csv']) == 0
assert main(['predict', 'fashion_mnist', {str(photo)!r}]) == 0
assert main(['predict', 'closures', {str(photo.parent)!r}, '--parts', 'parts']) == 0
open('list.csv', 'w').write('file\\nshoe.jpg\\n')
assert main(['predict', 'closures', 'list.csv', '--csv']) == 0
assert main(['models']) == 0 and main(['list']) == 0 and main(['data', 'closures']) in (0, 3)
"""
    done = without_packages(code, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'network: shipped' in done.stdout


def test_training_says_what_to_install(tmp_path):
    done = without_packages("sys.exit(main(['run', 'fashion_mnist']))", tmp_path)
    assert done.returncode == 3
    assert "pip install 'fashion_lab[train]'" in done.stderr and 'Traceback' not in done.stderr


def test_report_of_finished_runs_needs_no_large_package(tmp_path):
    run = tmp_path / 'runs' / 'closures' / 'one-s0-abc'
    run.mkdir(parents=True)
    files = dict(
        run={}, config=dict(profile='quick', source='real'), metrics=dict(test=dict(accuracy=0.5))
    )
    for name, content in files.items():
        (run / f'{name}.json').write_text(json.dumps(content))
    arguments = ['report', 'closures', '--out', str(tmp_path / 'runs')]
    done = without_packages(f'sys.exit(main({arguments}))', tmp_path)
    assert done.returncode == 0, done.stderr
    page = Path(done.stdout.strip())
    assert '<td>accuracy</td><td>0.5</td>' in page.read_text()


def test_own_runs_answer_where_they_are_named(photo, tmp_path, capsys):
    assert main(['predict', 'closures', str(photo), '--out', str(tmp_path / 'none')]) == 3
    assert 'no trained network' in capsys.readouterr().err
    assert main(['predict', 'clothing-top10', str(photo), '--run', 'x']) == 2
    assert 'a shipped model without a lab' in capsys.readouterr().err


def test_what_is_no_photo_is_one_row(photo, tmp_path, capsys):
    text = tmp_path / 'notes.jpg'
    text.write_text('no picture')
    assert main(['predict', 'clothing', str(text), str(photo)]) == 1
    out = capsys.readouterr().out
    assert 'notes.jpg: error' in out and 'shoe.jpg: ' in out


def test_classes_are_those_of_the_data():
    assert tuple(model_facts('fashion_mnist')['classes']) == FASHION_CLASSES


if __name__ == '__main__':
    answers = {name: np.round(p, 4).tolist() for name, p in answers_now().items()}
    REFERENCE.write_text(json.dumps(answers, indent=1) + '\n')
    print(f'{REFERENCE.relative_to(ROOT)} is written')
