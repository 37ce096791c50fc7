"""Runs at an address: in a folder, in memory, and on an S3 server where moto is at hand."""

import os
import shutil
import socket
import subprocess
import time
import uuid
import warnings
from pathlib import Path

import pytest
from fashion_lab.runs.run import all_runs, find_run
from fashion_lab.runs.draft import draft_folder
from fashion_lab.runs.storage import file_system, mirrored, pull, push, RunStore
from fashion_lab.runs.executors import Job, processes
from fashion_lab.runs.sweeps import sweep
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_lab import LAB, configs, run

# moto and the packages of this project ask for different versions of python-dateutil, so moto's
# server lives in an environment of its own
SERVER = os.environ.get('FASHION_LAB_MOTO_SERVER') or shutil.which('moto_server')


@pytest.fixture(scope='session')
def s3():
    "The address of an S3 server of our own; its credentials are in the environment."
    if not SERVER:
        pytest.skip(
            "no S3 server: pipx install 'moto[server]', or say in FASHION_LAB_MOTO_SERVER where "
            "moto_server is"
        )
    pytest.importorskip(
        'obstore', reason="obstore is not installed: pip install 'fashion_lab[scale]'"
    )
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    server = subprocess.Popen(
        [SERVER, '-H', '127.0.0.1', '-p', str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(200):
        try:
            socket.create_connection(('127.0.0.1', port), 1).close()
            break
        except OSError:
            time.sleep(0.1)
    mine = dict(
        AWS_ENDPOINT_URL=f'http://127.0.0.1:{port}',
        AWS_ACCESS_KEY_ID='test',
        AWS_SECRET_ACCESS_KEY='test',
        AWS_REGION='us-east-1',
    )
    before = {k: os.environ.get(k) for k in mine}
    os.environ.update(mine)
    import urllib.request

    # makes the bucket
    urllib.request.urlopen(
        urllib.request.Request(f"{mine['AWS_ENDPOINT_URL']}/lab", method='PUT')
    ).close()
    yield 's3://lab'
    for k, v in before.items():
        if v is None:
            del os.environ[k]
        else:
            os.environ[k] = v
    server.terminate()
    server.wait(10)


@pytest.fixture(params=['folder', 'memory', 's3'])
def store(request, tmp_path):
    url = dict(
        folder=lambda: str(tmp_path / 'shared'),
        memory=lambda: f'memory://{uuid.uuid4().hex}',
        s3=lambda: f"{request.getfixturevalue('s3')}/{uuid.uuid4().hex}",
    )[request.param]()
    return RunStore(url)


def test_there_and_back(store, tmp_path):
    store.check()
    (cfg, other) = configs(2)
    made = run(cfg, tmp_path / 'a')
    (made.figures / 'curve.txt').write_text('a picture')
    assert store.names(LAB) == set()
    assert pull(store, LAB, cfg, tmp_path / 'b') is None
    assert push(store, made) and not push(store, made)
    got = pull(store, LAB, cfg, tmp_path / 'b')
    assert got.verify().metrics == made.metrics
    assert (got.figures / 'curve.txt').read_text() == 'a picture'
    assert store.names(LAB) == {made.name}
    assert pull(store, LAB, other, tmp_path / 'b') is None
    assert not [p for p in (tmp_path / 'b').rglob('*') if '.coming' in p.name]


def test_two_machines_share_the_work(store, tmp_path):
    first = sweep(run, configs(3), LAB, tmp_path / 'a', storage=store.url)
    second = sweep(run, configs(5), LAB, tmp_path / 'b', storage=store.url)
    third = sweep(run, configs(5), LAB, tmp_path / 'a', storage=store.url)
    assert (first.skipped, second.skipped, third.skipped) == (0, 3, 5)
    assert (
        len(store.names(LAB)) == len(all_runs(tmp_path / 'a')) == len(all_runs(tmp_path / 'b')) == 5
    )
    assert {r.info['token'] for r in second.runs} == {r.info['token'] for r in third.runs}, (
        'nothing was made twice'
    )


def test_what_was_finished_without_the_storage_is_sent_later(store, tmp_path):
    sweep(run, configs(2), LAB, tmp_path)
    sweep(run, configs(3), LAB, tmp_path, storage=store.url)
    assert len(store.names(LAB)) == 3


def test_a_copy_without_its_last_file_does_not_exist(store, tmp_path):
    (cfg,) = configs(1)
    made = run(cfg, tmp_path / 'a')
    push(store, made)
    fs, there = store.place(LAB, made.name)
    fs.rm_file(f'{there}/run.json')
    assert store.names(LAB) == set()
    assert pull(store, LAB, cfg, tmp_path / 'b') is None
    assert push(store, made)
    assert pull(store, LAB, cfg, tmp_path / 'b') is not None


@pytest.mark.parametrize('harm', ['shorter', 'other bytes', 'missing'])
def test_a_damaged_copy_is_left_out_and_made_good(store, tmp_path, harm):
    (cfg,) = configs(1)
    made = run(cfg, tmp_path / 'a')
    push(store, made)
    fs, there = store.place(LAB, made.name)
    whole = fs.cat_file(f'{there}/metrics.json')
    if harm == 'missing':
        fs.rm_file(f'{there}/metrics.json')
    else:
        fs.pipe_file(
            f'{there}/metrics.json', whole[:-2] if harm == 'shorter' else whole.replace(b'5', b'6')
        )
    with pytest.warns(UserWarning, match='is left out: metrics.json'):
        assert pull(store, LAB, cfg, tmp_path / 'b') is None
    if harm != 'other bytes':
        assert push(store, made)
        assert pull(store, LAB, cfg, tmp_path / 'b').verify()


def test_a_checkpoint_outlives_its_machine(store, tmp_path):
    "One machine is stopped in the third epoch and loses its disk; another goes on from there."
    (cfg,) = configs(1, stop=2)
    with pytest.raises(KeyboardInterrupt), mirrored(store, LAB, cfg, tmp_path / 'a'):
        run(cfg, tmp_path / 'a')
    shutil.rmtree(tmp_path / 'a')
    with mirrored(store, LAB, cfg, tmp_path / 'b'):
        made = run(cfg, tmp_path / 'b')
    assert made.extra['first'] == 3 and made.info['attempts'] == 2
    fs, there = store.place(LAB, '.unfinished', draft_folder(LAB, cfg).name)
    fs.invalidate_cache()
    assert not fs.exists(f'{there}/checkpoint.pt')


def test_a_worker_dies_with_its_disk(tmp_path):
    "Nobody had the time to say good-bye: what was copied while it ran is enough."
    (cfg,) = configs(1, die=2, linger=1.0, wipe=True)
    job = Job(
        run, LAB, tmp_path / 'a', RunStore(str(tmp_path / 'shared')), patience=30.0, every=0.05
    )
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        (made,) = dict(processes(job, [(0, cfg)], workers=1)).values()
    assert made.extra['first'] == 3
    assert made.info['attempts'] == 2
    assert job.storage.names(LAB) == {made.name}


def test_a_storage_that_cannot_be_written_is_known_before_anything_runs(tmp_path):
    (tmp_path / 'file').write_text('in the way')
    ran = []
    with pytest.raises(OSError, match='cannot be used .*check the address and the rights'):
        sweep(
            lambda c, root: ran.append(c),
            configs(1),
            LAB,
            tmp_path / 'a',
            storage=tmp_path / 'file' / 'runs',
        )
    assert not ran


def test_no_such_bucket_and_no_such_server(s3, monkeypatch):
    with pytest.raises(OSError, match='cannot be used'):
        RunStore('s3://no-such-bucket/runs').check()
    monkeypatch.setenv('AWS_ENDPOINT_URL', 'http://127.0.0.1:9')
    with pytest.raises(OSError, match='check the address and the rights'):
        RunStore(f'{s3}-gone/runs').check()


class Full:
    "A file system that takes no more after some bytes."

    def __init__(self, fs, allowed):
        self.fs, self.allowed = fs, allowed

    def __getattr__(self, name):
        return getattr(self.fs, name)

    def put_file(self, local, path):
        if self.allowed <= 0:
            raise OSError(28, 'No space left on device')
        self.allowed -= 1
        return self.fs.put_file(local, path)


def test_a_storage_that_fills_up_loses_nothing(tmp_path, monkeypatch):
    from fashion_lab.runs import storage as rs

    fs, home = file_system(f'memory://{uuid.uuid4().hex}')
    full = Full(fs, 13)
    with monkeypatch.context() as m, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        m.setattr(rs, 'file_system', lambda url: (full, home))
        stopped = sweep(run, configs(4), LAB, tmp_path, storage='memory://x')
        assert 0 < len(stopped.failures) < 4
        assert stopped.failures.error.str.contains('did not take run').all()
        assert len(all_runs(tmp_path)) == 4, 'finished, and on this disk'
        assert all(find_run(LAB, c, tmp_path) for c in configs(4))
        full.allowed = 1000
        again = sweep(run, configs(4), LAB, tmp_path, storage='memory://x')
        assert again.skipped == 4
        assert len(RunStore('memory://x').names(LAB)) == 4


@settings(max_examples=15, deadline=None)
@given(st.text(min_size=1, max_size=30))
def test_variants_of_any_name_are_found_again(variant):
    store = RunStore(f'memory://{uuid.uuid4().hex}')
    cfg = dict(variant=variant, seed=0)
    import tempfile

    with tempfile.TemporaryDirectory() as d:
        made = run(cfg, Path(d) / 'a')
        push(store, made)
        assert pull(store, LAB, cfg, Path(d) / 'b').metrics == made.metrics
