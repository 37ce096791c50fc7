"""What nbdev_test does to one notebook, in a process of its own. The processes are forked from one
that has imported the heavy libraries and nothing of this project, so that a notebook starts at
once and still meets a fresh interpreter."""

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

# `fastai.learner` patches nothing that a notebook would have to import itself
HEAVY = [
    'fastai.learner',
    'matplotlib.pyplot',
    'nbdev.test',
    'pandas',
    'scipy.stats',
    'sklearn.linear_model',
    'torchvision',
]
THREADS = {f'{lib}_NUM_THREADS': '1' for lib in ('OMP', 'MKL', 'OPENBLAS', 'NUMEXPR')}
server = multiprocessing.get_context('forkserver')
server.set_forkserver_preload(HEAVY)


def run_here(notebook, project, flags, output):
    "Run a notebook of the copy `project` in this process, which becomes a group of its own."
    os.setsid()
    with open(output, 'w') as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.stdout, sys.stderr = (os.fdopen(n, 'w', buffering=1) for n in (1, 2))
    os.environ |= dict(
        **THREADS,
        FASHION_LAB_RUNS=str(project.parent / 'runs'),
        FASHION_LAB_SMOKE='1',
        IN_TEST='1',
        MPLBACKEND='agg',
        XDG_CONFIG_HOME=str(project),  # without a user's own nbdev settings
    )
    os.chdir(project)
    from nbdev.test import nbdev_test

    nbdev_test(path=str(project / 'nbs' / notebook), n_workers=0, do_print=True, flags=flags)


def run_notebook(notebook, project, flags, timeout):
    "(whether nbdev_test's run of a notebook ended well, what it printed)"
    with patch.dict(os.environ, THREADS):  # which libraries read when they are imported
        multiprocessing.forkserver.ensure_running()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / 'output.txt'
        child = server.Process(target=run_here, args=(notebook, project, flags, output))
        child.start()
        child.join(timeout)
        late = child.is_alive()
        if late:
            os.killpg(child.pid, signal.SIGKILL)
            child.join()
        text = output.read_text(errors='replace') if output.exists() else ''
    if late:
        text += f'\nstopped after {timeout:.0f} s'
    return child.exitcode == 0 and '- Completed' in text and 'Success.' in text, text
