"""Property tests of `fashion_lab.evaluate` against scikit-learn, scipy and statsmodels; all
data is synthetic."""

import pickle
import subprocess
import sys
import warnings
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn import metrics as skm
from statsmodels.stats.contingency_tables import mcnemar as sm_mcnemar
from statsmodels.stats.multitest import multipletests

from fashion_lab.evaluate.predictions import Predictions
from fashion_lab.evaluate.bootstrap import METRICS
from fashion_lab.evaluate import significance as evaluate_significance
from fashion_lab.evaluate import classification as evaluate_classification
from fashion_lab.evaluate import bootstrap as evaluate_bootstrap
from fashion_lab.evaluate import predictions as evaluate_predictions
from fashion_lab.evaluate import resampling as evaluate_resampling

settings.register_profile(
    'room',
    deadline=None,
    max_examples=60,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile('room')
# scikit-learn's, about the values we compare with
pytestmark = [
    pytest.mark.filterwarnings('ignore::sklearn.exceptions.UndefinedMetricWarning'),
    pytest.mark.filterwarnings('ignore:y_pred contains classes'),
    pytest.mark.filterwarnings('ignore:A single label was found'),
]


def make(n=200, k=5, seed=0, skill=1.5, absent=(), round_to=None, model=0):
    "Synthetic predictions; classes in `absent` do not occur in the targets."
    rng = np.random.default_rng([seed, 1])
    own = np.random.default_rng([seed, 2, model])
    targets = rng.choice([c for c in range(k) if c not in absent], n)
    logits = skill * np.eye(k)[targets] + rng.normal(size=(n, k)) + 0.5 * own.normal(size=(n, k))
    if round_to is not None:
        logits = logits.round(round_to)  # makes ties
    return Predictions.from_logits(
        [f'p{i}' for i in range(n)], logits, targets, [f'c{i}' for i in range(k)]
    )


@st.composite
def predictions(draw, min_k=1, max_k=6, all_present=False, ties=True):
    k = draw(st.integers(min_k, max_k))
    n = draw(st.integers(k if all_present else 1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    present = np.arange(k) if all_present else rng.permutation(k)[: draw(st.integers(1, k))]
    targets = (
        np.concatenate([present, rng.choice(present, n)])[:n]
        if all_present
        else rng.choice(present, n)
    )
    logits = draw(st.sampled_from([0, 1, 4])) * np.eye(k)[targets] + rng.normal(size=(n, k))
    if ties and draw(st.booleans()):
        logits = logits.round(0)
    return Predictions.from_logits(
        rng.permutation(10 * n)[:n], logits, targets, [f'class {i}' for i in range(k)]
    )


# --- Predictions

text = st.text(
    st.characters(exclude_characters='\0', exclude_categories=['Cs']), min_size=1, max_size=8
)


@given(
    p=predictions(),
    names=st.lists(text, min_size=60, max_size=60, unique=True),
    as_text=st.booleans(),
)
def test_saved_predictions_come_back_equal(p, names, as_text, tmp_path_factory):
    if as_text:
        p = Predictions(names[: len(p)], p.probs, p.targets, names[-len(p.classes) :])
    path = p.save(tmp_path_factory.getbasetemp() / 'p.npz')
    q = Predictions.load(path)
    assert q == p
    assert q.ids.dtype.kind == p.ids.dtype.kind
    assert q.classes == p.classes
    assert (q.probs.dtype, q.targets.dtype) == (np.float32, np.int64)


def test_every_truncation_is_refused_in_one_clear_sentence(tmp_path):
    f = make(20).save(tmp_path / 'p.npz')
    whole = f.read_bytes()
    for size in range(0, len(whole), 37):
        f.write_bytes(whole[:size])
        with pytest.raises(ValueError, match='not a whole file of predictions'):
            Predictions.load(f)


@pytest.mark.parametrize('at', range(40, 900, 53))
def test_flipped_bytes_never_give_other_predictions(tmp_path, at):
    p = make(20)
    f = p.save(tmp_path / 'p.npz')
    data = bytearray(f.read_bytes())
    data[at] ^= 0xFF
    f.write_bytes(data)
    try:
        assert Predictions.load(f) == p  # a byte that nobody reads
    except ValueError as e:
        assert str(f) in str(e)


class Trap:
    "Pickled, it would leave a file when opened."

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, 'w'))


@pytest.mark.parametrize('form', ['npz', 'npy', 'pickle'])
def test_loading_never_unpickles(tmp_path, form):
    p = make(3)
    mark = tmp_path / 'mark'
    f = tmp_path / 'p.npz'
    trap = np.empty(1, object)
    trap[0] = Trap(str(mark))
    if form == 'npz':
        np.savez(f, format=1, ids=trap, probs=p.probs, targets=p.targets, classes=p.classes)
    elif form == 'npy':
        with open(f, 'wb') as out:
            np.save(out, trap)
    else:
        f.write_bytes(pickle.dumps(trap[0]))
    with pytest.raises(ValueError, match='not a whole file'):
        Predictions.load(f)
    assert not mark.exists()


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    f = make(5).save(tmp_path / 'p.npz')
    old = f.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(np, 'savez_compressed', full)
    with pytest.raises(OSError, match='No space'):
        make(6).save(f)
    assert f.read_bytes() == old
    assert [x.name for x in tmp_path.iterdir()] == ['p.npz']


@pytest.mark.parametrize(
    'ids',
    [
        pd.Series(['a', 'b']),
        pd.Index(['a', 'b']),
        np.array(['a', 'b'], object),
        ('a', 'b'),
        pd.Series([3, 5]),
        np.array([3, 5], np.uint8),
    ],
)
def test_ids_of_any_container(ids, tmp_path):
    p = Predictions(ids, [[1, 0], [0, 1]], [0, 1], pd.Index(['x', 'y']))
    assert p.ids.tolist() == list(ids) and p.classes == ['x', 'y']
    assert Predictions.load(p.save(tmp_path / 'p.npz')) == p


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(ids=['a', 1.5]), 'strings or of integers'),
        (dict(ids=[['a'], ['b']]), 'one list'),
        (dict(ids=[True, False]), 'strings or of integers'),
        (dict(ids=['a', None]), 'strings or of integers'),
        (dict(ids=[1, 1]), 'more than once, for instance 1'),
        (dict(probs=[[0.5, 0.5]]), '2 ids but 1 rows'),
        (dict(probs=[1, 0]), r'got shape \(2,\)'),
        (dict(probs=np.zeros((2, 0))), 'one column per class'),
        (
            dict(probs=[[0.5, 0.5], [np.inf, 0]]),
            "1 of 2 rows of probabilities hold NaN or infinity, first for id 'b'",
        ),
        (
            dict(probs=[[np.nan, 0.5], [np.nan, 0]]),
            "2 of 2 rows of probabilities hold NaN or infinity, first for id 'a'",
        ),
        (
            dict(probs=[[0.5, 0.5], [0.5, 0.6]]),
            "1 of 2 rows are not probabilities .* id 'b': .*from_logits",
        ),
        (dict(probs=[[0.5, 0.5], [1.5, -0.5]]), 'not probabilities'),
        (
            dict(targets=[0, 2]),
            (
                r"more classes than logits: targets go up to class 2 \(id 'b'\), but probs has 2 "
                r"columns, for the classes 0 to 1"
            ),
        ),
        (dict(targets=[0, -1]), 'from 0 to 1, got -1'),
        (dict(targets=[0.0] * 2), 'integers'),
        (dict(targets=[[1, 0], [0, 1]]), 'one list'),
        (dict(targets=[0]), '2 ids but 1 targets'),
        (dict(classes=['x']), '1 class names for 2 columns'),
        (dict(classes=['x', 'x']), 'must differ'),
        (dict(classes='xy'), 'single string'),
    ],
)
def test_what_cannot_be_scored_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Predictions(
            **(
                dict(
                    ids=['a', 'b'],
                    probs=[[0.9, 0.1], [0.2, 0.8]],
                    targets=[0, 1],
                    classes=['x', 'y'],
                )
                | change
            )
        )


