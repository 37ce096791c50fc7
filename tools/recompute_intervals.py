"""Compute the intervals of finished runs again from their stored predictions, without training
anything.

    python tools/recompute_intervals.py runs            how many intervals change, and how much
    python tools/recompute_intervals.py runs --write    and write them into the rows of results/
                                                        that have the same value

An interval changes where the test photos come in groups (of contributors, of people), and for every
calibration error. Values never change. What a run does not say it cannot be asked: whose photos its
other splits hold.
"""

import argparse

import numpy as np
import pandas as pd

from fashion_lab.core import atomic_path
from fashion_lab.evaluate.bootstrap import METRICS, metric_interval
from fashion_lab.runs.ablation import contributors_of
from fashion_lab.runs.results import CONDITIONS, read_results, results_dir, results_name, table
from fashion_lab.runs.run import all_runs

KEY = [*CONDITIONS, 'split', 'metric']


def groups_of(run, split):
    "Whose photos a split holds; None where each photo stands for itself, or nobody knows."
    if split != 'test' or not {'contributors', 'senders'} & set(run.extra):
        return None
    return contributors_of([run])[0]


def recomputed(run):
    "The rows of a run's intervals, with new ends in `low` and `high`."
    t = table(run)
    t = t[t.ci_low.notna() & t.metric.isin(METRICS) & t.split.isin(run.splits)]
    grouped = bool({'contributors', 'senders'} & set(run.extra))
    rows = []
    for r in t.to_dict('records'):
        if grouped and r['split'] != 'test':
            continue
        if not grouped and r['metric'] != 'calibration_error':
            continue
        p = run.predictions(r['split'])
        low, high = metric_interval(p, r['metric'], groups=groups_of(run, r['split']))
        rows.append(r | dict(low=low, high=high))
    return pd.DataFrame(rows)


def write(t):
    """Put new ends into the rows of the results files that have the same conditions and the
    same value."""
    for name, rows in t.groupby([results_name(r) for r in t.to_dict('records')]):
        path = results_dir() / name
        old = read_results(path)
        new = rows.set_index(rows[KEY].astype(str).agg('/'.join, axis=1))[['value', 'low', 'high']]
        found = new.reindex(old[KEY].astype(str).agg('/'.join, axis=1)).set_index(old.index)
        same = np.isclose(found.value, old.value, atol=1e-9)
        old.loc[same, 'ci_low'], old.loc[same, 'ci_high'] = found.low[same], found.high[same]
        with atomic_path(path) as tmp:
            old.to_csv(tmp, index=False)
        print(f'{path.name}: {same.sum()} of {len(rows)} intervals written')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('runs', help='the folder of all runs')
    parser.add_argument('--write', action='store_true', help='write into results/')
    o = parser.parse_args()
    t = pd.concat([recomputed(r) for r in all_runs(o.runs)], ignore_index=True)
    wider = (t.high - t.low) / (t.ci_high - t.ci_low)
    about = t.assign(before=t.ci_high - t.ci_low, after=t.high - t.low, wider=wider)
    print(
        about.groupby(['lab', 'split', 'metric'])[['before', 'after', 'wider']]
        .agg('median')
        .round(3)
        .assign(rows=about.groupby(['lab', 'split', 'metric']).size())
    )
    if o.write:
        write(t)
