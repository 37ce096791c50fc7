"""The compression lab: settings, what a run begins with, files that are what they say, figures
and page; pruning, factors and teachers at their corners."""

import copy
import dataclasses
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from fashion_lab.cost.counts import hand_macs
from fashion_lab.cost.timing import in_turns
from fashion_lab.compress.pruning import (
    apply_masks,
    fit_widths,
    magnitude_masks,
    prunable,
    prune_channels,
    sparsity,
)
from fashion_lab.compress.low_rank import factorise, rank_for, separable
from fashion_lab.labs.compression_variants import ABLATION, configs
from fashion_lab.labs.compression_images import pictures_of
from fashion_lab.labs.compression_networks import network, slim
from fashion_lab.labs.registry import LABS
from fashion_lab.studio.cli import main
from fashion_lab.runs import results as runs_results
from fashion_lab.runs import run as runs_run
from fashion_lab.labs import compression as lab
from fashion_lab.labs import compression_variants


@pytest.fixture(scope='module')
def done(tmp_path_factory):
    root = tmp_path_factory.mktemp('runs')
    wanted = [
        'original',
        'low-rank-25',
        'combination',
        'sparse-80',
        'shared-2bit',
        'width-25',
        'distilled-25-strong',
    ]
    return root, [
        lab.run(dataclasses.replace(c, limit=300), root, show=False)
        for c in configs('smoke', variants=wanted)
    ]


# --- settings
def test_registered():
    assert 'compression' in LABS


def test_begun_with_and_taught_by_what_a_sweep_runs():
    """Every variant that a run needs is a variant of the sweep, letter by letter, or it would
    be trained twice."""
    for profile in ('quick', 'full'):
        everything = set(configs(profile, variants=ABLATION.names, source='real'))
        for c in everything:
            if c.seed >= 3:
                continue
            for needed in {c.begin, c.teacher} - {None, lab.STRONG_TEACHER}:
                assert lab.sibling(c, needed) in everything


def test_sizes_are_those_of_the_profile():
    assert {c.limit for c in configs('full')} == {None}
    assert {c.epochs for c in configs('smoke')} <= {0, 1}
    assert {c.turns for c in configs('full', variants=['photo', 'photo-int8'])} == {6}
    assert configs('smoke', variants='photo')[0].limit == compression_variants._PHOTOS['smoke']
    # the folder of the small pictures is none of photos
    assert configs('full', variants='photo', data_path='x')[0].data_path is None


# --- runs
def test_runs_hold_what_they_say(done):
    root, rs = done
    by = {r.variant: r for r in rs}
    d = pictures_of(lab.config_of(rs[0]))
    first = by['original'].metrics
    for r in rs:
        m = r.metrics
        assert set(m) >= {'valid', 'test', 'batch_1', 'batch_32', 'disk'}
        assert m['n']['test'] == len(d.ids['test'])
        t = m['batch_1']
        assert 0 < t['latency_ms']['low'] <= t['latency_ms']['value'] <= t['latency_ms']['high']
        assert t['speedup']['value'] > 0
        assert m['macs'] == sum(hand_macs(network(r), (1, 28, 28)).values())
        assert r.extra['dtype'] == ('int8' if r.variant == 'combination' else 'float32')
        if r.variant != 'combination':
            assert m['test']['agreement'] == 1.0
    assert first['batch_1']['speedup']['value'] == 1.0
    assert first['disk']['bytes'] == pytest.approx(4 * first['params'], rel=0.01)
    sparse = by['sparse-80']
    assert sparsity(network(sparse)) == pytest.approx(0.8, abs=1e-3)
    assert sparse.metrics['disk']['nonzero'] == pytest.approx(
        0.2 * first['disk']['nonzero'], rel=0.01
    )
    assert sparse.metrics['macs'] == first['macs']
    assert sparse.metrics['disk']['zlib_bytes'] < 0.5 * sparse.metrics['disk']['bytes']
    assert all(
        len(np.unique(w.detach().numpy())) <= 4
        for w in prunable(network(by['shared-2bit'])).values()
    )
    assert by['low-rank-25'].metrics['macs'] < 0.4 * first['macs']
    small = by['combination']
    assert small.metrics['disk']['bytes'] < 0.1 * first['disk']['bytes']
    assert small.metrics['params'] < 0.3 * first['params']


def test_a_run_makes_what_it_needs_once(done):
    root, rs = done
    names = [r.variant for r in runs_run.all_runs(root, 'compression')]
    # the latter was made by the combination
    assert names.count('original') == 1 and names.count('distilled-50') == 1


def test_tables_figures_and_page(done, tmp_path):
    root, rs = done
    c = lab.comparison(rs)
    # in the order of the cards
    assert list(c.variant) == [n for n in ABLATION.names if n in set(c.variant)]
    assert c.set_index('variant').difference['original'] == 0
    t = lab.targets(rs)
    assert (t.reached == ((t.measured >= t.wanted) | t.target.str.startswith('p of'))).all()
    page = lab.report(rs, tmp_path / 'page')
    assert {p.name for p in page.parent.iterdir()} >= {
        'index.html',
        'front_1.png',
        'front_32.png',
        'teaching.png',
        'comparison.csv',
        'targets.csv',
        'verdicts.csv',
    }
    alone = lab.report(rs[:1], tmp_path / 'alone')
    assert not (alone.parent / 'verdicts.csv').exists()


