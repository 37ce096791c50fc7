"""Heat maps against hand computations and planted evidence, on networks of any make; and that
looking leaves no trace."""

import matplotlib as mpl

mpl.use('agg')
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from fashion_lab.devices import rng_state, set_seed
from fashion_lab.models.layers import head
from fashion_lab.models.backbones import backbone
from fashion_lab.interpret import (
    coarse_cam,
    grad_cam,
    layer_name,
    occlusion_map,
    overlay,
    plot_heat,
    randomisation_test,
    rank_correlation,
    scaled,
)
from fashion_lab.train.classifier import PhotoClassifier
from fashion_lab import interpret as explain

sizes, seeds = st.integers(2, 7), st.integers(0, 2**16)


def two_layers(k=4, classes=3, seed=0):
    set_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, k, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(k, classes),
    ).eval()


@pytest.fixture(scope='module')
def classifier():
    set_seed(0)
    body = backbone('custom_cnn', None, 64)
    return PhotoClassifier(
        body, head(body.n_features, 3, hidden=8, dropout=0.3), list('abc')
    ).eval()


def images(n=3, size=64, seed=0):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


# Grad-CAM


@settings(max_examples=25, deadline=None)
@given(seeds, sizes, sizes, st.integers(1, 6), st.integers(2, 5), st.integers(1, 4))
def test_a_pool_and_a_linear_layer_are_known_by_hand(seed, h, w, k, classes, n):
    net = two_layers(k, classes, seed)
    x = torch.randn(n, 3, h, w, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        a = net[0](x).relu()
    for c in range(classes):
        by_hand = (net[4].weight[c].detach().view(1, -1, 1, 1) / (h * w) * a).sum(1).clamp_min(0)
        got, said = coarse_cam(net, x, c, '1', batch=2)
        np.testing.assert_allclose(got, by_hand, rtol=1e-4, atol=1e-7)
        assert (said == c).all()
    heat = grad_cam(net, x, 0, '1')
    assert heat.shape == (n, h, w)
    assert heat.dtype == np.float32
    assert heat.min() >= 0
    assert set(heat.max((1, 2)).tolist()) <= {0.0, 1.0}


def test_gradients_agree_with_differences():
    """A layer followed by more than a linear one: the channels' weights by finite differences,
    in float64."""
    set_seed(3)
    net = (
        nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.Tanh(),
            nn.Conv2d(4, 5, 2),
            nn.Sigmoid(),
            nn.AdaptiveMaxPool2d(2),
            nn.Flatten(),
            nn.Linear(20, 3),
        )
        .double()
        .eval()
    )
    x = torch.randn(2, 3, 6, 7, dtype=torch.double)
    c = [2, 0]
    e = 1e-6
    with torch.no_grad():
        a = net[1](net[0](x))
        rest = net[2:]
        slope = torch.zeros_like(a)
        for at in np.ndindex(*a.shape):
            up, down = a.clone(), a.clone()
            up[at] += e
            down[at] -= e
            slope[at] = (rest(up)[at[0], c[at[0]]] - rest(down)[at[0], c[at[0]]]) / (2 * e)
        want = (slope.mean((2, 3), keepdim=True) * a).sum(1).clamp_min(0)
    np.testing.assert_allclose(coarse_cam(net, x, c, net[1])[0], want, rtol=1e-4, atol=1e-8)


def test_each_image_is_by_itself(classifier):
    x = images(5)
    together, classes = coarse_cam(classifier, x, stage='stages.1')
    for i in range(5):
        np.testing.assert_allclose(
            coarse_cam(classifier, x[i : i + 1], int(classes[i]), 2)[0][0],
            together[i],
            rtol=1e-3,
            atol=1e-7,
        )
    with torch.no_grad():
        assert (classes == classifier(x).argmax(1).numpy()).all()
    assert (
        grad_cam(classifier, x, torch.tensor([0, 1, 2, 0, 1]), 2) != grad_cam(classifier, x, 0, 2)
    ).any()


