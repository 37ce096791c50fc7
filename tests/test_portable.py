"""Every lab's network leaves the house: what the file answers is what the lab's network
answers, and the example runs without this package."""

import hashlib
import importlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from fashion_lab.data.images import read_image
from fashion_lab.runs.run import all_runs, Run
from fashion_lab.segment.tiles import segment_photo
from fashion_lab.export.onnx import OnnxNet, with_pixels
from fashion_lab.evaluate.calibration import OTHER
from fashion_lab.labs.registry import LABS
from fashion_lab.studio.package import export_run, portable, PORTABLE
from fashion_lab.studio.cli import main


def finished(smoke, lab):
    root, done = smoke(lab)
    assert done.returncode == 0, done.stderr
    return next(r for r in all_runs(root, lab) if (r.path / 'weights.safetensors').exists())


def test_who_takes_part():
    # no network; two pictures; many networks, none trained
    assert set(PORTABLE) == set(LABS) - {
        'data_prep',
        'shoe_pairs',
        'compute_costs',
    }


@pytest.mark.parametrize('lab', PORTABLE)
def test_the_file_answers_like_the_network(smoke, lab, tmp_path):
    run = finished(smoke, lab)
    p, (onnx, facts, example) = portable(run), export_run(run, tmp_path / 'out', int8=False)
    about, (channels, height, width) = json.loads(facts.read_text()), p.shape
    assert about['classes'] == list(p.classes)
    assert about['lab'] == lab
    assert about['run'] == run.name
    assert about['commit'] == run.environment['commit']
    assert about['input']['dtype'] == 'uint8'
    assert about['input']['layout'] == 'NHWC'
    assert about['inside']['mirror'] == p.mirror
    assert str(tmp_path) not in facts.read_text()
    assert str(tmp_path).encode() not in onnx.read_bytes()
    pixels = torch.randint(
        0,
        256,
        (3, height, width, channels),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(0),
    )
    with torch.no_grad():
        here = with_pixels(p.net, p.mean, p.std, p.mirror)(pixels)
    there = OnnxNet(onnx)(pixels)
    assert there.shape == here.shape
    assert torch.allclose(there, here, atol=1e-4)
    Image.fromarray(pixels[0].numpy().squeeze()).save(tmp_path / 'photo.png')
    done = subprocess.run(
        [sys.executable, '-I', str(example), str(tmp_path / 'photo.png')],
        capture_output=True,
        text=True,
        cwd=tmp_path / 'out',
    )
    assert done.returncode == 0 and any(c in done.stdout for c in p.classes), (
        done.stderr + done.stdout
    )


ALONE = """
import json, runpy, sys
sys.modules['fashion_lab'] = None
example = runpy.run_path(sys.argv[1])
print(json.dumps([example['predict'](path).tolist() for path in sys.argv[2:]]))
"""


