"""Runs under stress: killed, interrupted, started twice, on a full disk, damaged, from another
version."""

import base64
import errno
import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st

from fashion_lab.runs.provenance import git_commit, wheel_version
from fashion_lab.runs.config import canonical, config_digest, plain, RunBusy, RunError
from fashion_lab.runs.run import all_runs, check_metrics, find_run, Run
from fashion_lab.runs.draft import start_run, unfinished
from fashion_lab.devices import instruction_set
from fashion_lab.runs.provenance import environment
from fashion_lab.runs.results import (
    ARITHMETIC,
    COLUMNS,
    LATER_COLUMNS,
    publish,
    read_results,
    results_dir,
    table,
)
from fashion_lab import core
from fashion_lab.runs import run as runs_run

STAMP = dict(
    device='cpu',
    device_name='imaginary',
    threads=2,
    python='3.11.7',
    commit='0123456789',
    dirty=False,
    date='2026-01-31',
    command='pytest',
    versions=dict(torch='2.15.0'),
)
METRICS = dict(
    valid=dict(accuracy=0.9, auc=math.nan),
    test=dict(accuracy=dict(value=0.8, low=0.7, high=0.85)),
    n=dict(valid=10, test=20),
    params=8,
    macs=6,
    train_s=1.5,
    infer_ms=0.2,
)
CFG = dict(variant='net', seed=0, data='circles', source='real', protocol='fast', profile='smoke')
posix = pytest.mark.skipif(os.name != 'posix', reason='signals')


class Scores:
    """Stands in for `evaluate.predictions.Predictions`: whatever has `save` and a length can be
    kept."""

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def save(self, path):
        with core.atomic_path(path) as tmp:
            np.savez(tmp, x=self.x)


def finished(root, cfg=CFG, metrics=METRICS, **kw):
    with start_run('demo', cfg, root) as d:
        return d.finish(metrics, environment=STAMP, **kw)


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob('*') if p.is_file())


SCRIPT = """
import signal, sys, time, numpy as np

signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # a parent that ignores Ctrl-C (nohup, a background job) hands that down
from pathlib import Path
from fashion_lab import core
from fashion_lab.runs.draft import start_run


class Scores:
    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def save(self, path):
        with core.atomic_path(path) as tmp:
            np.savez(tmp, x=self.x)
"""


def python(code, *args, **kw):
    kw = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) | kw
    return subprocess.Popen(
        [sys.executable, '-c', SCRIPT + code, *map(str, args)], cwd=Path(__file__).parents[1], **kw
    )


def starts(process):  # wait for the process to say that it is under way
    line = process.stdout.readline()
    assert line == 'started\n', line + process.stderr.read()


HANG = """
with start_run('demo', dict(variant='net', seed=0), sys.argv[1]) as d:
    d.checkpoint.write_text('epoch 3')
    (d.path / 'ready').mkdir()
    (d.path / 'ready' / 'config.json').write_text('{"va')
    print('started', flush=True)
    time.sleep(60)
"""


# --- processes that stop
@posix
@pytest.mark.parametrize(
    'how,state',
    [
        (signal.SIGKILL, 'killed'),
        (signal.SIGTERM, 'killed'),
        (signal.SIGINT, 'stopped (KeyboardInterrupt)'),
    ],
)
def test_a_stopped_run_is_resumable_and_never_listed(tmp_path, how, state):
    p = python(HANG, tmp_path)
    starts(p)
    cfg = dict(variant='net', seed=0)
    with pytest.raises(RunBusy, match=f'another process .process {p.pid} on'):
        start_run('demo', cfg, tmp_path)
    assert list(unfinished(tmp_path).state) == ['running']
    p.send_signal(how)
    p.communicate(timeout=180)
    assert p.returncode != 0
    assert all_runs(tmp_path) == []
    assert find_run('demo', cfg, tmp_path) is None
    assert table(tmp_path).empty
    assert list(unfinished(tmp_path).state) == [state]
    with start_run('demo', cfg, tmp_path) as d:
        assert d.resumed
        assert d.checkpoint.read_text() == 'epoch 3'
        assert not (d.path / 'ready').exists()
        run = d.finish(METRICS, environment=STAMP)
    assert all_runs(tmp_path) == [run]
    assert run.info['attempts'] == 2
    assert unfinished(tmp_path).empty
    assert 'checkpoint.pt' not in files(run.path)


