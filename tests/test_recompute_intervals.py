"""The tool that computes intervals of finished runs again: only intervals change, and nothing is
written that does not follow from the predictions."""

import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from fashion_lab.evaluate.bootstrap import metric_interval, metrics
from fashion_lab.evaluate.predictions import Predictions
from fashion_lab.runs.draft import start_run
from fashion_lab.runs.results import publish
from fashion_lab.runs.run import all_runs

sys.path.insert(0, str(ROOT / 'tools'))
import recompute_intervals as tool  # noqa: E402

WHO = np.repeat(range(12), [14, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 2])
CFG = dict(lab='mugs', data='mugs', source='real', protocol='folds', profile='full')
STAMP = dict(
    device='cpu',
    device_name='',
    threads=1,
    python='3',
    commit='abc',
    dirty=False,
    date='2026-01-31',
)


def answers(seed, n=len(WHO)):
    probs = np.random.default_rng(seed).dirichlet([1, 1], n)
    return Predictions(range(n), probs, np.arange(n) % 2, ['mug', 'cup'])


def finished(root, seed=0, recorded=None, **extra):
    "A run whose intervals were made as if photos were independent."
    p = answers(seed)
    numbers = metrics(recorded or p, ci=True, names=['accuracy', 'calibration_error'])
    old = {k: {e: v[e] for e in ('value', 'low', 'high')} for k, v in numbers.items()}
    with start_run('mugs', CFG | dict(variant='net', seed=seed), root) as d:
        return d.finish(dict(test=old), None, dict(test=p), environment=STAMP, extra=extra)


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv('FASHION_LAB_RESULTS', str(tmp_path))
    return tmp_path / 'mugs.csv'


def read(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def test_only_intervals_change_and_they_are_those_over_contributors(tmp_path, results):
    runs = [finished(tmp_path / 'runs', s, contributors=WHO.tolist()) for s in (0, 1)]
    publish(runs, results)
    before = read(results).drop(columns='interval')  # as files were before the column was there
    before.to_csv(results, index=False)
    tool.write(pd.concat([tool.recomputed(r) for r in all_runs(tmp_path / 'runs')]))
    after = read(results)
    touched = ['ci_low', 'ci_high', 'interval']
    pd.testing.assert_frame_equal(after.drop(columns=touched), before.drop(columns=touched[:2]))
    row = after[(after.metric == 'accuracy') & (after.seed == '1')].iloc[0]
    expected = metric_interval(answers(1), 'accuracy', groups=WHO)
    assert (float(row.ci_low), float(row.ci_high), row.interval) == (*expected, 'jackknife')
    assert set(after.interval) == {'jackknife', 'noise draws'}
    tool.write(pd.concat([tool.recomputed(r) for r in runs]))
    pd.testing.assert_frame_equal(read(results), after)


def test_a_value_that_does_not_follow_from_the_predictions_is_refused(tmp_path):
    run = finished(tmp_path, recorded=answers(5), contributors=WHO.tolist())
    with pytest.raises(ValueError, match='its predictions give'):
        tool.recomputed(run)


def test_rows_of_another_value_are_left_alone(tmp_path, results):
    run = finished(tmp_path / 'runs', contributors=WHO.tolist())
    publish(run, results)
    other = read(results).assign(value='0.123')
    other.to_csv(results, index=False)
    tool.write(tool.recomputed(run))
    pd.testing.assert_frame_equal(read(results), other)


def test_contributors_that_are_not_those_of_the_photos_are_refused(tmp_path, monkeypatch):
    owners = {str(i): f'person {w}' for i, w in enumerate(WHO)}
    monkeypatch.setattr(tool, 'senders', lambda: owners)
    monkeypatch.setattr(tool, 'OF_CLOTHING', ('mugs',))
    right = finished(tmp_path, 0, contributors=WHO.tolist())
    assert tool.same_partition(tool.groups_of(right, 'test'), WHO)
    unsaid = finished(tmp_path, 1)
    assert tool.same_partition(tool.groups_of(unsaid, 'test'), WHO)
    wrong = finished(tmp_path, 2, contributors=WHO[::-1].tolist())
    with pytest.raises(ValueError, match='not those of its photos'):
        tool.groups_of(wrong, 'test')