def test_pairs_over_seeds(done):
    """Three seeds more, made up, every variant with a spread of its own: the difference is
    theirs, and the verdict is the paired test's."""
    t = runs_results.table(done[1])
    more = pd.concat(
        [
            t.assign(
                seed=s,
                value=t.value
                + 0.001
                * s
                * t.variant.map({v: i for i, v in enumerate(t.variant.unique())})
                * (1 + s),
            )
            for s in range(4)
        ]
    )
    v = lab.verdicts(more).set_index('variant')
    assert v.n['width-25'] == 4
    assert set(v.verdict) <= {'better', 'worse', 'no difference shown'}
    assert lab.comparison(more).seeds.eq(4).all()
    assert 'p of the paired t test, student with a teacher against the same without' in set(
        lab.targets(more).target
    )


def test_answers(done, tmp_path, capsys):
    from PIL import Image

    root, rs = done
    photo = tmp_path / 'shirt.png'
    Image.new('RGB', (50, 60), 'white').save(photo)
    small = next(r for r in rs if r.variant == 'combination')
    assert main(['predict', 'compression', str(photo), '--run', str(small.path)]) == 0
    assert (
        main(['export', 'compression', '--run', str(small.path), '--folder', str(tmp_path / 'out')])
        == 0
    )
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == [
        'compression.json',
        'compression.onnx',
        'compression_example.py',
    ]
    assert '"dtype": "int8"' in (tmp_path / 'out' / 'compression.json').read_text()
    assert (tmp_path / 'out' / 'compression.onnx').stat().st_size < 1.2 * small.metrics['disk'][
        'bytes'
    ]
    # only drawn pictures were learned from
    assert main(['predict', 'compression', str(photo), '--out', str(root)]) == 3
    assert 'run compression --profile quick' in capsys.readouterr().err


# --- the parts
def test_pruned_network_of_another_shape_is_refused():
    net = slim(0.25).eval()
    with pytest.raises(ValueError, match='do not fit'):
        fit_widths(copy.deepcopy(net), factorise(net, 0.5).state_dict())
    with pytest.raises(ValueError, match='belong to another network'):
        apply_masks(net, {'x': torch.ones(3)})


@pytest.mark.parametrize('share', [0.0, 0.1, 0.33, 0.9])
def test_widths_come_back_for_every_share(share):
    net = slim(0.5).eval()
    thin = prune_channels(net, (1, 28, 28), share, multiple=4)
    x = torch.rand(2, 1, 28, 28)
    assert all(w.shape[0] % 4 == 0 for k, w in list(prunable(thin).items())[:-1])
    assert torch.allclose(fit_widths(slim(0.5), thin.state_dict()).eval()(x), thin(x), atol=1e-6)


class Heads(nn.Module):
    "A body and heads, defined in the order of `names`; those in `used` give the outputs."

    def __init__(self, names, used=('head',)):
        super().__init__()
        self.used = used
        for n in names:
            self.add_module(n, nn.Conv2d(3, 8, 3) if n == 'body' else nn.Linear(8, 5))

    def forward(self, x):
        x = self.body(x).relu().mean((2, 3))
        outs = [getattr(self, n)(x) for n in self.used]
        return outs[0] if len(outs) == 1 else dict(zip(self.used, outs))


@pytest.mark.parametrize(
    'names, used',
    [
        (('body', 'head'), ('head',)),
        (('head', 'body'), ('head',)),
        (('body', 'head', 'aux'), ('head',)),
        (('aux', 'head', 'body'), ('head', 'aux')),
    ],
)
def test_outputs_stay_as_wide_as_they_are_whatever_the_order_of_layers(names, used):
    thin = prune_channels(Heads(names, used), (3, 8, 8), 0.5)
    assert thin.body.weight.shape[0] == 4
    assert all(getattr(thin, n).weight.shape == (5, 4) for n in used)


NETWORKS = dict(
    grouped=lambda: nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, groups=4),
        nn.ReLU(),
        nn.Conv2d(24, 16, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    ),
    depthwise=lambda: nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.Conv2d(16, 16, 3, groups=16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    ),
    norms=lambda: nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.GroupNorm(4, 16),
        nn.Conv2d(16, 16, 3),
        nn.InstanceNorm2d(16, affine=True),
        nn.PReLU(16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(16),
        nn.Linear(16, 5),
    ),
    transposed=lambda: nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 8, 2, 2),
        nn.Conv2d(8, 5, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ),
)
NETWORKS |= {
    n: lambda n=n: pytest.importorskip('timm').create_model(n, num_classes=5)
    for n in ('test_convnext', 'regnetx_002', 'resnext26ts', 'mobilenetv3_small_050')
}


