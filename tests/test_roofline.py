"""The roofline: what follows from counts and times. No time is asserted."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

torch = pytest.importorskip('torch')
from torch import nn
from fashion_lab.cost.layers import layer_table
from fashion_lab.cost.roofline import (
    against_roof,
    batch_scaling,
    Machine,
    measure_machine,
    thread_scaling,
)
from fashion_lab.plot.costs import costliest_layers, plot_layers, plot_roofline, plot_scaling

few = settings(max_examples=30, deadline=None)
speed = st.floats(1e-3, 1e6)


def net():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)
    )


def table_of(ops, bytes_, ms, **conditions):
    t = pd.DataFrame(
        dict(
            layer=[f'l{i}' for i in range(len(ops))],
            kind='Conv2d',
            operations=ops,
            moved_bytes=bytes_,
            median_ms=ms,
        )
    )
    t = t.assign(
        intensity=t.operations / t.moved_bytes,
        operations_share=t.operations / t.operations.sum(),
        time_share=t.median_ms / t.median_ms.sum(),
    )
    t.attrs['conditions'] = dict(
        dict(batch=1, threads=1, dtype='float32', device='cpu', repeats=3), **conditions
    )
    return t


@few
@given(speed, speed, st.floats(1e-6, 1e6))
def test_the_roof_is_the_lower_of_both(gflops, gbs, intensity):
    m = Machine(gflops, gbs)
    assert m.roof(intensity) <= gflops * (1 + 1e-12)
    assert m.roof(intensity) <= intensity * gbs * (1 + 1e-12)
    assert m.roof(m.ridge) == pytest.approx(gflops)
    assert m.roof(m.ridge * 2) == pytest.approx(gflops)
    assert m.roof(m.ridge / 2) == pytest.approx(gflops / 2)


@few
@given(
    st.lists(
        st.tuples(st.integers(0, 10**9), st.integers(1, 10**8), st.floats(0.001, 1e3)),
        min_size=1,
        max_size=9,
    ),
    speed,
    speed,
)
def test_every_layer_is_held_against_its_limit(layers, gflops, gbs):
    t = table_of(*map(list, zip(*layers)))
    df = against_roof(t, m := Machine(gflops, gbs))
    assert list(df.layer) == [f'l{i}' for i, l in enumerate(layers) if l[0] > 0]
    for r in df.itertuples():
        assert r.gflops == pytest.approx(r.operations / (r.median_ms / 1e3) / 1e9)
        assert r.share_of_roof == pytest.approx(
            r.gflops / min(gflops, gbs * r.operations / r.moved_bytes)
        )
        assert r.limit == ('memory' if r.intensity < m.ridge else 'arithmetic')


@pytest.mark.parametrize(
    'machine, conditions, says',
    [
        (Machine(1, 1, threads=2), {}, 'threads 1, the machine with 2'),
        (Machine(1, 1, dtype='bfloat16'), {}, 'dtype float32'),
        (Machine(1, 1), dict(batch=4), 'measure with batch=1'),
        (Machine(1, 1), dict(device='cuda'), 'device cuda'),
    ],
)
def test_what_was_measured_differently_is_not_compared(machine, conditions, says):
    with pytest.raises(ValueError, match=says):
        against_roof(table_of([1], [1], [1.0], **conditions), machine)


@pytest.mark.parametrize(
    'f', [lambda t: against_roof(t, Machine(1, 1)), costliest_layers, plot_layers]
)
def test_a_table_without_times_is_refused(f):
    with pytest.raises(ValueError, match='the table has no times'):
        f(layer_table(net(), (1, 8, 8)))


@pytest.mark.parametrize('speeds', [(0, 1), (1, -1), (float('nan'), 1)])
def test_a_machine_has_speeds(speeds):
    with pytest.raises(ValueError, match='speeds above 0'):
        Machine(*speeds)


def test_measuring_records_its_conditions_and_restores_the_threads():
    before = torch.get_num_threads()
    m = measure_machine(n_threads=1, side=64, values=4096, tries=1)
    assert (m.threads, m.dtype, m.device) == (1, 'float32', 'cpu')
    assert m.device_name
    assert m.gflops > 0
    assert m.gbs > 0
    assert torch.get_num_threads() == before
    assert measure_machine(side=16, values=16, tries=1, dtype='float64').dtype == 'float64'
    for bad in (
        dict(tries=0),
        dict(values=1.5),
        dict(dtype='int8'),
        dict(device='tpu'),
        dict(n_threads=0),
    ):
        with pytest.raises(ValueError):
            measure_machine(**bad)


def test_ranks():
    d = costliest_layers(table_of([5, 100, 1, 2], [1] * 4, [1.0, 2.0, 9.0, 0.1]), 1)
    assert list(d.layer) == ['l2', 'l1']
    assert list(d.rank_time) == [1, 2]
    assert list(d.rank_operations) == [4, 1]


def test_scaling_and_figures():
    b = batch_scaling(net(), (1, 8, 8), (1, 3), repeats=2, warmup=0, n_threads=1)
    assert list(b.batch) == [1, 3]
    assert np.allclose(b.ms_per_input * b.batch, b.median_ms)
    assert np.allclose(b.speedup, b.per_second / b.per_second[0])
    assert (b.threads == 1).all()
    t = thread_scaling(net(), (1, 8, 8), repeats=1, warmup=0)
    assert t.threads[0] == 1
    assert (t.threads.diff().dropna() > 0).all()
    assert (t.batch == 1).all()
    timed = layer_table(net(), (1, 8, 8), repeats=2, n_threads=1)
    for fig in (
        plot_scaling({'a': b, 'b': b}),
        plot_scaling({'a': t}, by='threads'),
        plot_layers(timed, 2),
        plot_roofline(timed, Machine(10, 5)),
    ):
        assert fig.axes[0].get_xlabel() and fig.axes[0].get_title(loc='left')
    for bad in (dict(tables={}), dict(tables={'a': b}, by='median_ms')):
        with pytest.raises(ValueError, match='at least one table'):
            plot_scaling(**bad)
    for f, bad in ((batch_scaling, (0,)), (batch_scaling, ()), (thread_scaling, (1.5,))):
        with pytest.raises(ValueError):
            f(net(), (1, 8, 8), bad)