def state_of(net):
    return (
        [m.training for m in net.modules()],
        [p.requires_grad for p in net.parameters()],
        [p.grad if p.grad is None else p.grad.clone() for p in net.parameters()],
        [
            len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
            for m in net.modules()
        ],
        {k: t.clone() for k, t in net.state_dict().items()},
    )


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


class Dicy(nn.Module):  # draws numbers wherever one can, and breaks when it is told to
    broken = False

    def forward(self, x):
        torch.rand(3)
        np.random.rand(3)
        if self.broken:
            raise RuntimeError('broken')
        return x


def test_no_trace_is_left_also_after_errors(classifier):
    dicy, x = Dicy(), images()
    net = nn.Sequential(
        classifier.body.stages[0],
        nn.Conv2d(32, 4, 1),
        dicy,
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(4, 3),
    )
    net(x).sum().backward()
    net.train()
    net[3].eval()
    net[1].weight.requires_grad_(False)
    before = state_of(net)
    dice = rng_state()
    grad = torch.is_grad_enabled()
    first = grad_cam(net, x, 1, '1')
    assert same(before, state_of(net)) and same(dice, rng_state())
    dicy.broken = True
    with pytest.raises(RuntimeError, match='broken'):
        grad_cam(net, x, 1, '1')
    dicy.broken = False
    for wrong in (dict(target=3), dict(stage='6'), dict(stage='7.0'), dict(target=[0])):
        with pytest.raises(ValueError):
            grad_cam(net, x, **{**dict(target=1, stage='1'), **wrong})
    assert same(before, state_of(net))
    assert same(dice, rng_state())
    assert grad == torch.is_grad_enabled()
    assert (grad_cam(net, x, 1, '1') == first).all()


def test_whoever_calls_and_however_it_was_made(classifier):
    x, net = images(), two_layers()
    usual = grad_cam(net, x, 1, '0')
    with torch.no_grad():
        assert (grad_cam(net, x, 1, '0') == usual).all()
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        made_here = nn.Sequential(*two_layers())
        assert all(p.is_inference() for p in two_layers().parameters())
        assert (grad_cam(made_here, x.clone(), 1, '0') == usual).all()
        assert torch.is_inference_mode_enabled()
        made = two_layers()
    assert (grad_cam(made, x, 1, '0') == usual).all()
    assert all(p.requires_grad for p in made.parameters())
    assert randomisation_test(made, lambda m: coarse_cam(m, x, 1, '0')[0], draws=1).correlation[
        0
    ] == pytest.approx(1)
    assert (grad_cam(net.requires_grad_(False), x, 1, '0') == usual).all()

    class Frozen(nn.Module):  # runs its body without gradients, as transfer often does
        def __init__(self):
            super().__init__()
            self.body, self.top = net[:2], net[2:]

        def forward(self, x):
            with torch.no_grad():
                f = self.body(x)
            return self.top(f)

    assert (grad_cam(Frozen(), x, 1, 'body.0') == usual).all()


def test_layers_by_every_name(classifier):
    names = classifier.body.stage_names
    assert (
        [layer_name(classifier, k) for k in names]
        == [layer_name(classifier, i) for i in range(5)]
        == [layer_name(classifier, i - 5) for i in range(5)]
    )
    assert (
        layer_name(classifier, classifier.body.stages[1])
        == layer_name(classifier, 'stages.0')
        == 'body.stages.1'
    )
    # a stage's name goes before a module's of the same name
    assert layer_name(classifier.body, 'stages.0') == 'stages.1'
    assert layer_name(two_layers(), '1') == '1'
    for wrong, told in (
        ('stages.9', "Did you mean 'stages."),
        (True, 'a position from'),
        (9, 'a position from'),
        (nn.ReLU(), 'no layer of this'),
        (None, 'a position from'),
    ):
        with pytest.raises(ValueError, match=told):
            layer_name(classifier, wrong)
    for wrong in (-1, 'conv', None, 3.5):
        with pytest.raises(ValueError, match='has no layer'):
            layer_name(two_layers(), wrong)


