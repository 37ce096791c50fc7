"""What it costs to spread runs over processes and machines: overhead per run, speed-up, the object
store, the scheduler, and what runs leave on a disk.

    python benchmarks/scale.py                     everything (about twenty minutes on two cores)
    python benchmarks/scale.py overhead speedup    only these parts: overhead, speedup, store,
                                                   throughput, storage
    python benchmarks/scale.py --quick             tiny sizes, to see that it runs; nothing is
                                                   recorded

Results go to results/scale.csv: one row per part, case and size, with the median and all repeats.
Ray is a cluster of two processors on this machine; starting and stopping it is measured by itself
and not part of the other figures. Every worker has one thread. All data is drawn (synthetic): times
do not depend on what is on the pictures. *overhead*: runs that learn nothing and write a folder
each: seconds per run, above what one process needs for them. *speedup*: the lab's FashionCNN,
trained on a few thousand pictures, several seeds; one worker against two, with one thread each, and
one process with two threads. *store*: tasks that read an array of so many MiB once: as an argument
of each task, and bound to the job, which is put into the object store once. *throughput*: tasks
that do nothing, and what the driver's memory grows by. *storage*: bytes, files and look-up time of
finished runs.
"""

import functools
import json
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from fashion_lab.devices import threads
from fashion_lab.runs.run import all_runs
from fashion_lab.runs.draft import start_run
from fashion_lab.runs.executors import Job, processes, sequential
from fashion_lab.runs.ray import on_ray, ray_cluster
from fashion_lab.runs.sweeps import sweep
from fashion_lab.labs import fashion_mnist as lab
from side_by_side import RESULTS, command, conditions, save

STAMP = dict(
    device='cpu',
    device_name='',
    threads=1,
    python='',
    commit='0123456789',
    dirty=False,
    date='2026-01-01',
    command='benchmark',
    versions={},
)
MIB = 2**20


def nothing(config, root=None):
    "A run that learns nothing and is stored like any other."
    with start_run('nothing', config, root) as draft:
        return draft.finish(dict(test=dict(accuracy=0.5)), environment=STAMP)


def noop(config):
    return config


def read(data, config):
    return float(data[::512].sum()) + config


def write(o, part, case, size, values, unit, **more):
    "One row: the median of `values`."
    row = dict(
        part=part,
        case=case,
        size=size,
        value=float(f'{statistics.median(values):.4g}'),
        unit=unit,
        repeats=len(values),
        all=json.dumps([float(f'{v:.4g}') for v in values]),
        **more,
        **conditions(),
    )
    print(f"  {case}, {size}: {row['value']} {unit}  {row['all']}", flush=True)
    if o.quick:
        return
    path = RESULTS / 'scale.csv'
    key = ['part', 'case', 'size']
    old = (
        pd.read_csv(path, dtype=str, keep_default_na=False)
        if path.exists()
        else pd.DataFrame(columns=list(row))
    )
    new = pd.DataFrame([row]).astype(str)
    save(
        path,
        pd.concat(
            [old[~old[key].agg('/'.join, axis=1).isin(new[key].agg('/'.join, axis=1))], new],
            ignore_index=True,
        ),
    )


def timed(f):
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def consume(results):  # a failure would make a fast benchmark
    for _, r in results:
        if isinstance(r, Exception):
            raise r


def overhead(o):
    n = (20, 300)[not o.quick]
    times = {}
    configs = [dict(variant='nothing', seed=s) for s in range(n)]

    def once(executor, **kw):
        with tempfile.TemporaryDirectory() as d:
            return (
                timed(
                    lambda: consume(
                        executor(Job(nothing, 'nothing', d), list(enumerate(configs)), **kw)
                    )
                )
                / n
            )

    def start():
        with ray_cluster(cpus=2):
            pass

    write(
        o,
        'overhead',
        'start and stop a Ray cluster',
        1,
        [timed(start) for _ in range(o.repeats)],
        's',
    )
    with ray_cluster(cpus=2):
        cases = dict(
            sequential=lambda: once(sequential),
            processes=lambda: once(processes, workers=2),
            ray=lambda: once(on_ray),
        )
        for r in range(o.repeats + 1):
            for name, f in cases.items():
                times.setdefault(name, []).append(f())
    for name, ts in times.items():
        write(o, 'overhead', name, n, [1000 * t for t in ts[1:]], 'ms per run')


