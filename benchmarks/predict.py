"""Answers for many photos: in a stream against one call per photo, and the memory that a stream
needs.

    OMP_NUM_THREADS=1 python benchmarks/predict.py           both parts (needs the clothing photos)
    python benchmarks/predict.py memory                      only this part
    python benchmarks/predict.py --quick                     to see that it runs; nothing is recorded

`speed` takes turns: 24 calls of the closure lab's `predict` for one photo each, and one stream of
96 photos, by EfficientNet-Lite0 at 224 px. `memory` streams 10,000 photos through a small network
and compares the process's peak after 10,000 with that after 1,000. Results go to
results/benchmarks.csv.
"""

import itertools
import resource
import tempfile
import time
from pathlib import Path

from fashion_lab.data.selection import photos
from fashion_lab.labs import closures
from side_by_side import command, interleaved, record


def real_photos():
    "Paths of shoes, again and again."
    s = photos('closures', 'real', None, 224, None)
    return itertools.cycle([str(Path(s.root) / p) for p in s.items.path])


def finished(profile, folder):
    "A run of the linear probe on real photos."
    (cfg,) = closures.configs(profile, variants='linear-probe', source='real', device='cpu')
    return closures.run(cfg, folder)


def bench_speed(o):
    "Photos per second."
    with tempfile.TemporaryDirectory() as folder:
        run = finished('smoke' if o.quick else 'quick', folder)

        def one_by_one():
            paths = list(itertools.islice(real_photos(), 24))
            start = time.perf_counter()
            for path in paths:
                closures.predict(path, run)
            return len(paths), time.perf_counter() - start

        def stream():
            start = time.perf_counter()
            n = sum(1 for _ in closures.lab.stream(itertools.islice(real_photos(), 96), run))
            return n, time.perf_counter() - start

        rates = interleaved(o.repeats, stream=stream, one_by_one=one_by_one)
    record(
        'answers for photos',
        rates['stream'],
        rates['one_by_one'],
        'photos/s',
        o,
        'a call per photo',
    )


def peak():
    "MB that this process has needed so far."
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def bench_memory(o):
    "The peak after a tenth of the photos, and after all."
    n = 200 if o.quick else 10_000
    with tempfile.TemporaryDirectory() as folder:
        run = finished('smoke', folder)
        peaks = []
        for done, _ in enumerate(closures.lab.stream(itertools.islice(real_photos(), n), run), 1):
            if done in (n // 10, n):
                peaks.append(peak())
    record('memory of 10,000 answers', [peaks[1]], [peaks[0]], 'MB', o, 'peak after 1,000')


if __name__ == '__main__':
    command(__doc__, dict(speed=bench_speed, memory=bench_memory), {})