def test_layers_without_a_map_are_refused(classifier):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair, self.aside, self.top = Dicy(), Dicy(), two_layers()

        def forward(self, x):
            self.pair.forward(x)
            self.aside(x)
            return self.top(x)

    for stage, told in (
        ('pair', 'do not depend'),
        ('aside', 'do not depend'),
        ('top.3', 'not a map'),
        ('top.2', 'not a map'),
    ):
        with pytest.raises(ValueError, match=told):
            grad_cam(Odd(), images(), stage=stage)
    lstm = nn.Sequential(nn.Flatten(2), nn.LSTM(4096, 5))
    with pytest.raises(ValueError, match='gives tuple, not a map'):
        grad_cam(lstm, images(), stage='1')


def test_scaled_keeps_the_order_and_the_bounds():
    m = np.random.default_rng(0).normal(size=(4, 5, 6)) * [[[1e-300]], [[1e300]], [[1]], [[0]]]
    s = scaled(m)
    assert s.dtype == np.float32
    assert s.min() >= 0
    assert s.max((1, 2)).tolist() == [1, 1, 1, 0]
    for wrong in (m[0], m * np.nan):
        with pytest.raises(ValueError):
            scaled(wrong)


# Occlusion


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_occlusion_finds_a_planted_square_exactly(data):
    side, rows, cols = (data.draw(st.integers(*b)) for b in ((2, 6), (1, 5), (1, 5)))
    r = data.draw(st.integers(0, rows - 1))
    c = data.draw(st.integers(0, cols - 1))
    grey = data.draw(st.booleans())
    scene = np.zeros((1, rows * side, cols * side) + (() if grey else (3,)), np.uint8)
    scene[:, r * side : (r + 1) * side, c * side : (c + 1) * side] = 255
    heat = occlusion_map(
        lambda p: p.reshape(len(p), -1).sum(1, dtype=float),
        scene,
        side,
        side,
        0,
        batch=data.draw(st.integers(1, 9)),
    )
    want = scene.astype(float).reshape(rows * side, cols * side, -1).sum(2).sum() * (
        scene[0] > 0
    ).reshape(rows * side, cols * side, -1).all(2)
    np.testing.assert_array_equal(heat[0], want.astype(np.float32))


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 20), st.integers(4, 20), st.data())
def test_patches_cover_everything_and_batches_do_not_matter(h, w, data):
    patch = data.draw(st.integers(1, min(h, w)))
    step = data.draw(st.integers(1, patch))
    scene = np.random.default_rng(h * w).integers(1, 256, (2, h, w, 3), dtype=np.uint8)
    was = scene.copy()
    seen = []

    def score(p):
        seen.append(p == 0)
        return torch.tensor(p.reshape(len(p), -1).sum(1, dtype=float), requires_grad=True)

    heat = occlusion_map(score, scene, patch, step, 0, batch=7)
    covered = np.concatenate(seen)[..., 0]
    assert covered.any(0).all()
    assert set(covered.sum((1, 2)).tolist()) == {0, patch * patch}
    assert (scene == was).all()
    assert (heat > 0).all()  # every patch takes light away
    np.testing.assert_array_equal(heat, occlusion_map(score, scene, patch, step, 0, batch=100))
    np.testing.assert_array_equal(heat[1:], occlusion_map(score, scene[1:], patch, step, 0))


def test_covers():
    scene = np.zeros((2, 8, 8, 3), np.uint8)
    scene[0, :4] = (200, 100, 40)
    scene[1] = 9
    seen = []
    occlusion_map(lambda p: (seen.append(p.copy()), np.zeros(len(p)))[1], scene, 4, 4)
    # the mean colour of each
    assert (seen[1][0, :4, :4] == (100, 50, 20)).all() and (seen[1][4:] == 9).all()
    for fill in (-1, 256, 1.5, (1, 2), 'noise', None):
        with pytest.raises(ValueError, match='fill'):
            occlusion_map(lambda p: np.zeros(len(p)), scene, 4, 4, fill)


