"""The lab of costs: counts that must agree, a published table that is reproduced by its own
rule, runs, figures and the page."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from fashion_lab.cost.counts import hand_macs
from fashion_lab.labs.compute_networks import costs_of, NETWORKS
from fashion_lab.labs.compute_estimates import estimated_flops, exact_macs, Step
from fashion_lab.labs.compute_costs import Config, configs, SMALL
from fashion_lab.runs import results as runs_results
from fashion_lab.runs import run as runs_run
from fashion_lab.labs import compute_costs as lab
from fashion_lab.labs import (
    compute_counters,
    compute_estimates,
    compute_networks,
    compute_published,
    compute_scores,
    compute_search,
    compute_tables,
)
from fashion_lab.widgets import costs as widgets_costs
from fashion_lab.cost import layers as cost_layers
from fashion_lab.cost import roofline as cost_roofline
from torch import nn


@pytest.fixture(scope='module')
def measured(tmp_path_factory):
    root = tmp_path_factory.mktemp('runs')
    return root, [
        lab.run(c, root, show=False) for c in configs('smoke', variants=['SmallCNN', 'custom_cnn'])
    ]


# --- counts
@pytest.mark.parametrize(
    'name', [*SMALL, 'FashionCNN-depth-2', 'FashionCNN-depth-4', 'efficientnet_lite0', 'resnet50']
)
def test_table_agrees_with_formulas(name):
    with torch.device('meta'):
        net = NETWORKS[name].make()
    t = costs_of(name)
    assert t.macs.sum() == sum(hand_macs(net, NETWORKS[name].shape).values())
    assert t.flops.sum() == 2 * t.macs.sum()
    assert t.params.sum() == sum(p.numel() for p in net.parameters())
    assert t.attrs['uncounted'] == {}  # nothing is dropped silently


def test_a_table_may_be_changed_by_who_asked_for_it():
    t = costs_of('SmallCNN')
    t['macs'] = 0
    t.attrs['model'] = 'spoilt'
    assert costs_of('SmallCNN').macs.sum() > 0
    assert costs_of('SmallCNN').attrs['model'] != 'spoilt'


def test_agreement_notices_a_disagreement(monkeypatch):
    class Product(nn.Module):  # a product outside of any layer that a formula knows
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, x):
            return self.a(x) @ x.transpose(-1, -2)

    monkeypatch.setitem(NETWORKS, 'odd', compute_networks.Network('odd', 'test', (3, 4), Product))
    monkeypatch.setattr(
        compute_networks, '_costs', lambda name: cost_layers.layer_table(Product().eval(), (3, 4))
    )
    assert not compute_counters.agreement(['odd']).agree.any()


# --- the published table
@pytest.mark.parametrize(
    'kernel, stride, c_in, c_out, side',
    list(itertools.product((1, 3, 5), (1, 2), (3, 8), (4, 16), (16, 32))),
)
def test_exact_macs_are_those_of_torch(kernel, stride, c_in, c_out, side):
    conv = nn.Conv2d(c_in, c_out, kernel, stride)
    out = (side - kernel) // stride + 1
    step = Step('conv', c_in, c_out, side, out, kernel, stride)
    assert exact_macs(step) == sum(hand_macs(conv, (c_in, side, side)).values())
    # the estimator never undercounts a convolution without padding
    assert estimated_flops(step) >= 2 * exact_macs(step)


def test_resnet50_in_both_orders():
    """Moving the stride from the 1x1 to the 3x3 convolution makes torchvision's out of Keras'
    ResNet-50."""
    steps = compute_estimates.resnet50_steps(('mean', 1000))
    moved = 0
    for a, b in zip(steps, steps[1:]):
        if a.kind == 'conv' and a.kernel == 1 and a.stride == 2 and b.kernel == 3:
            moved += exact_macs(dataclasses.replace(a, out=a.side)) - exact_macs(a)
    assert sum(map(exact_macs, steps)) + moved == costs_of('resnet50').macs.sum() == 4_089_184_256


def test_published_resnet50_is_reproduced_to_its_last_digit():
    e = compute_estimates.estimates(compute_estimates.resnet50_steps())
    assert (
        f"{int(100 * e['estimated_mflops']) / 100} {int(100 * e['estimated_mmacs']) / 100}"
        == '7735.46 3867.73'
    )
    assert e['mmacs'] < e['estimated_mmacs']
    assert round(estimated_flops(compute_estimates.resnet50_steps()[0]) / 1e6, 2) == 248.84
    with pytest.raises(ValueError, match='head'):
        compute_estimates.resnet50_steps(('max', 17))


def test_search_finds_a_network_that_is_in_its_family():
    """Plant the total of a known network: it is found, with that total; and nothing is found
    for a total that none has."""
    steps = [
        Step('conv', 3, 64, 224, 220, 5),
        Step('pool', 64, 64, 220, 110, 2, 2),
        Step('conv', 64, 256, 110, 106, 5),
        Step('pool', 256, 256, 106, 53, 2, 2),
        Step('conv', 256, 256, 53, 51, 3),
        Step('mean', 256, 256, 51),
        Step('dense', 256, 128),
        Step('dense', 128, 17),
    ]
    total = sum(map(estimated_flops, steps)) / 1e6
    found = compute_search.search_custom_cnn((total - 1e-6, total + 1e-6), more=1)
    assert '5x5 64 pool, 5x5 256 pool, 3x3 256, mean, 128, 17' in set(found.layers)
    assert np.allclose(found.mflops, total, atol=2e-6)
    assert found.attrs['tried'] > len(found)
    assert set(found.layers) <= set(
        compute_search.search_custom_cnn((total - 1e-6, total + 1e-6), more=1, free=True).layers
    )
    assert not len(compute_search.search_custom_cnn((1.0, 2.0), more=1))
    assert not len(compute_search.search_custom_cnn(conv2=1234.5))


def test_published_check_never_confuses_macs_and_flops():
    t = lab.published_check()
    assert len(t) == len(compute_published.PUBLISHED)
    assert np.allclose(t.published_mflops, 2 * t.published_mmacs, atol=0.011)
    # what is not known is left empty
    assert np.allclose((t.mflops / t.mmacs).dropna(), 2) and t.mmacs.isna().sum() == 2


# --- configurations
@pytest.mark.parametrize(
    'changes, says',
    [
        (dict(variant='resnet51'), "Did you mean 'resnet50'"),
        (dict(profile='fast'), 'profile'),
        (dict(protocol='onnx'), 'protocol'),
        (dict(source='synthetic'), 'costs do not depend on data'),
        (dict(batches=()), 'must begin with batch 1'),
        (dict(batches=((2, 3),)), 'must begin with batch 1'),
        (dict(batches=((1, 0),)), 'measured calls'),
        (dict(batches=((1, 2), (0, 2))), 'batch'),
    ],
)
def test_bad_configurations(changes, says):
    with pytest.raises(ValueError, match=says):
        Config(**changes)


def test_profiles():
    assert (
        {c.variant for c in configs('quick')}
        == {c.variant for c in configs('full')}
        == set(NETWORKS)
    )
    assert [b for b, _ in configs('full')[0].batches] == [1, 32]
    assert [(c.seed, c.variant) for c in configs('smoke', seeds=2, variants='SmallCNN')] == [
        (0, 'SmallCNN'),
        (1, 'SmallCNN'),
    ]
    for bad in (dict(profile='all'), dict(protocol='fast'), dict(seeds=0), dict(variants='x')):
        with pytest.raises(ValueError):
            configs(**bad)


# --- runs
def test_a_run_holds_what_it_counted(measured):
    root, done = measured
    for r in done:
        t = lab.layers_of(r)
        m = r.metrics
        assert m['counts']['macs'] == m['macs'] == t.macs.sum() == costs_of(r.variant).macs.sum()
        assert m['counts']['flops'] == 2 * m['macs']
        latency = m['batch_1']['latency_ms']
        assert 0 < latency['low'] <= latency['value'] <= latency['high']
        assert m['n'] == dict(counts=1, batch_1=5)
        assert list(t.output) == list(costs_of(r.variant).output)
        assert t.attrs['conditions']['batch'] == 1
        assert lab.machine_of(r).gflops > 0
        assert r.config['variant'] == r.variant
    assert (
        runs_run.find_run('compute_costs', configs('smoke', variants='SmallCNN')[0], root)
        == done[0]
    )


def test_comparison_from_runs_and_from_their_table(measured):
    _, done = measured
    a, b = lab.comparison(done), lab.comparison(runs_results.table(done))
    pd.testing.assert_frame_equal(a, b)
    assert list(a.variant) == ['SmallCNN', 'custom_cnn']
    assert (a.p10 <= a.ms).all()
    assert (a.ms <= a.p90).all()
    assert np.allclose(a.mflops, 2 * a.mmacs)


def test_costliest_layers_name_layers_of_the_network(measured):
    _, done = measured
    for row, r in zip(compute_tables.costliest_layers(done).itertuples(), done):
        t = lab.layers_of(r).set_index('layer')
        assert t.operations.idxmax() == row.by_operations
        assert t.median_ms.idxmax() == row.by_time
        assert t.time_share.max() == row.time_share


def test_why_two_layers_differ():
    def row(layer, operations, intensity, ms):
        return pd.Series(
            dict(
                layer=layer,
                operations=operations,
                intensity=intensity,
                median_ms=ms,
                operations_share=0.5,
                time_share=0.5,
            )
        )

    machine = cost_roofline.Machine(gflops=100, gbs=10)
    big = row('conv', 1e9, 50, 10.0)
    assert 'the same layer' in compute_tables._why(big, big, machine)
    assert 'waits for memory' in compute_tables._why(big, row('norm', 1e6, 0.25, 20.0), machine)
    assert 'fill the processor badly' in compute_tables._why(
        big, row('odd', 1e8, 40, 20.0), machine
    )
    assert 'computes nothing' in compute_tables._why(big, row('flat', 0, 0, 20.0), machine)


def test_results_keep_percentiles_and_refuse_nothing(measured, tmp_path):
    _, done = measured
    (file,) = runs_results.publish(done, tmp_path, allow_dirty=True)
    t = runs_results.read_results(file)
    assert file.name == 'compute_costs.csv'
    assert set(t.split) == {'counts', 'batch_1'}
    ms = t[t.metric == 'latency_ms']
    assert (ms.ci_low <= ms.value).all()
    assert (ms.value <= ms.ci_high).all()
    assert t[t.metric == 'macs'].value.tolist() == t[t.metric == 'macs'].macs.tolist()


def test_page(measured, tmp_path):
    page = lab.report(measured[1], tmp_path / 'page', shown=1)
    text = page.read_text()
    assert 'not determined' in text
    assert 'custom_cnn' in text
    assert str(tmp_path) not in text
    for name in (
        'latency.png',
        'layers_custom_cnn.png',
        'roofline_custom_cnn.png',
        'comparison.csv',
        'costliest_layers.csv',
        'published.csv',
        'layers_SmallCNN.csv',
    ):
        assert (tmp_path / 'page' / name).exists(), name
    assert not (tmp_path / 'page' / 'layers_SmallCNN.png').exists()


# --- accuracy against cost
def _results(path, lab_name, source, values):
    rows = [
        dict(
            lab=lab_name,
            variant=v,
            data='d',
            source=source,
            protocol=compute_scores.SCORES[lab_name][0],
            profile='full',
            seed=s,
            split='test',
            metric=compute_scores.SCORES[lab_name][1],
            value=score + 0.01 * s,
            macs=macs,
            params=1,
        )
        for v, score, macs in values
        for s in range(2)
    ]
    pd.DataFrame(rows).reindex(columns=runs_results.COLUMNS).to_csv(path, index=False)


def test_real_and_synthetic_scores_never_meet(tmp_path, monkeypatch):
    monkeypatch.setenv('FASHION_LAB_RESULTS', str(tmp_path))
    assert not len(lab.accuracy_cost())
    _results(
        tmp_path / 'closures.csv',
        'closures',
        'real',
        [('cheap', 0.7, 10), ('dear', 0.8, 100), ('worse', 0.6, 50)],
    )
    _results(tmp_path / 'clothing.csv', 'clothing', 'synthetic', [('drawn', 0.99, 1)])
    t = lab.accuracy_cost()
    assert set(t.lab) == {'closures'}
    assert set(t.source) == {'real'}
    assert dict(zip(t.variant, t.front)) == dict(cheap=True, dear=True, worse=False)
    assert np.allclose(t.set_index('variant').score['cheap'], 0.705)
    assert (t.n == 2).all()
    drawn = lab.accuracy_cost('synthetic')
    assert set(drawn.variant) == {'drawn'}
    assert 'synthetic' in lab.plot_accuracy_cost(drawn).axes[0].get_title(loc='left')
    with pytest.raises(ValueError, match='real and synthetic'):
        lab.plot_accuracy_cost(pd.concat([t, drawn]))


def test_a_second_look_is_counted():
    for name in ('fashion_mnist', 'clothing', 'closures'):
        for m in getattr(compute_scores, name).ABLATION:
            assert compute_scores.looks_of(name, m.name) in (1, 2)
    assert compute_scores.looks_of('segmentation', 'unet') == 1
    with pytest.raises(ValueError, match='lab'):
        compute_scores.looks_of('hats', 'straw')
    # recorded: the recipe is FashionCNN, looked through twice
    t = lab.accuracy_cost().set_index('variant')
    assert t.macs['recipe'] == 2 * t.macs['FashionCNN'] == 2 * costs_of('FashionCNN').macs.sum()


def test_costs_alone_are_no_scores(measured, tmp_path):
    from fashion_lab.studio.results import recorded_labs

    runs_results.publish(measured[1], tmp_path, allow_dirty=True)
    assert recorded_labs(tmp_path) == {}
    _results(tmp_path / 'closures.csv', 'closures', 'real', [('linear-probe', 0.7, 10)])
    assert list(recorded_labs(tmp_path)) == ['closures']


# --- the explorer
def test_explorer_opens_a_network_at_its_costliest_layer():
    look = widgets_costs.explore_costs('SmallCNN')
    assert look.net.value == 'SmallCNN'
    assert look.layer.value == lab.costliest_layer(costs_of('SmallCNN'))
    look.net.value = 'FashionCNN'
    assert list(look.layer.options) == list(costs_of('FashionCNN').layer)
    assert look.layer.value == lab.costliest_layer(costs_of('FashionCNN'))
    with pytest.raises(ValueError, match='layer'):
        widgets_costs.explore_costs('SmallCNN', layer='nowhere')


def test_layers_without_places_are_drawn_too():
    t = costs_of('SmallCNN')
    for layer in t.layer:
        assert lab.plot_layer(t, layer, (1, 28, 28)).axes
    with pytest.raises(ValueError, match='layer'):
        lab.plot_layer(t, 'nowhere', (1, 28, 28))


def test_command(tmp_path, capsys):
    from fashion_lab.studio.cli import main

    assert (
        main(
            [
                'run',
                'compute_costs',
                '--profile',
                'smoke',
                '--variants',
                'LogisticBaseline,SmallCNN',
                '--out',
                str(tmp_path),
                '--threads',
                '1',
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert 'SmallCNN seed 0: batch 1 latency ms' in out
    assert 'mmacs' in out
    assert 'report:' in out
    assert main(['compute', 'custom_cnn', '--input', '3,128,128', '--repeats', '0']) == 0
    assert '381.04 M MACs' in capsys.readouterr().out
    assert main(['predict', 'compute_costs', 'x.jpg']) == 2
