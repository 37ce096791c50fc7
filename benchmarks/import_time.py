"""How long `import fashion_lab` takes: the median over fresh interpreters, less what an empty
interpreter takes. The aim is less than 0.3 s.

python benchmarks/import_time.py [module ...]
"""

import statistics
import subprocess
import sys
import time


def seconds(code):
    "Wall-clock seconds of a fresh interpreter that runs `code`."
    start = time.perf_counter()
    subprocess.run([sys.executable, '-c', code], check=True)
    return time.perf_counter() - start


def import_seconds(
    module='fashion_lab',  # what is imported
    repeats=7,  # interleaved pairs of interpreters, after one pair that warms the file cache
):  # median seconds of the import alone
    "Median of `import module` in a fresh interpreter, less the median of an empty one."
    pairs = [(seconds('pass'), seconds(f'import {module}')) for _ in range(repeats + 1)][1:]
    empty, full = (statistics.median(t) for t in zip(*pairs))
    return full - empty


if __name__ == '__main__':
    for module in sys.argv[1:] or [
        'fashion_lab',
        'fashion_lab.core',
        'fashion_lab.data.registry',
        'fashion_lab.evaluate.bootstrap',
        'fashion_lab.runs.results',
        'fashion_lab.studio.cli',
    ]:
        print(f'import {module}: {import_seconds(module):.3f} s')
