"""Networks that leave the house: the same answers for any batch, nobody's paths in the file,
refusals that name what is wrong."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from fashion_lab.data.resizing import decode, FITS
from fashion_lab.export.onnx import check_exportable, OnnxNet, to_onnx
from fashion_lab.export.int8 import agreement, quantise, quantise_checked
from fashion_lab.export.answering import photo_pixels
from fashion_lab.export.formats import as_code, checked_code, FORMATS, to_torch_export, write_export
from fashion_lab.export import int8 as export_int8


def small(channels=1, classes=4):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 16),
        nn.ReLU(),
        nn.Linear(16, classes),
    )
    net(torch.randn(32, channels, 8, 8) * 3 + 1)
    return net.eval()


class Branch(nn.Module):
    "Its way depends on the values, deep inside."

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 2, 3), nn.Sequential(nn.Flatten(), Chooser())

    def forward(self, x):
        return self.second(self.first(x))


class Chooser(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(72, 3), nn.Linear(72, 3)

    def forward(self, x):
        return self.a(x) if x.mean().item() > 0 else self.b(x)


class Mixed(nn.Module):
    "Mixes the pictures of a batch."

    def forward(self, x):
        return x.flatten(1).sum(0, keepdim=True)


@pytest.mark.parametrize(
    'net, shape, says',
    [
        (Branch().eval(), (1, 8, 8), 'data-dependent control flow'),
        (small().train(), (1, 8, 8), 'in training mode'),
        (small(), (1, 8, 7), "in the layer '5' (Linear)"),
        (small(), (1, -8, 8), 'whole numbers of at least 1'),
        (small(), (1, 0, 8), 'whole numbers of at least 1'),
        (small(), dict(x=(1, 8, 8)), '1 inputs for Sequential'),
        (Mixed().eval(), (1, 4, 4), 'the first axis must be the batch'),
        (nn.LSTM(4, 4).eval(), (3, 4), 'gives a tuple of 2'),
        (nn.Bilinear(4, 4, 2).eval(), (4,), 'takes 2 inputs (input1, input2)'),
        ('net', (1,), 'must be a torch.nn.Module'),
    ],
)
def test_refused_by_name(tmp_path, net, shape, says):
    for f in (
        lambda: check_exportable(net, shape),
        lambda: to_onnx(net, shape, tmp_path / 'x.onnx'),
        lambda: to_torch_export(net, shape, tmp_path / 'x.pt2'),
        lambda: write_export(net, shape, tmp_path),
    ):
        with pytest.raises(ValueError) as e:
            f()
        assert says in str(e.value) and len(str(e.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())  # nothing half-written


def test_checking_leaves_no_trace():
    net = small()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    rng = torch.get_rng_state()
    check_exportable(net, (1, 8, 8))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), rng)
    assert not any(m._forward_hooks for m in net.modules())


def test_float32_is_the_same_and_says_nothing_of_its_making(tmp_path):
    net = small(3).to(memory_format=torch.channels_last)
    file = to_onnx(net, (3, 8, 8), tmp_path / 'net.onnx')
    there = OnnxNet(file, 1)
    for n in (1, 5):
        x = torch.rand(n, 3, 8, 8)
        with torch.no_grad():
            assert (there(x) - net(x)).abs().max() < 1e-4
    text = file.read_bytes()
    assert b'.py' not in text
    assert b'/usr' not in text
    assert b'torch.onnx' not in text
    onnx.checker.check_model(onnx.load(file))
    with pytest.raises(Exception):
        there(torch.rand(1, 3, 9, 9))
    with pytest.raises(ValueError, match='n_threads'):
        OnnxNet(file, -1)


def test_whole_numbers_give_the_same_answers(tmp_path):
    "On pictures that the network can tell apart, as after training."
    net, rng = small(), torch.Generator().manual_seed(1)
    x = torch.randn(600, 1, 8, 8, generator=rng)
    with torch.no_grad():
        margin = net(x).topk(2).values
        sure = x[(margin[:, 0] - margin[:, 1]) > 0.1]
    file = to_onnx(net, (1, 8, 8), tmp_path / 'a.onnx')
    for method in ('minmax', 'percentile'):
        there = OnnxNet(quantise(file, x[:256], tmp_path / f'{method}.onnx', method))
        assert agreement(net, there, sure.split(64)) >= 0.99
        for w in onnx.load(tmp_path / f'{method}.onnx').graph.initializer:
            if w.name.startswith(('0.weight', '5.weight', '7.weight')) and 'quantized' in w.name:
                assert w.data_type == onnx.TensorProto.INT8


@pytest.mark.parametrize('format', FORMATS)
def test_example_runs_without_this_package(tmp_path, format):
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'picture.png')
    net = small()
    files = write_export(
        net,
        (1, 8, 8),
        tmp_path / 'out',
        format,
        'it',
        [0.3],
        [0.25],
        dict(classes=list('abcd'), source='synthetic'),
    )
    about = json.loads(files[1].read_text())
    assert about['source'] == 'synthetic'
    assert about['input']['shape'] == ['N', 8, 8, 1]
    assert about['output']['shape'] == ['N', 4]
    assert about['preparation']['fit'] == 'crop'
    assert about['inside'] == dict(mean=[0.3], std=[0.25], mirror=False, softmax=True)
    hide = (
        "import sys, runpy; sys.modules['fashion_lab'] = None; sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    said = subprocess.run(
        [sys.executable, '-c', hide, str(files[2]), str(tmp_path / 'picture.png')],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert said.returncode == 0, said.stderr
    with torch.no_grad():
        p = net((torch.from_numpy(pixels)[None, None].float() / 255 - 0.3) / 0.25).softmax(1)[0]
    assert said.stdout.split()[:2] == ['abcd'[int(p.argmax())], f'{float(p.max()):.3f}']


def test_code_of_a_network_builds_it():
    net = nn.Sequential(small(), nn.Identity())
    again = eval(as_code(net))
    again.load_state_dict(net.state_dict())
    x = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(again.eval()(x), net.eval()(x))


@pytest.mark.parametrize(
    'layers',
    [
        (nn.Conv2d(4, 8, 3, groups=2), nn.Flatten(1), nn.Linear(8 * 36, 5, bias=False)),
        (
            nn.Conv2d(4, 8, 3, bias=False),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 5),
        ),
    ],
    ids=['grouped', 'without a bias'],
)
def test_biases_take_back_what_rounded_weights_change(tmp_path, layers):
    """The mean of every answer comes nearer to the exact one; the file stays a valid one, and
    of the same kind."""
    torch.manual_seed(3)
    net, x = nn.Sequential(*layers).eval(), torch.rand(256, 4, 8, 8)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(3)
    file = to_onnx(net, (4, 8, 8), tmp_path / 'a.onnx')
    exact = OnnxNet(file)(x).mean(0)
    shift = {
        c: (OnnxNet(quantise(file, x, tmp_path / 'b.onnx', correct=c))(x).mean(0) - exact)
        .abs()
        .mean()
        .item()
        for c in (False, True)
    }
    onnx.checker.check_model(onnx.load(tmp_path / 'b.onnx'))
    assert shift[True] < 0.7 * shift[False], shift


def test_layers_in_32_bits(tmp_path):
    "The first ones keep their weights; more than there are leaves nothing to quantise."
    file = to_onnx(small(), (1, 8, 8), tmp_path / 'a.onnx')

    def whole(n):
        return sum(
            w.data_type == onnx.TensorProto.INT8 and len(w.dims) > 1
            for w in onnx.load(
                quantise(file, torch.rand(64, 1, 8, 8), tmp_path / 'b.onnx', floats=n)
            ).graph.initializer
        )

    n = whole(0)
    assert n >= 3
    assert whole(1) == n - 1
    assert whole(2) == n - 2
    assert whole(99) == 0


def test_without_unseen_pictures_all_remedies_are_used(tmp_path):
    net = nn.Sequential(
        *[m for k in range(9) for m in (nn.Conv2d(4 if k else 1, 4, 3, padding=1), nn.ReLU())],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    ).eval()
    file = to_onnx(net, (1, 8, 8), tmp_path / 'a.onnx')
    x = torch.rand(96, 1, 8, 8)
    how = quantise_checked(file, x, tmp_path / 'b.onnx')
    assert how['floats'] == 2
    assert how['method'] == 'percentile'
    assert 0 <= how['agreement'] <= 1
    assert quantise_checked(file, x, tmp_path / 'b.onnx', x, at_least=0.0).keys() == {
        'agreement'
    }, 'the first is enough'
    pixels = (x * 255).byte().permute(0, 2, 3, 1).numpy()
    about = json.loads(
        write_export(net, (1, 8, 8), tmp_path / 'out', calibration=pixels, unseen=pixels)[
            1
        ].read_text()
    )
    assert about['agreement_on'] == 'pictures it was not trained on'
    assert 'onnxruntime' in about['agreement_measured_with']
    assert '-64 to 64' in about['scheme']


# --- every processor
def integer_weights(
    file,
):  # of convolutions and linear layers, (output channels, products of one sum)
    weights = [
        onnx.numpy_helper.to_array(w)
        for w in onnx.load(file).graph.initializer
        if w.data_type == onnx.TensorProto.INT8 and len(w.dims) > 1
    ]
    return [w.reshape(len(w), -1) for w in weights]


def saturating_products(activations, weights):
    """(n, k) uint8 and (m, k) int8 -> (n, m), as `vpmaddubsw` adds them on processors without
    VNNI: two products at a time, cut off at 16 bits."""
    odd = activations.shape[1] % 2
    a, w = (np.pad(v.astype(np.int32), ((0, 0), (0, odd))) for v in (activations, weights))
    pairs = a[:, None, 0::2] * w[None, :, 0::2] + a[:, None, 1::2] * w[None, :, 1::2]
    return pairs.clip(-(2**15), 2**15 - 1).sum(2)


def test_no_processor_saturates(tmp_path):
    "The largest activations there are, and a network whose weights all have one sign."
    net = small(3)
    with torch.no_grad():
        net[0].weight.abs_()
    x = torch.rand(64, 3, 8, 8)
    file = to_onnx(net, (3, 8, 8), tmp_path / 'a.onnx')
    brightest = np.full((2, 10_000), 255, np.uint8)
    weights = integer_weights(quantise(file, x, tmp_path / 'b.onnx'))
    assert len(weights) == 3
    for w in weights:
        a = brightest[:, : w.shape[1]]
        assert (saturating_products(a, w) == a.astype(np.int64) @ w.T.astype(np.int64)).all()
        eight_bits = np.sign(w) * 127
        assert (
            saturating_products(a, eight_bits) != a.astype(np.int64) @ eight_bits.T.astype(np.int64)
        ).any(), 'the check sees saturation'


@pytest.mark.parametrize(
    'layers',
    [
        (nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
        (
            nn.Conv2d(3, 12, 3, groups=3),
            nn.ReLU6(),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 12, 3, groups=12),
            nn.Hardswish(),
            nn.Flatten(),
            nn.Linear(12, 4),
        ),
    ],
    ids=['plain', 'grouped'],
)
def test_answers_with_and_without_merged_operations(tmp_path, layers):
    """torch, ONNX Runtime operation by operation, and its merged kernels: alike in 32 bits and,
    to a step of rounding, in 8."""
    torch.manual_seed(1)
    net, x = nn.Sequential(*layers).eval(), torch.rand(128, 3, 8, 8)
    file = to_onnx(net, (3, 8, 8), tmp_path / 'a.onnx')
    small_file = quantise(file, x, tmp_path / 'b.onnx')
    with torch.no_grad():
        exact = net(x)
    merged, alone = (OnnxNet(file, optimise=o)(x) for o in (True, False))
    assert torch.allclose(merged, exact, atol=1e-5)
    assert torch.allclose(alone, exact, atol=1e-5)
    merged, alone = (OnnxNet(small_file, optimise=o)(x) for o in (True, False))
    step = float(exact.max() - exact.min()) / 255
    assert (merged - alone).abs().max() < 2 * step
    assert (merged - exact).abs().mean() < 2 * step
    assert (merged - exact).abs().max() < 8 * step


# --- photos
def photos(folder):
    "Files of many modes, shapes and orientations."
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    made = []

    def noise(w, h, c=3):
        return Image.fromarray(
            rng.integers(0, 256, (max(1, h // 8), max(1, w // 8), c), dtype=np.uint8)
        ).resize((w, h), Image.Resampling.BICUBIC)

    def save(image, name, **options):
        image.save(folder / name, **options)
        made.append(folder / name)

    for w, h in ((500, 333), (333, 500), (90, 400), (1300, 900), (7, 11), (40, 40), (1, 1)):
        save(noise(w, h), f'{w}x{h}.jpg')
    for k in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = k
        save(noise(900, 610), f'turned{k}.jpg', exif=exif)
        save(noise(61, 90), f'turned{k}.png', exif=exif)
    rgb, cut = noise(120, 80), noise(120, 80, 4)
    save(cut, 'cut.png')
    save(cut, 'cut.webp', lossless=True)
    save(cut.convert('LA'), 'grey-cut.png')
    save(rgb.quantize(16), 'palette.png')
    save(rgb.quantize(16), 'palette.gif')
    save(rgb.quantize(16), 'see-through.png', transparency=3)
    save(rgb.convert('L'), 'grey.jpg')
    save(rgb.convert('1'), 'bits.png')
    save(rgb.convert('CMYK'), 'print.jpg')
    save(rgb.convert('CMYK'), 'print.tif')
    save(rgb, 'key.png', transparency=(0, 0, 0))
    save(rgb, 'film.gif', save_all=True, append_images=[cut.convert('RGB')])
    save(Image.fromarray(rng.integers(0, 65536, (50, 70), dtype=np.uint16)), 'deep.png')
    save(Image.fromarray(rng.random((50, 70), dtype=np.float32)), 'numbers.tif')
    save(Image.fromarray(rng.integers(0, 60_000, (50, 70), dtype=np.int32)), 'deep.tif')
    return made


@pytest.mark.parametrize('fit', FITS)
def test_the_example_sees_the_pixels_that_predict_sees(tmp_path, fit):
    for path in photos(tmp_path / 'photos'):
        for size in ((64, 64), (50, 31)):
            want = decode(path, size, fit)[0]
            got = photo_pixels(path, size, fit)
            assert want.dtype == got.dtype and np.array_equal(want, got), (path.name, size)


# --- code and files
ODD = [
    nn.Conv2d(3, 3, 3, padding='same'),
    nn.Conv2d(3, 3, 3, padding='same', dilation=2, bias=False),
    nn.Conv2d(3, 3, 3, padding=1, padding_mode='circular'),
    nn.Conv2d(3, 6, 3, stride=2, groups=3),
    nn.AvgPool2d(3, 2, ceil_mode=True),
    nn.AvgPool2d(3, padding=1, count_include_pad=False),
    nn.AvgPool2d(2, divisor_override=3),
    nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    nn.Upsample(scale_factor=1.5, mode='bilinear', align_corners=True),
    nn.Upsample((7, 5)),
    nn.GELU('tanh'),
    nn.BatchNorm2d(3, eps=0.1, affine=False),
    nn.BatchNorm2d(3, track_running_stats=False),
    nn.AdaptiveAvgPool2d((2, None)),
    nn.Flatten(2),
    nn.Linear(9, 4, bias=False),
    nn.Hardswish(inplace=True),
]


@pytest.mark.parametrize('layer', ODD, ids=[f'{type(m).__name__}{i}' for i, m in enumerate(ODD)])
def test_code_keeps_what_a_layer_does(layer):
    net = nn.Sequential(layer).eval()
    again = eval(checked_code(net, (3, 9, 9)))
    again.load_state_dict(net.state_dict())
    x = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        assert torch.equal(again.eval()(x.clone()), net(x.clone()))


def test_code_that_would_answer_otherwise_is_refused(tmp_path):
    hooked, named = small(), nn.Sequential()
    hooked[0].register_forward_pre_hook(lambda m, args: (args[0] * 2,))
    named.add_module('first', nn.Conv2d(1, 2, 3))
    named.add_module('flat', nn.Flatten())

    class Loud(nn.Sequential):
        def forward(self, x):
            return 2 * super().forward(x)

    for net, says in (
        (hooked, 'is off by'),
        (named.eval(), 'have names'),
        (Loud(nn.Flatten()).eval(), 'Loud is no ordinary layer'),
    ):
        with pytest.raises(ValueError, match=says):
            write_export(net, (1, 8, 8), tmp_path / 'out', 'safetensors')
    assert not (tmp_path / 'out').exists()


def test_an_interrupted_export_leaves_nothing_behind(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 1), dtype=np.uint8)
    before = {f: f.read_bytes() for f in write_export(small(), (1, 8, 8), tmp_path)}

    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(export_int8, 'quantise_checked', stopped)
    for folder in (tmp_path, tmp_path / 'new'):
        with pytest.raises(KeyboardInterrupt):
            write_export(small(), (1, 8, 8), folder, calibration=pixels)
    assert {f: f.read_bytes() for f in tmp_path.glob('network*')} == before
    assert not list((tmp_path / 'new').iterdir())
    assert len(list(tmp_path.iterdir())) == 4


def test_pixels_in_probabilities_out(tmp_path):
    "Any number of pictures, with and without the mirror image."
    x = torch.randint(0, 256, (3, 8, 8, 1), dtype=torch.uint8)
    for mirror in (False, True):
        there = OnnxNet(
            write_export(small(), (1, 8, 8), tmp_path, mirror=mirror, mean=[0.4], std=[0.2])[0]
        )
        with torch.no_grad():
            seen, mirrored = (
                small()((p.permute(0, 3, 1, 2) / 255 - 0.4) / 0.2).softmax(1)
                for p in (x, x.flip(2))
            )
        want = (seen + mirrored) / 2 if mirror else seen
        assert there.dtype == np.uint8
        assert torch.allclose(there(x), want, atol=1e-6)
        assert torch.allclose(there(x[:1]), want[:1], atol=1e-6)
