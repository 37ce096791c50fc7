"""Networks that leave the house: the same answers for any batch, nobody's paths in the file, refusals that name what is wrong."""
import json, subprocess, sys

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from fashion_lab.export import FORMATS, OnnxNet, Pixels, agreement, as_code, check_exportable, quantise, quantise_alike, to_onnx, to_torch_export, write_export


def small(channels=1, classes=4):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 16), nn.ReLU(), nn.Linear(16, classes))
    net(torch.randn(32, channels, 8, 8)*3 + 1)
    return net.eval()


class Branch(nn.Module):
    "Its way depends on the values, deep inside."
    def __init__(self): super().__init__(); self.first, self.second = nn.Conv2d(1, 2, 3), nn.Sequential(nn.Flatten(), Chooser())
    def forward(self, x): return self.second(self.first(x))


class Chooser(nn.Module):
    def __init__(self): super().__init__(); self.a, self.b = nn.Linear(72, 3), nn.Linear(72, 3)
    def forward(self, x): return self.a(x) if x.mean().item() > 0 else self.b(x)


class Mixed(nn.Module):
    "Mixes the pictures of a batch."
    def forward(self, x): return x.flatten(1).sum(0, keepdim=True)


@pytest.mark.parametrize('net, shape, says', [
    (Branch().eval(), (1, 8, 8), 'data-dependent control flow'), (small().train(), (1, 8, 8), 'in training mode'), (small(), (1, 8, 7), "in the layer '5' (Linear)"), (small(), (1, -8, 8), 'whole numbers of at least 1'),
    (small(), (1, 0, 8), 'whole numbers of at least 1'), (small(), dict(x=(1, 8, 8)), '1 inputs for Sequential'), (Mixed().eval(), (1, 4, 4), 'the first axis must be the batch'), (nn.LSTM(4, 4).eval(), (3, 4), 'gives a tuple of 2'),
    (nn.Bilinear(4, 4, 2).eval(), (4,), 'takes 2 inputs (input1, input2)'), ('net', (1,), 'must be a torch.nn.Module')])
def test_refused_by_name(tmp_path, net, shape, says):
    for f in (lambda: check_exportable(net, shape), lambda: to_onnx(net, shape, tmp_path/'x.onnx'), lambda: to_torch_export(net, shape, tmp_path/'x.pt2'), lambda: write_export(net, shape, tmp_path)):
        with pytest.raises(ValueError) as e: f()
        assert says in str(e.value) and len(str(e.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())                                                    # nothing half-written


def test_checking_leaves_no_trace():
    net = small(); before = {k: v.clone() for k, v in net.state_dict().items()}
    rng = torch.get_rng_state()
    check_exportable(net, (1, 8, 8))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items()) and torch.equal(torch.get_rng_state(), rng) and not any(m._forward_hooks for m in net.modules())


def test_float32_is_the_same_and_says_nothing_of_its_making(tmp_path):
    net = Pixels(small(3).to(memory_format=torch.channels_last), [.5]*3, [.2]*3)
    file = to_onnx(net, (3, 8, 8), tmp_path/'net.onnx'); there = OnnxNet(file, 1)
    for n in (1, 5):
        x = torch.rand(n, 3, 8, 8)
        with torch.no_grad(): assert (there(x) - net(x)).abs().max() < 1e-4
    text = file.read_bytes()
    assert b'.py' not in text and b'/usr' not in text and b'torch.onnx' not in text
    onnx.checker.check_model(onnx.load(file))
    with pytest.raises(Exception): there(torch.rand(1, 3, 9, 9))
    with pytest.raises(ValueError, match='n_threads'): OnnxNet(file, -1)


def test_whole_numbers_give_the_same_answers(tmp_path):
    "On pictures that the network can tell apart, as after training."
    net, rng = small(), torch.Generator().manual_seed(1)
    x = torch.randn(600, 1, 8, 8, generator=rng)
    with torch.no_grad(): margin = net(x).topk(2).values; sure = x[(margin[:, 0] - margin[:, 1]) > .1]
    file = to_onnx(net, (1, 8, 8), tmp_path/'a.onnx')
    for method in ('minmax', 'percentile'):
        there = OnnxNet(quantise(file, x[:256], tmp_path/f'{method}.onnx', method))
        assert agreement(net, there, sure.split(64)) >= .99
        for w in onnx.load(tmp_path/f'{method}.onnx').graph.initializer:
            if w.name.startswith(('0.weight', '5.weight', '7.weight')) and 'quantized' in w.name: assert w.data_type == onnx.TensorProto.INT8


