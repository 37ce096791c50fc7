"""Figures for any number of classes, awkward names and foreign axes: nothing cut off, nothing
leaked, nothing changed."""

import warnings

import matplotlib as mpl

mpl.use('agg')
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from fashion_lab.evaluate.predictions import Predictions
from fashion_lab.evaluate.classification import average_precision, roc_auc
from fashion_lab.plot import results as plot_results
from fashion_lab.plot import classification as plot_classification
from fashion_lab.plot import costs as plot_costs
from fashion_lab.plot import images as plot_images
from fashion_lab.plot import theme as plot_theme

KS = [1, 2, 10, 21, 100]


def made_up(k, per=6, skill=4.0, seed=0, names=None):
    rng = np.random.default_rng([seed, k])
    targets = np.repeat(np.arange(k), per)
    scores = rng.normal(size=(len(targets), k))
    scores[np.arange(len(targets)), targets] += skill * rng.uniform(0.2, 1.2, len(targets))
    return Predictions.from_logits(
        np.arange(len(targets)), scores, targets, names or [f'garment {i}' for i in range(k)]
    )


def pictures(n, colour=False, size=12):
    return np.random.default_rng(0).integers(0, 256, (n, size, size) + (3,) * colour, dtype='uint8')


def history(n=5, seed=0):
    e = np.arange(n)
    return pd.DataFrame(
        dict(
            epoch=e,
            train_loss=1 / (e + 1),
            valid_loss=1.1 / (e + 1) + seed / 9,
            accuracy=1 - 0.5 / (e + 1 + seed),
            lr=0.01,
            seconds=2.0,
        )
    )


def results(variants=4, seeds=3, **more):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            dict(
                variant=f'variant {v}',
                split='test',
                seed=s,
                metric='accuracy',
                value=0.8 + 0.1 * v / variants + rng.normal(0, 0.003),
                train_s=10.0 + 5 * v + s,
            )
            | more
            for v in range(variants)
            for s in range(seeds)
        ]
    )


DRAW = dict(
    confusion=plot_classification.plot_confusion,
    counts=lambda p, **kw: plot_classification.plot_confusion(p, None, **kw),
    roc=plot_classification.plot_roc,
    pr=plot_classification.plot_pr,
    reliability=plot_classification.plot_reliability,
    per_class=plot_classification.plot_per_class,
    support=lambda p, **kw: plot_classification.plot_per_class(p, 'support', **kw),
    samples=lambda p, **kw: plot_images.plot_samples(pictures(len(p)), p.targets, p.classes, **kw),
    predictions=lambda p, **kw: plot_images.plot_predictions(pictures(len(p)), p, n=12, **kw),
    mistakes=lambda p, **kw: plot_images.plot_mistakes(pictures(len(p), colour=True), p, n=9, **kw),
)

OTHERS = dict(
    history=lambda **kw: plot_results.plot_history(history(), **kw),
    histories=lambda **kw: plot_results.plot_history({'a': history(), 'b': history(seed=1)}, **kw),
    filters=lambda **kw: plot_images.plot_filters(
        np.random.default_rng(0).normal(size=(20, 1, 3, 3)), **kw
    ),
    second=lambda **kw: plot_images.plot_filters({'c': np.ones((70, 66, 3, 3))}, **kw),
    one_filter=lambda **kw: plot_images.plot_filters(np.ones((1, 1, 5, 5)), **kw),
    comparison=lambda **kw: plot_results.plot_comparison(results(), baseline='variant 1', **kw),
    one_variant=lambda **kw: plot_results.plot_comparison(results(1, 1), **kw),
    many_variants=lambda **kw: plot_results.plot_comparison(results(60, 2), **kw),
    time=lambda **kw: plot_results.plot_accuracy_time(results(30), target=0.85, log=True, **kw),
)


def inside(fig, slack=0.03):
    "Whether everything that is drawn lies within the picture."
    b, (w, h) = fig.get_tightbbox(), fig.get_size_inches()
    return b.x0 >= -slack and b.y0 >= -slack and b.x1 <= w + slack and b.y1 <= h + slack