def answers_alone(
    example, photos
):  # of the written example, in a process that has nothing of this package
    done = subprocess.run(
        [sys.executable, '-c', ALONE, str(example), *map(str, photos)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [np.array(a) for a in json.loads(done.stdout)]


def own_photos(folder):
    "Photos of garments, nearly: every shape, orientation and mode once."
    folder.mkdir()

    def garment(w, h, ground='white'):
        image = Image.new('RGB', (w, h), ground)
        for k, colour in enumerate(('navy', 'teal', 'darkred')):
            image.paste(
                colour,
                (
                    w // 4 + 3 * k,
                    h // 5 + k * h // 5,
                    3 * w // 4 - 5 * k,
                    h // 5 + (k + 1) * h // 5,
                ),
            )
        return image

    for k in (3, 6, 8):
        exif = Image.Exif()
        exif[0x0112] = k
        garment(900, 500).save(folder / f'turned{k}.jpg', exif=exif)
    garment(200, 500, 'black').save(folder / 'tall.png')
    garment(420, 130).convert('CMYK').save(folder / 'wide.jpg')
    garment(80, 80).quantize(4).save(folder / 'palette.gif')
    cut = garment(140, 160, 'grey').convert('RGBA')
    cut.putalpha(garment(140, 160, 'black').convert('L').point(lambda v: 255 * (v > 0)))
    cut.save(folder / 'cut.png')
    Image.fromarray(np.asarray(garment(90, 70).convert('L'), np.uint16) * 256).save(
        folder / 'deep.png'
    )
    return sorted(folder.iterdir())


@pytest.mark.parametrize(
    'lab, format',
    [
        ('fashion_mnist', 'onnx'),
        ('compression', 'onnx'),
        ('clothing', 'onnx'),
        ('closures', 'onnx'),
        ('fashion_mnist', 'safetensors'),
        ('compression', 'safetensors'),
        ('fashion_mnist', 'torch-export'),
        ('clothing', 'torch-export'),
    ],
)
def test_the_example_answers_as_predict_does(smoke, lab, format, tmp_path):
    run, photos = finished(smoke, lab), own_photos(tmp_path / 'photos')
    said = importlib.import_module(f'fashion_lab.labs.{lab}').predict(photos, run)
    example = export_run(run, tmp_path / 'out', format, int8=False if format == 'onnx' else None)[2]
    classes = json.loads(example.with_name(f'{lab}.json').read_text())['classes']
    tolerance = 1e-4
    for p, row in zip(answers_alone(example, photos), said.to_dict('records'), strict=True):
        here = np.array([row[f'p({c})'] for c in classes])
        assert row['error'] == '' and abs(p - here).max() < tolerance, row['file']
        same = row['answer'] in (classes[p.argmax()], OTHER)
        assert same or abs(p.max() - row['probability']) < tolerance


WITHOUT_TORCH = """
import sys
for name in ('torch', 'fastai', 'pandas', 'scipy', 'fastcore'): sys.modules[name] = None
from fashion_lab.studio.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize('lab', ['fashion_mnist', 'compression', 'clothing', 'closures'])
def test_an_export_answers_for_photos_without_torch(smoke, lab, tmp_path):
    "`predict EXPORT.json` says what the run says, its sets and its none of these included."
    run, photos = finished(smoke, lab), own_photos(tmp_path / 'photos')
    facts = export_run(run, tmp_path / 'out', int8=False)[1]
    command = [sys.executable, '-c', WITHOUT_TORCH, 'predict', str(facts), *map(str, photos)]
    done = subprocess.run([*command, '--json'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    said = importlib.import_module(f'fashion_lab.labs.{lab}').predict(photos, run)
    for row, here in zip(rows, said.to_dict('records'), strict=True):
        assert row['file'] == here['file']
        assert all(abs(v - here[f'p({c})']) < 1e-4 for c, v in row['classes'].items())
        if 'set' in here:
            assert (row['answer'], row['set']) == (here['answer'], here['set'])


def test_an_export_knows_what_it_was_not_trained_on(smoke, tmp_path):
    "A threshold below every distance makes every photo none of these, in the example as well."
    run = finished(smoke, 'closures')
    facts, example = export_run(run, tmp_path / 'out', int8=False)[1:]
    (photo,) = own_photos(tmp_path / 'photos')[:1]
    for threshold, expected in ((1e-6, True), (1e6, False)):
        text = json.loads(facts.read_text())
        text['features']['threshold'] = threshold
        facts.write_text(json.dumps(text))
        for command in ([str(example)], ['-c', WITHOUT_TORCH, 'predict', str(facts)]):
            done = subprocess.run(
                [sys.executable, *command, str(photo)], capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            assert (OTHER in done.stdout) == expected
    small = json.loads(export_run(run, tmp_path / 'int8', int8=True)[1].read_text())
    assert 'calibration' in small and 'features' not in small


@pytest.mark.parametrize('format', ['onnx', 'torch-export'])
def test_the_example_segments_as_predict_does(smoke, format, tmp_path):
    """`predict` looks at 512 pixels at a time; the format torch-export, which takes squares
    only, at a square."""
    run = finished(smoke, 'segmentation')
    photos = own_photos(tmp_path / 'photos')
    example = export_run(run, tmp_path / 'out', format)[2]
    about = json.loads(example.with_name('segmentation.json').read_text())['preparation']
    net = portable(run).net
    for mask, path in zip(answers_alone(example, photos), photos, strict=True):
        pixels = np.asarray(read_image(path)[0])
        tiles = (
            dict(tile=about['tile'], overlap=about['overlap']) if format == 'torch-export' else {}
        )
        here = segment_photo(
            net, pixels, about['short_side'], mirror=portable(run).mirror, bf16=False, **tiles
        ).mask
        assert mask.shape == here.shape == pixels.shape[:2] and (mask == here).mean() > 0.995, (
            path.name,
            (mask == here).mean(),
        )


def test_a_variant_from_elsewhere_does_not_move_the_export(smoke, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / 'from_elsewhere'
    shutil.copytree(finished(smoke, 'fashion_mnist').path, folder)
    config = json.loads((folder / 'config.json').read_text()) | dict(variant='/../../../x')
    text = json.dumps(config).encode()
    (folder / 'config.json').write_bytes(text)
    info = json.loads((folder / 'run.json').read_text()) | dict(variant='/../../../x')
    info['files']['config.json'] = dict(bytes=len(text), sha256=hashlib.sha256(text).hexdigest())
    (folder / 'run.json').write_text(json.dumps(info))
    files = export_run(Run(folder))
    assert all(f.resolve().is_relative_to(tmp_path) for f in files)
    assert sorted(d.name for d in tmp_path.iterdir()) == ['fashion_mnist-x', 'from_elsewhere']


PHOTOS = ['clothing', 'closures', 'segmentation']


@pytest.mark.parametrize('lab', PHOTOS)
def test_torch_export_from_the_shell(smoke, lab, tmp_path):
    run = finished(smoke, lab)
    assert (
        main(
            [
                'export',
                lab,
                '--run',
                str(run.path),
                '--format',
                'torch-export',
                '--folder',
                str(tmp_path),
            ]
        )
        == 0
    )
    p = portable(run)
    channels, height, width = p.shape
    pixels = torch.randint(0, 256, (2, height, width, channels), dtype=torch.uint8)
    there = torch.export.load(tmp_path / f'{lab}.pt2').module()(pixels)
    with torch.no_grad():
        here = with_pixels(p.net, p.mean, p.std, p.mirror)(pixels)
    assert torch.allclose(there, here, atol=1e-4)


@pytest.mark.parametrize('lab', PHOTOS)
def test_weights_without_short_code_are_refused_with_a_way_out(smoke, lab, tmp_path, capsys):
    assert (
        main(
            [
                'export',
                lab,
                '--run',
                str(finished(smoke, lab).path),
                '--format',
                'safetensors',
                '--folder',
                str(tmp_path),
            ]
        )
        == 2
    )
    assert 'onnx and torch-export take any network' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_unknown_format_is_named_before_a_run_is_looked_for(tmp_path, capsys):
    assert main(['export', 'fashion_mnist', '--format', 'onx', '--out', str(tmp_path)]) == 2
    assert 'torch-export' in (said := capsys.readouterr().err)
    assert 'onx' in said
    assert 'no trained' not in said


@pytest.mark.parametrize('lab', ['clothing', 'closures'])
@pytest.mark.filterwarnings(
    'ignore'
)  # networks that have learned this little answer otherwise in 8 bits, and a warning says so
def test_photographs_in_8_bits(smoke, lab, tmp_path):
    run = finished(smoke, lab)
    small, full = (export_run(run, tmp_path / str(k), int8=k)[0] for k in (True, False))
    assert small.stat().st_size < 0.4 * full.stat().st_size
    assert np.isfinite(
        OnnxNet(small)(torch.randint(0, 256, (2, *portable(run).shape[1:], 3), dtype=torch.uint8))
    ).all()


def test_masks_leave_in_float_only(smoke, tmp_path, capsys):
    run = finished(smoke, 'segmentation')
    assert (
        main(
            ['export', 'segmentation', '--run', str(run.path), '--int8', '--folder', str(tmp_path)]
        )
        == 2
    )
    assert 'leave int8 out' in capsys.readouterr().err


@pytest.mark.parametrize('lab', sorted(set(LABS) - set(PORTABLE)))
def test_labs_without_one_picture_and_one_answer_are_refused(lab, tmp_path, capsys):
    assert main(['export', lab, '--out', str(tmp_path)]) == 2
    assert 'nothing to export' in capsys.readouterr().err
