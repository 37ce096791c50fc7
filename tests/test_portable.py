"""Every lab's network leaves the house: what the file answers is what the lab's network answers, and the example runs without this package."""
import json, subprocess, sys

import numpy as np, pytest, torch
from PIL import Image

from fashion_lab.cli import main
from fashion_lab.export import OnnxNet
from fashion_lab.portable import PORTABLE, export_run, portable
from fashion_lab.registry import LABS
from fashion_lab.runs import all_runs


def finished(smoke, lab):
    root, done = smoke(lab)
    assert done.returncode == 0, done.stderr
    return next(r for r in all_runs(root, lab) if (r.path/'weights.safetensors').exists())


def test_who_takes_part(): assert set(PORTABLE) == set(LABS) - {'data_prep', 'shoe_pairs', 'compute_costs'}    # no network; two pictures; many networks, none trained


@pytest.mark.parametrize('lab', PORTABLE)
def test_the_file_answers_like_the_network(smoke, lab, tmp_path):
    run = finished(smoke, lab)
    p, (onnx, facts, example) = portable(run), export_run(run, tmp_path/'out', int8=False)
    about = json.loads(facts.read_text())
    assert about['classes'] == list(p.classes) and about['lab'] == lab and about['run'] == run.name and about['input_shape'] == list(p.shape) and about['commit'] == run.environment['commit']
    assert str(tmp_path) not in facts.read_text() and str(tmp_path).encode() not in onnx.read_bytes()
    x = torch.rand(3, *p.shape, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(np.float32(v)).view(1, -1, 1, 1) for v in (p.mean, p.std))
    with torch.no_grad(): here = p.net((x - mean)/std)
    there = OnnxNet(onnx)(x)
    assert there.shape == here.shape and torch.allclose(there, here, atol=1e-3*float(here.abs().max()))
    Image.fromarray((x[0].permute(1, 2, 0).numpy()*255).astype(np.uint8).squeeze()).save(tmp_path/'photo.png')
    done = subprocess.run([sys.executable, '-I', str(example), str(tmp_path/'photo.png')], capture_output=True, text=True, cwd=tmp_path/'out')
    assert done.returncode == 0 and any(c in done.stdout for c in p.classes), done.stderr + done.stdout


PHOTOS = ['clothing', 'closures', 'segmentation']

@pytest.mark.parametrize('lab', PHOTOS)
def test_torch_export_from_the_shell(smoke, lab, tmp_path):
    run = finished(smoke, lab)
    assert main(['export', lab, '--run', str(run.path), '--format', 'torch-export', '--folder', str(tmp_path)]) == 0
    p, x = portable(run), torch.rand(2, *portable(run).shape)
    mean, std = (torch.tensor(np.float32(v)).view(1, -1, 1, 1) for v in (p.mean, p.std))
    there = torch.export.load(tmp_path/f'{lab}.pt2').module()(x)
    with torch.no_grad(): here = p.net((x - mean)/std)
    assert torch.allclose(there, here, atol=1e-3*float(here.abs().max()))


@pytest.mark.parametrize('lab', PHOTOS)
def test_weights_without_short_code_are_refused_with_a_way_out(smoke, lab, tmp_path, capsys):
    assert main(['export', lab, '--run', str(finished(smoke, lab).path), '--format', 'safetensors', '--folder', str(tmp_path)]) == 2
    assert 'onnx and torch-export take any network' in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_an_unknown_format_is_named_before_a_run_is_looked_for(tmp_path, capsys):
    assert main(['export', 'fashion_mnist', '--format', 'onx', '--out', str(tmp_path)]) == 2
    assert 'torch-export' in (said := capsys.readouterr().err) and 'onx' in said and 'no trained' not in said


@pytest.mark.parametrize('lab', ['clothing', 'closures'])
@pytest.mark.filterwarnings('ignore')                     # networks that have learned this little answer otherwise in 8 bits, and a warning says so
def test_photographs_in_8_bits(smoke, lab, tmp_path):
    run = finished(smoke, lab)
    small, full = (export_run(run, tmp_path/str(k), int8=k)[0] for k in (True, False))
    assert small.stat().st_size < .4*full.stat().st_size and np.isfinite(OnnxNet(small)(torch.rand(2, *portable(run).shape))).all()


def test_masks_leave_in_float_only(smoke, tmp_path, capsys):
    run = finished(smoke, 'segmentation')
    assert main(['export', 'segmentation', '--run', str(run.path), '--int8', '--folder', str(tmp_path)]) == 2
    assert 'leave int8 out' in capsys.readouterr().err


@pytest.mark.parametrize('lab', sorted(set(LABS) - set(PORTABLE)))
def test_labs_without_one_picture_and_one_answer_are_refused(lab, tmp_path, capsys):
    assert main(['export', lab, '--out', str(tmp_path)]) == 2 and 'nothing to export' in capsys.readouterr().err