def test_predictions_do_not_follow_later_changes_of_their_inputs():
    ids = np.array(['a', 'b'])
    probs = np.eye(2, dtype=np.float32)
    targets = np.array([0, 1])
    classes = ['x', 'y']
    p = Predictions(ids, probs, targets, classes)
    ids[0], probs[:], targets[:], classes[0] = 'z', 0.5, 1, 'z'
    assert p.ids.tolist() == ['a', 'b']
    assert p.probs.tolist() == [[1, 0], [0, 1]]
    assert p.targets.tolist() == [0, 1]
    assert p.classes == ['x', 'y']
    for a in (p.ids, p.probs, p.targets):
        with pytest.raises(ValueError, match='read-only'):
            a[0] = a[1]


def test_predictions_survive_a_process_pool():
    p = make(10)
    assert pickle.loads(pickle.dumps(p)) == p


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.float16, np.float32, np.float64]))
def test_from_logits_is_a_softmax_in_any_precision(seed, dtype):
    logits = (30 * np.random.default_rng(seed).normal(size=(7, 4))).astype(dtype)
    p = Predictions.from_logits(range(7), logits, [0] * 7, list('abcd'))
    assert_allclose(
        p.probs,
        np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(1, keepdims=True),
        atol=1e-6,
    )


# --- metrics against scikit-learn


@given(predictions())
def test_counts_agree_with_sklearn_whatever_is_absent(p):
    t = p.targets
    y = p.preds
    k = len(p.classes)
    mine = evaluate_classification.per_class(p)
    avg = evaluate_classification.averages(p)
    precision, recall, f1, support = skm.precision_recall_fscore_support(
        t, y, labels=np.arange(k), zero_division=0
    )
    there = support > 0
    known = (support > 0) | np.isin(np.arange(k), y)
    assert_array_equal(mine['support'], support)
    assert_allclose(mine['precision'][known], precision[known])
    assert mine['precision'][~known].isna().all()
    assert_allclose(mine['f1'][known], f1[known])
    assert mine['f1'][~known].isna().all()
    assert_allclose(mine['recall'][there], recall[there])
    assert mine['recall'][~there].isna().all()
    assert evaluate_classification.accuracy(p) == pytest.approx(skm.accuracy_score(t, y))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert (
            avg['balanced_accuracy']
            == avg['macro_recall']
            == pytest.approx(skm.balanced_accuracy_score(t, y))
        )
    for average in ('macro', 'weighted', 'micro'):
        for i, name in enumerate(('precision', 'recall', 'f1')):
            if (average, name) != ('macro', 'recall'):
                theirs = skm.precision_recall_fscore_support(
                    t, y, average=average, zero_division=0
                )[i]
                assert avg[f'{average}_{name}'] == pytest.approx(theirs), (average, name)


@given(predictions(all_present=True))
def test_every_average_is_sklearns_default_when_all_classes_occur(p):
    avg = evaluate_classification.averages(p)
    for average in ('macro', 'weighted', 'micro'):
        theirs = skm.precision_recall_fscore_support(p.targets, p.preds, average=average)
        assert_allclose([avg[f'{average}_{m}'] for m in ('precision', 'recall', 'f1')], theirs[:3])
    assert not evaluate_classification.per_class(p).isna().any().any()