def check(draw):
    before = dict(mpl.rcParams)
    with warnings.catch_warnings():
        warnings.filterwarnings('error', module='matplotlib|seaborn|numpy')
        fig = draw()
        fig.draw_without_rendering()
    assert inside(fig), (fig.get_tightbbox().extents.round(2), fig.get_size_inches())
    assert plt.get_fignums() == [] and dict(mpl.rcParams) == before
    assert 'synthetic' in fig.axes[0].get_title('left')
    return fig


@pytest.mark.parametrize('k', KS)
@pytest.mark.parametrize('name', DRAW)
def test_every_number_of_classes(name, k):
    check(lambda: DRAW[name](made_up(k), source='synthetic'))


@pytest.mark.parametrize('name', OTHERS)
def test_other_figures_fit(name):
    check(lambda: OTHERS[name](source='synthetic'))


@pytest.mark.parametrize('name', [*DRAW, *OTHERS])
def test_draws_into_given_axes(name):
    "A subfigure's axes are taken, their figure is returned, and no other figure is made."
    fig = mpl.figure.Figure(figsize=(9, 4), layout='constrained')
    ax = fig.subfigures(1, 2)[0].subplots()
    assert (DRAW[name](made_up(5), ax=ax) if name in DRAW else OTHERS[name](ax=ax)) is fig
    assert ax.get_title('left')
    assert plt.get_fignums() == []
    assert fig.axes[0] is ax
    fig.draw_without_rendering()


@pytest.mark.parametrize(
    'name', [n for n in [*DRAW, *OTHERS] if n not in ('samples', 'predictions', 'mistakes')]
)
def test_axes_are_labelled(name):
    fig = DRAW[name](made_up(4)) if name in DRAW else OTHERS[name]()
    assert fig.axes[-1].get_xlabel()
    assert all(a.get_ylabel() for a in fig.axes)


@settings(max_examples=6, deadline=None)
@given(
    st.lists(
        st.text(st.characters(codec='ascii', exclude_categories=['Cc']), max_size=40),
        min_size=2,
        max_size=12,
        unique=True,
    )
)
def test_any_class_name_can_be_drawn(names):
    """Dollar signs, backslashes, leading underscores, blanks and length are all harmless, and
    every class stands in the legend."""
    p = made_up(len(names), names=names)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        for draw in (plot_classification.plot_confusion, plot_classification.plot_per_class):
            draw(p).draw_without_rendering()
        fig = plot_classification.plot_roc(p)
    fig.draw_without_rendering()
    assert (
        len(fig.axes[0].get_legend().get_texts())
        == min(len(names), 3 if len(names) > 10 else 10) + 1
    )


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60), st.integers(2, 30))
def test_short_is_one_visible_line(name, most):
    text = plot_theme.short(name, most)
    assert text.strip()
    assert '\n' not in text
    assert not text.startswith('_')
    assert len(text.replace(r'\$', '$')) <= most + 1 + 9 * (not name.strip())
    assert text.count('$') == text.count(r'\$')


def test_the_best_comes_first():
    table = pd.DataFrame(
        dict(
            variant=['slow', 'fast', 'slow', 'fast'],
            latency_ms=[9.0, 2.0, 8.0, 3.0],
            accuracy=[0.9, 0.8, 0.91, 0.81],
        )
    )
    for metric, first in (('latency_ms', 'fast'), ('accuracy', 'slow')):
        scores, _ = plot_results.scores_of(table, metric)
        assert plot_results.summary(scores)['name'].tolist()[0] == first
        assert (
            plot_results.plot_comparison(table, metric).axes[0].get_yticklabels()[0].get_text()
            == first
        )
    latency, _ = plot_results.scores_of(table, 'latency_ms')
    assert plot_results.summary(latency, low_first=False)['name'].tolist() == ['slow', 'fast']
    latency.attrs.clear()  # no metric noted: high first
    assert plot_results.summary(latency)['name'].tolist() == ['slow', 'fast']


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 12), st.integers(0, 999))
def test_curves_agree_with_the_scores(k, seed):
    "The area under each drawn curve is the number in its legend, and so for the macro average."
    p = made_up(k, seed=seed, skill=2)
    lines = {l.get_label(): l for l in plot_classification.plot_roc(p).axes[0].lines}
    for c, auc in zip(p.classes, roc_auc(p)):
        line = lines[f'{c}  {auc:.3f}']
        assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(auc, abs=1e-9)
    macro = lines[f'macro average  {roc_auc(p).iloc[-1]:.3f}']
    assert np.trapezoid(macro.get_ydata(), macro.get_xdata()) == pytest.approx(
        roc_auc(p).iloc[-1], abs=0.003
    )
    lines = {l.get_label(): l for l in plot_classification.plot_pr(p).axes[0].lines}
    for c, ap in zip(p.classes, average_precision(p)):
        line = lines[f'{c}  {ap:.3f}']
        assert (np.diff(line.get_xdata()) * line.get_ydata()[1:]).sum() == pytest.approx(
            ap, abs=1e-9
        )


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=15),
    st.booleans(),
)
def test_pareto_front_by_definition(points, low):
    seconds, values = np.array(points, float).T
    sign = -1 if low else 1
    front = plot_results.pareto_front(seconds, values, low)

    def beaten(i):
        return any(
            (seconds[j] <= seconds[i] and sign * values[j] >= sign * values[i])
            and (seconds[j] < seconds[i] or sign * values[j] > sign * values[i])
            for j in range(len(points))
        )

    assert {points[i] for i in front} == {points[i] for i in range(len(points)) if not beaten(i)}
    assert (np.diff(seconds[front]) > 0).all()


