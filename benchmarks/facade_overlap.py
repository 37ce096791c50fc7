"""How many photos of one set of facades show houses of another one?

    python benchmarks/facade_overlap.py --cmp FOLDER     FOLDER: the CMP base set, cmp_*.jpg
    python benchmarks/facade_overlap.py                  the test part of the mini set alone

The mini set was made from photos of the CMP database, so a network that was trained on the one must
not be scored on the other. Houses are told apart by their colours, as the segmentation lab does: a
photo counts as one of a training house where its histogram is more than 0.9 similar to that of a
training photo. Results go to results/facade_overlap.csv: a row per set, with the photos that look
like training houses of the mini set. `fashion_lab data facades` says what was recorded.
"""

import argparse

import numpy as np
import pandas as pd

from fashion_lab.data.facades import load_facades
from fashion_lab.labs.segmentation import of_houses_seen, SEEN_HOUSE
from side_by_side import conditions, RESULTS, save


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--cmp', metavar='FOLDER', help='the base set of the CMP facade database')
    o = p.parse_args()
    mini = load_facades(size=128, download=False)
    is_test = (mini.items.split == 'test').to_numpy()
    training = np.asarray(mini.images(128)[np.flatnonzero(~is_test)])
    others = {'mini test': mini.subset(is_test)}
    if o.cmp:
        others['CMP base'] = load_facades(o.cmp, size=128, download=False)
    stamp = conditions()
    names = ('torch', 'python', 'commit', 'date', 'command')
    file = RESULTS / 'facade_overlap.csv'
    rows = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=['set'])
    for name, s in others.items():
        seen = of_houses_seen(np.asarray(s.images(128)), training)
        row = dict(set=name, photos=len(s), seen=int(seen.sum()), similarity=SEEN_HOUSE)
        row |= {k: stamp[k] for k in names}
        print(row)
        rows = pd.concat([rows[rows['set'] != name], pd.DataFrame([row])], ignore_index=True)
    save(file, rows)


if __name__ == '__main__':
    main()