@given(predictions(), st.sampled_from([None, 'true', 'pred', 'all']))
def test_confusion_agrees_with_sklearn_and_with_per_class(p, normalize):
    mine = evaluate_classification.confusion(p, normalize)
    theirs = skm.confusion_matrix(
        p.targets, p.preds, labels=np.arange(len(p.classes)), normalize=normalize
    )
    assert_allclose(mine.fillna(0), theirs)  # where a row or column is empty, scikit-learn writes 0
    if normalize is None:
        assert mine.to_numpy().sum() == len(p)
    if normalize == 'true':
        assert_allclose(np.diag(mine), evaluate_classification.per_class(p)['recall'])
    assert mine.index.name == 'true'
    assert mine.columns.name == 'predicted'
    assert list(mine.index) == p.classes
    assert list(mine.columns) == p.classes


@given(predictions(min_k=3, ties=False), st.data())
def test_top_k_agrees_with_sklearn(p, data):
    k = data.draw(st.integers(1, len(p.classes) - 1))
    assert evaluate_classification.top_k_accuracy(p, k) == pytest.approx(
        skm.top_k_accuracy_score(p.targets, p.probs, k=k, labels=np.arange(len(p.classes)))
    )


@given(predictions())
def test_top_k_rises_from_accuracy_to_one_also_with_ties(p):
    tops = [evaluate_classification.top_k_accuracy(p, k) for k in range(1, len(p.classes) + 1)]
    assert tops[0] == evaluate_classification.accuracy(p)
    assert tops[-1] == 1
    assert tops == sorted(tops)


@given(predictions(min_k=2))
def test_log_loss_agrees_with_sklearn(p):
    assert evaluate_classification.log_loss(p) == pytest.approx(
        skm.log_loss(p.targets, p.probs, labels=np.arange(len(p.classes))), abs=2e-6
    )


def test_log_loss_of_a_sure_mistake_is_sklearns():
    p = Predictions([0], [[1, 0]], [1], ['x', 'y'])
    assert evaluate_classification.log_loss(p) == pytest.approx(
        skm.log_loss([1], p.probs, labels=[0, 1]), abs=1e-5
    )
    assert 15 < evaluate_classification.log_loss(p) < 16


@given(predictions(), st.integers(1, 20))
def test_calibration_error_against_a_plain_loop(p, bins):
    confidence = p.confidence.astype(float)
    total = 0.0
    for b in range(bins):
        inside = (
            (confidence > b / bins) & (confidence <= (b + 1) / bins)
            if b
            else confidence <= 1 / bins
        )
        if inside.any():
            total += inside.sum() * abs(p.correct[inside].mean() - confidence[inside].mean())
    assert evaluate_classification.calibration_error(p, bins) == pytest.approx(
        total / len(p), abs=1e-9
    )
    table = evaluate_classification.reliability(p, bins)
    full = table[table['count'] > 0]
    assert len(table) == bins
    assert table['count'].sum() == len(p)
    assert table[table['count'] == 0]['accuracy'].isna().all()
    assert (full['count'] * abs(full['accuracy'] - full['confidence'])).sum() / len(
        p
    ) == pytest.approx(total / len(p), abs=1e-6)
    assert (full['low'] <= full['accuracy']).all()
    assert (full['accuracy'] <= full['high']).all()


def test_a_confidence_on_the_edge_belongs_to_the_lower_bin():
    p = Predictions(range(3), [[0.5, 0.5], [0.75, 0.25], [1, 0]], [0, 0, 0], ['x', 'y'])
    assert evaluate_classification.reliability(p, 4)['count'].tolist() == [0, 1, 1, 1]


