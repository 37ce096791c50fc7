"""Answers for many photos: in a stream against one call per photo, where the time goes, the memory
that a stream needs, and what a second worker brings.

    OMP_NUM_THREADS=1 python benchmarks/predict.py           everything (under ten minutes on two
                                                             cores; needs the closure photos)
    python benchmarks/predict.py steps memory                only these parts: speed, steps, memory,
                                                             workers
    python benchmarks/predict.py --quick                     to see that it runs; nothing is recorded

*speed* takes turns, in photos per second: the closure lab's `predict` for one photo each, and one
stream, by EfficientNet-Lite0 at 224 px with a head that is solved; the same for the shipped network;
and one command per photo against one command for all. *steps*: milliseconds per photo of reading it
and of the shipped network, one at a time and in batches of 32, for the photos as they are (256 x 341
pixels) and enlarged to 12 megapixels. *memory*: 10,000 answers of the shipped network in parts of
1,000, and the process's peak after the first 1,000 and after all. *workers*: the same by a Ray
cluster on this machine, with one worker and with two. Ratios go to results/benchmarks.csv, the rest
to results/scale.csv.
"""

import functools
import itertools
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from fashion_lab.data.resizing import decode
from fashion_lab.data.selection import photos
from fashion_lab.labs import closures
from fashion_lab.runs.ray import ray_cluster
from fashion_lab.studio.photo_parts import answer_in_parts, Answering
from fashion_lab.zoo.answers import answer_batch, answer_stream
from fashion_lab.zoo.models import model_facts
from fashion_lab.data.batches import prepared
from scale import write
from side_by_side import command, interleaved, record

MODEL = 'closures'


@functools.cache
def real_photos():
    "Paths of shoes."
    s = photos('closures', 'real', None, 224, None)
    return [str(Path(s.root) / p) for p in s.items.path]


def again(n):
    "`n` paths: all photos, again and again."
    return list(itertools.islice(itertools.cycle(real_photos()), n))


def rates(n, answer):
    "Function without arguments that answers for `n` photos: (photos, seconds)."

    def timed():
        start = time.perf_counter()
        answer(again(n))
        return n, time.perf_counter() - start

    return timed


def of_run(o, folder):
    "A solved head on real photos: one call per photo, and a stream."
    (cfg,) = closures.configs(
        'smoke' if o.quick else 'quick', variants='linear-probe', source='real', device='cpu'
    )
    run = closures.run(cfg, folder)

    def one_by_one(paths):
        for path in paths:
            closures.predict(path, run)

    def stream(paths):
        assert sum(1 for _ in closures.lab.stream(paths, run)) == len(paths)

    return one_by_one, stream


def of_shipped():
    def one_by_one(paths):
        for path in paths:
            next(answer_stream(MODEL, [path]))

    def stream(paths):
        assert sum(1 for _ in answer_stream(MODEL, paths)) == len(paths)

    return one_by_one, stream


def of_command():
    start = [sys.executable, '-m', 'fashion_lab.studio.cli', 'predict', MODEL]

    def at_once(paths):
        subprocess.run([*start, *paths], check=True, capture_output=True)

    def one_by_one(paths):
        for path in paths:
            at_once([path])

    return one_by_one, at_once


def bench_speed(o):
    "Photos per second."
    many = 32 if o.quick else 128
    with tempfile.TemporaryDirectory() as folder:
        cases = {
            'answers of a run': (8, of_run(o, folder)),
            'answers of a shipped network': (32, of_shipped()),
            'answers of the command': (4, of_command()),
        }
        for name, (few, (one_by_one, stream)) in cases.items():
            found = interleaved(
                o.repeats, stream=rates(many, stream), one_by_one=rates(few, one_by_one)
            )
            record(name, found['stream'], found['one_by_one'], 'photos/s', o, 'a call per photo')


def milliseconds(f, n):
    "Per photo."
    start = time.perf_counter()
    f()
    return 1000 * (time.perf_counter() - start) / n


