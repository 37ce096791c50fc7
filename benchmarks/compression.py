"""How fast the files of the compression lab answer beside the original, one picture and 32 pictures
at a time, with as many threads as asked.

    python benchmarks/compression.py --runs FOLDER --threads 2                       the variants of
                                                                                     the lab's
                                                                                     targets (about
                                                                                     three minutes
                                                                                     on two cores)
    python benchmarks/compression.py --runs FOLDER channels-50-int8 photo-int8       only these
    python benchmarks/compression.py --runs FOLDER --quick                           few turns, to
                                                                                     see that it
                                                                                     runs; nothing
                                                                                     is recorded

FOLDER holds finished runs of the lab (`fashion_lab run compression --profile full --out FOLDER`):
the recorded results were timed with one thread while they were made, this times the same networks
with two. Results go to results/benchmarks.csv: milliseconds per call of the file in ONNX Runtime
(ours) and of the original network in eager torch (peer), in float32, taking turns in one process.
"""

import tempfile
from pathlib import Path

from fashion_lab.devices import threads
from fashion_lab.cost.timing import networks_in_turns
from fashion_lab.runs.run import all_runs
from fashion_lab.labs import compression as lab
from side_by_side import command, record

VARIANTS = (
    'onnx',
    'int8',
    'channels-50',
    'channels-50-int8',
    'distilled-50-strong-int8',
    'combination',
    'photo-onnx',
    'photo-int8',
)


def found(folder, variant):
    runs = [
        r
        for r in all_runs(folder, lab.LAB)
        if r.variant == variant and r.config['seed'] == 0 and r.config['profile'] == 'full'
    ]
    if not runs:
        raise SystemExit(
            f'no finished run of {variant} (full profile, seed 0) in {folder}: fashion_lab run '
            f'compression --profile full --variants {variant} --out {folder}'
        )
    return runs[-1]


def measured(variant):
    def part(o):
        run = found(o.runs, variant)
        first = found(o.runs, 'photo' if variant.startswith('photo') else 'original')
        cfg = lab.config_of(run)
        with threads(o.threads), tempfile.TemporaryDirectory() as d:
            data = lab.pictures_of(cfg)
            file, _ = lab.hand_over(lab.network(run), cfg, data, None, Path(d))
            for batch, (share, burst) in lab.BATCHES.items():
                rounds = [
                    networks_in_turns(
                        dict(original=lab.network(first), file=file),
                        data.shape,
                        batch,
                        max(3, round(share * o.turns)),
                        burst,
                    )
                    for _ in range(o.repeats)
                ]
                ours, peer = ([float(t.median_ms[n]) for t in rounds] for n in ('file', 'original'))
                record(
                    f'{variant}, batch {batch}, {o.threads} threads',
                    ours,
                    peer,
                    'ms',
                    o,
                    'the original in eager torch, float32',
                )

    return part


if __name__ == '__main__':
    command(
        __doc__,
        {v: measured(v) for v in VARIANTS},
        dict(turns=4),
        runs=('runs', 'folder with finished runs of the lab'),
        threads=(2, 'processor threads'),
        turns=(40, 'turns per repeat'),
    )
