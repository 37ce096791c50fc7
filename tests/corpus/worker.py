"""A process that runs cases, and that whoever calls it may kill.

It reads the name of a case and a folder per line, and answers with what went wrong, in JSON."""

import json
import os
import sys
import traceback
from pathlib import Path

from . import all_cases
from .desk import Desk
from .trained import make_runs


def memory() -> (
    dict
):  # of this process, in MB: what it holds now, and the most it held since `forget_peak`
    try:
        lines = Path('/proc/self/status').read_text().splitlines()
    except OSError:
        return dict(VmRSS=0.0, VmHWM=0.0)
    return {
        line[:5]: int(line.split()[1]) / 1024 for line in lines if line[:5] in ('VmRSS', 'VmHWM')
    }


def forget_peak():
    try:
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        pass


def outcome(case, folder, trained) -> str:  # '' where all is as it should be
    "Run one case."
    forget_peak()
    before = memory()['VmRSS']
    try:
        case.check(Desk(folder, trained))
    except AssertionError as e:
        return str(e) or traceback.format_exc(limit=-2)
    except Exception:
        return f'the case itself failed: {traceback.format_exc(limit=-3)}'
    needed = memory()['VmHWM'] - before
    return (
        f'it needed {needed:,.0f} MB of memory, and {case.megabytes:,.0f} are the most'
        if needed > case.megabytes
        else ''
    )


def serve(root):
    answers, cases = os.fdopen(os.dup(1), 'w'), all_cases()
    os.dup2(2, 1)  # whatever the package prints elsewhere is no answer
    trained = make_runs(Path(root) / 'trained')
    print(json.dumps('ready'), file=answers, flush=True)
    for line in sys.stdin:
        name, folder = json.loads(line)
        print(json.dumps(outcome(cases[name], folder, trained)), file=answers, flush=True)


if __name__ == '__main__':
    serve(sys.argv[1])
