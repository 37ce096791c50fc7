"""Are answers for photos as honest as they say? Calibration, coverage of sets, and "none of these",
on contributors that had no part in them.

    OMP_NUM_THREADS=1 python benchmarks/answers.py           everything (minutes; needs the clothing
                                                             and facade photos)
    python benchmarks/answers.py trained                     only these networks: closures, garments,
                                                             clothing, trained
    python benchmarks/answers.py --quick                     few photos, to see that it runs; nothing
                                                             is recorded

Results go to results/answers.csv. The networks are logistic regressions on frozen features of
EfficientNet-Lite0, 224 px, in five grouped folds: `closures` (six closures of shoes), `clothing`
(17 clothes) and `garments` (the same without shoes). Temperature, sets and the threshold of "none
of these" are learned from half of the contributors and counted on the other half, 50 times with
other halves. A false alarm is a photo of the right kind that is called none of these; a miss is a
photo of something else that is not.

`trained` is about networks whose last stages are trained on closures, too, one for each fold. A
network that is trained on all photos has none left to learn a threshold from, and takes that of the
evaluated network: here every fold's network takes the threshold of every other fold's, and false
alarms are counted on the photos that were held out from it.
"""

import argparse

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from fashion_lab.core import progress
from fashion_lab.data.registry import load_photos
from fashion_lab.data.selection import contributors, grouped_folds, photos
from fashion_lab.evaluate.calibration import (
    calibrate,
    conformal_quantile,
    fit_space,
    held_out_coverage,
    out_of_fold_distances,
    with_temperature,
)
from fashion_lab.evaluate.classification import calibration_error, log_loss
from fashion_lab.evaluate.predictions import Predictions
from fashion_lab.labs.calibration import body_features
from fashion_lab.models.backbones import backbone
from fashion_lab.models.features import frozen_features
from fashion_lab.train.finetune import fit_classifier, Recipe
from side_by_side import conditions, RESULTS, save

FOLDS, HALVES = 5, 50
SHARE = 0.95  # of photos of the right kind that shall not be called none of these


def features_of(images):
    "(N, 1280) features of EfficientNet-Lite0, kept in the cache."
    body = backbone('efficientnet_lite0', 'packaged', 224)
    return np.asarray(frozen_features(body, images, device='cpu')[:, 0], np.float32)


