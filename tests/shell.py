"""The `fashion_lab` command as a process of its own, as tests call it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def shell(*args, cwd=None, timeout=300, **env):
    """`fashion_lab ARGS` on one thread, without bars: the finished process, with its output as
    text. `env` adds environment variables."""
    quiet = dict(OMP_NUM_THREADS='1', FASHION_LAB_PROGRESS='0', PYTHONPATH=str(ROOT))
    return subprocess.run(
        [sys.executable, '-m', 'fashion_lab.studio.cli', *map(str, args)],
        env=dict(os.environ) | quiet | env,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