@posix
def test_killed_at_any_moment_while_saving_nothing_half_written_is_listed(tmp_path):
    code = """
print('started', flush=True)
for i in range(10**6):
    with start_run('demo', dict(seed=i % 3), sys.argv[1]) as d:
        d.finish(
            dict(test=dict(accuracy=0.5)),
            predictions=dict(test=Scores(np.zeros(200_000))),
            environment={},
            history=[dict(epoch=0)],
        )
"""
    rng = random.Random(0)
    for _ in range(3):
        p = python(code, tmp_path)
        starts(p)
        time.sleep(rng.uniform(0.05, 0.4))
        p.kill()
        p.communicate()
    for run in all_runs(tmp_path):
        run.verify()
        assert run.metrics['n'] == dict(test=200_000)
    assert all_runs(tmp_path), 'no run was finished: the test proves nothing'
    for seed in range(3):
        finished(tmp_path, dict(seed=seed))
    assert unfinished(tmp_path).empty
    assert not any((tmp_path / 'demo' / '.unfinished').glob('*/*'))


def test_an_interrupted_block_lets_go_of_the_lock(tmp_path):
    for error in (KeyboardInterrupt, RuntimeError, SystemExit):
        with pytest.raises(error):
            with start_run('demo', CFG, tmp_path) as d:
                d.checkpoint.write_text(error.__name__)
                raise error
        assert list(unfinished(tmp_path).state) == [f'stopped ({error.__name__})']
        assert d.checkpoint.read_text() == error.__name__
    with start_run('demo', CFG, tmp_path) as d:
        assert d.note['attempts'] == 4


# --- two processes
def test_two_processes_start_the_same_run_and_one_does_it(tmp_path):
    code = """
from fashion_lab.runs.config import RunError

print('started', flush=True)
sys.stdin.readline()
try:
    with start_run('demo', dict(seed=0), sys.argv[1], again=False, wait=20) as d:
        d.checkpoint.write_text('x')
        time.sleep(0.3)
        d.finish(dict(test=dict(accuracy=0.5)), environment={})
    print('did it')
except RunError as e:
    print(e)
"""
    ps = [python(code, tmp_path, stdin=subprocess.PIPE) for _ in range(3)]
    for p in ps:
        starts(p)
    for p in ps:
        p.stdin.write('\n')
        p.stdin.flush()
    said = sorted(p.communicate(timeout=180)[0].strip() for p in ps)
    assert said.count('did it') == 1
    assert sum('has a finished run of this config' in s for s in said) == 2
    assert len(all_runs(tmp_path)) == 1


def test_in_one_process_a_second_start_is_refused_and_another_seed_is_not(tmp_path):
    with start_run('demo', CFG, tmp_path) as d:
        with pytest.raises(RunBusy, match='wait for it, or change the config'):
            start_run('demo', CFG, tmp_path)
        with start_run('demo', CFG | dict(seed=1), tmp_path) as other:
            assert other.path != d.path
        assert d.lock.is_locked
    start_run('demo', CFG, tmp_path).close()


def test_a_fresh_start_of_a_running_run_deletes_nothing(tmp_path):
    with start_run('demo', CFG, tmp_path) as d:
        d.checkpoint.write_text('precious')
        with pytest.raises(RunBusy):
            start_run('demo', CFG, tmp_path, fresh=True)
        assert d.checkpoint.read_text() == 'precious'


@posix
def test_the_end_of_a_forked_worker_does_not_let_go_of_the_lock(tmp_path):
    import multiprocessing

    with start_run('demo', CFG, tmp_path):
        worker = multiprocessing.get_context('fork').Process(target=lambda: None)
        worker.start()
        worker.join()
        with pytest.raises(RunBusy):
            start_run('demo', CFG, tmp_path)
    start_run('demo', CFG, tmp_path).close()


def test_discard(tmp_path):
    d = start_run('demo', CFG, tmp_path)
    d.checkpoint.write_text('x')
    d.discard()
    assert unfinished(tmp_path).empty and not d.path.exists()
    with start_run('demo', CFG, tmp_path) as d:
        assert not d.resumed
    with pytest.raises(RuntimeError):
        with start_run('demo', CFG, tmp_path) as d:
            d.discard()
            raise RuntimeError
    assert not d.path.exists()


# --- a full disk
def full_at(monkeypatch, module, name, k):  # the k-th call fails as on a full disk
    real = getattr(module, name)
    calls = [0]

    def fake(*a, **kw):
        calls[0] += 1
        if calls[0] == k:
            raise OSError(errno.ENOSPC, 'No space left on device')
        return real(*a, **kw)

    monkeypatch.setattr(module, name, fake)
    return calls


