"""How good are variants of the shoe-pair lab with few pairs to train on?

    OMP_NUM_THREADS=1 python benchmarks/pairs_by_number.py     needs the clothing photos
    python benchmarks/pairs_by_number.py --quick               few pairs; nothing is recorded

Whole contributors are left out of training and validation until so many training pairs are left;
the test pairs, of other contributors, stay the same. `centred` and `mirrored` train nothing but a
threshold; `CNNChannel` is trained from scratch, at 64 pixels for 60 epochs. The lab tells those who
bring pairs of their own what was recorded for about as many. Results go to
results/pairs_by_number.csv: a row per network, number of pairs and seed.
"""

import argparse
import time
from dataclasses import replace

import numpy as np
import pandas as pd

from fashion_lab.labs import shoe_pairs as lab
from fashion_lab.pairs.metrics import verification
from side_by_side import conditions, RESULTS, save

VARIANTS = ('centred', 'mirrored', 'siamese-lite0', 'CNNChannel')
NUMBERS = (8, 16, 32, 64, 128)
SEEDS = 3


def with_few_pairs(d, n, seed):
    "The pairs of as many contributors as have `n` for training, and as large a part for validation."
    rng = np.random.default_rng(seed)
    keep = d.shoes.split.str.startswith('test').to_numpy()
    share = n / len(d.rows('train'))
    for split, wanted in dict(train=n, valid=max(2, round(share * len(d.rows('valid'))))).items():
        rows = d.rows(split)
        people = d.shoes.person.to_numpy()[rows]
        taken = 0
        for person in rng.permutation(np.unique(people)):
            mine = rows[people == person]
            if taken + len(mine) > wanted * 1.1 and taken:
                continue
            keep[mine] = True
            taken += len(mine)
            if taken >= wanted:
                break
    return d.subset(keep)


def measured(cfg, d):
    "A row: the score on test pairs, and the seconds of training."
    start = time.perf_counter()
    fitted = lab.train(cfg, d, show=False)
    seconds = time.perf_counter() - start
    asked = d.asked(*d.tests)
    score = verification(lab.predictions(fitted.predictor, d, asked))
    return dict(
        test_items=len(asked),
        test_people=asked.person.nunique(),
        balanced_accuracy=round(float(score['balanced_accuracy']), 4),
        train_s=round(fitted.seconds, 1),
        seconds=round(seconds, 1),
    )


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--quick', action='store_true')
    o = p.parse_args()
    numbers, seeds = ((8,), 1) if o.quick else (NUMBERS, SEEDS)
    stamp = conditions()
    names = ('device', 'threads', 'cores', 'torch', 'python', 'commit', 'date', 'command')
    rows = []
    for seed in range(seeds):
        for variant in VARIANTS:
            (cfg,) = lab.configs('full', 1, variant, source='real', device='cpu')
            cfg = replace(cfg, seed=seed, checks=False)
            if variant == 'CNNChannel':
                cfg = replace(cfg, size=64, epochs=2 if o.quick else 60)
            d = lab.shoes_of(cfg)[1]
            for n in numbers:
                few = with_few_pairs(d, n, seed)
                row = dict(network=variant, pairs=n, seed=seed, taken=len(few.rows('train')))
                rows.append(row | measured(cfg, few) | {k: stamp[k] for k in names})
                print({k: v for k, v in rows[-1].items() if k not in names}, flush=True)
                if not o.quick:
                    save(RESULTS / 'pairs_by_number.csv', pd.DataFrame(rows))


if __name__ == '__main__':
    main()