def test_confusion_shows_what_was_mistaken():
    # a bag called a coat; no boot
    p = Predictions(range(4), np.eye(3)[[0, 0, 1, 0]], [0, 0, 1, 1], ['coat', 'bag', 'boot'])
    texts = [t.get_text() for t in plot_classification.plot_confusion(p).axes[0].texts]
    assert sorted(t for t in texts if t.isdigit()) == ['100', '50', '50']
    assert sorted(
        t.get_text()
        for t in plot_classification.plot_confusion(p, None).axes[0].texts
        if t.get_text().isdigit()
    ) == ['1', '1', '2']
    with pytest.raises(ValueError, match='unknown normalisation'):
        plot_classification.plot_confusion(p, 'row')


def test_mistakes_come_surest_first():
    p = Predictions(
        range(4), [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]], [1, 0, 0, 1], ['coat', 'bag']
    )
    images = np.stack([np.full((4, 4), v, 'uint8') for v in (10, 20, 30, 40)])
    shown = [im.get_array()[0, 0] for im in plot_images.plot_mistakes(images, p).axes[0].images]
    assert shown == [10, 30, 20]
    assert len(plot_images.plot_mistakes(images, p, n=1).axes[0].images) == 1


def test_samples_stand_in_the_row_of_their_class():
    labels = np.array([2, 0, 1, 0, 2, 2])
    images = np.stack([np.full((4, 4), 10 * l, 'uint8') for l in labels])
    ax = plot_images.plot_samples(images, labels, ['a', 'b', 'c', 'none']).axes[0]
    rows = {t.get_text(): t.get_position()[1] for t in ax.texts}
    for im in ax.images:
        name = 'abc'[int(im.get_array()[0, 0]) // 10]
        assert min(rows, key=lambda r: abs(rows[r] - np.mean(im.get_extent()[2:]))) == name
    assert len(ax.images) == 6 and 'none' in rows


def test_history_passes_over_missing_numbers():
    h = history()
    h.loc[1, 'accuracy'] = np.nan
    assert any('in epoch 4' in t.get_text() for t in plot_results.plot_history(h).axes[1].texts)
    h['accuracy'] = np.nan
    assert not any('best' in t.get_text() for t in plot_results.plot_history(h).axes[1].texts)


def test_wide_tables_work_like_tidy_ones():
    t = results()
    wide = t.rename(columns={'value': 'accuracy'}).drop(columns='metric')
    pd.testing.assert_frame_equal(plot_results.scores_of(t)[0], plot_results.scores_of(wide)[0])


def test_published_results_can_be_drawn():
    "The columns and types of `runs.results.table`, with missing folds and intervals."
    from fashion_lab.runs.results import COLUMNS

    t = (
        results(
            3,
            2,
            source='synthetic',
            data='made_up',
            fold=pd.NA,
            ci_low=np.nan,
            ci_high=np.nan,
            protocol='fast',
        )
        .reindex(columns=COLUMNS)
        .astype({'seed': 'Int64', 'fold': 'Int64'})
    )
    assert len(plot_results.plot_comparison(t, split='test').axes[0].get_yticks()) == 3
    assert 'synthetic' in plot_results.plot_accuracy_time(t).axes[0].get_title('left')


def test_summary_is_students_interval():
    from scipy import stats

    s = plot_results.summary(plot_results.scores_of(results(1, 6))[0]).iloc[0]
    v = results(1, 6)['value']
    assert (s.seeds_low, s.seeds_high) == pytest.approx(
        stats.ttest_1samp(v, 0).confidence_interval(0.95)
    )


@pytest.mark.parametrize(
    'call, words',
    [
        (
            lambda: plot_images.plot_samples(pictures(3), [0, 1], ['a', 'b']),
            '3 images for 2 labels',
        ),
        (lambda: plot_images.plot_samples(pictures(0), [], ['a']), 'no images'),
        (
            lambda: plot_images.plot_samples(pictures(2), [0, 2], ['a', 'b']),
            r'labels must be in \[0, 2\)',
        ),
        (
            lambda: plot_images.plot_samples(pictures(2), [0.0, 1.0], ['a', 'b']),
            'labels must be whole numbers',
        ),
        (lambda: plot_images.plot_predictions(pictures(4)[None], made_up(2)), 'uint8 of shape'),
        (
            lambda: plot_images.plot_predictions(pictures(12), made_up(2), n=True),
            'n must be a whole number',
        ),
        (lambda: plot_results.plot_history({}), 'at least one row'),
        (
            lambda: plot_results.plot_history(pd.DataFrame(dict(epoch=[0], f1=[1.0]))),
            "unknown panel of this history 'accuracy'",
        ),
        (lambda: plot_classification.plot_roc(made_up(2), ax=[1]), 'one matplotlib Axes'),
        (
            lambda: plot_images.plot_filters(np.ones((4, 1, 3, 3)), layer=-1),
            'layer must be a whole number of at least 0',
        ),
        (
            lambda: plot_results.plot_comparison(results().assign(data=['a'] * 6 + ['b'] * 6)),
            'mixes data a, b',
        ),
        (
            lambda: plot_results.plot_comparison(results().assign(value=np.nan)),
            'no run in the table has a value of accuracy',
        ),
        (
            lambda: plot_results.plot_comparison(results(), split='valid'),
            "unknown split 'valid'; allowed: test",
        ),
        (
            lambda: plot_results.plot_accuracy_time(results().assign(train_s=np.nan)),
            "column 'train_s'",
        ),
        (lambda: plot_classification.plot_reliability(made_up(3), bins=0), 'at least 1'),
    ],
)
def test_wrong_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
    assert plt.get_fignums() == []


def test_saving_is_atomic_and_repeatable(tmp_path, monkeypatch):
    fig = plot_classification.plot_roc(made_up(3))
    (first,) = plot_theme.save_figures({'roc': fig}, tmp_path)
    data = first.read_bytes()
    assert plot_theme.save_figures({'roc': fig}, tmp_path)[0].read_bytes() == data

    def broken(path, **kw):
        path.write_bytes(b'half')
        raise RuntimeError('killed')

    monkeypatch.setattr(fig, 'savefig', broken)
    with pytest.raises(RuntimeError):
        plot_theme.save_figures({'roc': fig}, tmp_path)
    assert first.read_bytes() == data
    assert [f.name for f in tmp_path.iterdir()] == ['roc.png']


@pytest.mark.parametrize('name', ['', '..', 'a/b', 'a\\b', 'a\0b', 3])
def test_no_file_outside_the_folder(name, tmp_path):
    with pytest.raises(ValueError, match='cannot be a file name'):
        plot_theme.save_figures({name: plot_classification.plot_roc(made_up(2))}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_figure_with_a_shared_colour_bar_keeps_its_size(tmp_path):
    "Constrained layout moves square panels a little every time that the figure is drawn."
    energy = np.random.default_rng(0).random((31, 31))
    for size in (None, (9, 9)):
        fig = plot_costs.plot_effective({'before': energy, 'after': energy.T}, size)
        first, second = (
            plot_theme.save_figure(fig, tmp_path / f'{i}.png').read_bytes() for i in range(2)
        )
        assert first == second