def noise(n):
    "Photos of nothing: random colours, from single pixels to large blots."
    from PIL import Image

    rng = np.random.default_rng(0)
    grains = [1, 2, 4, 8, 16, 32]
    out = []
    for i in range(n):
        side = -(-224 // grains[i % len(grains)])
        small = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        out.append(np.asarray(small.resize((224, 224), Image.Resampling.BICUBIC)))
    return np.stack(out)


def others(n):
    "Pictures of what is neither clothing nor a shoe: name -> uint8 (n, 224, 224, 3)."
    facades = load_photos('facades', download=False).images(224)
    drawn = photos('clothing', 'synthetic', n, 224, None).images(224)
    sets = {'facades': facades[:n], 'drawn garments': drawn[:n], 'noise': noise(n)}
    return {name: np.asarray(x) for name, x in sets.items()}


def predicted(x, y, classes, ids, fold):
    "Out-of-fold predictions of a logistic regression."
    probs = np.zeros((len(y), len(classes)))
    for k in progress(range(FOLDS), 'folds', delay=2):
        train, held = fold != k, fold == k
        mean, sd = x[train].mean(0), x[train].std(0) + 1e-3
        head = LogisticRegression(C=0.01, max_iter=300, tol=1e-3)
        head.fit((x[train] - mean) / sd, y[train])
        probs[np.ix_(held, head.classes_)] = head.predict_proba((x[held] - mean) / sd)
    return Predictions(ids, probs, y, classes)


def halves(who):
    "Which photos are held out, with whole contributors, again and again."
    codes = pd.factorize(who)[0]
    n = codes.max() + 1
    rng = np.random.default_rng(0)
    for _ in range(HALVES):
        yield np.isin(codes, rng.permutation(n)[n // 2 :])


def by_contributor(values, who):
    "The mean over contributors of the mean over the photos of each."
    return pd.Series(values).groupby(np.asarray(who)).mean().mean()


def calibration(p, who):
    "Log loss and calibration error on the held-out half, before and after."
    rows = []
    for held in halves(who):
        after = with_temperature(p[held], calibrate(p[~held], who[~held]).temperature)
        rows.append([f(q) for f in (log_loss, calibration_error) for q in (p[held], after)])
    before_loss, loss, before_error, error = np.mean(rows, 0)
    yield 'log loss', before_loss, loss, np.nan
    yield 'calibration error', before_error, error, np.nan


def coverage(p, who):
    "The share of sets that hold the truth: mean over new contributors, and over photos."
    for promised in (0.8, 0.9, 0.95):
        found = held_out_coverage(p, who, promised, HALVES)
        yield (
            f'coverage {promised:.0%}, contributors',
            promised,
            found['coverage'],
            found['classes'],
        )
        yield f'coverage {promised:.0%}, photos', promised, found['photos'], found['classes']


def alarms(x, y, who, fold, strangers):
    "False alarms among held-out contributors, and misses among photos of something else."
    space, distances = fit_space(x, y), out_of_fold_distances(x, y, fold)
    thresholds = []
    false = []
    for held in halves(who):
        threshold = conformal_quantile(distances[~held], SHARE, who[~held])
        thresholds.append(threshold)
        false.append(by_contributor(distances[held] > threshold, who[held]))
    yield 'false alarms', 1 - SHARE, np.mean(false), np.nan
    for name, features in strangers.items():
        far = space.distance(features)
        missed = np.mean([(far <= t).mean() for t in thresholds])
        yield f'missed: {name}', np.nan, missed, np.nan


def record(model, p, who, rows, o):
    "Into results/answers.csv, in the place of the same model."
    stamp = conditions()
    kept = {k: stamp[k] for k in ('torch', 'python', 'commit', 'date', 'command') if k in stamp}
    columns = ('question', 'before', 'value', 'classes')
    table = pd.DataFrame(rows, columns=columns)
    table.insert(0, 'model', model)
    table = table.assign(photos=len(p), contributors=len(np.unique(who)), **kept)
    print(table.iloc[:, :5].round(4).to_string(index=False), flush=True)
    if o.quick:
        return
    path = RESULTS / 'answers.csv'
    for name in ('before', 'value', 'classes'):
        table[name] = table[name].map(lambda v: '' if np.isnan(v) else f'{v:.4f}')
    table = table.astype(str)
    if path.exists():
        old = pd.read_csv(path, dtype=str, keep_default_na=False)
        table = pd.concat([old[old.model != model], table], ignore_index=True)
    save(path, table)


def measure(model, s, rows, strangers, o):
    "One network: its answers, and what it is not made for."
    part = s.subset(rows)
    x = features_of(s.images(224))[rows]
    names = [c for k, c in enumerate(s.classes) if k in set(part.labels)]
    y = pd.Categorical([s.classes[k] for k in part.labels], names).codes.astype(np.int64)
    who = contributors(part, alone=True)
    fold = grouped_folds(part, FOLDS, 0, who)
    p = predicted(x, y, names, part.ids, fold)
    found = [
        ('accuracy', np.nan, p.correct.mean(), np.nan),
        *calibration(p, who),
        *coverage(p, who),
        *alarms(x, y, who, fold, strangers),
    ]
    record(model, p, who, found, o)


TRAINED = Recipe(
    'efficientnet_lite0', 'packaged', 224, stage='blocks.5', head_c=0.01, epochs=4, views=1
)


def distances_by_fold(s, fold, strangers, show):
    "Of networks with trained stages: for each fold (distances of its photos, name -> of strangers)."
    x, out = s.images(224), []
    for k in progress(range(FOLDS), 'folds', show=show, delay=2):
        train, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        net = fit_classifier(
            x, s.labels, s.classes, TRAINED, train, seed=k, device='cpu', show=False
        ).model
        space = fit_space(body_features(net, x, train), s.labels[train])
        far = {
            name: space.distance(body_features(net, pictures, np.arange(len(pictures))))
            for name, pictures in strangers.items()
        }
        out.append((space.distance(body_features(net, x, held)), far))
    return out


def carried(s, strangers, o):
    "Thresholds of one fold's network, given to those of the other folds."
    who = contributors(s, alone=True)
    fold = grouped_folds(s, FOLDS, 0, who)
    found = distances_by_fold(s, fold, strangers, None)
    thresholds = [conformal_quantile(d, SHARE, who[fold == k]) for k, (d, _) in enumerate(found)]
    pairs = [(j, k) for j in range(FOLDS) for k in range(FOLDS) if j != k]
    false = [by_contributor(found[k][0] > thresholds[j], who[fold == k]) for j, k in pairs]
    rows = [('false alarms', 1 - SHARE, np.mean(false), np.nan)]
    for name in strangers:
        missed = [(found[k][1][name] <= thresholds[j]).mean() for j, k in pairs]
        rows.append((f'missed: {name}', np.nan, np.mean(missed), np.nan))
    record('closures, last stages trained', s, who, rows, o)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    models = ('closures', 'garments', 'clothing', 'trained')
    arguments.add_argument('models', nargs='*', choices=[[], *models], default=[], metavar='MODEL')
    arguments.add_argument('--quick', action='store_true')
    o = arguments.parse_args()
    asked = o.models or models
    limit = 100 if o.quick else None
    pictures = others(30 if o.quick else 250)
    shoes = photos('closures', 'real', limit, 224, None)
    if 'trained' in asked:
        carried(shoes, pictures, o)
    if set(asked) <= {'trained'}:
        return
    strangers = {name: features_of(x) for name, x in pictures.items()}
    clothes = photos('clothing', 'real', limit and 4 * limit, 224, None)
    is_shoe = clothes.labels == clothes.classes.index('Shoes')
    of_clothes = features_of(clothes.images(224))
    no_shoes = np.random.default_rng(1).permutation(np.flatnonzero(~is_shoe))[:600]
    every = np.arange(len(clothes))
    beside = {'clothes': of_clothes[no_shoes]}
    if 'closures' in asked:
        measure('closures', shoes, np.arange(len(shoes)), strangers | beside, o)
    if 'garments' in asked:
        shoes_too = strangers | {'shoes': of_clothes[is_shoe]}
        measure('garments', clothes, every[~is_shoe], shoes_too, o)
    if 'clothing' in asked:
        measure('clothing', clothes, every, strangers, o)


if __name__ == '__main__':
    main()
