"""Do the intervals and tests of `fashion_lab.evaluate` keep their promise? Simulations in which the
truth is known.

    OMP_NUM_THREADS=1 python benchmarks/coverage.py            everything (a few minutes on one
                                                               thread)
    python benchmarks/coverage.py accuracy seeds               only these questions
    python benchmarks/coverage.py --quick                      few simulations, to see that it runs;
                                                               nothing is recorded

Results go to results/coverage.csv. Of intervals, `before` and `after` are the shares that hold the
truth (95 % promised); of tests, the shares of false alarms (5 % promised). `before` is what is
usually done: percentiles of a bootstrap over groups, a t test over splits. Groups have the sizes of
the shoe pairs' test people (10, one has 34 % of 148 pictures), and sizes like those of the
closures' contributors (70, one has 39 % of 422 photos). Everything is drawn with fixed seeds.
"""

import numpy as np
import pandas as pd
from scipy.stats import t, ttest_1samp

from fashion_lab.evaluate.bootstrap import METRICS, metric_interval, metric_replicates
from fashion_lab.evaluate.classification import calibration_interval
from fashion_lab.evaluate.groups import jackknife_interval
from fashion_lab.evaluate.predictions import Predictions
from fashion_lab.evaluate.resampling import bootstrap_draws, count_features, group_sums, rates_of
from fashion_lab.evaluate.significance import difference_over_seeds
from side_by_side import command, conditions, RESULTS, save

SHOES = np.array([50, 16, 14, 14, 12, 12, 8, 8, 8, 6])
CLOSURES = np.array(
    [165, 29, 19, 15, 12, 10, 9, 8, 7, 6, 6] + [5] * 6 + [4] * 6 + [3] * 14 + [2] * 7 + [1] * 26
)
SIZES = dict(shoes=SHOES, closures=CLOSURES)
CORRELATIONS = (0.05, 0.15, 0.3)  # within groups
DRAWS = 500  # of the bootstrap


def person_rates(rng, share, correlation, size):
    """How often each person is answered rightly: beta-distributed, so that answers of a person
    are correlated."""
    strength = (1 - correlation) / correlation
    return rng.beta(share * strength, (1 - share) * strength, size)


def holds(low, high, truth):
    return (low <= truth) & (truth <= high)


def row(question, groups, setting, before, after, o, n, promised=0.95):
    "Into results/coverage.csv, in the place of the same question."
    found = dict(
        question=question, groups=groups, setting=setting, promised=promised, simulations=n
    )
    found |= dict(before=round(float(before), 4), after=round(float(after), 4))
    print(
        f'  {groups:9} {setting:34} promised {promised:.0%}, before {before:.1%}, after {after:.1%}',
        flush=True,
    )
    if o.quick:
        return
    stamp = {k: v for k, v in conditions().items() if k in ('python', 'commit', 'date', 'command')}
    path = RESULTS / 'coverage.csv'
    key = ['question', 'groups', 'setting']
    new = pd.DataFrame([found | dict(numpy=np.__version__) | stamp]).astype(str)
    if path.exists():
        old = pd.read_csv(path, dtype=str, keep_default_na=False)
        new = pd.concat([old[(old[key] != new[key].iloc[0]).any(axis=1)], new], ignore_index=True)
    save(path, new.sort_values(key, kind='stable'))


def bench_accuracy(o):
    "Intervals of an accuracy over few and uneven groups."
    for name, sizes in SIZES.items():
        draws = np.concatenate(list(bootstrap_draws(np.ones(len(sizes), int), DRAWS, 0)))
        for share in (0.78, 0.9):
            for correlation in CORRELATIONS:
                rng = np.random.default_rng(0)
                right = rng.binomial(
                    sizes, person_rates(rng, share, correlation, (o.repeats, len(sizes)))
                )
                low, high = np.quantile(right @ draws.T / (sizes @ draws.T), [0.025, 0.975], axis=1)
                before = holds(low, high, share).mean()
                total = right.sum(1)
                without = (total[:, None] - right) / (sizes.sum() - sizes)
                columns = np.tile(sizes[:, None], o.repeats)
                low, high = jackknife_interval(total / sizes.sum(), without.T, columns, 0.95)
                setting = f'accuracy {share}, correlation {correlation}'
                row('interval', name, setting, before, holds(low, high, share).mean(), o, o.repeats)


