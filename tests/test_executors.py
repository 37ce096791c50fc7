"""Sweeps as processes: a killed one leaves nobody behind, and two equal ones at once both come
to the end."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

import toy_lab
from fashion_lab.runs.run import all_runs
from fashion_lab.runs.draft import start_run
from fashion_lab.runs.sweeps import sweep

HERE = Path(__file__).resolve().parent
CODE = """
import sys, toy_lab
from fashion_lab.runs.sweeps import sweep
root, executor, seconds = sys.argv[1:]
todo = toy_lab.configs(2, seconds=float(seconds), epochs=4)
options = dict(workers=2) if executor == 'processes' else {}
done = sweep(toy_lab.run, todo, toy_lab.LAB, root, executor, **options)
print(len(done.runs), len(done.failures), flush=True)
"""


def started(root, executor, seconds, **env):
    "The sweep of two runs in a process of its own."
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    env = dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS='1', **env)
    command = [sys.executable, '-c', CODE, str(root), executor, str(seconds)]
    return subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def until(condition, patience=60.0):
    end = time.monotonic() + patience
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return value


@pytest.mark.skipif(not Path('/proc').is_dir(), reason='looks for left-over processes in /proc')
def test_a_killed_sweep_leaves_no_process_that_trains_on(tmp_path):
    mark = uuid.uuid4().hex
    p = started(tmp_path, 'processes', 60, FASHION_LAB_TEST_MARK=mark)
    assert until(lambda: len(list(tmp_path.glob('*/.unfinished/*/draft.json'))) == 2), (
        p.stderr.read()
    )
    assert len(toy_lab.marked(mark)) > 2
    p.send_signal(signal.SIGKILL)
    p.wait(10)
    assert until(lambda: not toy_lab.marked(mark), 20.0), toy_lab.marked(mark)
    for config in toy_lab.configs(2, seconds=60.0, epochs=4):
        start_run(toy_lab.LAB, config, tmp_path).close()  # nobody holds the locks


@pytest.mark.parametrize('executor', ['sequential', 'processes'])
def test_two_equal_sweeps_at_once_both_have_all_runs(tmp_path, executor):
    both = [started(tmp_path, executor, 0.5) for _ in range(2)]
    said = [p.communicate(timeout=120) for p in both]
    assert [out.strip() for out, _ in said] == ['2 0', '2 0'], said
    assert len(all_runs(tmp_path)) == 2  # nothing is made twice


@pytest.mark.filterwarnings('ignore')
def test_nobody_waits_for_himself(tmp_path):
    (config,) = toy_lab.configs(1)
    with start_run(toy_lab.LAB, config, tmp_path):
        done = sweep(toy_lab.run, [config], toy_lab.LAB, tmp_path)
    assert 'RunBusy' in done.failures.error[0]