def speedup(o):
    n, limit, times = (2, 300, {}) if o.quick else (4, 4000, {})
    todo = lab.configs('smoke', n, 'FashionCNN', source='synthetic', device='cpu', limit=limit)
    lab.prepare(todo[0])

    def here(k):
        with threads(k):
            return once(lambda d: sweep(lab.run, todo, lab.LAB, d))

    def once(f):
        with tempfile.TemporaryDirectory() as d:

            def whole():
                done = f(d)
                assert len(done.runs) == n, done.failures.traceback[0]

            return timed(whole)

    with ray_cluster(cpus=2):
        cases = {
            'one process, one thread': lambda: here(1),
            'one process, two threads': lambda: here(2),
            'processes, one worker': lambda: once(
                lambda d: sweep(lab.run, todo, lab.LAB, d, 'processes', workers=1)
            ),
            'processes, two workers': lambda: once(
                lambda d: sweep(lab.run, todo, lab.LAB, d, 'processes', workers=2)
            ),
            'ray, one worker': lambda: once(
                lambda d: sweep(lab.run, todo, lab.LAB, d, 'ray', workers=1)
            ),
            'ray, two workers': lambda: once(
                lambda d: sweep(lab.run, todo, lab.LAB, d, 'ray', workers=2)
            ),
        }
        for r in range(o.repeats + 1):
            for name, f in cases.items():
                times.setdefault(name, []).append(f())
            print(
                f'  round {r}: ' + ', '.join(f'{k} {v[-1]:.1f} s' for k, v in times.items()),
                flush=True,
            )
    for name, ts in times.items():
        write(o, 'speedup', name, n, ts[1:], 's')


def store(o):
    sizes, n = ((1, 4), 4) if o.quick else ((1, 5, 15, 47, 100, 200), 16)
    with ray_cluster(cpus=2) as ray:
        each = ray.remote(num_cpus=1)(read)
        list(on_ray(noop, list(enumerate(range(8)))))
        for size in sizes:
            data = np.random.default_rng(0).integers(0, 255, size * MIB, dtype=np.uint8)
            times = {}

            def per_task():
                assert len(ray.get([each.remote(data, i) for i in range(n)])) == n

            def put_once():
                consume(on_ray(functools.partial(read, data), list(enumerate(range(n)))))

            for r in range(o.repeats + 1):
                for name, f in {
                    'an argument of each task': per_task,
                    'bound to the job': put_once,
                }.items():
                    times.setdefault(name, []).append(timed(f))
            for name, ts in times.items():
                write(o, 'store', name, size, [1000 * t / n for t in ts[1:]], 'ms per task')


def throughput(o):
    sizes = (100, 300) if o.quick else (100, 1000, 5000, 20_000)

    def memory():
        return int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize() / MIB

    with ray_cluster(cpus=2):
        consume(on_ray(noop, list(enumerate(range(50)))))
        for n in sizes:
            before = memory()
            top = [0.0]

            def run():
                for k, (_, r) in enumerate(on_ray(noop, ((i, i) for i in range(n)))):
                    assert r is not None
                    if k % 100 == 0:
                        top[0] = max(top[0], memory())

            times = [timed(run) for _ in range(o.repeats if n < 20_000 else 1)]
            write(
                o, 'throughput', 'ray, tasks that do nothing', n, [n / t for t in times], 'tasks/s'
            )
            write(
                o,
                'throughput',
                "growth of the driver's memory",
                n,
                [max(0.0, top[0] - before)],
                'MiB',
            )


def storage(o):
    with tempfile.TemporaryDirectory() as d:
        cfg = lab.configs('smoke', 1, 'FashionCNN', source='synthetic', device='cpu', limit=600)[0]

        def size(run):
            return (
                sum(p.stat().st_size for p in run.path.rglob('*') if p.is_file()),
                sum(p.is_file() for p in run.path.rglob('*')),
            )

        for name, run in dict(FashionCNN=lab.run(cfg, d), nothing=nothing(dict(seed=0), d)).items():
            size_, files = size(run)
            write(o, 'storage', f'bytes of a run, {name}', 1, [size_ / 1024], 'KiB')
            write(o, 'storage', f'files of a run, {name}', 1, [files], 'files')
    for n in (20, 50) if o.quick else (100, 1000, 10_000):
        configs = [dict(variant='nothing', seed=s) for s in range(n)]
        with tempfile.TemporaryDirectory() as d:
            for c in configs:
                nothing(c, d)
            write(
                o,
                'storage',
                'a sweep that finds everything finished',
                n,
                [
                    timed(lambda: sweep(nothing, configs, 'nothing', d))
                    for _ in range(min(3, o.repeats))
                ],
                's',
            )
            write(
                o,
                'storage',
                'the table over all runs',
                n,
                [timed(lambda: sweep_table(d)) for _ in range(1)],
                's',
            )


def sweep_table(root):
    from fashion_lab.runs.results import table

    return table(all_runs(root))


if __name__ == '__main__':
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    command(
        __doc__,
        dict(
            overhead=overhead, speedup=speedup, store=store, throughput=throughput, storage=storage
        ),
        {},
    )