@given(st.integers(0, 50), st.integers(1, 50), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_agrees_with_statsmodels(correct, total, level):
    from statsmodels.stats.proportion import proportion_confint

    correct = min(correct, total)
    assert_allclose(
        evaluate_classification.wilson_ci(correct, total, level),
        proportion_confint(correct, total, 1 - level, 'wilson'),
        atol=1e-12,
    )


@given(predictions())
def test_ranking_agrees_with_sklearn(p):
    auc = evaluate_classification.roc_auc(p)
    ap = evaluate_classification.average_precision(p)
    roc = evaluate_classification.roc_curves(p)
    pr = evaluate_classification.pr_curves(p)
    for c, name in enumerate(p.classes):
        y = p.targets == c
        s = p.probs[:, c]
        if not y.any() or y.all():  # no positives or no negatives: undefined, and left out
            assert np.isnan(auc[name])
            assert np.isnan(ap[name])
            assert name not in roc
            assert name not in pr
            continue
        assert (
            auc[name]
            == pytest.approx(skm.roc_auc_score(y, s))
            == pytest.approx(skm.auc(roc[name]['fpr'], roc[name]['tpr']))
        )
        assert ap[name] == pytest.approx(skm.average_precision_score(y, s))
        curve = pr[name]
        assert ap[name] == pytest.approx(
            -(np.diff(curve['recall']) * curve['precision'].iloc[:-1]).sum()
        )
        assert curve['threshold'].is_monotonic_increasing
        assert roc[name]['threshold'].iloc[0] == np.inf
    for values in (auc, ap):
        assert list(values.index) == [*p.classes, 'macro']
        assert_allclose(values['macro'], values.iloc[:-1].mean())


@given(predictions(min_k=3, all_present=True))
def test_macro_auc_is_sklearns_one_vs_rest(p):
    assert METRICS['macro_auc'](p) == pytest.approx(
        skm.roc_auc_score(
            p.targets,
            p.probs.astype(float) / p.probs.astype(float).sum(1, keepdims=True),
            multi_class='ovr',
        ),
        abs=1e-9,
    )


@given(predictions())
def test_metrics_gives_every_name_that_fits_the_classes(p):
    out, k = evaluate_bootstrap.metrics(p), len(p.classes)
    assert ('top3_accuracy' in out) == (k > 3)
    assert ('top5_accuracy' in out) == (k > 5)
    assert all(isinstance(v, float) for v in out.values())
    for name, value in out.items():
        assert_array_equal(value, METRICS[name](p))


# --- the bootstrap

FAST = [m for m in METRICS if m not in ('macro_auc', 'mean_ap')]


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.sampled_from([(), (1,)]), st.sampled_from([None, 0]))
def test_each_fast_replicate_is_the_metric_of_that_very_resample(seed, absent, round_to):
    p = make(40, 6, seed, absent=absent, round_to=round_to)
    draws = np.concatenate(list(evaluate_resampling.bootstrap_draws(np.ones(40, int), 100, seed)))
    resamples = [p[np.repeat(np.arange(40), w)] for w in draws[:8]]
    for name in FAST:
        features, _, value = evaluate_bootstrap._SUMS[name]
        (sums,), size = evaluate_resampling.sum_replicates([p], features, None, 100, seed)
        assert_allclose(
            value(sums, size)[:8], [METRICS[name](r) for r in resamples], atol=1e-9, err_msg=name
        )
    for name in ('macro_auc', 'mean_ap'):
        assert_allclose(
            evaluate_bootstrap.metric_replicates([p], name, 100, seed)[0, :8],
            [METRICS[name](r) for r in resamples],
            atol=1e-7,
            err_msg=name,
        )


@pytest.mark.parametrize('name', FAST)
def test_drawing_cells_and_drawing_examples_have_the_same_distribution(name):
    p = make(300, 6)
    features, _, value = evaluate_bootstrap._SUMS[name]
    literal = value(
        *[
            x[0] if isinstance(x, list) else x
            for x in evaluate_resampling.sum_replicates([p], features, None, 4000, 1)
        ]
    )
    fast = evaluate_bootstrap.metric_replicates([p], name, 4000, 2)[0]
    assert stats.ks_2samp(literal, fast).statistic < 0.05, name
    assert fast.std() == pytest.approx(literal.std(), rel=0.08)


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.integers(2, 12))
def test_each_group_replicate_is_the_metric_without_that_group(seed, n_groups):
    p = make(40, 4, seed)
    groups = np.random.default_rng(seed).permutation(np.arange(40) % n_groups)
    resamples = [p[groups != g] for g in pd.unique(groups)]
    for name in evaluate_bootstrap.metrics(p):
        fast = evaluate_bootstrap.metric_replicates([p], name, 100, seed, groups)[0]
        assert_allclose(fast, [METRICS[name](r) for r in resamples], atol=1e-7, err_msg=name)


def test_groups_of_one_change_little():
    p = make(300)
    alone = evaluate_bootstrap.metric_interval(p, 'macro_f1', 5000)
    grouped = evaluate_bootstrap.metric_interval(
        p, 'macro_f1', 5000, groups=[f'g{i}' for i in range(300)]
    )
    assert_allclose(alone, grouped, atol=0.006)


@pytest.mark.parametrize(
    'groups, message',
    [
        ([0, 1], '2 group labels for 30 examples'),
        ([0] * 30, 'in one group'),
        ([None, *'ab' * 14, 'a'], '1 examples have no group'),
    ],
)
@pytest.mark.parametrize(
    'metric',
    ['accuracy', 'mean_ap', evaluate_classification.accuracy],
    ids=['counts', 'ranks', 'function'],
)
def test_bad_groups_are_refused(groups, message, metric):
    with pytest.raises(ValueError, match=message):
        evaluate_bootstrap.metric_interval(make(30), metric, groups=groups)


@pytest.mark.parametrize('metric', ['accuracy', 'macro_f1', 'log_loss'])
def test_intervals_hold_the_truth_about_as_often_as_they_say(metric):
    truth = METRICS[metric](make(400_000, seed=999))
    hits = [
        low <= truth <= high
        for low, high in (
            evaluate_bootstrap.metric_interval(make(300, seed=i), metric, 300, seed=i)
            for i in range(200)
        )
    ]
    assert 0.88 <= np.mean(hits) <= 0.99


@pytest.mark.parametrize(
    'metric',
    ['accuracy', 'log_loss', 'mean_ap', evaluate_classification.accuracy],
    ids=['counts', 'sums', 'ranks', 'function'],
)
def test_the_seed_and_only_the_seed_decides_the_interval(metric):
    p = make(60)
    assert evaluate_bootstrap.metric_interval(
        p, metric, 200, seed=3
    ) == evaluate_bootstrap.metric_interval(p, metric, 200, seed=3)
    assert not np.array_equal(
        evaluate_bootstrap.metric_replicates([p], metric, 200, 3),
        evaluate_bootstrap.metric_replicates([p], metric, 200, 4),
    )


@pytest.mark.parametrize('metric', ['accuracy', 'log_loss', 'mean_ap'])
def test_the_interval_is_the_middle_of_the_replicates(metric):
    p = make(60)
    assert_allclose(
        evaluate_bootstrap.metric_interval(p, metric, 300, 0.9),
        np.quantile(evaluate_bootstrap.metric_replicates([p], metric, 300), [0.05, 0.95]),
    )