@pytest.mark.parametrize('name', ['fsync', 'replace', 'rename', 'mkdir'])
def test_a_full_disk_at_any_step_leaves_the_draft_as_it_was(tmp_path, monkeypatch, name):
    draft = start_run('demo', CFG, tmp_path)
    draft.checkpoint.write_text('epoch 7')
    (draft.figures / 'a.txt').write_text('a figure')
    was = files(tmp_path)
    failed = 0
    for k in range(1, 100):
        with monkeypatch.context() as m:
            calls = full_at(m, os, name, k)
            try:
                run = draft.finish(
                    METRICS,
                    history=[dict(epoch=0)],
                    predictions=dict(test=Scores(np.ones(3))),
                    environment=STAMP,
                    extra=dict(a=1),
                )
                break
            except OSError as e:
                failed += 1
                assert e.errno == errno.ENOSPC
                assert 'could not save run net-' in str(e)
                assert 'free some space' in str(e)
        assert files(tmp_path) == was
        assert draft.checkpoint.read_text() == 'epoch 7'
        assert all_runs(tmp_path) == []
    # a folder that is there already need not be made
    assert failed >= 1 and (failed == calls[0] or name == 'mkdir')
    assert run.verify() == find_run('demo', CFG, tmp_path)
    assert files(run.figures) == ['a.txt']


def test_a_full_disk_while_weights_are_written(tmp_path, monkeypatch):
    torch = pytest.importorskip('torch')
    with start_run('demo', CFG, tmp_path) as d:
        with monkeypatch.context() as m:
            full_at(m, Path, 'write_bytes', 1)
            with pytest.raises(OSError, match='No space left'):
                d.finish(METRICS, environment=STAMP, weights=dict(w=torch.ones(3)))
        assert all_runs(tmp_path) == [] and not (d.path / 'ready').exists()
        assert torch.equal(
            d.finish(METRICS, environment=STAMP, weights=dict(w=torch.ones(3))).weights()['w'],
            torch.ones(3),
        )


@posix
def test_a_real_write_that_stops_halfway(tmp_path):
    code = """
import resource, signal

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with start_run('demo', dict(seed=0), sys.argv[1]) as d:
    d.checkpoint.write_text('x')
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (100_000, -1)
    )  # a file can grow to 100 kB and no further
    d.finish(
        dict(test=dict(accuracy=0.5)),
        predictions=dict(test=Scores(np.random.rand(100_000))),
        environment={},
    )
"""
    p = python(code, tmp_path)
    _, err = p.communicate(timeout=180)
    assert p.returncode != 0
    assert 'OSError' in err
    assert 'File too large' in err
    assert sorted(Path(f).name for f in files(tmp_path) if not f.endswith('.lock')) == [
        'checkpoint.pt',
        'draft.json',
    ]
    assert list(unfinished(tmp_path).state) == ['stopped (OSError)']


def test_an_unwritable_root_is_explained(tmp_path):
    (tmp_path / 'file').write_text('not a folder')
    with pytest.raises(OSError, match='could not start a run in .*file'):
        start_run('demo', CFG, tmp_path / 'file')


@pytest.mark.skipif(os.name != 'posix' or os.geteuid() == 0, reason='root may write anywhere')
def test_a_read_only_root(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match='choose another folder'):
            start_run('demo', CFG, tmp_path)
    finally:
        tmp_path.chmod(0o700)


# --- finishing
def test_finish_happens_once_and_only_while_the_lock_is_held(tmp_path):
    with start_run('demo', CFG, tmp_path) as d:
        d.finish(METRICS, environment=STAMP)
        with pytest.raises(RunError, match='is finished already'):
            d.finish(METRICS, environment=STAMP)
    with start_run('demo', CFG, tmp_path) as d:
        pass
    with pytest.raises(RunError, match='is closed; start the run again'):
        d.finish(METRICS, environment=STAMP)


@pytest.mark.parametrize(
    'bad',
    [
        dict(metrics=dict(test=dict(accuracy='x'))),
        dict(extra=dict(f=print)),
        dict(weights=dict(w='no tensor')),
        dict(predictions={'../x': Scores([1])}),
    ],
)
def test_what_cannot_be_saved_leaves_a_draft(tmp_path, bad):
    with start_run('demo', CFG, tmp_path) as d:
        d.checkpoint.write_text('x')
        was = files(tmp_path)
        with pytest.raises(ValueError):
            d.finish(**(dict(metrics=METRICS, environment=STAMP) | bad))
        assert files(tmp_path) == was