@pytest.mark.parametrize('name', NETWORKS)
def test_widths_come_back_for_every_kind_of_layer(name):
    torch.manual_seed(0)
    make = NETWORKS[name]
    x = torch.rand(2, 3, 64, 64)
    thin = prune_channels(make(), (3, 64, 64), 0.5)
    loaded = fit_widths(make(), thin.state_dict()).eval()
    assert torch.allclose(loaded(x), thin(x), atol=1e-6)
    assert thin(x).shape == (2, 5)
    assert sum(p.numel() for p in loaded.parameters()) < 0.6 * sum(
        p.numel() for p in make().parameters()
    )

    def said(net):
        return {
            k: {
                a: getattr(m, a)
                for a in (
                    'in_channels',
                    'out_channels',
                    'groups',
                    'num_features',
                    'num_channels',
                    'normalized_shape',
                    'num_parameters',
                )
                if hasattr(m, a)
            }
            for k, m in net.named_modules()
        }

    for k, about in said(loaded).items():  # what a layer says of itself is what its weight is
        w = getattr(loaded.get_submodule(k), 'weight', None)
        if w is None:
            continue
        if 'groups' in about:
            assert (
                about['in_channels'] * about['out_channels'] // about['groups'] * w[0, 0].numel()
                == w.numel()
            ), k
        for a in ('num_features', 'num_channels', 'num_parameters'):
            assert about.get(a, len(w)) == len(w), k


@pytest.mark.parametrize(
    'make',
    [
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(8, 2, 1)),
        lambda: pytest.importorskip('torchvision').models.shufflenet_v2_x0_5(num_classes=5),
    ],
)
def test_networks_that_cannot_be_followed_are_refused_in_a_sentence(make):
    with pytest.raises(
        ValueError, match='channels cannot be taken out of .* keep, or drop single weights'
    ):
        prune_channels(make(), (3, 64, 64), 0.5)


@pytest.mark.parametrize('share', [0.0, 0.5, 0.999])
def test_exactly_so_many_zeros(share):
    net = slim(0.25)
    masks = magnitude_masks(net, share)
    n = sum(m.numel() for m in masks.values())
    assert sum(int((~m).sum()) for m in masks.values()) == round(share * n)


@pytest.mark.parametrize('share', [0.05, 0.25, 0.75])
def test_factors_cost_no_more_than_asked(share):
    net = slim().eval()
    two = factorise(net, share)
    was, now = (hand_macs(n, (1, 28, 28)) for n in (net, two))
    for name in ('1.0.0', '2.0.0', '4'):
        assert (
            sum(v for k, v in now.items() if k == name or k.startswith(name + '.'))
            <= share * was[name]
            or rank_for(net.get_submodule(name), share) == 1
        )
    assert now['0.0.0'] == was['0.0.0']
    assert list(now.values())[-1] == list(was.values())[-1]


def test_separable_keeps_strides_and_padding():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2, padding=2, dilation=1),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 4, 1),
    )
    thin = separable(net)
    x = torch.rand(1, 3, 17, 17)
    assert thin(x).shape == net(x).shape
    assert type(thin[1]) is nn.Conv2d
    assert thin[0][0].groups == 3


def test_turns_meet_the_same_weather():
    now = [0.0]

    def work(s):
        now[0] += s * (10.0 if int(now[0] * 7) % 3 == 0 else 1.0)

    t = in_turns(
        dict(a=lambda: work(1e-3), b=lambda: work(1e-3)), turns=300, burst=3, clock=lambda: now[0]
    )
    assert t.speedup['b'] == pytest.approx(1.0, abs=0.02)


def test_the_benchmark_pools_networks_of_one_shape(done, monkeypatch, tmp_path):
    """Zeros and shared values do not change a shape, and two students of one width are one
    architecture. What is recorded is found again and replaced."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / 'benchmarks'))
    spec = importlib.util.spec_from_file_location(
        'bench', Path(__file__).resolve().parents[1] / 'benchmarks' / 'compression.py'
    )
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    with pytest.raises(SystemExit, match='no finished run of the original'):
        bench.chosen_runs(tmp_path, 'full')
    root, runs = done
    chosen = bench.chosen_runs(root, 'smoke')
    names = [set(names) for names, _ in bench.pooled(chosen, 'fashion_mnist').values()]
    assert {'width-25', 'distilled-25-strong'} in names
    assert {'shared-2bit', 'sparse-80'} in names
    assert set().union(*names) >= {r.variant for r in runs} - {'original'}
    monkeypatch.setattr(bench, 'FILE', tmp_path / 'speed.csv')
    o = SimpleNamespace(runs=root, quick=False, threads=1, turns=8, seeds=3, most=1e9)
    monkeypatch.setattr(bench, 'chosen_runs', lambda folder, profile: chosen)
    for _ in range(2):
        bench.timed(1)(o)
    t = pd.read_csv(bench.FILE)
    assert len(t) == len(names) and t.variants.is_unique
    assert (
        (t.kept == 8 * t.networks).all()
        and (t.low <= t.speedup).all()
        and (t.speedup <= t.high).all()
    )