@pytest.mark.parametrize('format', FORMATS)
def test_example_runs_without_this_package(tmp_path, format):
    from PIL import Image
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8); Image.fromarray(pixels).save(tmp_path/'picture.png')
    net = small()
    files = write_export(net, (1, 8, 8), tmp_path/'out', format, 'it', [.3], [.25], dict(classes=list('abcd'), source='synthetic'))
    about = json.loads(files[1].read_text())
    assert about['source'] == 'synthetic' and about['input_shape'] == [1, 8, 8] and about['output_shape'] == [4]
    hide = "import sys, runpy; sys.modules['fashion_lab'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    said = subprocess.run([sys.executable, '-c', hide, str(files[2]), str(tmp_path/'picture.png')], capture_output=True, text=True, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    with torch.no_grad(): p = net((torch.from_numpy(pixels)[None, None].float()/255 - .3)/.25).softmax(1)[0]
    assert said.stdout.split()[:2] == ['abcd'[int(p.argmax())], f'{float(p.max()):.3f}']


def test_code_of_a_network_builds_it():
    net = nn.Sequential(small(), nn.Identity())
    again = eval(as_code(net)); again.load_state_dict(net.state_dict())
    x = torch.rand(2, 1, 8, 8)
    with torch.no_grad(): assert torch.equal(again.eval()(x), net.eval()(x))


@pytest.mark.parametrize('layers', [(nn.Conv2d(4, 8, 3, groups=2), nn.Flatten(1), nn.Linear(8*36, 5, bias=False)), (nn.Conv2d(4, 8, 3, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))], ids=['grouped', 'without a bias'])
def test_biases_take_back_what_rounded_weights_change(tmp_path, layers):
    "The mean of every answer comes nearer to the exact one; the file stays a valid one, and of the same kind."
    torch.manual_seed(3)
    net, x = nn.Sequential(*layers).eval(), torch.rand(256, 4, 8, 8)
    with torch.no_grad():
        for p in net.parameters(): p.mul_(3)
    file = to_onnx(net, (4, 8, 8), tmp_path/'a.onnx'); exact = OnnxNet(file)(x).mean(0)
    shift = {c: (OnnxNet(quantise(file, x, tmp_path/'b.onnx', correct=c))(x).mean(0) - exact).abs().mean().item() for c in (False, True)}
    onnx.checker.check_model(onnx.load(tmp_path/'b.onnx'))
    assert shift[True] < .7*shift[False], shift


def test_layers_in_32_bits(tmp_path):
    "The first ones keep their weights; more than there are leaves nothing to quantise."
    file = to_onnx(small(), (1, 8, 8), tmp_path/'a.onnx')
    def whole(n): return sum(w.data_type == onnx.TensorProto.INT8 and len(w.dims) > 1 for w in onnx.load(quantise(file, torch.rand(64, 1, 8, 8), tmp_path/'b.onnx', floats=n)).graph.initializer)
    n = whole(0)
    assert n >= 3 and whole(1) == n - 1 and whole(2) == n - 2 and whole(99) == 0


def test_without_unseen_pictures_all_remedies_are_used(tmp_path):
    net = nn.Sequential(*[m for k in range(9) for m in (nn.Conv2d(4 if k else 1, 4, 3, padding=1), nn.ReLU())], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    file, x = to_onnx(net, (1, 8, 8), tmp_path/'a.onnx'), torch.rand(96, 1, 8, 8)
    how = quantise_alike(file, x, tmp_path/'b.onnx')
    assert how['floats'] == 2 and how['method'] == 'percentile' and 0 <= how['agreement'] <= 1
    assert quantise_alike(file, x, tmp_path/'b.onnx', x, at_least=0.).keys() == {'agreement'}, 'the first is enough'
    assert json.loads(write_export(net, (1, 8, 8), tmp_path/'out', calibration=x.numpy(), unseen=x.numpy())[1].read_text())['agreement_on'] == 'pictures it was not trained on'