def test_a_perfect_model_has_a_point_as_bootstrap_interval_but_not_as_wilsons():
    p = Predictions(range(29), np.eye(3)[np.arange(29) % 3], np.arange(29) % 3, list('abc'))
    for metric in ('accuracy', 'balanced_accuracy', 'macro_f1', 'weighted_precision', 'micro_f1'):
        assert evaluate_bootstrap.metric_interval(p, metric) == (1, 1), metric
    assert evaluate_classification.wilson_ci(29, 29)[0] < 0.9


def test_a_higher_level_gives_a_wider_interval():
    p = make(200)
    (a, d), (b, c) = (
        evaluate_bootstrap.metric_interval(p, level=0.99),
        evaluate_bootstrap.metric_interval(p, level=0.8),
    )
    assert a < b < c < d


def test_intervals_of_tables_hold_their_values():
    p = make(400, 4, absent=(2,))
    for table, names in [
        (evaluate_classification.per_class(p, ci=True, n=300), ('precision', 'recall', 'f1'))
    ]:
        for m in names:
            t = table[table[m].notna()]
            assert (t[f'{m}_low'] <= t[m]).all() and (t[m] <= t[f'{m}_high']).all()
        assert np.isnan(table['recall_low'][2])
        assert np.isnan(table['recall_high'][2])
    for t in (
        evaluate_classification.roc_auc(p, ci=True, n=200),
        evaluate_classification.average_precision(p, ci=True, n=200, groups=np.arange(400) // 4),
        evaluate_classification.confusion(p, ci=True, n=300),
    ):
        assert ((t['low'] <= t['value']) & (t['value'] <= t['high']) | t['value'].isna()).all()
    assert set(evaluate_classification.averages(p, ci=True, n=200)) == set(
        evaluate_classification.averages(p)
    )
    with pytest.raises(ValueError, match='level must lie in'):
        evaluate_classification.per_class(p, ci=True, level=0)


def test_confusion_intervals_match_accuracy_and_binomial():
    p = make(500, 3)
    shares = evaluate_classification.confusion(p, 'all', ci=True, n=4000)
    assert shares['value'].sum() == pytest.approx(1)
    low, high = stats.binom.ppf([0.025, 0.975], 500, shares['value'].iloc[0]) / 500
    assert_allclose(shares.loc[0, ['low', 'high']].astype(float), [low, high], atol=0.006)


@pytest.mark.parametrize(
    'bad, message',
    [
        (dict(n=99), 'at least 100'),
        (dict(n=100.0), 'at least 100'),
        (dict(n=True), 'at least 100'),
        (dict(level=1), 'level must lie in'),
        (dict(metric='acc'), 'unknown metric'),
    ],
)
def test_bad_arguments_of_the_bootstrap(bad, message):
    with pytest.raises(ValueError, match=message):
        evaluate_bootstrap.metric_interval(make(20), **bad)


# --- corner cases


@pytest.mark.filterwarnings('error')
def test_undefined_values_make_no_noise():
    p = Predictions(range(4), np.eye(4)[[0, 1, 2, 2]], [0, 0, 1, 1], list('abcd'))
    assert not np.isnan(evaluate_bootstrap.metrics(p, ci=True, n=100)['macro_auc']['value'])
    assert evaluate_classification.per_class(p, ci=True, n=100).isna().any().any()
    assert evaluate_classification.roc_auc(p, ci=True, n=100)['value'].isna().sum() == 2
    assert evaluate_classification.reliability(p)['accuracy'].isna().any()
    assert evaluate_classification.confusion(p, 'true', ci=True, n=100)['low'].isna().sum() == 8


@pytest.mark.filterwarnings('error')
def test_one_class_in_all():
    p = Predictions([0, 1, 2], np.ones((3, 1)), [0, 0, 0], ['coat'])
    out = evaluate_bootstrap.metrics(p, ci=True, n=100)
    assert out['accuracy'] == dict(value=1, low=1, high=1, interval='bootstrap')
    assert out['log_loss']['value'] == 0
    assert out['calibration_error']['value'] == 0
    assert np.isnan(out['macro_auc']['value'])
    assert np.isnan(out['mean_ap']['high'])
    assert evaluate_classification.per_class(p, ci=True, n=100)['f1_low'].tolist() == [1]
    assert len(evaluate_classification.confusion(p, 'true', ci=True, n=100)) == 1
    assert evaluate_classification.confusion(p).to_numpy().tolist() == [[3]]
    assert evaluate_classification.roc_curves(p) == {}


def test_one_example():
    out = evaluate_bootstrap.metrics(
        Predictions(['a'], [[0.2, 0.8]], [0], ['x', 'y']), ci=True, n=100
    )
    assert out['accuracy'] == dict(value=0, low=0, high=0, interval='bootstrap')
    assert out['macro_f1']['value'] == 0
    assert np.isnan(out['macro_auc']['value'])


def test_micro_averages_are_the_accuracy_to_the_last_bit():
    # summing recall*support would be off by a rounding error here
    support, hits = (
        [1, 37, 45],
        [1, 0, 29],
    )
    targets = np.repeat([0, 1, 2], support)
    p = Predictions(
        range(83),
        np.eye(3)[
            np.concatenate(
                [[c] * h + [(c + 1) % 3] * (n - h) for c, (n, h) in enumerate(zip(support, hits))]
            )
        ],
        targets,
        list('abc'),
    )
    assert (
        evaluate_classification.averages(p)['micro_recall']
        == evaluate_classification.averages(p)['micro_f1']
        == evaluate_classification.accuracy(p)
    )


def test_never_naming_a_class_does_not_raise_macro_precision():
    targets = np.repeat([0, 1, 2], 10)

    def score(preds):
        return evaluate_classification.averages(
            Predictions(range(30), np.eye(3)[preds], targets, list('abc'))
        )['macro_precision']

    honest, coward = targets.copy(), targets.copy()
    honest[20:] = np.where(np.arange(10) < 5, 2, 1)
    coward[20:] = 1
    assert score(coward) < score(honest)


def test_hundred_classes():
    p, q = make(600, 100, skill=4), make(600, 100, skill=4, model=1)
    out = evaluate_bootstrap.metrics(p, ci=True, n=100)
    assert all(v['low'] <= v['high'] for v in out.values())
    assert 'top5_accuracy' in out
    assert len(evaluate_classification.per_class(p, ci=True, n=100)) == 100
    assert (
        evaluate_significance.compare(dict(p=p, q=q), 'macro_f1', n=100)['difference'].notna().all()
    )


def test_calibration_floor_tells_true_probabilities_from_boasting():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(4), 3000)
    # drawn with exactly these probabilities
    targets = (probs.cumsum(1) < rng.random((3000, 1))).sum(1).clip(0, 3)
    true = Predictions(range(3000), probs, targets, list('abcd'))
    boast = Predictions.from_logits(range(3000), 3 * np.log(probs), targets, list('abcd'))
    assert (
        0
        < evaluate_classification.calibration_error(true)
        < evaluate_classification.calibration_floor(true, level=0.999)['high']
    )
    assert (
        evaluate_classification.calibration_error(boast)
        > 3 * evaluate_classification.calibration_floor(boast)['high']
    )


