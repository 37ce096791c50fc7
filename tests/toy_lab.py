"""Labs that learn nothing, for tests of what runs them: their configurations are dicts, their
runs say who made them, and they can be slow, die or fail on request."""

import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from fashion_lab.runs.draft import report_epoch, start_run
from fashion_lab.runs.executors import finished_parts, parts_lab

STAMP = dict(
    device='cpu',
    device_name='imaginary processor',
    threads=1,
    python='3.11.7',
    commit='0123456789',
    dirty=False,
    date='2026-01-31',
    command='test',
    versions=dict(torch='2.15.0'),
)
LAB = 'toy'


def configs(n, **more):
    return [
        dict(
            variant='toy',
            seed=s,
            source='synthetic',
            data='none',
            profile='smoke',
            protocol='fast',
            **more,
        )
        for s in range(n)
    ]


def run(cfg, root=None, lab=LAB):
    """Epochs with a checkpoint after each. `seconds`: of an epoch, all but the first times
    FASHION_LAB_TEST_PACE where the environment has it; `die`: the epoch in which the first
    attempt kills its own process (`die_always`: every attempt, in its first epoch); `wipe`: and
    takes its disk with it; `stop`: the epoch in which the first attempt is interrupted; `fail`:
    the error that is raised."""
    with start_run(lab, cfg, root) as draft:
        if cfg.get('fail') == 'disk':
            raise OSError(28, 'No space left on device')
        if cfg.get('fail'):
            raise ValueError(cfg['fail'])
        first = int(draft.checkpoint.read_text()) if draft.checkpoint.exists() else 0
        for epoch in range(first, cfg.get('epochs', 4)):
            time.sleep(
                cfg.get('seconds', 0.0)
                * (float(os.environ.get('FASHION_LAB_TEST_PACE', 1)) if epoch else 1)
            )
            (draft.path / 'next').write_text(str(epoch + 1))
            os.replace(draft.path / 'next', draft.checkpoint)
            report_epoch(
                dict(
                    epoch=epoch, accuracy=cfg.get('speed', 1.0) * (epoch + 1) / cfg.get('epochs', 4)
                )
            )
            if cfg.get('stop') == epoch and draft.note['attempts'] == 1:
                raise KeyboardInterrupt
            if cfg.get('die') == epoch and draft.note['attempts'] == 1 or cfg.get('die_always'):
                time.sleep(cfg.get('linger', 0.0))
                if cfg.get('wipe'):
                    shutil.rmtree(draft.home)
                os.kill(os.getpid(), signal.SIGKILL)
        metrics = dict(test=dict(accuracy=0.5 + cfg['seed'] / 1000)) | (
            dict(valid=dict(accuracy=cfg['speed'])) if cfg.get('speed') is not None else {}
        )
        return draft.finish(
            metrics,
            environment=STAMP,
            extra=dict(
                first=first,
                told=cfg.get('epochs', 4) - first,
                pid=os.getpid(),
                threads=os.environ.get('OMP_NUM_THREADS'),
            ),
        )


@dataclass(frozen=True)
class Thirds:
    """A run in three parts; the process that computes part `dies` is killed once, in its second
    epoch."""

    seed: int = 0
    dies: int | None = None

    def parts(self):
        return [Third(self.seed, k, 1 if k == self.dies else None) for k in range(3)]


@dataclass(frozen=True)
class Third:
    seed: int = 0
    part: int = 0
    die: int | None = None

    def get(self, name, default=None):
        return getattr(self, name, default)

    def __getitem__(self, name):
        return getattr(self, name)


def run_thirds(cfg, root=None):
    "The mean of three parts, which may have been computed apart."
    if isinstance(cfg, Third):
        return run(cfg, root, parts_lab('thirds'))
    with start_run('thirds', cfg, root) as draft:
        apart = finished_parts('thirds', cfg, root)
        done = draft.finish(
            dict(test=dict(accuracy=0.5 + cfg.seed / 1000)),
            environment=STAMP,
            extra=dict(
                pids=[r.extra['pid'] for r in apart.values()],
                first=[r.extra['first'] for r in apart.values()],
            ),
        )
        for r in apart.values():
            shutil.rmtree(r.path)
        return done


def marked(mark):
    """The processes whose environment holds FASHION_LAB_TEST_MARK=`mark`, as they were started:
    {pid: command}."""
    found = {}
    for p in Path('/proc').glob('[0-9]*'):
        try:
            if (
                f'FASHION_LAB_TEST_MARK={mark}'.encode() in (p / 'environ').read_bytes()
                and (p / 'stat').read_text().split(') ')[1][0] != 'Z'
            ):
                found[int(p.name)] = (
                    (p / 'cmdline').read_bytes().replace(b'\0', b' ').decode()[:120]
                )
        except OSError:
            pass
    return found


def slow_answers(paths, notes, seconds):
    """Answers of a shipped model, with a note of the process that is at work, and time enough to
    lose its machine."""
    from fashion_lab.zoo.answers import answer_stream

    paths = list(paths)
    (Path(notes) / str(os.getpid())).touch()
    time.sleep(seconds)
    yield from answer_stream('closures', paths)
