"""axe-core, which looks for barriers in pages: one file of its npm package, checked by its digest
and kept in the project's cache."""

import functools
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from fashion_lab.core import cache_dir

PACKAGE = 'axe-core-4.11.1'
SHA256 = '7dbfabdfc6062936d79c873ddbb5f811a1219fca3928bd8cc9dd81f1e65f4720'


def is_whole(path):
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256


def fetch(path):
    "Write the script where npm can fetch it; why not, where it cannot."
    if not shutil.which('npm'):
        return 'npm is not installed'
    with tempfile.TemporaryDirectory() as folder:
        name, _, version = PACKAGE.rpartition('-')
        done = subprocess.run(
            ['npm', 'pack', f'{name}@{version}', '--silent'],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        packed = Path(folder) / f'{PACKAGE}.tgz'
        if done.returncode or not packed.is_file():
            return f'npm cannot fetch it: {done.stderr.strip()[-300:]}'
        with tarfile.open(packed) as files:
            script = files.extractfile('package/axe.min.js').read()
    if hashlib.sha256(script).hexdigest() != SHA256:
        raise ValueError(f'{PACKAGE} from npm is another file than the one this project has seen')
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as new:
        new.write(script)
    Path(new.name).replace(path)
    return ''


@functools.cache
def axe_script():
    "The source of axe; the test is skipped with the reason where it is not at hand."
    path = cache_dir() / 'tools' / f'{PACKAGE}.min.js'
    if not is_whole(path):
        try:
            why = fetch(path)
        except subprocess.TimeoutExpired:
            why = 'npm did not answer'
        if why:
            pytest.skip(f'{PACKAGE} is not at hand: {why}')
    return path.read_text(encoding='utf-8')


# What style sheet and layout decide, alike on all pages of a kind: most of axe's time
SLOW_RULES = ('color-contrast', 'target-size', 'link-in-text-block')
LOOK = """async (left_out) => {
  const rules = Object.fromEntries(left_out.map(rule => [rule, { enabled: false }]));
  const seen = await axe.run(document, { preload: false, resultTypes: ['violations'], rules });
  return seen.violations.map(v => ({
    rule: v.id, help: v.help, count: v.nodes.length, first: v.nodes.slice(0, 3).map(n => n.html.slice(0, 160)),
  }));
}"""


def barriers(tab, *left_out):
    """What axe finds on the page that a tab shows: a line for every rule that is broken, without
    the rules `left_out`."""
    tab.evaluate(axe_script())
    found = tab.evaluate(LOOK, left_out)
    return [f"{v['rule']} ({v['count']}): {v['help']} {v['first']}" for v in found]
