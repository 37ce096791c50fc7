"""How fast the networks of the compression lab answer beside the original: what a variant ships,
against the original in eager torch, one picture and 32 pictures at a time.

    python benchmarks/compression.py --runs FOLDER              all architectures (about ten minutes
                                                                on a quiet core)
    python benchmarks/compression.py --runs FOLDER --threads 2  with two threads
    python benchmarks/compression.py --runs FOLDER batch_32     only this batch
    python benchmarks/compression.py --runs FOLDER --quick      few turns of smoke runs, to see that
                                                                it runs; nothing is recorded

FOLDER holds finished runs of the lab (`fashion_lab run compression --profile full --out FOLDER`),
with three seeds of every variant. The time of an answer is a matter of shapes and number formats,
not of the weights: variants and seeds with the same shapes are one architecture, and their turns are
pooled. All architectures take turns in one process; the original is measured before and after each
of them, and a turn in which it changed by more than `--most` is rejected. Results go to
results/compression_speed.csv: the median of the ratio over the turns that are left, its 95 %
interval, and how many turns were rejected. On a machine that does something else most turns are:
wait for a quiet one.
"""

import hashlib
import tempfile
from pathlib import Path

import pandas as pd

from fashion_lab.core import atomic_path
from fashion_lab.cost.timing import against_first, network_call, speedups
from fashion_lab.devices import threads
from fashion_lab.labs import compression as lab
from fashion_lab.labs import compression_files
from fashion_lab.runs.run import all_runs
from side_by_side import RESULTS, command, conditions

FILE = RESULTS / 'compression_speed.csv'
SEEDS = (0, 1, 2)
BURST = {1: 20, 32: 5}  # calls in a turn


def architecture(run):
    "What decides the time of an answer: shapes, and how the network is shipped."
    cfg = lab.config_of(run)
    shapes = sorted((name, tuple(w.shape)) for name, w in run.weights().items())
    text = repr((cfg.data, cfg.side, cfg.int8, run.extra['shipped'], shapes))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def chosen_runs(folder, profile):
    "Runs of the seeds that every variant has, the newest of each; {(variant, seed): run}."
    runs = {}
    for run in all_runs(folder, lab.LAB):
        seed = run.config['seed']
        if run.config['profile'] == profile and seed in SEEDS:
            runs[run.variant, seed] = run
    if ('original', 0) not in runs:
        raise SystemExit(
            f'no finished run of the original (profile {profile}, seed 0) in {folder}: '
            f'fashion_lab run compression --profile {profile} --seeds 3 --out {folder}'
        )
    return runs


def shipped(run, folder):
    "What a run hands over: its network in torch, or the file in its runtime."
    net = lab.network(run)
    if run.extra['shipped'] == 'torch, eager':
        return net
    cfg = lab.config_of(run)
    file, _, _ = compression_files.export_variant(net, cfg, lab.pictures_of(cfg), None, folder)
    return file


def pooled(runs, data):
    "{architecture: (names of variants, runs)} of one data set, the original's left out."
    groups = {}
    for (variant, _), run in runs.items():
        if run.config['data'] == data:
            names, members = groups.setdefault(architecture(run), ([], []))
            members.append(run)
            if variant not in names:
                names.append(variant)
    return {
        key: (names, members)
        for key, (names, members) in groups.items()
        if not {'original', 'photo'} & set(names)
    }


def measured(runs, data, batch, o):
    "A row per architecture of one data set."
    first = runs['original' if data == 'fashion_mnist' else 'photo', 0]
    groups = pooled(runs, data)
    shape = lab.pictures_of(lab.config_of(first)).shape
    with threads(o.threads), tempfile.TemporaryDirectory() as d:
        calls = {'original': network_call(lab.network(first), shape, batch)}
        for key, (_, members) in groups.items():
            for i, run in enumerate(members[: o.seeds]):
                folder = Path(d) / f'{key}-{i}'
                folder.mkdir()
                calls[key, i] = network_call(shipped(run, folder), shape, batch)
        turns = against_first(calls, o.turns, BURST[batch], o.most, show=None)
    turns['name'] = [key for key, _ in turns.name]
    t = speedups(turns)
    return [
        dict(
            data=data,
            variants=' '.join(groups[key][0]),
            architecture=key,
            networks=len(groups[key][1][: o.seeds]),
            batch=batch,
            most=o.most,
            **row,
            **conditions() | dict(threads=o.threads),
        )
        for key, row in t.round(4).to_dict('index').items()
    ]


def timed(batch):
    def part(o):
        runs = chosen_runs(o.runs, 'smoke' if o.quick else 'full')
        rows = []
        for data in lab.DATA:
            base = 'original' if data == 'fashion_mnist' else 'photo'
            if (base, 0) in runs and pooled(runs, data):
                rows += measured(runs, data, batch, o)
        table = pd.DataFrame(rows)
        shown = ['variants', 'batch', 'ms', 'speedup', 'low', 'high', 'kept', 'rejected']
        print(table[shown].to_string(index=False), flush=True)
        if not o.quick:
            write(table)

    return part


def write(table):
    "Put rows into the results file, in place of those of the same architecture, batch and threads."
    key = ['architecture', 'batch', 'threads']
    if FILE.exists():
        old = pd.read_csv(FILE)
        same = pd.MultiIndex.from_frame(old[key]).isin(pd.MultiIndex.from_frame(table[key]))
        table = pd.concat([old[~same], table], ignore_index=True)
    with atomic_path(FILE) as tmp:
        table.to_csv(tmp, index=False)


if __name__ == '__main__':
    command(
        __doc__,
        {f'batch_{b}': timed(b) for b in BURST},
        dict(turns=8),
        runs=('runs', 'folder with finished runs of the lab'),
        threads=(1, 'processor threads'),
        turns=(60, 'turns of every network'),
        seeds=(3, 'networks of one architecture at most'),
        most=(1.1, 'change of the original that rejects a turn'),
    )