def enlarged(folder, n):
    "Some photos as a phone takes them."
    paths = []
    for k, path in enumerate(real_photos()[:n]):
        paths.append(f'{folder}/{k}.jpg')
        Image.open(path).resize((4000, 3000), Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


def bench_steps(o):
    "What a photo costs, step by step."
    n = 8 if o.quick else 64
    prepare = functools.partial(decode, size=224, fit='crop')
    seen = [prepared(path, prepare) for path in again(n)]
    with tempfile.TemporaryDirectory() as folder:
        large = enlarged(folder, 8)

        def read(paths):
            for path in paths:
                prepare(path)

        def ask(batch):
            for at in range(0, n, batch):
                answer_batch(seen[at : at + batch], MODEL)

        steps = {
            'read a photo of 256 x 341': lambda: milliseconds(lambda: read(again(n)), n),
            'read a photo of 12 megapixels': lambda: milliseconds(lambda: read(large), len(large)),
            'ask the network, one photo at a time': lambda: milliseconds(lambda: ask(1), n),
            'ask the network, 32 photos at a time': lambda: milliseconds(lambda: ask(32), n),
        }
        times = {name: [] for name in steps}
        for _ in range(o.repeats + 1):
            for name, step in steps.items():
                times[name].append(step())
    for name, values in times.items():
        write(o, 'answers', name, 1, values[1:], 'ms per photo')


def shipped():
    "The shipped network, ready for parts."
    facts = model_facts(MODEL)
    stream = functools.partial(answer_stream, MODEL)
    return Answering(stream, tuple(facts['classes']), False, MODEL, MODEL)


def peak():
    "MiB that this process has needed so far."
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bench_memory(o):
    "The peak after a tenth of the photos, and after all; photos per second, and bytes per answer."
    n = 200 if o.quick else 10_000
    paths = again(n)
    with tempfile.TemporaryDirectory() as folder:
        answer_in_parts(shipped(), paths[: n // 10], f'{folder}/first', n=n // 10)
        first = peak()
        tally, failures = answer_in_parts(shipped(), paths, f'{folder}/all', n=n // 10)
        assert not failures and tally.photos == n
        bytes_ = sum(p.stat().st_size for p in Path(folder, 'all').glob('part-*'))
    write(o, 'answers', 'in one process', n, [tally.rate()], 'photos/s')
    write(o, 'answers', 'bytes per answer, CSV', n, [bytes_ / n], 'bytes')
    photo = sum(map(os.path.getsize, real_photos())) / len(real_photos())
    write(o, 'answers', 'bytes per photo', n, [photo], 'bytes')
    write(o, 'answers', 'peak memory of the process', n // 10, [first], 'MiB')
    write(o, 'answers', 'peak memory of the process', n, [peak()], 'MiB')


def bench_workers(o):
    "Photos per second by a cluster with one and with two workers."
    n, each = (80, 20) if o.quick else (1600, 100)
    paths, found = again(n), {1: [], 2: []}
    with ray_cluster(cpus=2), tempfile.TemporaryDirectory() as folder:
        # workers import what they need
        answer_in_parts(shipped(), paths[:each], f'{folder}/warm', n=each // 4, executor='ray')
        for r, workers in itertools.product(range(o.repeats), found):
            place = f'{folder}/{r}-{workers}'
            tally, failures = answer_in_parts(
                shipped(), paths, place, n=each, executor='ray', workers=workers
            )
            assert not failures and tally.photos == n
            found[workers].append(tally.rate())
            print(f'  round {r}: {workers} workers, {tally.rate():.0f}/s', flush=True)
    for workers, values in found.items():
        name = 'worker' if workers == 1 else 'workers'
        write(o, 'answers', f'ray, {workers} {name}', n, values, 'photos/s')


if __name__ == '__main__':
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    parts = dict(speed=bench_speed, steps=bench_steps, memory=bench_memory, workers=bench_workers)
    command(__doc__, parts, {})