def test_what_a_crash_after_the_rename_leaves_behind_is_not_resumed(tmp_path, monkeypatch):
    with start_run('demo', CFG, tmp_path) as d:
        d.checkpoint.write_text('old news')
        with monkeypatch.context() as m:
            # as if the process died before tidying up
            m.setattr(shutil, 'rmtree', lambda *a, **kw: None)
            run = d.finish(METRICS, environment=STAMP)
    assert d.checkpoint.exists()
    assert all_runs(tmp_path) == [run]
    assert unfinished(tmp_path).empty
    with start_run('demo', CFG, tmp_path) as d:
        assert not d.resumed and not d.checkpoint.exists()


def test_a_draft_without_its_note_starts_afresh(tmp_path):
    for note in ('{"na', '{"name": 5}', '[1]', '[' * 100_000):
        with start_run('demo', CFG, tmp_path) as d:
            d.checkpoint.write_text('whose?')
            (d.path / 'draft.json').write_text(note)
        assert unfinished(tmp_path).empty
        with start_run('demo', CFG, tmp_path) as d:
            assert not d.resumed and not d.checkpoint.exists()


def test_names_are_unique_and_the_latest_run_is_found(tmp_path):
    made = [finished(tmp_path) for _ in range(11)]
    assert len({r.name for r in made}) == 11
    assert made[1].name == made[0].name + '-2'
    assert made[10].name.endswith('-11')
    assert find_run('demo', CFG, tmp_path) == made[-1]


def test_figures_go_along_and_may_change_later(tmp_path):
    with start_run('demo', CFG, tmp_path) as d:
        (d.figures / 'a.txt').write_text('a')
        run = d.finish(METRICS, environment=STAMP)
    (run.figures / 'b.txt').write_text('b')
    assert files(Run(run.path).verify().figures) == ['a.txt', 'b.txt']


def test_empty_histories_and_exact_ones(tmp_path):
    assert finished(tmp_path).history.empty
    h = pd.DataFrame(dict(epoch=[0, 1], loss=[1 / 3, 2e-17]))
    pd.testing.assert_frame_equal(finished(tmp_path, history=h).history, h, check_exact=True)


def test_predictions_of_the_real_kind(tmp_path):
    evaluate = pytest.importorskip('fashion_lab.evaluate')
    p = evaluate.Predictions(
        ids=np.arange(3),
        probs=np.float32([[1, 0], [0.5, 0.5], [0, 1]]),
        targets=np.array([0, 1, 1]),
        classes=['a', 'b'],
    )
    run = finished(
        tmp_path, metrics=dict(test=dict(accuracy=1.0)), predictions=dict(test=p, test_m=p)
    )
    assert run.splits == ['test', 'test_m']
    assert run.metrics['n'] == dict(test=3, test_m=3)
    q = run.predictions('test_m')
    assert np.array_equal(p.probs, q.probs)
    assert np.array_equal(p.ids, q.ids)
    assert list(q.classes) == ['a', 'b']
    with pytest.raises(ValueError, match='allowed: test, test_m'):
        run.predictions('valid')


