"""Searches that share a study, lose a process or their database, and must not see test data."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
import toy_lab
from fashion_lab.runs.run import all_runs
from fashion_lab.runs.draft import unfinished
from fashion_lab.runs.tuning import open_study, search, study_url, validation_score

SPACE = dict(x=(-3.0, 3.0))
CODE = """
import sys, time
from fashion_lab.runs.tuning import search


def score(settings, report):
    time.sleep(float(sys.argv[3]))
    return -((settings['x'] - 1) ** 2)


search(
    score,
    dict(x=(-3.0, 3.0)),
    int(sys.argv[2]),
    sys.argv[5],
    sys.argv[1],
    seed=int(sys.argv[4]),
    show=False,
)
"""


def bowl(settings, report):
    return -((settings['x'] - 1) ** 2)


def other(storage, trials, seconds, seed=0, name='shared', runs=None):
    path = os.pathsep.join(
        [str(Path(__file__).resolve().parent.parent), os.environ.get('PYTHONPATH', '')]
    )
    return subprocess.Popen(
        [sys.executable, '-c', CODE, str(storage), str(trials), str(seconds), str(seed), name],
        env=dict(os.environ, PYTHONPATH=path, **(dict(FASHION_LAB_RUNS=str(runs)) if runs else {})),
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_space_with_numbers_of_numpy_is_searched_as_one_with_pythons(tmp_path):
    def score(settings, report):
        return settings['x'] * settings['n'] + (settings['kind'] or 0)

    spaces = (
        dict(
            x=(np.float64(0.5), np.float32(2)),
            n=(np.int64(1), np.int8(9)),
            kind=[np.float64(0.25), None],
        ),
        dict(x=(0.5, 2.0), n=(1, 9), kind=[0.25, None]),
    )
    one, other = (
        search(score, space, 6, 's', tmp_path / f'{k}.db', show=False)
        for k, space in enumerate(spaces)
    )
    assert one.table().drop(columns='seconds').equals(other.table().drop(columns='seconds'))
    assert set(one.table().state) == {'complete'}
    # the same study
    assert len(search(score, spaces[1], 7, 's', tmp_path / '0.db', show=False).table()) == 7


def test_two_processes_share_the_trials_of_a_study(tmp_path):
    both = [other(tmp_path / 's.db', 14, 0.1, seed) for seed in (0, 1)]
    for p in both:
        assert p.wait(180) == 0, p.stderr.read()
    t = search(bowl, SPACE, 14, 'shared', tmp_path / 's.db', show=False)
    assert t.table().state.tolist() == ['complete'] * 14, 'fourteen in all, none too many'
    assert len({s.user_attrs['pid'] for s in t.study.trials}) == 2
    assert t.table().x.nunique() == 14


def test_a_killed_process_costs_its_last_trial_only(tmp_path):
    p = other(tmp_path / 's.db', 4, 1.0)
    until = time.monotonic() + 180
    while time.monotonic() < until:
        time.sleep(0.1)
        if p.poll() is not None:
            break
        try:
            with sqlite3.connect(tmp_path / 's.db') as c:
                states = [r[0] for r in c.execute('select state from trials')]
        except sqlite3.OperationalError:
            continue
        if states.count('COMPLETE') == 1 and states.count('RUNNING') == 1:
            break
    p.send_signal(signal.SIGKILL)
    p.wait(180)
    states = search(bowl, SPACE, 4, 'shared', tmp_path / 's.db', show=False).table().state.tolist()
    assert states.count('complete') == 4 and states.count('fail') == 1


def test_a_locked_database_loses_nothing(tmp_path):
    url = study_url(tmp_path / 's.db').replace('timeout=60', 'timeout=1')
    search(bowl, SPACE, 3, 'locked', url, show=False)
    held = sqlite3.connect(tmp_path / 's.db', isolation_level=None)
    held.execute('begin exclusive')
    with pytest.raises(
        OSError, match='wait until no other process|wait until no other process holds the database'
    ):
        search(bowl, SPACE, 5, 'locked', url, show=False)
    held.execute('rollback')
    held.close()
    assert len(search(bowl, SPACE, 5, 'locked', url, show=False).table()) == 5


def test_locked_in_the_middle_of_a_search(tmp_path):
    url = study_url(tmp_path / 's.db').replace('timeout=60', 'timeout=1')
    held = []

    def lock(settings, report):
        if not held:
            held.append(sqlite3.connect(tmp_path / 's.db', isolation_level=None))
            held[0].execute('begin exclusive')
        return 1.0

    with pytest.raises(OSError, match='could not be written .*what is finished is kept'):
        search(lock, SPACE, 3, 'locked', url, show=False)
    held[0].execute('rollback')
    assert (
        search(lock, SPACE, 3, 'locked', url, show=False).table().state.tolist().count('complete')
        == 3
    )


RATES = dict(lr=(1e-7, 1e-1, 'log'))
TRIED = (0.02, 0.01, 0.03, 0.005, 1e-7)


def rates_of_fashion_mnist(folder, trials=len(TRIED)):
    "A search for the rate of a real lab, four epochs each; the last of five rates is hopeless."
    from fashion_lab.labs import fashion_mnist as lab

    cfg = lab.configs(
        'smoke',
        1,
        'LogisticBaseline',
        source='synthetic',
        device='cpu',
        limit=300,
        epochs=4,
        schedule='constant',
        batch_size=32,
    )[0]
    study = open_study('rates', RATES, folder / 's.db')
    if not study.trials:
        for lr in TRIED:
            study.enqueue_trial(dict(lr=lr))
    return search(
        validation_score(lab.run, cfg, lab.LAB, root=folder),
        RATES,
        trials,
        'rates',
        folder / 's.db',
        show=False,
    )


def test_a_hopeless_rate_of_a_lab_is_given_up(tmp_path, monkeypatch):
    from fashion_lab.train.callbacks import EpochLog

    trained = []
    after_epoch = EpochLog.after_epoch
    monkeypatch.setattr(
        EpochLog,
        'after_epoch',
        lambda self: (trained.append(float(self.opt.hypers[0]['lr'])), after_epoch(self))[1],
    )
    found = rates_of_fashion_mnist(tmp_path).table()
    assert found.state.tolist() == ['complete'] * 4 + ['pruned']
    assert [sum(abs(lr - t) < 1e-9 for t in trained) for lr in TRIED] == [4, 4, 4, 4, 1], (
        'its first epoch was its last'
    )
    assert (
        len(all_runs(tmp_path)) == 4
        and not len(unfinished(tmp_path))
        and not [p for p in tmp_path.glob('*/.unfinished/*') if p.is_dir()]
    ), 'nothing is left of it'
    more = rates_of_fashion_mnist(tmp_path, 6).table()
    assert (
        more.state.tolist()[:5] == found.state.tolist()
        and more.lr.tolist()[:5] == list(TRIED)
        and len(more) == 6
    ), 'the study goes on'


def test_workers_give_up_hopeless_trials_too(tmp_path):
    study = open_study('toy', dict(speed=(0.0, 1.0)), tmp_path / 's.db', pruner='median')
    for speed in (0.5, 0.6, 0.7, 0.8, 0.1, 0.2, 0.05, 0.15):
        study.enqueue_trial(dict(speed=speed))
    cfg = dict(toy_lab.configs(1, epochs=8, seconds=0.02)[0], speed=0.0)
    found = search(
        validation_score(toy_lab.run, cfg, toy_lab.LAB, root=tmp_path),
        dict(speed=(0.0, 1.0)),
        8,
        'toy',
        tmp_path / 's.db',
        workers=2,
        show=False,
    )
    t = found.table()
    assert t.state.isin(['complete', 'pruned']).all()
    assert t[t.speed >= 0.5].state.eq('complete').all()
    assert t.state.eq('pruned').any()
    shown = {s.params['speed']: len(s.intermediate_values) for s in found.study.trials}
    assert {r.config['speed']: r.extra['told'] for r in all_runs(tmp_path)} == {
        k: n for k, n in shown.items() if k in set(t[t.state == 'complete'].speed)
    }, 'what is finished told all of its epochs'
    assert all(n < 8 for k, n in shown.items() if k in set(t[t.state == 'pruned'].speed))
    assert not len(unfinished(tmp_path))


def test_what_is_pruned_does_not_depend_on_test_data(tmp_path, monkeypatch):
    """The same search on the same training and validation pictures, once with test pictures
    that say nothing: every trial is the same, and so is what was given up."""
    from fashion_lab.data.image_table import ImageTable
    from fashion_lab.labs import fashion_mnist as lab

    def tried(folder):
        found = rates_of_fashion_mnist(folder)
        return (
            found.table()[['lr', 'value', 'state']],
            [t.intermediate_values for t in found.study.trials],
            [r.metrics['test']['accuracy'] for r in all_runs(folder)],
        )

    seen, curves, test_seen = tried(tmp_path / 'a')
    real = lab.pictures

    def spoilt(*args):
        images = real(*args)
        shown = images.images.copy()
        shown[(images.items.split == 'test').to_numpy()] = 0
        return ImageTable(images.items, shown, images.classes, images.name, images.source)

    monkeypatch.setattr(lab, 'pictures', spoilt)
    blind, blind_curves, test_blind = tried(tmp_path / 'b')
    assert seen.equals(blind)
    assert curves == blind_curves
    assert 'pruned' in set(seen.state)
    assert test_seen != test_blind


def test_a_stopped_trial_goes_on_where_it_was(tmp_path):
    """Ctrl-C in the third epoch: the same search goes on with the same settings, from the
    checkpoint."""
    cfg = dict(toy_lab.configs(1, epochs=4, stop=2)[0], speed=0.0)
    score = validation_score(toy_lab.run, cfg, toy_lab.LAB, root=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        search(score, dict(speed=(0.0, 1.0)), 2, 'stop', tmp_path / 's.db', show=False)
    with pytest.raises(KeyboardInterrupt):
        search(score, dict(speed=(0.0, 1.0)), 2, 'stop', tmp_path / 's.db', show=False)
    found = search(score, dict(speed=(0.0, 1.0)), 2, 'stop', tmp_path / 's.db', show=False).table()
    assert found.state.tolist() == ['fail', 'complete', 'fail', 'complete']
    assert found.speed.nunique() == 2
    assert [r.extra['first'] for r in all_runs(tmp_path)] == [3, 3]
    assert not len(unfinished(tmp_path))


def test_a_row_about_test_data_is_refused(tmp_path):
    from fashion_lab.runs.draft import report_epoch, start_run

    def peeping(cfg, root=None):
        with start_run('peep', cfg, root):
            report_epoch(dict(epoch=0, accuracy=0.5, test_accuracy=0.9))

    with (
        pytest.warns(UserWarning, match='measured on test data'),
        pytest.raises(RuntimeError, match='three trials'),
    ):
        search(
            validation_score(peeping, dict(seed=0, speed=0.0), 'peep', root=tmp_path),
            dict(speed=(0.0, 1.0)),
            1,
            'peep',
            tmp_path / 's.db',
            show=False,
        )


@pytest.mark.parametrize(
    'url, says',
    [
        (
            'nosuchbase://h/studies',
            (
                "Can't load plugin: sqlalchemy.dialects:nosuchbase; an address begins with "
                "sqlite:///, postgresql"
            ),
        ),
        ('postgresql+nosuchdriver://h/s', 'nosuchdriver; an address begins with'),
        (
            'postgresql+psycopg2://me:secret@127.0.0.1:1/s',
            'pip install psycopg2-binary|refused; check that the server runs',
        ),
        (
            'mysql+pymysql://me:secret@127.0.0.1:1/s',
            'pip install pymysql|check that the server runs',
        ),
        ('redis://h:1', 'an address begins with'),
        ('sqlite:////proc/none/s.db', 'unable to open database file|No such file or directory'),
    ],
)
def test_an_address_that_cannot_be_used_is_one_sentence(url, says):
    with pytest.raises(OSError, match="the study 'url' cannot be opened in") as e:
        search(bowl, SPACE, 1, 'url', url, show=False)
    assert (
        re.search(says, str(e.value))
        and 'secret' not in str(e.value)
        and len(str(e.value).splitlines()) == 1
    ), str(e.value)


@pytest.mark.skipif(
    'FASHION_LAB_TEST_DATABASE' not in os.environ,
    reason=(
        'needs a PostgreSQL server: FASHION_LAB_TEST_DATABASE=postgresql+psycopg2://user@host/base'
    ),
)
def test_machines_share_a_study_in_a_database(tmp_path):
    """Two processes without a common folder, and a third one that is killed: each trial is made
    once."""
    url = os.environ['FASHION_LAB_TEST_DATABASE']
    name = uuid.uuid4().hex
    killed = other(url, 14, 5.0, 2, name, tmp_path / 'c')
    study = open_study(name, SPACE, url)
    until = time.monotonic() + 180
    while not study.get_trials(deepcopy=False) and time.monotonic() < until:
        time.sleep(0.1)
    killed.kill()
    killed.wait(180)
    both = [other(url, 14, 0.1, seed, name, tmp_path / str(seed)) for seed in (0, 1)]
    for p in both:
        assert p.wait(180) == 0, p.stderr.read()
    t = search(bowl, SPACE, 14, name, url, show=False)
    assert t.table().state.value_counts().to_dict() == dict(complete=14, fail=1)
    assert len({s.user_attrs['pid'] for s in t.study.trials}) == 3


@pytest.mark.filterwarnings('ignore:trial')
def test_a_score_that_is_no_number_fails_its_trial_and_ends_the_search(tmp_path):
    scores = iter([0.5, float('nan'), 0.7])
    done = search(
        lambda s, report: next(scores),
        dict(x=(0.0, 1.0)),
        trials=2,
        storage=tmp_path / 'a.db',
        show=False,
    )
    assert done.table().state.tolist() == ['complete', 'fail', 'complete']
    assert done.value == 0.7
    with pytest.raises(RuntimeError, match='three trials.*not a number'):
        search(
            lambda s, report: float('nan'),
            dict(x=(0.0, 1.0)),
            trials=2,
            storage=tmp_path / 'b.db',
            show=False,
        )
