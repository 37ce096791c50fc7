"""Compute the intervals of finished runs again from their stored predictions, without training
anything.

    python tools/recompute_intervals.py runs            how many intervals change, and how much
    python tools/recompute_intervals.py runs --write    and write them into the rows of results/
                                                        that have the same value

An interval changes where the test photos come in groups (of contributors, of people), and for every
calibration error. Only `ci_low`, `ci_high` and `interval` of a row are written; a run whose values
do not follow from its predictions is refused. Whose photos they are says the run, or, by their ids,
the table of the clothing photos (`FASHION_LAB_DATA`), from which shoes and closures were cut too.
"""

import argparse
import functools

import numpy as np
import pandas as pd

from fashion_lab.core import atomic_path
from fashion_lab.data.registry import load_photos
from fashion_lab.evaluate.bootstrap import interval_kind, metric_interval, METRICS
from fashion_lab.runs.results import CONDITIONS, read_results, results_dir, results_name, table
from fashion_lab.runs.run import all_runs

KEY = [*CONDITIONS, 'split', 'metric']
STATED = ('contributors', 'senders')
OF_CLOTHING = ('clothing', 'closures', 'shoe_pairs')


@functools.cache
def senders():
    "photo -> whose it is, of all clothing photos."
    items = load_photos('clothing').items
    return dict(zip(items.id, items.sender_id))


def stated_groups(run):
    "Whose test photos a run says its are; None where it does not."
    stated = [run.extra[k] for k in STATED if k in run.extra]
    return np.array(stated[0]) if stated else None


def looked_up(ids):
    "Whose photos these are; a pair, left+right, is that of its left shoe."
    who = [senders().get(str(i).split('+')[0]) for i in ids]
    lost = [i for i, w in zip(ids, who) if w is None]
    if lost:
        raise ValueError(
            f'{len(lost)} photos are not in the table of clothing photos, as {lost[0]}'
        )
    return pd.factorize(np.array(who))[0]


def groups_of(run, split):
    "Whose photos a split holds; None where each photo stands for itself."
    stated = stated_groups(run) if split == 'test' else None
    if run.config['data'] not in OF_CLOTHING or run.config['source'] != 'real':
        return stated
    who = looked_up(run.predictions(split).ids)
    if stated is not None and not same_partition(stated, who):
        raise ValueError(f'{run.name}: its contributors are not those of its photos')
    return who


def same_partition(a, b):
    "Whether two labellings put the same items together."
    return len(set(zip(a, b))) == len(set(a)) == len(set(b))


def checked(row, p, low, high):
    "The row with its new interval; a ValueError where they do not fit together."
    value = METRICS[row['metric']](p)
    name = f'{row["lab"]} {row["variant"]} seed {row["seed"]} {row["split"]} {row["metric"]}'
    if not np.isclose(value, row['value'], atol=1e-9, rtol=0):
        raise ValueError(f'{name}: recorded as {row["value"]}, its predictions give {value}')
    if not low <= row['value'] <= high:
        raise ValueError(f'{name}: the interval {low} to {high} lacks its value {row["value"]}')
    return row | dict(low=low, high=high)


def recomputed(run):
    "The rows of a run's intervals, with new ends in `low` and `high`."
    t = table(run)
    t = t[t.ci_low.notna() & t.metric.isin(METRICS) & t.split.isin(run.splits)]
    who = {split: groups_of(run, split) for split in t.split.unique()}
    rows = []
    for r in t.to_dict('records'):
        p, groups = run.predictions(r['split']), who[r['split']]
        if groups is None and r['metric'] != 'calibration_error':
            continue
        low, high = metric_interval(p, r['metric'], groups=groups)
        rows.append(checked(r, p, low, high) | dict(interval=interval_kind(r['metric'], groups)))
    return pd.DataFrame(rows)


def keys_of(t):
    "One text per row that names its conditions."
    rows = t[KEY].itertuples(index=False)
    return pd.Index(['/'.join('' if pd.isna(v) else str(v) for v in row) for row in rows])


def write(t):
    """Put new ends into the rows of the results files that have the same conditions and the
    same value. All other cells stay as they are written, to the letter."""
    for name, rows in t.groupby([results_name(r) for r in t.to_dict('records')]):
        path = results_dir() / name
        text = pd.read_csv(path, dtype=str, keep_default_na=False)
        if 'interval' not in text:
            text.insert(text.columns.get_loc('ci_high') + 1, 'interval', '')
        new = rows.set_index(keys_of(rows))[['value', 'low', 'high', 'interval']]
        found = new.reindex(keys_of(text)).set_index(text.index)
        same = np.isclose(found.value, read_results(path).value, atol=1e-12, rtol=0)
        for column, source in dict(ci_low='low', ci_high='high', interval='interval').items():
            text.loc[same, column] = [str(x) for x in found.loc[same, source]]
        with atomic_path(path) as tmp:
            text.to_csv(tmp, index=False)
        print(f'{path.name}: {same.sum()} of {len(rows)} intervals written')


def changes(t):
    "Median widths before and after, by lab, data, split and metric."
    before, after = t.ci_high - t.ci_low, t.high - t.low
    by = ['lab', 'data', 'split', 'metric']
    t = t.assign(before=before, after=after, wider=after / before)
    numbers = t.groupby(by)[['before', 'after', 'wider']].median().round(3)
    return numbers.assign(rows=t.groupby(by).size())


def unnamed():
    "How many test intervals of every results file do not say how they were made."
    rows = []
    for path in sorted(results_dir().glob('*.csv')):
        if 'ci_low' not in pd.read_csv(path, nrows=0):
            continue
        t = read_results(path)
        t = t[t.ci_low.notna() & t.metric.isin(METRICS)]
        rows.append(dict(file=path.name, intervals=len(t), unnamed=int((t.interval == '').sum())))
    return pd.DataFrame(rows)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('runs', help='the folder of all runs')
    parser.add_argument('--write', action='store_true', help='write into results/')
    o = parser.parse_args()
    t = pd.concat([recomputed(r) for r in all_runs(o.runs)], ignore_index=True)
    print(changes(t).to_string())
    if o.write:
        write(t)
    print(
        '\nIntervals that do not say how they were made; what is in no run folder is recorded again:'
    )
    print(unnamed().to_string(index=False))