# --- damage and other versions
@pytest.mark.parametrize(
    'name',
    [
        'config.json',
        'environment.json',
        'metrics.json',
        'history.csv',
        'predictions-test.npz',
        'run.json',
        'weights.safetensors',
    ],
)
@pytest.mark.parametrize('damage', ['flip', 'truncate', 'empty', 'remove'])
def test_damage_is_noticed(tmp_path, name, damage):
    torch = pytest.importorskip('torch')
    run = finished(
        tmp_path,
        history=[dict(epoch=0)],
        predictions=dict(test=Scores(np.ones(3))),
        weights=dict(w=torch.ones(3)),
    )
    f = run.path / name
    raw = bytearray(f.read_bytes())
    if damage == 'flip':
        raw[-4] ^= 4 if name != 'run.json' else 0x60
        f.write_bytes(raw)
    elif damage == 'truncate':
        f.write_bytes(raw[: len(raw) // 2])
    elif damage == 'remove':
        f.unlink()
    else:
        f.write_bytes(b'')
    with pytest.raises(RunError, match='damaged|missing|not a finished run'):
        Run(run.path).verify()
    if name == 'weights.safetensors':
        with pytest.raises(RunError, match='weights.safetensors of run .* is (damaged|missing)'):
            run.weights()
    if name == 'metrics.json':
        with pytest.raises(RunError):
            publish(run, tmp_path / 'results')
        assert not (tmp_path / 'results').exists()


@pytest.mark.parametrize(
    'text',
    ['{}', '[]', '{"format": 1, "status": "finished"}', '{"format": 1, "status": "unfinished"}'],
)
def test_odd_run_files_hide_no_other_run(tmp_path, text):
    good, odd = finished(tmp_path), finished(tmp_path, CFG | dict(seed=1))
    (odd.path / 'run.json').write_text(text)
    with pytest.raises(RunError):
        Run(odd.path)
    with pytest.warns(UserWarning, match='left out'):
        assert all_runs(tmp_path) == [good]


def test_a_damaged_run_can_still_be_printed(tmp_path):
    run = finished(tmp_path)
    (run.path / 'metrics.json').write_text('')
    assert 'metrics.json of run net-s0-' in repr(run)


def test_weights_that_are_no_safetensors(tmp_path):
    torch = pytest.importorskip('torch')
    run = finished(tmp_path, weights=dict(w=torch.ones(3)))
    f = run.path / 'weights.safetensors'
    info = json.loads((run.path / 'run.json').read_text())
    f.write_bytes(b'pickle?' * 10)
    info['files'][f.name] = dict(bytes=70, sha256=core.file_sha256(f))
    (run.path / 'run.json').write_text(json.dumps(info))
    with pytest.raises(RunError, match='is damaged'):
        Run(run.path).weights()
    with pytest.raises(RunError, match='kept no weights'):
        finished(tmp_path, CFG | dict(seed=2)).weights()


def test_awkward_tensors_survive(tmp_path):
    torch = pytest.importorskip('torch')
    shared = torch.arange(12.0).reshape(3, 4)
    state = dict(
        a=shared,
        b=shared,
        t=shared.T,
        half=shared[1:].bfloat16(),
        count=torch.tensor(3),
        empty=torch.zeros(0, 2),
        last=torch.randn(1, 2, 3, 3).to(memory_format=torch.channels_last),
    )
    back = finished(tmp_path, weights=state).weights()
    assert back.keys() == state.keys()
    assert all(torch.equal(back[k], state[k]) and back[k].dtype == state[k].dtype for k in state)


def test_another_format_version(tmp_path):
    good = finished(tmp_path)
    alien = finished(tmp_path, CFG | dict(seed=1))
    info = json.loads((alien.path / 'run.json').read_text())
    (alien.path / 'run.json').write_text(json.dumps(info | dict(format=runs_run.FORMAT + 1)))
    with pytest.raises(RunError, match='has format 2, this version of fashion_lab reads format 1'):
        Run(alien.path)
    with pytest.warns(UserWarning, match='left out: run net-s1-.* has format 2'):
        assert all_runs(tmp_path) == [good]
    with start_run('demo', CFG, tmp_path) as d:
        d.checkpoint.write_text('x')
        d.remember(format=2)
    with pytest.raises(RunError, match='format 2, this one has format 1; start with fresh=True'):
        start_run('demo', CFG, tmp_path)
    assert d.checkpoint.exists()
    with start_run('demo', CFG, tmp_path, fresh=True) as d:
        assert not d.checkpoint.exists()


# --- digests
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
)
configs = st.dictionaries(
    st.text(min_size=1, max_size=6),
    st.recursive(
        leaves,
        lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=4), x, max_size=3),
        max_leaves=6,
    ),
    max_size=5,
)


@given(configs, st.randoms())
def test_digest_ignores_order_and_survives_json(c, rnd):
    keys = list(c)
    rnd.shuffle(keys)
    d = config_digest(c, 'lab')
    assert (
        d
        == config_digest({k: c[k] for k in keys}, 'lab')
        == config_digest(json.loads(json.dumps(plain(c))), 'lab')
    )
    assert len(d) == 12 and set(d) <= set('0123456789abcdef')


@given(configs, configs)
def test_different_configs_have_different_digests(a, b):
    assert (canonical(a) == canonical(b)) == (config_digest(a, 'lab') == config_digest(b, 'lab'))


def test_true_is_not_one():
    assert config_digest(dict(a=True), 'lab') != config_digest(dict(a=1), 'lab')


