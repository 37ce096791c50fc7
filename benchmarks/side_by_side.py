"""What every side-by-side benchmark shares: tasks that take turns, medians and their ratio, the row
that is recorded, and the command line.

Machines are noisy, and they slow down and speed up by the minute. So both sides of a comparison run
in one process and take turns, the first round does not count, and what is recorded is the ratio of
medians with all single figures beside it.
"""

import argparse
import functools
import json
import statistics
from pathlib import Path

import pandas as pd

from fashion_lab.core import atomic_path
from fashion_lab.runs.provenance import environment

RESULTS = Path(__file__).resolve().parents[1] / 'results'


def interleaved(repeats, **tasks):
    "Run the tasks in turn, `repeats` times; {name: list of images per second}."
    rates = {k: [] for k in tasks}
    for r in range(repeats + 1):  # the first round warms up and does not count
        for k, f in tasks.items():
            n, s = f()
            if r:
                rates[k].append(n / s)
        print(
            f'  round {r}: ' + ', '.join(f'{k} {v[-1]:.0f}/s' for k, v in rates.items() if v),
            flush=True,
        )
    return rates


# as they were at the first row: the file that is written is under version control, too
@functools.cache
def conditions():
    e = environment()
    return dict(
        device=f"{e['device']} ({e['device_name']})",
        threads=e['threads'],
        cores=e['cores'],
        bf16=e['bf16'],
        instructions=e['instructions'],
        torch=e['versions']['torch'],
        python=e['python'],
        commit=e['commit'] + ('+changes' if e['dirty'] else ''),
        date=e['date'],
        command=e['command'],
    )


def save(path, table):
    with atomic_path(path) as tmp:
        table.to_csv(tmp, index=False)


def record(name, ours, peer, unit, o, peer_is=''):
    "Medians and their ratio (how many times better ours is) into results/benchmarks.csv."
    a, b = statistics.median(ours), statistics.median(peer)
    ratio = a / b if unit.endswith('/s') else b / a
    row = dict(
        benchmark=name,
        ours=round(a, 3),
        peer=round(b, 3),
        ratio=round(ratio, 2),
        unit=unit,
        repeats=len(ours),
        ours_all=json.dumps([round(v, 2) for v in ours]),
        peer_all=json.dumps([round(v, 2) for v in peer]),
        peer_is=peer_is,
        **conditions(),
    )
    print(f"{name}: ours {a:.4g} {unit}, peer {b:.4g} {unit}, {ratio:.2f} times better", flush=True)
    if o.quick:
        return
    path = RESULTS / 'benchmarks.csv'
    old = (
        pd.read_csv(path, dtype=str, keep_default_na=False)
        if path.exists()
        else pd.DataFrame(columns=list(row))
    )
    save(
        path,
        pd.concat([old[old.benchmark != name], pd.DataFrame([row]).astype(str)], ignore_index=True),
    )


def command(doc, parts, quick, before=None, **options):
    """The command line of a benchmark.

    doc: the script's docstring; parts: name -> function of the options, run in this order unless
    some are named; quick: options that `--quick` sets; before: options -> what the parts get in
    front of the options; options: name -> (default, text), beside `--repeats` and `--quick`.
    Nothing is recorded with `--quick`.
    """
    p = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument(
        'parts',
        nargs='*',
        choices=[[], *parts],
        default=[],
        metavar='PART',
        help=f"which benchmarks: {', '.join(parts)}; default: all",
    )
    for name, (default, text) in (dict(repeats=(5, 'counted rounds')) | options).items():
        p.add_argument(
            f'--{name}',
            type=type(default),
            default=default,
            help=f'{text}; default {default if isinstance(default, str) else format(default, ",")}',
        )
    p.add_argument(
        '--quick', action='store_true', help='tiny sizes, to see that it runs; nothing is recorded'
    )
    o = p.parse_args()
    if o.quick:
        vars(o).update(dict(repeats=1) | quick)
    shared = [before(o)] if before else []
    for name in o.parts or parts:
        print(name, flush=True)
        parts[name](*shared, o)