def photos(rng, sizes, correlation, classes=4):
    "Predictions for photos of people: how often a network knows the answer depends on the person."
    who = np.repeat(np.arange(len(sizes)), sizes)
    targets = rng.integers(0, classes, len(who))
    skill = np.where(
        rng.random(len(who)) < person_rates(rng, 0.8, correlation, len(sizes))[who], 2.5, 0
    )
    logits = skill[:, None] * np.eye(classes)[targets] + rng.normal(size=(len(who), classes))
    return Predictions.from_logits(
        np.arange(len(who)), logits, targets, list('abcdefgh')[:classes]
    ), who


def weighted_f1(sums):
    "Of sums of `count_features`."
    true = np.split(sums, 3, -1)[2]
    return np.nansum(rates_of(sums)[2] * true, -1) / true.sum(-1)


def auc_before(p, who, n_groups, draws):
    """Bootstrap replicates of the AUC of the second class: pairs of photos, summed by pairs of
    groups, then weighted."""
    positive = p.targets == 1
    score = p.probs[:, 1]
    wins = (score[positive][:, None] > score[~positive]).astype(float)
    belongs = np.eye(n_groups)[who]
    pairs = belongs[positive].T @ wins @ belongs[~positive]
    positives = draws @ belongs[positive].sum(0)
    negatives = draws @ belongs[~positive].sum(0)
    with np.errstate(invalid='ignore'):
        return np.einsum('ng,gh,nh->n', draws, pairs, draws) / positives / negatives


def bench_scores(o):
    "Intervals of weighted F1 and of AUC, which are no means."
    n = o.repeats // 10
    for name, sizes in SIZES.items():
        draws = np.concatenate(list(bootstrap_draws(np.ones(len(sizes), int), DRAWS, 0)))
        for correlation in CORRELATIONS:
            for metric, classes in dict(weighted_f1=4, macro_auc=2).items():
                rng = np.random.default_rng(0)
                many, _ = photos(rng, np.full(40_000, 3), correlation, classes)
                truth = METRICS[metric](many)
                before, after = [], []
                for _ in range(n):
                    p, who = photos(rng, sizes, correlation, classes)
                    if metric == 'macro_auc':
                        reps = auc_before(p, who, len(sizes), draws)
                    else:
                        reps = weighted_f1(draws @ group_sums(p, count_features, who))
                    before.append(holds(*np.nanquantile(reps, [0.025, 0.975]), truth))
                    after.append(holds(*metric_interval(p, metric, groups=who), truth))
                row(
                    'interval',
                    name,
                    f'{metric}, correlation {correlation}',
                    np.mean(before),
                    np.mean(after),
                    o,
                    n,
                )


def seed_answers(rng, sizes, correlation, who):
    """Two equally good networks: right answers of both, which a person moves alike and each by
    itself."""
    both = person_rates(rng, 0.8, correlation, len(sizes))
    rates = [
        np.clip(both + rng.normal(0, correlation / 2, len(sizes)), 0, 1)[who] for _ in range(2)
    ]
    return [rng.random(len(who)) < r for r in rates]


def bench_seeds(o):
    """False alarms between two equally good methods, each with three seeds, tested over the
    same people."""
    n = o.repeats // 4
    for name, sizes in SIZES.items():
        who = np.repeat(np.arange(len(sizes)), sizes)
        targets = np.zeros(sizes.sum(), int)
        draws = [
            np.concatenate(list(bootstrap_draws(np.ones(len(sizes), int), DRAWS, s)))
            for s in range(3)
        ]

        def predictions(right):
            return Predictions(
                np.arange(len(who)), np.eye(2)[1 - right.astype(int)], targets, ['a', 'b']
            )

        for correlation in CORRELATIONS:
            rng = np.random.default_rng(0)
            before = []
            after = []
            for _ in range(n):
                a, b = seed_answers(rng, sizes, correlation, who)
                seeds = [
                    (a ^ (rng.random(len(who)) < 0.03), b ^ (rng.random(len(who)) < 0.03))
                    for _ in range(3)
                ]
                sums = [np.bincount(who, x * 1.0 - y) for x, y in seeds]
                reps = np.mean([d @ s / (d @ sizes) for d, s in zip(draws, sums)], 0)
                tail = (min((reps <= 0).sum(), (reps >= 0).sum()) + 1) / (DRAWS + 1)
                before.append(2 * tail < 0.05)
                pairs = [[predictions(x) for x in side] for side in zip(*seeds)]
                after.append(difference_over_seeds(*pairs, [who] * 3)['p_value'] < 0.05)
            row(
                'false alarms over seeds',
                name,
                f'correlation {correlation}',
                np.mean(before),
                np.mean(after),
                o,
                n,
                0.05,
            )