# --- tables and published results
def test_table_has_the_agreed_columns_and_types(tmp_path):
    t = table(finished(tmp_path))
    assert (
        list(t.columns)
        == COLUMNS
        == (
            'lab,variant,data,source,protocol,profile,seed,fold,split,metric,value,ci_low,ci_high,'
            'interval,n,params,macs,train_s,infer_ms,device,instructions,threads,'
            'train_dtype,eval_dtype,torch,python,commit,date,command'
        ).split(',')
    )
    row = t[(t.split == 'test')].iloc[0]
    assert row.lab == 'demo'
    assert row.variant == 'net'
    assert row.seed == 0
    assert row.metric == 'accuracy'
    assert row.value == 0.8
    assert row.ci_low == 0.7
    assert row.ci_high == 0.85
    assert row.n == 20
    assert row.device == 'cpu (imaginary)'
    assert row.threads == 2
    assert row.torch == '2.15.0'
    assert row.commit == '0123456789'
    assert row.params == 8
    assert row.macs == 6
    assert row.train_s == 1.5
    assert row.infer_ms == 0.2
    assert pd.isna(row.fold)
    assert t[t.metric == 'auc'].value.isna().all()
    assert len(t) == 3


def test_rows_say_how_they_were_computed(tmp_path):
    """The arithmetic and the instructions of new runs; nothing of runs from before they were
    noted."""
    with start_run('demo', CFG | dict(seed=1), tmp_path) as d:
        new = d.finish(METRICS, environment=environment('cpu', torch.bfloat16, 'float32'))
    row = table(new).iloc[0]
    assert row.instructions == instruction_set() != ''
    assert (row.train_dtype, row.eval_dtype) == ('bfloat16', 'float32')
    assert (table(finished(tmp_path))[ARITHMETIC] == '').all(axis=None)


def test_results_from_before_a_column_take_new_rows(tmp_path):
    finished(tmp_path)
    (file,) = publish(tmp_path, tmp_path / 'results')
    pd.read_csv(file, dtype=str).drop(columns=LATER_COLUMNS).to_csv(file, index=False)
    with start_run('demo', CFG | dict(seed=1), tmp_path) as d:
        new = d.finish(METRICS, environment=STAMP | dict(eval_dtype='float32'))
    publish(new, tmp_path / 'results')
    t = read_results(file)
    assert t.eval_dtype[t.seed == 0].eq('').all() and t.eval_dtype[t.seed == 1].eq('float32').all()
    pd.read_csv(file, dtype=str).drop(columns='torch').to_csv(file, index=False)
    with pytest.raises(ValueError, match=r"missing columns \['torch'\]"):
        read_results(file)


def test_an_empty_table_has_the_columns_too(tmp_path):
    assert list(table(tmp_path).columns) == COLUMNS
    assert len(table(tmp_path)) == 0


number = st.floats(allow_nan=True, allow_infinity=False)


@settings(max_examples=10, deadline=None)
@given(
    values=st.lists(st.tuples(number, number), min_size=1, max_size=4),
    variants=st.lists(
        st.text('aB/ ,"\'\u00e9NA', min_size=1, max_size=5), min_size=1, max_size=3, unique=True
    ),
    rnd=st.randoms(),
)
def test_published_results_are_the_table_whatever_the_order(
    tmp_path_factory, values, variants, rnd
):
    root = tmp_path_factory.mktemp('runs')
    made = [
        finished(
            root,
            CFG | dict(variant=v, seed=s, fold=s % 2),
            dict(test=dict(accuracy=dict(value=x, low=y))),
        )
        for v in variants
        for s, (x, y) in enumerate(values)
    ]
    rnd.shuffle(made)
    for r in made:
        (file,) = publish(r, root / 'results')
    once = file.read_bytes()
    assert publish(root, root / 'results') == [file]
    assert file.read_bytes() == once
    order = ['variant', 'seed']
    pd.testing.assert_frame_equal(
        read_results(file).sort_values(order).reset_index(drop=True),
        table(root).sort_values(order).reset_index(drop=True),
        check_exact=True,
    )


def test_all_rows_of_a_condition_are_replaced_together(tmp_path):
    finished(tmp_path)
    publish(tmp_path, tmp_path / 'results')
    new = finished(tmp_path, metrics=dict(test=dict(accuracy=0.99)))
    (file,) = publish(new, tmp_path / 'results')
    assert list(read_results(file).value) == [0.99]
    # the latest run wins, in one call as well
    assert publish(tmp_path, tmp_path / 'results') == [file] and list(read_results(file).value) == [
        0.99
    ]