# --- pairs of models


@given(predictions(), st.data())
def test_align_undoes_any_order(p, data):
    order = np.array(data.draw(st.permutations(range(len(p)))))
    assert evaluate_predictions.align(p, p[order]) == p
    assert evaluate_significance.mcnemar(p, p[order])['p_value'] == 1


@pytest.mark.parametrize(
    'change, message',
    [
        (
            lambda p: p[1:],
            r"1 only in the first \('p0'\), 0 only in the second; test both on one set",
        ),
        (
            lambda p: Predictions(np.arange(30), p.probs, p.targets, p.classes),
            "are like 'p0', of the second like 0",
        ),
        (
            lambda p: Predictions(p.ids, p.probs, (p.targets + 1) % 5, p.classes),
            "what is true for 30 examples, for instance 'p0'",
        ),
        (lambda p: Predictions(p.ids, p.probs, p.targets, p.classes[::-1]), 'different classes'),
        (
            lambda p: Predictions([f'q{i}' for i in range(30)], p.probs, p.targets, p.classes),
            '30 only in the first .* 30 only in the second',
        ),
    ],
)
@pytest.mark.parametrize(
    'test',
    [
        evaluate_significance.mcnemar,
        evaluate_significance.metric_difference,
        lambda p, q: evaluate_significance.compare(dict(p=p, q=q)),
    ],
    ids=['mcnemar', 'bootstrap', 'compare'],
)
def test_models_of_different_examples_are_not_compared(test, change, message):
    p = make(30)
    with pytest.raises(ValueError, match=message):
        test(p, change(p))


@given(predictions(), st.integers(0, 2**32 - 1))
def test_mcnemar_agrees_with_statsmodels_and_binomial(p, seed):
    q = Predictions(
        p.ids,
        np.random.default_rng(seed).dirichlet(np.ones(len(p.classes)), len(p)),
        p.targets,
        p.classes,
    )
    m = evaluate_significance.mcnemar(p, q)
    table = pd.crosstab(
        pd.Categorical(p.correct, [True, False]),
        pd.Categorical(q.correct, [True, False]),
        dropna=False,
    ).to_numpy()
    assert [[m['both_right'], m['b']], [m['c'], m['both_wrong']]] == table.tolist()
    assert m['p_value'] == pytest.approx(sm_mcnemar(table, exact=True).pvalue)
    if m['b'] + m['c']:
        assert m['p_value'] == pytest.approx(stats.binomtest(m['b'], m['b'] + m['c']).pvalue)
    assert m['difference'] == pytest.approx(
        evaluate_classification.accuracy(p) - evaluate_classification.accuracy(q)
    )
    assert m['n'] == len(p)


@pytest.mark.parametrize(
    'metric',
    ['accuracy', 'macro_f1', 'log_loss', 'macro_auc', lambda p: float(p.confidence.mean())],
    ids=['accuracy', 'macro_f1', 'log_loss', 'macro_auc', 'a function'],
)
def test_a_paired_difference_turns_round_with_its_models(metric):
    p, q = make(300), make(300, model=1, skill=1.5)
    a = evaluate_significance.metric_difference(p, q[::-1], metric, 200)
    b = evaluate_significance.metric_difference(q, p, metric, 200)
    assert a['difference'] == pytest.approx(-b['difference'])
    assert a['low'] < a['difference'] < a['high']
    assert 2 / 201 <= a['p_value'] <= 1
    if not callable(metric):
        assert (a['p_value'] < 0.05) == (a['low'] > 0 or a['high'] < 0) or 0.03 < a[
            'p_value'
        ] < 0.07