# Pictures


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(0, 1), st.sampled_from(['inferno', 'viridis', 'gray']), st.booleans())
def test_overlay_lies_between_photograph_and_colour(seed, alpha, cmap, grey):
    rng = np.random.default_rng(seed)
    photos = rng.integers(0, 256, (2, 5, 7) + (() if grey else (3,)), dtype=np.uint8)
    heat = rng.random((2, 5, 7))
    plain, hot, mixed = (overlay(photos, heat, a, cmap).astype(int) for a in (0, 1, alpha))
    assert mixed.shape == (2, 5, 7, 3)
    assert overlay(photos, heat, alpha, cmap).dtype == np.uint8
    assert (mixed >= np.minimum(plain, hot)).all()
    assert (mixed <= np.maximum(plain, hot)).all()
    assert (plain == (photos[..., None] if grey else photos)).all()
    assert np.abs(mixed - ((1 - alpha) * plain + alpha * hot)).max() <= 0.5 + 1e-9


@pytest.mark.parametrize('alpha', [-0.1, 1.1, float('nan'), '.5', True, None])
def test_overlay_refuses(alpha):
    with pytest.raises(ValueError, match='alpha'):
        overlay(np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 4, 4)), alpha)


@pytest.mark.parametrize(
    'n,size,cols',
    [
        (1, (40, 40), None),
        (2, (40, 80), None),
        (7, (40, 40), None),
        (5, (60, 40), 5),
        (3, (8, 8), 1),
    ],
)
def test_figure(n, size, cols):
    before = dict(mpl.rcParams)
    photos = np.random.default_rng(0).integers(0, 256, (n, *size, 3), dtype=np.uint8)
    fig = plot_heat(
        photos,
        np.random.default_rng(1).random((n, *size)),
        [f'a $caption of image {i} with many, many, many words\nsecond line' for i in range(n)],
        'synthetic',
        cols=cols,
    )
    fig.draw_without_rendering()
    b, (w, h) = fig.get_tightbbox(), fig.get_size_inches()
    assert min(b.x0, b.y0, w - b.x1, h - b.y1) > -0.03, (b.extents, w, h)
    assert 'synthetic' in fig.axes[0].get_title('left')
    assert len(fig.axes[0].images) == n
    assert fig.axes[1].get_ylabel()
    assert plt.get_fignums() == [] and dict(mpl.rcParams) == before


# The test of the test


def test_randomisation_tells_maps_of_the_network_from_maps_of_the_picture(classifier):
    x = images(8)
    was = {k: t.clone() for k, t in classifier.state_dict().items()}
    cam = randomisation_test(classifier, lambda net: coarse_cam(net, x, 0, 'stages.0')[0], draws=2)
    edges = randomisation_test(classifier, lambda net: x.abs().mean(1).numpy(), draws=1)
    assert cam.randomised.tolist() == [
        'nothing',
        'head',
        'stages.3',
        'stages.2',
        'stages.1',
        'stages.0',
        'stem',
    ]
    assert cam.correlation[0] == pytest.approx(1)
    assert cam.correlation.iloc[-1] < 0.7
    assert edges.correlation.to_numpy() == pytest.approx(1)
    assert same(was, dict(classifier.state_dict()))
    again = randomisation_test(
        classifier, lambda net: coarse_cam(net, x, 0, 'stages.0')[0], draws=2
    )
    assert (again.correlation == cam.correlation).all()
    plain = randomisation_test(two_layers(), lambda net: coarse_cam(net, x, 0, '0')[0], draws=1)
    assert plain.randomised.tolist() == ['nothing', '4', '0']
    conv = nn.Conv2d(3, 2, 3)
    values = [p.detach().clone() for p in conv.parameters()]
    explain._shuffle(conv, torch.Generator().manual_seed(0))
    for a, b in zip(values, conv.parameters()):
        assert torch.equal(a.flatten().sort()[0], b.flatten().sort()[0])
    assert not torch.equal(values[0], conv.weight)


@settings(max_examples=30, deadline=None)
@given(seeds, sizes, sizes)
def test_rank_correlation_is_scipys(seed, h, w):
    from scipy.stats import spearmanr

    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 5, (2, 3, h, w))  # with ties
    for got, m, n in zip(rank_correlation(a, b), a, b):
        assert got == pytest.approx(
            spearmanr(m.ravel(), n.ravel())[0] if len(np.unique(m)) > 1 < len(np.unique(n)) else 0
        )
