"""`fashion_lab verify`: recorded networks come out the same, and a record that was changed does
not."""

import pandas as pd
import pytest

from fashion_lab.labs import closures
from fashion_lab.runs.results import publish
from fashion_lab.studio.cli import main


@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
    "The results file of two smoke runs that train networks."
    root = tmp_path_factory.mktemp('runs')
    names = ['linear-probe', 'last-stages']
    runs = [closures.run(c, root, show=False) for c in closures.configs('smoke', variants=names)]
    (file,) = publish(runs, root / 'closures-synthetic.csv', allow_dirty=True)
    return file


def verify(file, *words):
    return main(['verify', 'closures', '--source', 'synthetic', '--results', str(file), *words])


def changed(file, folder, **columns):
    t = pd.read_csv(file, dtype=str)
    new = folder / 'changed-synthetic.csv'
    t.assign(**columns).to_csv(new, index=False)
    return new


def test_trained_networks_come_out_the_same(recorded, capsys):
    assert verify(recorded) == 0
    out = capsys.readouterr().out
    assert '2 rows (tolerance 0.005): 2 identical, 0 within tolerance' in out
    assert '->' in out and 'unknown' not in out


@pytest.mark.parametrize(
    'columns,told',
    [
        (dict(value='0.123', ci_low='0.1', ci_high='0.15'), '1 off'),
        (dict(params='7'), 'params 7 -> '),
        (dict(variant='no-such-variant'), 'no-such-variant'),
        (dict(torch='1.0', value='0.123', ci_low='0', ci_high='1'), 'torch 1.0 -> '),
    ],
)
def test_what_differs_is_told(recorded, tmp_path, capsys, columns, told):
    file = changed(recorded, tmp_path, **columns)
    expected = 0 if 'torch' in columns else 1
    assert verify(file, '--rows', '1') == expected
    assert told in capsys.readouterr().out


def test_runs_that_would_take_too_long_are_left_out(recorded, tmp_path, capsys):
    file = changed(recorded, tmp_path, train_s='3600')
    assert verify(file, '--minutes', '1') == 0
    assert '2 more would take longer than was left of --minutes' in capsys.readouterr().out