def test_conditions_in_file_names(tmp_path):
    finished(tmp_path)
    finished(tmp_path, CFG | dict(source='synthetic'))
    finished(tmp_path, CFG | dict(profile='quick'))
    assert [f.name for f in publish(tmp_path, tmp_path / 'r', by=('data', 'profile'))] == [
        'demo-circles-quick.csv',
        'demo-circles-smoke.csv',
        'demo-synthetic-circles-smoke.csv',
    ]
    assert [f.name for f in publish(tmp_path, tmp_path / 's')] == ['demo-synthetic.csv', 'demo.csv']


def test_unpublishable(tmp_path):
    made = finished(tmp_path)
    for env, why in (
        (STAMP | dict(dirty=True), 'with uncommitted changes'),
        (STAMP | dict(commit=''), 'outside a git checkout'),
        (STAMP | dict(commit='v1.0', dirty=True), 'by v1.0 with changed files'),
    ):
        with start_run('demo', CFG | dict(seed=5), tmp_path) as d:
            run = d.finish(METRICS, environment=env)
        with pytest.raises(RunError, match=why):
            publish([made, run], tmp_path / 'results')
        assert not (tmp_path / 'results').exists()
    (file,) = publish(run, tmp_path / 'results', allow_dirty=True)
    with start_run('demo', CFG, tmp_path) as d, pytest.raises(RunError, match='not a finished run'):
        publish([d.path], tmp_path / 'results')


def test_a_run_of_an_installed_wheel_is_published_under_its_version(tmp_path):
    with start_run('demo', CFG, tmp_path) as d:
        run = d.finish(METRICS, environment=STAMP | dict(commit='v1.0', dirty=False))
    (file,) = publish(run, tmp_path / 'results')
    assert set(read_results(file).commit) == {'v1.0'}


def installed(folder, text):
    "A package as pip leaves it, with the digests of its files."
    (folder / 'small_shop').mkdir()
    (folder / 'small_shop' / '__init__.py').write_text('"A shop"\n')
    digest = hashlib.sha256(b'"A shop"\n').digest()
    record = base64.urlsafe_b64encode(digest).decode().rstrip('=')
    info = folder / 'small_shop-1.2.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: small_shop\nVersion: 1.2\n')
    (info / 'RECORD').write_text(f'small_shop/__init__.py,sha256={record},9\n')
    (folder / 'small_shop' / '__init__.py').write_text(text)


@pytest.mark.parametrize('text, changed', [('"A shop"\n', False), ('"Another"\n', True)])
def test_an_installed_wheel_is_known_by_its_version(tmp_path, monkeypatch, text, changed):
    installed(tmp_path, text)
    monkeypatch.syspath_prepend(tmp_path)
    assert wheel_version('small_shop') == ('v1.2', changed)
    (tmp_path / 'checkout').mkdir()
    (tmp_path / 'checkout' / 'small_shop').mkdir()
    (tmp_path / 'checkout' / 'small_shop' / '__init__.py').touch()
    monkeypatch.syspath_prepend(tmp_path / 'checkout')
    assert wheel_version('small_shop') == ('', False), 'that code is in front of the wheel'


def test_an_environment_inside_of_a_checkout_has_no_commit_of_it(tmp_path):
    def git(*args):
        subprocess.run(
            ['git', '-c', 'user.name=a', '-c', 'user.email=a@example.org', *args],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )

    (tmp_path / 'own.py').touch()
    (tmp_path / 'env' / 'package').mkdir(parents=True)
    (tmp_path / 'env' / 'package' / 'a.py').touch()
    git('init')
    git('add', 'own.py')
    git('commit', '-m', 'mine')
    assert len(git_commit(tmp_path)[0]) == 10
    assert git_commit(tmp_path / 'env' / 'package') == ('', False)


def test_a_full_disk_keeps_the_old_results(tmp_path, monkeypatch):
    (file,) = publish(finished(tmp_path), tmp_path / 'results')
    was = file.read_bytes()
    run = finished(tmp_path, metrics=dict(test=dict(accuracy=0.1)))
    with monkeypatch.context() as m:
        full_at(m, os, 'fsync', 1)
        with pytest.raises(OSError):
            publish(run, tmp_path / 'results')
    assert file.read_bytes() == was
    assert [p.name for p in (tmp_path / 'results').iterdir() if not p.name.startswith('.')] == [
        'demo.csv'
    ]