def test_a_paired_difference_is_narrower_than_unpaired_and_agrees_with_mcnemars_variance():
    p, q = make(2000), make(2000, model=1)
    r = evaluate_bootstrap.metric_replicates([p, q], 'accuracy', 4000)
    m = evaluate_significance.mcnemar(p, q)
    expected = np.sqrt((m['b'] + m['c'] - (m['b'] - m['c']) ** 2 / 2000) / 2000**2)
    assert (r[0] - r[1]).std() == pytest.approx(expected, rel=0.06)
    assert (r[0] - r[1]).std() < 0.8 * np.hypot(r[0].std(), r[1].std())


def test_equal_models_are_rarely_called_different():
    p_values = np.array(
        [
            [
                evaluate_significance.mcnemar(p, q)['p_value'],
                evaluate_significance.metric_difference(p, q, n=300)['p_value'],
            ]
            for p, q in ((make(400, seed=i), make(400, seed=i, model=1)) for i in range(150))
        ]
    )
    false_alarms = (p_values < 0.05).mean(0)
    assert false_alarms[0] <= 0.07 and false_alarms[1] <= 0.1


# --- several comparisons


@settings(max_examples=10)
@given(st.lists(st.one_of(st.floats(0, 1), st.just(np.nan)), max_size=12))
def test_holm_agrees_with_statsmodels_and_keeps_nan(ps):
    out, ps = evaluate_significance.holm(ps), np.array(ps, float)
    assert_array_equal(np.isnan(out), np.isnan(ps))
    if (~np.isnan(ps)).any():
        assert_allclose(out[~np.isnan(ps)], multipletests(ps[~np.isnan(ps)], method='holm')[1])
    assert np.all((out >= ps) | np.isnan(ps))


def test_compare_makes_every_pair_or_one_against_all():
    models = {f'm{i}': make(300, model=i) for i in range(4)} | {'strong': make(300, skill=6)}
    every = evaluate_significance.compare(models, n=200)
    one = evaluate_significance.compare(models, baseline='m0', n=200)
    assert list(zip(every['baseline'], every['variant'])) == list(combinations(models, 2))
    assert one['variant'].tolist() == ['m1', 'm2', 'm3', 'strong']
    assert one['verdict'].iloc[-1] == 'better'
    assert_allclose(every['p_holm'], multipletests(every['p_value'], method='holm')[1])
    for r in every.to_dict('records'):
        assert (
            r['p_value']
            == evaluate_significance.mcnemar(models[r['variant']], models[r['baseline']])['p_value']
        )
    lost = evaluate_significance.compare(models, 'log_loss', baseline='m0')
    assert lost['verdict'].iloc[-1] == 'better'
    assert lost['difference'].iloc[-1] < 0
    assert lost['test'].unique().tolist() == ['bootstrap']


def test_compare_can_still_find_something_among_many_pairs():
    # 45 pairs
    models = {f'm{i}': make(200, model=i) for i in range(9)} | {'strong': make(200, skill=9)}
    t = evaluate_significance.compare(models, 'macro_f1')
    assert (t[t['variant'] == 'strong']['verdict'] == 'better').all()
    assert (t[t['variant'] != 'strong']['verdict'] != 'better').mean() > 0.9


def test_compare_says_undefined():
    p = Predictions([0, 1], [[0.9, 0.1], [0.4, 0.6]], [0, 0], ['x', 'y'])
    assert evaluate_significance.compare(dict(a=p, b=p), 'macro_auc', n=100)[
        'verdict'
    ].tolist() == ['undefined']


# --- seeds


def seeds(values, metric='accuracy'):
    "A wide table from {variant: {seed: value}}."
    return pd.DataFrame(
        [{'variant': v, 'seed': s, metric: x} for v, d in values.items() for s, x in d.items()]
    )


