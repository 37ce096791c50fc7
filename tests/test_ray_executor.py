"""Real Ray processes: machines, workers and the driver are killed, and the table stays the same."""

import dataclasses
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

ray = pytest.importorskip('ray', reason="Ray is not installed: pip install 'fashion_lab[scale]'")

import toy_lab  # noqa: E402
from fashion_lab.devices import threads
from fashion_lab.runs.run import all_runs
from fashion_lab.runs.draft import start_run, unfinished
from fashion_lab.runs.ray import ClusterError, on_ray, ray_cluster
from fashion_lab.runs.sweeps import sweep  # noqa: E402
from fashion_lab.studio.photo_parts import answer_in_parts, Answering
from fashion_lab.zoo.answers import answer_stream
from fashion_lab.zoo.models import model_facts
from toy_lab import LAB, Thirds, configs, run, run_thirds  # noqa: E402, F401

HERE = Path(__file__).resolve().parent
pytestmark = [
    pytest.mark.filterwarnings('ignore'),
    pytest.mark.skipif(not Path('/proc').is_dir(), reason='looks for left-over processes in /proc'),
]


@pytest.fixture(scope='module')
def mark(tmp_path_factory):
    "The mark of all processes of this module; when it is over, there is none left."
    value = uuid.uuid4().hex
    lean = tmp_path_factory.mktemp('lean')
    (lean / 'rfc3987_syntax.py').write_text(
        "raise ImportError('jsonschema, which Ray imports, does without; to build its grammar "
        "takes each of the many processes a second')"
    )
    with pytest.MonkeyPatch.context() as m:
        m.setenv('FASHION_LAB_TEST_MARK', value)
        m.setenv('RAY_USAGE_STATS_ENABLED', '0')
        # workers import toy_lab, too
        m.setenv(
            'PYTHONPATH',
            os.pathsep.join(
                [
                    str(lean),
                    str(HERE.parent),
                    str(HERE),
                    *os.environ.get('PYTHONPATH', '').split(os.pathsep),
                ]
            ),
        )
        yield value
    assert gone(value), toy_lab.marked(value)


def gone(mark, patience=180.0, agents=True):
    """Whether the processes with this mark end in time; without `agents`, Ray's two watchers,
    which notice late that their machine was killed, are not waited for."""
    until = time.monotonic() + patience
    while left := {k: v for k, v in toy_lab.marked(mark).items() if agents or 'Agent' not in v}:
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return not left


def let_go(root, patience=180.0):
    """Wait until nobody holds the lock of a run: a killed process with many threads keeps its
    files open for a moment after it looks dead."""
    for path in root.glob('*/.unfinished/*.lock'):
        with FileLock(path, timeout=patience):
            pass


# a dead machine is noticed in seconds
SOON = dict(
    local_fs_capacity_threshold=0.999,
    health_check_initial_delay_ms=2000,
    health_check_period_ms=500,
    health_check_timeout_ms=2000,
    health_check_failure_threshold=4,
)


