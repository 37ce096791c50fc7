"""Statistics that were silently wrong once: each is held to a second library, or to a
simulation with a fixed seed in which the truth is known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose
from scipy import stats

from fashion_lab.evaluate import significance
from fashion_lab.evaluate.bootstrap import metric_interval, metrics, METRICS
from fashion_lab.evaluate.classification import calibration_error, calibration_interval
from fashion_lab.evaluate.groups import (
    difference_over_groups,
    few_groups_note,
    group_df,
    jackknife_interval,
    jackknife_variance,
)
from fashion_lab.evaluate.predictions import Predictions
from fashion_lab.evaluate.significance import (
    compare,
    difference_over_seeds,
    metric_difference,
    paired_seeds,
)
from fashion_lab.labs import clothing
from fashion_lab.runs.ablation import contributors_of, paired_difference

# pictures of each test person of the shoe pairs
SHOES = np.array([50, 16, 14, 14, 12, 12, 8, 8, 8, 6])
WHO = np.repeat(np.arange(10), SHOES)


def answers(right, ids=None):
    "Predictions of two classes that are right or wrong as told."
    right = np.asarray(right)
    targets = np.arange(len(right)) % 2
    preds = np.where(right, targets, 1 - targets)
    return Predictions(
        np.arange(len(right)) if ids is None else ids,
        np.eye(2)[preds] * 0.8 + 0.1,
        targets,
        ['bag', 'coat'],
    )


def rates(rng, share, correlation, size):
    strength = (1 - correlation) / correlation
    return rng.beta(share * strength, (1 - share) * strength, size)


# --- intervals over groups


def test_with_equal_groups_the_jackknife_is_the_clustered_error_of_statsmodels():
    rng = np.random.default_rng(0)
    x, who = rng.normal(size=120), np.repeat(np.arange(12), 10)
    fit = sm.OLS(x, np.ones(120)).fit(
        cov_type='cluster', cov_kwds=dict(groups=who, use_correction=False)
    )
    without = [x[who != g].mean() for g in range(12)]
    assert_allclose(
        jackknife_variance(x.mean(), without), fit.bse[0] ** 2 * (12 / 11) ** 2, rtol=1e-9
    )


@pytest.mark.parametrize('share', [0.78, 0.9])
@pytest.mark.parametrize('correlation', [0.05, 0.15, 0.3])
def test_intervals_over_few_and_uneven_people_cover(share, correlation):
    rng = np.random.default_rng(0)
    n = 2000
    right = rng.binomial(SHOES, rates(rng, share, correlation, (n, 10)))
    total, sizes = right.sum(1), np.tile(SHOES[:, None], n)
    without = (total[:, None] - right) / (148 - SHOES)
    low, high = jackknife_interval(total / 148, without.T, sizes, 0.95)
    assert ((low <= share) & (share <= high)).mean() >= 0.93


@pytest.mark.parametrize('metric', ['accuracy', 'weighted_f1', 'macro_auc', 'log_loss'])
def test_an_interval_over_people_is_wider_and_holds_its_value(metric):
    rng = np.random.default_rng(3)
    p = answers(rng.random(148) < rates(rng, 0.8, 0.3, 10)[WHO])
    (low, high), (a, b) = metric_interval(p, metric, groups=WHO), metric_interval(p, metric)
    assert low < METRICS[metric](p) < high and high - low > b - a


def test_ten_people_who_are_all_right_are_ten_examples():
    low, high = metric_interval(answers(np.ones(148, bool)), groups=WHO)
    assert 0.4 < low < 0.75 and high == 1


def test_degrees_of_freedom_know_uneven_groups():
    assert group_df([7] * 10) == pytest.approx(9)
    assert 4 < group_df(SHOES) < 4.5
    assert group_df([100, *[1] * 50]) < 2 and np.isnan(group_df([5, 0]))


def test_few_groups_are_told():
    assert '10 people, of whom the largest has 34%' in few_groups_note(WHO, 'people')
    assert few_groups_note(np.arange(60) // 3) == ''


# --- the same people in every seed


def run(seed, right, order, key, codes, variant='a', classes='all'):
    p = answers(right)[order]
    config = dict(seed=seed, source='real', protocol='grouped-folds', classes=classes)
    value = dict(value=METRICS['weighted_f1'](p))
    return SimpleNamespace(
        config=config,
        data='clothing',
        variant=variant,
        extra={key: codes[order].tolist()},
        predictions=lambda split: p,
        metrics=dict(n=dict(test=len(p)), test=dict(weighted_f1=value)),
    )


def seeds(right, key, variant='a'):
    """Runs of three seeds with the same answers, in other orders; those of earlier days number
    people as their folds come."""
    rng = np.random.default_rng(0)
    out = []
    for seed in range(3):
        order = rng.permutation(148)
        codes = WHO.copy()
        if key == 'senders':
            codes[order] = pd.factorize(WHO[order])[0]
        out.append(run(seed, right, order, key, codes, variant))
    return out


@pytest.mark.parametrize('key', ['contributors', 'senders'])
def test_identical_answers_in_three_seeds_say_what_one_seed_says(key):
    rng = np.random.default_rng(1)
    first, second = (rng.random(148) < share for share in (0.85, 0.75))
    one, three = (
        paired_difference(seeds(first, key)[:n], seeds(second, key, 'b')[:n]) for n in (1, 3)
    )
    assert one.keys() == three.keys()
    assert three['contributors'] == 10
    assert three['largest_share'] == pytest.approx(50 / 148)
    assert_allclose(list(three.values()), list(one.values()), rtol=1e-9)


def test_earlier_runs_of_other_photos_are_not_compared_over_seeds():
    a, b = (
        run(seed, np.ones(148, bool), np.arange(100) + 20 * seed, 'senders', WHO) for seed in (0, 1)
    )
    with pytest.raises(ValueError, match='do not say whose: run them again, or compare one seed'):
        contributors_of([a, b])
    assert contributors_of([a])[0].tolist() == WHO[:100].tolist()


def test_a_person_whom_a_seed_does_not_ask_changes_nothing_in_it():
    rng = np.random.default_rng(2)
    p, q = answers(rng.random(148) < 0.9), answers(rng.random(148) < 0.7)
    part = WHO > 0
    both = difference_over_seeds([p, p[part]], [q, q[part]], [WHO, WHO[part]])
    assert both['low'] < both['difference'] < both['high']
    assert both['difference'] == pytest.approx(
        np.mean([metric_difference(a, b)['difference'] for a, b in ((p, q), (p[part], q[part]))])
    )


def test_equal_methods_are_rarely_called_different_over_three_seeds():
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(1000):
        person = rates(rng, 0.8, 0.15, 10)
        own = [np.clip(person + rng.normal(0, 0.08, 10), 0, 1) for _ in range(2)]
        # right answers
        more = np.mean(
            [rng.binomial(SHOES, own[0]) - rng.binomial(SHOES, own[1]) for _ in range(3)], 0
        )
        without = (more.sum() - more) / (148 - SHOES)
        alarms.append(difference_over_groups(more.sum() / 148, without, SHOES)['p_value'] < 0.05)
    assert np.mean(alarms) <= 0.05


# --- verdicts


def test_a_large_difference_is_found_among_many_comparisons():
    rng = np.random.default_rng(0)
    models = {f'm{i}': answers(rng.random(300) < 0.6) for i in range(12)} | dict(
        strong=answers(rng.random(300) < 0.99)
    )
    t = compare(models, 'macro_f1', baseline='m0').set_index('variant')
    assert t.verdict['strong'] == 'better'
    with pytest.raises(
        ValueError, match='1000 replicates cannot show a difference among 78 comparisons'
    ):
        compare(models, 'macro_f1', n=1000)


def test_ten_classes_are_not_compared_with_seventeen_and_do_not_stop_the_rest():
    rng, order = np.random.default_rng(0), np.arange(148)

    def made(variant, share, classes='all'):
        return run(0, rng.random(148) < share, order, 'contributors', WHO, variant, classes)

    runs = [
        made('linear-probe', 0.9),
        made('linear-probe-one-view', 0.5),
        made('top10-linear-probe', 0.9, 'top10'),
    ]
    t = clothing.verdicts(runs)
    assert t.variant.tolist() == ['linear-probe-one-view']
    assert t.verdict.tolist() == ['worse']
    assert t.contributors.tolist() == [10]
    with pytest.raises(ValueError, match='run together with its baseline'):
        clothing.verdicts([runs[0], runs[2]])


# --- calibration


@pytest.mark.parametrize('sharpness', [1, 0.75])
def test_intervals_of_the_calibration_error_cover(sharpness):
    rng = np.random.default_rng(0)
    n = 2000

    def sample(n):
        confidence = np.clip(0.51 + 0.489 * rng.beta(4, 1, n), 0.51, 0.999)
        return confidence, 1 / (1 + ((1 - confidence) / confidence) ** sharpness)

    c, rate = sample(500_000)
    truth = abs(np.bincount(np.ceil(c * 15).astype(int) - 1, rate - c)).sum() / len(c)
    hits = []
    for _ in range(60):
        c, rate = sample(n)
        targets = (rng.random(n) >= rate).astype(int)
        p = Predictions(np.arange(n), np.stack([c, 1 - c], 1), targets, ['a', 'b'])
        low, high = calibration_interval(p, n=200)
        assert low <= calibration_error(p) <= high
        hits.append(low <= truth <= high)
    assert np.mean(hits) >= 0.88


def test_every_recorded_kind_of_interval_holds_its_value():
    rng = np.random.default_rng(0)
    for share in (0.5, 0.8, 0.97):
        p = answers(rng.random(148) < share)
        for groups in (None, WHO):
            assert all(
                v['low'] <= v['value'] <= v['high']
                for v in metrics(p, ci=True, n=200, groups=groups).values()
            )


# --- new splits of one data set


def test_new_splits_are_no_new_data():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 100)
    scores = []
    for _ in range(
        60
    ):  # data sets, on which two methods of equal worth are trained with ten new splits
        features = [rng.normal(size=(200, 5)) + 0.5 * labels[:, None] for _ in range(2)]
        for split in range(10):
            order = rng.permutation(200)
            test, train = order[:100], order[100:]
            for x in features:
                means = [x[train][labels[train] == c].mean(0) for c in (0, 1)]
                far = [((x[test] - m) ** 2).sum(1) for m in means]
                scores.append(((far[1] < far[0]) == labels[test]).mean())
    a, b = np.reshape(scores, (60, 10, 2)).transpose(2, 0, 1)
    plain, honest = (
        np.array([significance._paired_t(x, y, 0.95, ratio)['p_value'] for x, y in zip(a, b)])
        for ratio in (0, 1)
    )
    assert_allclose(plain, stats.ttest_rel(a, b, axis=1).pvalue)
    assert (plain < 0.05).mean() > 0.3 and (honest < 0.05).mean() <= 0.1


def test_folds_are_refused_as_repetitions():
    t = pd.DataFrame(
        [
            dict(variant=v, seed=s, fold=f, accuracy=0.5 + 0.01 * s * f)
            for v in 'ab'
            for s in (0, 1)
            for f in (0, 1)
        ]
    )
    with pytest.raises(ValueError, match='give test_to_train'):
        paired_seeds(t, seed_col=['seed', 'fold'])
    with pytest.raises(ValueError, match='must be above 0'):
        paired_seeds(t, seed_col=['seed', 'fold'], test_to_train=0)