def test_processes_that_publish_at_once_lose_nothing(tmp_path):
    code = """
from fashion_lab.runs.run import all_runs
from fashion_lab.runs.results import publish

mine = [r for r in all_runs(sys.argv[1]) if r.config['seed'] % 3 == int(sys.argv[2])]
print('started', flush=True)
sys.stdin.readline()
for r in mine:
    publish(r, sys.argv[1] + '/results')
"""
    for seed in range(9):
        finished(tmp_path, CFG | dict(seed=seed))
    ps = [python(code, tmp_path, k, stdin=subprocess.PIPE) for k in range(3)]
    for p in ps:
        starts(p)
    for p in ps:
        p.stdin.write('\n')
        p.stdin.flush()
    for p in ps:
        _, err = p.communicate(timeout=180)
        assert p.returncode == 0, err
    assert sorted(read_results(tmp_path / 'results' / 'demo.csv').seed.unique()) == list(range(9))
    assert [f.name for f in (tmp_path / 'results').iterdir()] == ['demo.csv']


def test_results_by_lab_name(tmp_path, monkeypatch):
    monkeypatch.setenv('FASHION_LAB_RESULTS', str(tmp_path / 'results'))
    assert results_dir() == tmp_path / 'results'
    publish(finished(tmp_path))
    assert len(read_results('demo')) == 3
    with pytest.raises(FileNotFoundError, match='no published results at'):
        read_results('closures')


def test_numbers_only(tmp_path):
    with pytest.raises(ValueError, match="config.seed is 'seven' and no whole number"):
        start_run('demo', CFG | dict(seed='seven'), tmp_path)
    (file,) = publish(finished(tmp_path), tmp_path / 'results')
    file.write_text(pd.read_csv(file, dtype=str).assign(seed='seven').to_csv(index=False))
    with pytest.raises(ValueError, match="column 'seed' holds whole numbers only"):
        read_results(file)
    with pytest.raises(ValueError, match='metrics.n is a dict'):
        check_metrics(dict(test={}, n=5))


def test_paths_of_this_machine_are_not_published(tmp_path):
    assert table(
        finished(tmp_path, CFG | dict(data=str(tmp_path / 'my_photos')))
    ).data.unique().tolist() == ['my_photos']


def test_importing_runs_does_not_import_torch():
    code = (
        "import sys, fashion_lab.runs; assert 'torch' not in sys.modules and 'matplotlib' not "
        "in sys.modules"
    )
    subprocess.run([sys.executable, '-c', code], check=True, cwd=Path(__file__).parents[1])


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    import torch

    run = finished(tmp_path, weights=dict(a=torch.tensor([1.0, float('nan')])))
    with pytest.raises(RunError, match='values that are not finite in a'):
        run.weights()


def test_what_is_not_of_its_kind_stops_no_listing(tmp_path):
    good, bad = finished(tmp_path), finished(tmp_path, CFG | dict(seed=9))
    for name, content in (
        ('config.json', dict(variant=bad.variant, seed='a')),
        ('config.json', {}),
        ('environment.json', dict(versions='new')),
    ):
        before = (bad.path / 'run.json').read_text(), (bad.path / name).read_text()
        text = json.dumps(content)
        (bad.path / name).write_text(text)
        info = json.loads(before[0])
        info['files'][name] = dict(
            bytes=len(text), sha256=hashlib.sha256(text.encode()).hexdigest()
        )
        (bad.path / 'run.json').write_text(json.dumps(info))
        with pytest.warns(UserWarning, match=f'left out: {name} of run'):
            assert all_runs(tmp_path) == [good]
        (bad.path / 'run.json').write_text(before[0])
        (bad.path / name).write_text(before[1])
    assert all_runs(tmp_path) == [good, bad]


def test_files_without_the_later_columns_are_read_and_written_with_them(tmp_path):
    publish(finished(tmp_path / 'runs'), tmp_path / 'demo.csv')
    full = pd.read_csv(tmp_path / 'demo.csv', dtype=str, keep_default_na=False)
    full.drop(columns='interval').to_csv(tmp_path / 'older.csv', index=False)
    assert (read_results(tmp_path / 'older.csv').interval == '').all()
    full.drop(columns='ci_low').to_csv(tmp_path / 'damaged.csv', index=False)
    with pytest.raises(ValueError, match='missing columns'):
        read_results(tmp_path / 'damaged.csv')
