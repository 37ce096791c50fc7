"""Searches that share a study, lose a process or their database, and must not see test data."""
import os, signal, sqlite3, subprocess, sys, time
from pathlib import Path

import pytest
from fashion_lab.runs import all_runs
from fashion_lab.search import search, study_url, validation_score

SPACE = dict(x=(-3., 3.))
CODE = """
import sys, time
from fashion_lab.search import search
def score(settings, report):
    time.sleep(float(sys.argv[3])); return -(settings['x'] - 1)**2
search(score, dict(x=(-3., 3.)), int(sys.argv[2]), 'shared', sys.argv[1], seed=int(sys.argv[4]), show=False)
"""


def bowl(settings, report): return -(settings['x'] - 1)**2


def other(storage, trials, seconds, seed=0):
    return subprocess.Popen([sys.executable, '-c', CODE, str(storage), str(trials), str(seconds), str(seed)], env=dict(os.environ, PYTHONPATH=str(Path(__file__).resolve().parent.parent)), stderr=subprocess.PIPE, text=True)


def test_two_processes_share_the_trials_of_a_study(tmp_path):
    both = [other(tmp_path/'s.db', 14, .1, seed) for seed in (0, 1)]
    for p in both: assert p.wait(60) == 0, p.stderr.read()
    t = search(bowl, SPACE, 14, 'shared', tmp_path/'s.db', show=False)
    assert t.table().state.tolist() == ['complete']*14, 'fourteen in all, none too many'
    assert len({s.user_attrs['pid'] for s in t.study.trials}) == 2 and t.table().x.nunique() == 14


def test_a_killed_process_costs_its_last_trial_only(tmp_path):
    p = other(tmp_path/'s.db', 4, 1.)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        time.sleep(.1)
        if p.poll() is not None: break
        try:
            with sqlite3.connect(tmp_path/'s.db') as c: states = [r[0] for r in c.execute('select state from trials')]
        except sqlite3.OperationalError: continue
        if states.count('COMPLETE') == 1 and states.count('RUNNING') == 1: break
    p.send_signal(signal.SIGKILL); p.wait(10)
    states = search(bowl, SPACE, 4, 'shared', tmp_path/'s.db', show=False).table().state.tolist()
    assert states.count('complete') == 4 and states.count('fail') == 1


def test_a_locked_database_loses_nothing(tmp_path):
    url = study_url(tmp_path/'s.db').replace('timeout=60', 'timeout=1')
    search(bowl, SPACE, 3, 'locked', url, show=False)
    held = sqlite3.connect(tmp_path/'s.db', isolation_level=None); held.execute('begin exclusive')
    with pytest.raises(OSError, match='wait until no other process|wait until no other process holds the database'): search(bowl, SPACE, 5, 'locked', url, show=False)
    held.execute('rollback'); held.close()
    assert len(search(bowl, SPACE, 5, 'locked', url, show=False).table()) == 5


def test_locked_in_the_middle_of_a_search(tmp_path):
    url, held = study_url(tmp_path/'s.db').replace('timeout=60', 'timeout=1'), []

    def lock(settings, report):
        if not held: held.append(sqlite3.connect(tmp_path/'s.db', isolation_level=None)); held[0].execute('begin exclusive')
        return 1.
    with pytest.raises(OSError, match='could not be written .*what is finished is kept'): search(lock, SPACE, 3, 'locked', url, show=False)
    held[0].execute('rollback')
    assert search(lock, SPACE, 3, 'locked', url, show=False).table().state.tolist().count('complete') == 3


def test_test_data_is_not_looked_at(tmp_path, monkeypatch):
    "The same search on the same training and validation pictures, once with test pictures that say nothing: every trial is the same."
    from dataclasses import replace
    from fashion_lab.data import ImageTable
    from fashion_lab.labs import fashion_mnist as lab
    cfg = replace(lab.configs('smoke', 1, 'LogisticBaseline', source='synthetic', device='cpu', limit=300)[0], epochs=1)

    def tried(folder):
        found = search(validation_score(lab.run, cfg, lab.LAB, root=folder), dict(lr=(1e-4, 1e-1, 'log')), 3, 'blind', folder/'s.db', show=False)
        return found.table()[['lr', 'value']], [r.metrics['test']['accuracy'] for r in all_runs(folder)]
    seen, test_seen = tried(tmp_path/'a')
    real = lab.pictures

    def spoilt(*args):
        images = real(*args)
        shown = images.images.copy(); shown[(images.items.split == 'test').to_numpy()] = 0
        return ImageTable(images.items, shown, images.classes, images.name, images.source)
    monkeypatch.setattr(lab, 'pictures', spoilt)
    blind, test_blind = tried(tmp_path/'b')
    assert seen.equals(blind) and test_seen != test_blind