class Machine:
    """What `ray start` starts, as a machine that can be lost: its processes, and the workers
    that they start, carry a mark of their own."""

    def __init__(self, mark, *options):
        self.mark = f'{mark}-{uuid.uuid4().hex[:8]}'
        usual = (
            f'--block --disable-usage-stats --object-store-memory={150 * 2**20} '
            '--min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0'
        )
        self.start = subprocess.Popen(
            [sys.executable, '-m', 'ray.scripts.scripts', 'start', *usual.split(), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(os.environ, FASHION_LAB_TEST_MARK=self.mark),
        )

    def wait(self, ready, patience=180.0):
        until = time.monotonic() + patience
        while not ready():
            assert self.start.poll() is None and time.monotonic() < until, (
                'ray start has ended, or takes too long'
            )
            time.sleep(0.1)
        return self

    def workers(self, pids):
        return [p for p in pids if p in toy_lab.marked(self.mark)]

    def lose(self):
        [os.kill(pid, signal.SIGKILL) for pid in toy_lab.marked(self.mark)]
        self.start.wait(180)

    def stop(self):
        self.start.terminate()
        self.start.wait(180)


def free_port():
    with socket.create_server(('127.0.0.1', 0)) as s:
        return s.getsockname()[1]


def answers(port):
    try:
        socket.create_connection(('127.0.0.1', port), timeout=1).close()
        return True
    except OSError:
        return False


@pytest.fixture(scope='module')
def cluster(mark):
    """A cluster as people start it, whose head has two processors: its `address`, and its
    `door` for those who are no part of it. Tests add machines and kill them."""
    port, door = free_port(), free_port()
    head = Machine(
        mark,
        '--head',
        '--num-cpus=2',
        f'--port={port}',
        f'--ray-client-server-port={door}',
        '--include-dashboard=false',
        f'--system-config={json.dumps(SOON)}',
    ).wait(lambda: answers(port) and answers(door))
    yield SimpleNamespace(
        address=f'127.0.0.1:{port}',
        door=f'ray://127.0.0.1:{door}',
        join=lambda *options: Machine(mark, f'--address=127.0.0.1:{port}', *options),
    )
    head.stop()
    if (
        last := Path(ray._private.utils.get_ray_address_file(None))
    ).is_file() and last.read_text().strip().endswith(f':{port}'):
        last.unlink()  # or `auto` would look for this cluster


@pytest.fixture(scope='module')
def inside(cluster):
    """One connection for many tests, so that workers need not be started, and import torch, for
    each of them."""
    with ray_cluster(cluster.address) as r:
        yield r


def test_auto_without_a_cluster(mark):
    "Comes first: there is no cluster yet, or one that is long gone."
    try:
        with ray_cluster('auto'):
            pytest.skip('this machine is a node of a cluster')
    except ClusterError as e:
        assert 'no Ray cluster' in str(e) and ' at auto' in str(e)


def listening(mark):
    "The addresses, as in /proc/net/tcp, on which processes with this mark accept connections."
    inodes = set()
    for pid in [os.getpid(), *toy_lab.marked(mark)]:
        for file in Path(f'/proc/{pid}/fd').glob('*'):
            try:
                link = os.readlink(file)
            except OSError:
                continue
            if link.startswith('socket:['):
                inodes.add(link[8:-1])
    rows = [
        line.split()
        for table in ('tcp', 'tcp6')
        for line in Path('/proc/net', table).read_text().splitlines()[1:]
    ]
    return {row[1].rpartition(':')[0] for row in rows if row[3] == '0A' and row[9] in inodes}


def test_a_cluster_of_our_own_listens_on_this_machine_only(mark):
    "Before another cluster is started, whose head listens to other machines."
    # 127.0.0.1, the same in IPv6, ::1
    loopback = {
        '0100007F',
        '0000000000000000FFFF00000100007F',
        '00000000000000000000000001000000',
    }
    with ray_cluster(cpus=1) as r:
        assert r.get(r.remote(lambda: 7).remote()) == 7
        found = listening(mark)
    assert found and found <= loopback, found


def test_auto_finds_the_cluster_of_this_machine(cluster):
    with ray_cluster('auto') as r:
        assert sum(n['Alive'] for n in r.nodes()) >= 1
    assert not ray.is_initialized()


def once_each(root, n):
    "Whether the folder of runs holds every configuration once, and nothing half-done."
    seeds = [r.config['seed'] for r in all_runs(root)]
    return sorted(seeds) == list(range(n)) and len(unfinished(root)) == 0


def same(here, there, n):
    """Whether two sweeps have made the same runs: metrics, history, predictions and weights, to
    the last digit."""
    assert not len(there.failures)
    assert len(here.runs) == len(there.runs) == n
    assert [r.name for r in here.runs] == [r.name for r in there.runs]
    costs = ('train_s', 'infer_ms')
    for a, b in zip(here.runs, there.runs):
        assert {k: v for k, v in a.metrics.items() if k not in costs} == {
            k: v for k, v in b.metrics.items() if k not in costs
        }
        assert a.history.drop(columns='seconds').equals(b.history.drop(columns='seconds'))
        assert a.splits == b.splits
        assert all(a.predictions(s) == b.predictions(s) for s in a.splits)
        assert a.weights().keys() == b.weights().keys()
        assert all((w == b.weights()[k]).all() for k, w in a.weights().items())


def total(data, cfg):
    return float(data.sum()) + cfg, data.flags.owndata


def test_an_address_from_outside_the_cluster(cluster, tmp_path):
    "ray://: the same runs; failures, killed workers, parts and shared data as inside."
    from fashion_lab.labs import fashion_mnist as lab

    todo = lab.configs('smoke', 1, ['SmallCNN'], source='synthetic', device='cpu', limit=200)
    with threads(1):
        here = sweep(lab.run, todo, lab.LAB, tmp_path / 'a')
    with ray_cluster(cluster.door):
        same(here, sweep(lab.run, todo, lab.LAB, tmp_path / 'b', 'ray', address=cluster.door), 1)
        done = sweep(
            run,
            [
                *configs(1),
                dict(variant='wrong', seed=7, fail='no such rate'),
                dict(variant='dies', seed=1, die=2),
            ],
            LAB,
            tmp_path,
            'ray',
        )
        assert [r.extra['first'] for r in done.runs] == [0, 3]
        assert done.failures.error.tolist() == ['ValueError: no such rate']
        assert 'in run' in done.failures.traceback[0]
        assert [
            r.extra['first']
            for r in sweep(run_thirds, [Thirds(0, dies=1)], 'thirds', tmp_path, 'ray').runs
        ] == [[0, 2, 0]]
        data = np.ones(3_000_000)
        assert dict(on_ray(functools.partial(total, data), [(i, i) for i in range(4)])) == {
            i: (3e6 + i, False) for i in range(4)
        }, 'all read the same copy'
        with pytest.raises(ClusterError, match='no machine of the cluster has that'):
            sweep(run, configs(3), LAB, tmp_path, 'ray', gpus=2)
        lost = sweep(
            run, [dict(variant='bad', seed=9, die_always=True)], LAB, tmp_path, 'ray', retries=0
        ).failures
        assert 'was lost with its worker' in lost.error[0]
    assert not ray.is_initialized()


def test_what_is_wrong_with_an_address_from_outside(cluster, monkeypatch):
    from fashion_lab.runs import ray as r

    with pytest.raises(
        ClusterError,
        match='no Ray cluster answers at ray://127.0.0.1:1 .*its port for ray:// is 10001',
    ):
        with ray_cluster('ray://127.0.0.1:1'):
            pass
    for name in ('INITIAL_TIMEOUT_SEC', 'MAX_TIMEOUT_SEC'):
        monkeypatch.setattr(f'ray.util.client.worker.{name}', 1)
    with pytest.raises(ClusterError, match='no Ray cluster could be reached at ray://'):
        with ray_cluster(f'ray://{cluster.address}'):
            pass  # the port of the cluster itself
    assert not ray.is_initialized()
    monkeypatch.setattr(r, 'has_package', lambda name: name != 'grpcio')
    with pytest.raises(
        ClusterError, match=r"need the package grpcio.*pip install 'fashion_lab\[scale\]'"
    ):
        with ray_cluster(cluster.door):
            pass


SAID = '''Initialization failure from server:
Traceback (most recent call last):
  File "proxier.py", line 769, in Datapath
    raise RuntimeError(
RuntimeError: Starting Ray client server failed. See ray_client_server_23000.err for detailed logs.
'''


@pytest.mark.parametrize('deaths,tries', [(2, 3), (9, 3)])
def test_a_door_whose_server_dies_at_its_start_is_tried_again(cluster, monkeypatch, deaths, tries):
    """Behind ray:// a process of its own is started for every client; now and then one dies
    before it is there."""
    asked = []
    init = ray.init

    def dying(**kwargs):
        asked.append(kwargs)
        if len(asked) <= deaths:
            raise ConnectionAbortedError(SAID)
        return init(address=cluster.address, **{k: v for k, v in kwargs.items() if k != 'address'})

    monkeypatch.setattr(ray, 'init', dying)
    if deaths < tries:
        with ray_cluster(cluster.door) as r:
            assert r.is_initialized()
    else:
        with pytest.raises(
            ClusterError,
            match=r'reached at ray://127.0.0.1:\d+: RuntimeError: Starting Ray client server failed',
        ):
            with ray_cluster(cluster.door):
                pass
    assert len(asked) == tries
    assert {a['address'] for a in asked} == {cluster.door}


def test_what_a_door_refuses_is_not_asked_again(cluster, monkeypatch):
    asked = []

    def refusing(**kwargs):
        asked.append(kwargs)
        raise ConnectionAbortedError(
            'Initialization failure from server: Traceback (most recent call last): '
            'RuntimeError: '
            'Failed to create runtime_env'
        )

    monkeypatch.setattr(ray, 'init', refusing)
    with pytest.raises(ClusterError, match='Failed to create runtime_env'):
        with ray_cluster(cluster.door):
            pass
    assert len(asked) == 1


@pytest.mark.parametrize('way', ['address', 'door'])
def test_versions_of_driver_and_cluster_differ(cluster, way):
    code = (
        "import ray; ray.__version__ = '1.0.0'\nfrom fashion_lab.runs.ray import *\nwith "
        f"ray_cluster({getattr(cluster, way)!r}): pass"
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert (
        done.returncode
        and 'ClusterError' in done.stderr
        and 'runs other versions than this process' in done.stderr
    ), done.stderr[-800:]


def test_a_connection_of_others_is_left_as_it_is(cluster):
    ray.init(address=cluster.address, log_to_driver=False, logging_level='ERROR')
    try:
        with ray_cluster():
            pass
        assert ray.is_initialized()
    finally:
        ray.shutdown()


ABLATIONS = ['FashionCNN', 'no-dropout', 'flip', 'SmallCNN', 'LogisticBaseline']


def test_the_ablation_grid_is_the_same_on_ray(inside, tmp_path):
    "One word changes, and nothing else does."
    from fashion_lab.labs import fashion_mnist as lab

    todo = lab.configs('smoke', 1, ABLATIONS, source='synthetic', device='cpu', limit=200)
    with threads(1):
        here = sweep(lab.run, todo, lab.LAB, tmp_path / 'a')
    same(here, sweep(lab.run, todo, lab.LAB, tmp_path / 'b', executor='ray'), len(ABLATIONS))


def test_five_folds_are_spread_and_the_same_on_ray(inside, tmp_path):
    "Five folds of clothing, one run: computed apart, put together by who comes last."
    from fashion_lab.labs import clothing as lab

    todo = lab.configs(
        'smoke', variants='linear-probe', source='synthetic', device='cpu', folds=5, take=None
    )
    with threads(1):
        here = sweep(lab.run, todo, lab.LAB, tmp_path / 'a')
    there = sweep(lab.run, todo, lab.LAB, tmp_path / 'b', executor='ray')
    same(here, there, 1)
    assert list(there.runs[0].extra['apart']) == [*'01234']
    assert 'apart' not in here.runs[0].extra
    assert {r.lab for r in all_runs(tmp_path / 'b')} == {lab.LAB} and not len(
        unfinished(tmp_path / 'b')
    ), 'the folds are gone'


def test_a_killed_part_goes_on_and_the_run_is_put_together_once(inside, tmp_path):
    seen = []
    done = sweep(
        run_thirds,
        [Thirds(0, dies=1), Thirds(1), Thirds(2, dies=2)],
        'thirds',
        tmp_path,
        'ray',
        each=lambda r: seen.append(r.config['seed']),
    )
    assert not len(done.failures) and sorted(seen) == [0, 1, 2]
    assert [r.extra['first'] for r in done.runs] == [[0, 2, 0], [0, 0, 0], [0, 0, 2]], (
        'from their checkpoints'
    )
    assert [
        (r.lab, r.config['seed'])
        for r in sorted(all_runs(tmp_path), key=lambda r: r.config['seed'])
    ] == [('thirds', k) for k in range(3)]
    assert not len(unfinished(tmp_path))


def under_way(root, node):
    "Workers of this machine that are past the first epoch of a run: process ids."
    found = []
    for p in root.glob('toy/.unfinished/*/checkpoint.pt'):
        try:
            found.append(json.loads((p.parent / 'draft.json').read_text())['pid'])
        except (OSError, ValueError):
            pass
    return node.workers(found)


def test_a_machine_dies_half_way(cluster, inside, tmp_path):
    node = cluster.join('--num-cpus=2')
    seen = []
    killed = []
    over = threading.Event()
    node.wait(lambda: sum(n['Alive'] for n in inside.nodes()) == 2)

    def watch():
        while not killed and not over.wait(0.02):
            if pids := under_way(tmp_path, node):
                killed.extend(pids)
                node.lose()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        done = sweep(
            run,
            configs(10, epochs=8, seconds=0.2),
            LAB,
            tmp_path,
            'ray',
            each=lambda r: seen.append(r.name),
        )
    finally:
        over.set()
        watcher.join()
    assert killed, 'nothing ran on the second machine'
    assert len(seen) == len(set(seen)) == 10 and len(done.failures) == 0
    assert once_each(tmp_path, 10) and len(done.table()) == 10
    assert [r for r in done.runs if r.info['attempts'] > 1 and r.extra['first'] > 0], (
        'what was under way went on from its checkpoint'
    )


def drawn_shoes(folder, n):
    "Photos to answer for: their paths."
    from fashion_lab.synthetic.closure_drawer import ClosureDrawer

    folder.mkdir()
    shoes = ClosureDrawer(n, size=96)
    for k in range(n):
        Image.fromarray(shoes[k]).save(folder / f'{k:03}.jpg')
    return sorted(map(str, folder.iterdir()))


def test_a_machine_dies_while_photos_are_answered_for(cluster, inside, tmp_path):
    "Every photo has one answer, and it is that of a single process."
    photos = drawn_shoes(tmp_path / 'photos', 60)
    (tmp_path / 'notes').mkdir()
    classes = tuple(model_facts('closures')['classes'])
    stream = functools.partial(toy_lab.slow_answers, notes=tmp_path / 'notes', seconds=0.3)
    who = Answering(stream, classes, False, 'a shipped model', 'closures')
    node = cluster.join('--num-cpus=2')
    node.wait(lambda: sum(n['Alive'] for n in inside.nodes()) == 2)
    killed, over = [], threading.Event()

    def watch():
        while not killed and not over.wait(0.02):
            if pids := node.workers(int(p.name) for p in (tmp_path / 'notes').iterdir()):
                killed.extend(pids)
                node.lose()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        tally, failures = answer_in_parts(who, photos, tmp_path / 'there', n=2, executor='ray')
    finally:
        over.set()
        watcher.join()
    assert killed, 'nothing ran on the second machine'
    assert not failures and (tally.photos, tally.parts) == (60, 30)
    plain = dataclasses.replace(who, stream=functools.partial(answer_stream, 'closures'))
    with mock.patch.dict(os.environ, OMP_NUM_THREADS='1'):
        answer_in_parts(plain, photos, tmp_path / 'here', n=2)
    here, there = (
        {p.name: p.read_text() for p in sorted((tmp_path / place).glob('part-*'))}
        for place in ('here', 'there')
    )
    assert here == there and len(here) == 30


def test_a_killed_worker_goes_on_from_its_checkpoint(inside, tmp_path):
    done = sweep(run, configs(3, die=2), LAB, tmp_path, 'ray')
    assert [r.extra['first'] for r in done.runs] == [3, 3, 3]
    assert once_each(tmp_path, 3)


def test_what_kills_every_worker_is_given_up_alone(inside, tmp_path):
    todo = configs(2) + [
        dict(variant='bad', seed=9, die_always=True),
        dict(variant='full', seed=8, fail='disk'),
        dict(variant='wrong', seed=7, fail='no such rate'),
    ]
    done = sweep(run, todo, LAB, tmp_path, 'ray', retries=1)
    assert len(done.runs) == 2
    assert sorted(done.failures.variant) == ['bad', 'full', 'wrong']
    errors = done.failures.set_index('variant').error
    assert 'was lost with its worker' in errors['bad']
    assert 'its last checkpoint is kept' in errors['bad']
    assert 'No space left on device' in errors['full']
    assert errors['wrong'] == 'ValueError: no such rate'
    assert sorted(unfinished(tmp_path).variant) == ['bad', 'full', 'wrong'], (
        'nothing is lost: the drafts are there'
    )


def test_a_run_that_somebody_else_writes_is_waited_for(inside, tmp_path):
    (cfg,) = configs(1)
    draft = start_run(LAB, cfg, tmp_path)
    threading.Timer(
        1.5, lambda: draft.finish(dict(test=dict(accuracy=0.9)), environment=toy_lab.STAMP)
    ).start()
    done = sweep(run, [cfg], LAB, tmp_path, 'ray')
    assert done.runs[0].metrics['test'] == dict(accuracy=0.9)
    assert once_each(tmp_path, 1)


def test_data_travels_once(inside):
    data = np.ones(3_000_000)
    results = dict(on_ray(functools.partial(total, data), [(i, i) for i in range(8)]))
    assert results == {i: (3e6 + i, False) for i in range(8)}, 'all read the same copy'


def test_needs_are_checked_before_they_are_waited_for(inside, tmp_path):
    for kw, said in (
        (dict(gpus=2), '1 CPUs, 2 GPUs'),
        (dict(cpus=64), '64 CPUs'),
        (dict(memory=2**43), '8,192 GiB'),
    ):
        with pytest.raises(ClusterError, match='no machine of the cluster has that') as e:
            sweep(run, configs(1), LAB, tmp_path, 'ray', **kw)
        assert said in str(e.value)
    assert (
        sweep(run, configs(1), LAB, tmp_path, 'ray', memory=2**20, workers=1)
        .runs[0]
        .extra['threads']
        == '1'
    )


QUICK_AND_SLOW = (
    "configs(3) + [dict(c, seed=c['seed'] + 3) for c in configs(2, epochs=3, seconds=.1)]"
)


def driver(mark, root):
    """Another process that sweeps on a cluster of its own; its slow runs would take ten
    minutes, so however busy the machine is, they are under way when it ends. It hears Ctrl-C
    also where the tests run in the background of a shell, which lets its children ignore it."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from "
        "toy_lab import *; from fashion_lab.runs.sweeps import sweep; sweep(run, "
        f"{QUICK_AND_SLOW}, LAB, {str(root)!r}, 'ray')"
    )
    return subprocess.Popen(
        [sys.executable, '-c', code],
        cwd=HERE,
        env=dict(os.environ, FASHION_LAB_TEST_MARK=mark, FASHION_LAB_TEST_PACE='3000'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGINT], ids=['killed', 'Ctrl-C'])
def test_the_driver_dies(mark, tmp_path, how):
    own = f'{mark[:16]}{how.name}'
    todo = eval(QUICK_AND_SLOW)
    d = driver(own, tmp_path)
    until = time.monotonic() + 180
    while (
        (len(all_runs(tmp_path)) < 3 or not list(tmp_path.glob('toy/.unfinished/*/checkpoint.pt')))
        and d.poll() is None
        and time.monotonic() < until
    ):
        time.sleep(0.05)
    assert d.poll() is None, d.stdout.read()
    d.send_signal(how)
    d.wait(180)
    assert gone(own, agents=how != signal.SIGKILL), toy_lab.marked(own)
    let_go(tmp_path)
    before = {r.name: r.info['token'] for r in all_runs(tmp_path)}
    assert 3 <= len(before) < 5
    done = sweep(run, todo, LAB, tmp_path)
    assert not len(done.failures), done.failures.to_string()
    assert done.skipped == len(before) and once_each(tmp_path, 5)
    assert before.items() <= {r.name: r.info['token'] for r in done.runs}.items(), (
        'what was finished stays'
    )
    assert [r for r in done.runs if r.extra['first'] > 0], 'what was under way went on'


def test_a_worker_with_other_versions_refuses(inside, tmp_path, monkeypatch):
    from fashion_lab.runs import ray as r

    monkeypatch.setattr(r, 'versions', lambda *packages: dict(python='2.7'))
    done = sweep(run, configs(1), LAB, tmp_path, 'ray')
    assert 'instead of 2.7: install the same versions there' in done.failures.error[0]
