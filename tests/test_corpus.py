"""The corpus of bad inputs: 0 tracebacks, 0 hangs, 0 silent misreadings, and no bad item stops the
rest.

A sample of it runs always, the same one everywhere. FASHION_LAB_CORPUS=all runs all of it; a number
chooses another sample; anything else the cases whose names hold it."""

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from corpus import all_cases, sample

HERE = Path(__file__).parent
CASES = all_cases()
ASKED = os.environ.get('FASHION_LAB_CORPUS', '0')


def chosen() -> list:
    "The cases of this run."
    if ASKED == 'all':
        return list(CASES.values())
    if ASKED.isdecimal():
        return sample(CASES.values(), 4, int(ASKED))
    return [case for case in CASES.values() if ASKED in case.name]


class Worker:
    "The process that runs cases; one that hangs is killed, and the next case gets another."

    def __init__(self, root):
        self.root, self.process, self.count = root, None, 0

    def start(self):
        self.count += 1
        home = self.root / f'worker-{self.count}'
        home.mkdir()
        own = dict(
            FASHION_LAB_CACHE=str(home / 'cache'),
            FASHION_LAB_RUNS=str(home / 'runs'),
            FASHION_LAB_DATA=str(home / 'none'),
            FASHION_LAB_PROGRESS='0',
            OMP_NUM_THREADS='1',
            PYTHONPATH=os.pathsep.join([str(HERE.parent), str(HERE)]),
            http_proxy='http://127.0.0.1:9',
            https_proxy='http://127.0.0.1:9',
        )
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'corpus.worker', str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=dict(os.environ) | own,
        )
        assert self.answer(120) == 'ready', 'the worker does not start'

    def answer(self, seconds):
        "Its next answer; `None` where it does not come in time, or the process died."
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def run(self, case, folder) -> str:  # what went wrong; '' for nothing
        if self.process is None:
            self.start()
        self.process.stdin.write(json.dumps([case.name, str(folder)]) + '\n')
        self.process.stdin.flush()
        said = self.answer(case.seconds)
        if said is not None:
            return said
        died = self.process.poll()
        self.stop()
        return (
            f'it hangs: no end after {case.seconds:g} seconds'
            if died is None
            else f'the process died (exit code {died})'
        )

    def stop(self):
        if self.process:
            self.process.kill()
        if self.process:
            self.process.communicate()
        self.process = None


@pytest.fixture(scope='module')
def worker(tmp_path_factory):
    worker = Worker(tmp_path_factory.mktemp('corpus'))
    yield worker
    worker.stop()


@pytest.mark.parametrize('case', chosen(), ids=lambda case: case.name)
def test_a_bad_input_is_read_rightly_or_named(worker, tmp_path, case):
    wrong = worker.run(case, tmp_path / 'case')
    if wrong:
        pytest.fail(f'{case.name}: {wrong}', pytrace=False)


def test_the_corpus_is_large_and_of_every_kind():
    kinds = {
        kind: sum(case.kind == kind for case in CASES.values())
        for kind in dict.fromkeys(case.kind for case in CASES.values())
    }
    assert len(CASES) >= 250 and all(n >= 15 for n in kinds.values()), kinds
    assert (
        sample(CASES.values(), 2)
        == sample(reversed(CASES.values()), 2)
        != sample(CASES.values(), 2, 1)
    )