@settings(max_examples=10)  # statsmodels collects garbage at every call of multipletests: slow
@given(st.integers(2, 8), st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_paired_seeds_agrees_with_scipy_and_statsmodels(n, n_variants, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(0.9, 0.01, (n_variants, n))
    table = seeds({f'v{i}': dict(enumerate(row)) for i, row in enumerate(x)}).sample(
        frac=1, random_state=seed % 1000
    )
    t = evaluate_significance.paired_seeds(table, baseline='v0').set_index('variant')
    ps = {}
    for i in range(1, n_variants):
        test = stats.ttest_rel(x[i], x[0])
        row = t.loc[f'v{i}']
        ps[f'v{i}'] = test.pvalue
        assert_allclose(
            [
                row['mean'],
                row['sd'],
                row['baseline_mean'],
                row['difference'],
                row['t'],
                row['p_value'],
                row['low'],
                row['high'],
            ],
            [
                x[i].mean(),
                x[i].std(ddof=1),
                x[0].mean(),
                (x[i] - x[0]).mean(),
                test.statistic,
                test.pvalue,
                *test.confidence_interval(0.95),
            ],
            rtol=1e-9,
        )
    assert_allclose(t.loc[list(ps), 'p_holm'], multipletests(list(ps.values()), method='holm')[1])
    for r in t.to_dict('records'):
        if r['p_holm'] >= 0.05:
            assert r['verdict'] == 'no difference shown'
        else:
            assert r['verdict'] == ('better' if r['difference'] > 0 else 'worse')


def test_only_shared_seeds_count():
    t = evaluate_significance.paired_seeds(
        seeds(
            dict(
                a={0: 0.1, 1: 0.2, 2: 0.4, 9: 1.0},
                b={0: 0.2, 1: 0.4, 2: 0.5, 7: 0.0},
                c={0: 0.3},
                d={5: 0.3},
            )
        ),
        baseline='a',
    ).set_index('variant')
    assert t['n'].to_dict() == dict(b=3, c=1, d=0)
    assert t['mean']['b'] == pytest.approx((0.2 + 0.4 + 0.5) / 3)
    assert t['baseline_mean']['b'] == pytest.approx(0.7 / 3)
    assert t['verdict'].to_dict() == dict(b='no difference shown', c='one seed', d='no shared seed')
    assert np.isnan(t['p_value'][['c', 'd']]).all()
    assert np.isnan(t['p_holm'][['c', 'd']]).all()
    assert t['p_holm']['b'] == t['p_value']['b']  # comparisons that could not be made cost nothing


def test_seeds_that_change_nothing_are_no_repetitions():
    t = evaluate_significance.paired_seeds(
        seeds(
            dict(
                a={0: 0.9, 1: 0.91, 2: 0.92},
                same={0: 0.9, 1: 0.91, 2: 0.92},
                shifted={0: 0.95, 1: 0.96, 2: 0.97},
            )
        ),
        baseline='a',
    ).set_index('variant')
    assert t['verdict'].to_dict() == dict(same='no difference shown', shifted='no spread')
    assert t['p_value']['same'] == 1 and np.isnan(t['p_value']['shifted'])


def test_seeds_and_folds_are_matched_together():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        [
            dict(
                variant=v,
                seed=s,
                fold=f,
                metric='accuracy',
                value=0.8 + 0.1 * (v == 'b') + rng.normal(0, 0.01),
                split='test',
            )
            for v in 'ab'
            for s in (0, 1)
            for f in (0, 1, np.nan)
        ]
    )
    assert evaluate_significance.paired_seeds(
        table, baseline='a', seed_col=['seed', 'fold'], test_to_train=1 / 4
    )[['n', 'verdict']].to_numpy().tolist() == [[6, 'better']]
    with pytest.raises(
        ValueError, match="variant 'a' has several values of accuracy for seed 0: choose one split"
    ):
        evaluate_significance.paired_seeds(table)


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(metric='auc'), "no column 'auc'; it has: variant, seed, accuracy"),
        (dict(baseline='z'), "unknown baseline 'z'"),
        (dict(seed_col='run'), "no column 'run'"),
        (dict(variant_col='name'), "no column 'name'"),
        (dict(level=1.0), 'level must lie in'),
    ],
)
def test_bad_tables_of_seeds(kwargs, message):
    with pytest.raises(ValueError, match=message):
        evaluate_significance.paired_seeds(
            seeds(dict(a={0: 0.1, 1: 0.3}, b={0: 0.2, 1: 0.1})), **kwargs
        )


def test_missing_values_and_single_variants_are_refused():
    with pytest.raises(ValueError, match=r"accuracy is missing \(NaN\) for variant 'b'"):
        evaluate_significance.paired_seeds(seeds(dict(a={0: 0.1}, b={0: np.nan})))
    with pytest.raises(ValueError, match='at least 2 variants, got 1: a'):
        evaluate_significance.paired_seeds(seeds(dict(a={0: 0.1, 1: 0.2})))


@pytest.mark.parametrize(
    'metric, lower, verdict',
    [
        ('accuracy', None, 'better'),
        ('log_loss', None, 'worse'),
        ('accuracy', True, 'worse'),
        ('log_loss', False, 'better'),
    ],
)
def test_the_verdict_knows_which_way_is_up(metric, lower, verdict):
    t = evaluate_significance.paired_seeds(
        seeds(dict(a={0: 0.1, 1: 0.11, 2: 0.12}, b={0: 0.2, 1: 0.212, 2: 0.221}), metric),
        metric,
        'a',
        lower_is_better=lower,
    )
    assert t['verdict'].tolist() == [verdict]


@pytest.mark.parametrize('difference, sd', [(0.004, 0.002), (0.01, 0.01), (0.002, 0.004)])
def test_seeds_needed_gives_the_promised_power(difference, sd):
    n = evaluate_significance.seeds_needed(difference, sd)
    rng = np.random.default_rng(0)
    power = (
        stats.ttest_1samp(rng.normal(difference, sd, (4000, n)), 0, axis=1).pvalue < 0.05
    ).mean()
    assert 0.77 < power < 0.95


# --- the module itself


def test_import_is_light():
    code = (
        "import sys, fashion_lab.evaluate; print(*[m for m in ('torch', 'sklearn', "
        "'statsmodels', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, '-c', code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == ''
    )


@pytest.mark.parametrize('sd', [0.0005, 0.001, 0.002, 0.003, 0.005])
def test_larger_differences_never_need_more_seeds(sd):
    """statsmodels' power is NaN for some large effects with few pairs, which must not be read
    as too little power."""
    needed = [evaluate_significance.seeds_needed(d, sd) for d in np.linspace(0.002, 0.04, 20)]
    assert needed == sorted(needed, reverse=True) and needed[-1] <= 3
    assert abs(evaluate_significance._paired_power(1, 10, 0.95) - 0.8031) < 1e-4


def test_a_metric_of_ones_own_may_be_compared():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 200)
    ids = [f'i{k}' for k in range(200)]

    def answers(right):
        probs = np.eye(2)[np.where(rng.random(200) < right, truth, 1 - truth)] * 0.8 + 0.1
        return Predictions(ids, probs, truth, ['a', 'b'])

    models = dict(weak=answers(0.6), strong=answers(0.95))

    def share_right(p):
        return float((p.preds == p.targets).mean())

    table = evaluate_significance.compare(models, share_right, baseline='weak', n=200)
    assert table['verdict'].tolist() == ['better']
    lower = evaluate_significance.compare(
        models, share_right, baseline='weak', n=200, lower_is_better=True
    )
    assert lower['verdict'].tolist() == ['worse']