def bench_calibration(o):
    """Intervals of the calibration error, of networks that are calibrated, or surer than they
    should be."""

    def sample(rng, n, sharpness):  # confidences, and how often each is right
        confidence = np.clip(0.51 + 0.489 * rng.beta(4, 1, n), 0.51, 0.999)
        return confidence, 1 / (1 + ((1 - confidence) / confidence) ** sharpness)

    n = o.repeats // 20
    for sharpness in (1, 0.9, 0.75):
        rng = np.random.default_rng(0)
        confidence, rate = sample(rng, 1_000_000, sharpness)
        bins = np.ceil(confidence * 15).astype(int) - 1
        truth = abs(np.bincount(bins, rate - confidence)).sum() / len(bins)
        for size in (422, 2000, 10_000):
            before, after = [], []
            for _ in range(n):
                confidence, rate = sample(rng, size, sharpness)
                targets = (rng.random(size) >= rate).astype(int)
                p = Predictions(
                    np.arange(size), np.stack([confidence, 1 - confidence], 1), targets, ['a', 'b']
                )
                reps = metric_replicates([p], 'calibration_error', DRAWS)[0]
                before.append(holds(*np.quantile(reps, [0.025, 0.975]), truth))
                after.append(holds(*calibration_interval(p, n=DRAWS), truth))
            row(
                'interval',
                f'{size} alone',
                f'calibration error {truth:.3f}',
                np.mean(before),
                np.mean(after),
                o,
                n,
            )


def bench_splits(o):
    """False alarms of a t test over ten new splits of one data set; both methods are a nearest
    mean, on features of their own."""
    n = o.repeats // 4
    size = 200
    k = 10
    for share in (0.2, 0.5):
        held = int(share * size)
        rng = np.random.default_rng(0)
        before = []
        after = []
        for _ in range(n):
            labels = np.repeat([0, 1], size // 2)
            features = [rng.normal(size=(size, 5)) + 0.5 * labels[:, None] for _ in range(2)]
            d = []
            for _ in range(k):
                order = rng.permutation(size)
                test, train = order[:held], order[held:]
                d.append(np.subtract(*[nearest_mean(x, labels, train, test) for x in features]))
            d = np.array(d)
            before.append(ttest_1samp(d, 0).pvalue < 0.05)
            error = d.std(ddof=1) * (1 / k + held / (size - held)) ** 0.5
            after.append(2 * t.sf(abs(d.mean()) / error, k - 1) < 0.05)
        row(
            'false alarms over splits',
            f'{size} alone',
            f'{k} splits, {share:.0%} held out',
            np.mean(before),
            np.mean(after),
            o,
            n,
            0.05,
        )


def nearest_mean(x, labels, train, test):
    "The accuracy on `test` of the nearer of two class means."
    means = [x[train][labels[train] == c].mean(0) for c in (0, 1)]
    nearer = ((x[test] - means[1]) ** 2).sum(1) < ((x[test] - means[0]) ** 2).sum(1)
    return (nearer == labels[test]).mean()


BENCHES = dict(
    accuracy=bench_accuracy,
    scores=bench_scores,
    seeds=bench_seeds,
    calibration=bench_calibration,
    splits=bench_splits,
)

if __name__ == '__main__':
    command(
        __doc__,
        BENCHES,
        dict(repeats=100),
        repeats=(4000, 'simulations of an accuracy; the others have a part of them'),
    )
