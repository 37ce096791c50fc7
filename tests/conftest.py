"""What all tests share: the project's root, a scratch copy of it, where Fashion-MNIST is, and
the table of notebooks at the end."""

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import settings

from shell import shell

ROOT = Path(__file__).resolve().parent.parent
CORES = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
# `make test` starts a pytest process per core (pytest-xdist), each with one thread; a single
# process gets all cores.
# Notebooks run in processes of their own with one thread (notebook_process.py), on the core of
# the process that waits for them.
PARALLEL = 'PYTEST_XDIST_WORKER' in os.environ
os.environ.setdefault('OMP_NUM_THREADS', '1' if PARALLEL else str(CORES))
LEFT_BEHIND = shutil.ignore_patterns(
    '.git',
    '.venv',
    '_docs',
    '_proc',
    'build',
    'dist',
    '*.egg-info',
    '__pycache__',
    '.*_cache',
    '.hypothesis',
    '.benchmarks',
    '.ipynb_checkpoints',
    '.last_checked',
)


def NOT_SOURCES(folder, names):
    """What a copy of the project leaves out, for `shutil.copytree`; of the folders called
    `runs` only those that are no package."""
    has_package = Path(folder) in (ROOT / 'fashion_lab', ROOT / 'nbs')
    return LEFT_BEHIND(folder, names) | ({'runs'} & set(names) if not has_package else set())


NOTEBOOK_TIMES = pytest.StashKey()
# The same examples every time; HYPOTHESIS_PROFILE=default looks for new ones.
settings.register_profile('repeatable', derandomize=True)
settings.load_profile(os.environ.get('HYPOTHESIS_PROFILE', 'repeatable'))


def find_fashion_mnist():
    """(the folder with Fashion-MNIST on this machine or None, why it is not found); nothing is
    downloaded."""
    try:
        from fashion_lab.data.cards import card
        from fashion_lab.data.fashion_mnist import find_files

        return find_files(card('fashion_mnist'), download=False), ''
    except Exception as e:
        return None, f'{type(e).__name__}: {e}'  # a broken data module fails tests of its own


def pytest_configure(config):
    config.stash[NOTEBOOK_TIMES] = {}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Tests of a file stay in one process and share its fixtures, and so do the two files that
    need the whole site; every notebook is work of its own, so that all processes end at about
    the same time."""
    from xdist.scheduler import LoadFileScheduling

    site = ('tests/test_website.py', 'tests/browser/test_site.py')

    class NotebooksApart(LoadFileScheduling):
        def _split_scope(self, nodeid):
            if '::test_notebook_runs[' in nodeid:
                return nodeid
            return 'site' if nodeid.startswith(site) else super()._split_scope(nodeid)

    return NotebooksApart(config, log) if config.option.dist == 'loadfile' else None


def pytest_sessionfinish(session):
    "A worker hands the times of its notebooks to the process that prints the summary."
    if PARALLEL:
        session.config.workeroutput['notebooks'] = session.config.stash[NOTEBOOK_TIMES]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    node.config.stash[NOTEBOOK_TIMES].update(getattr(node, 'workeroutput', {}).get('notebooks', {}))


def pytest_report_header(config):
    where, why = find_fashion_mnist()
    data = 'found' if where else f'not found, so cells marked `data` do not run ({why})'
    return (
        f'fashion_lab: {CORES} cores, OMP_NUM_THREADS={os.environ["OMP_NUM_THREADS"]}, '
        f'Fashion-MNIST {data}'
    )


def pytest_terminal_summary(terminalreporter, config):
    if not (times := config.stash[NOTEBOOK_TIMES]):
        return
    terminalreporter.section('notebooks')
    for name, (ok, seconds) in sorted(times.items()):
        terminalreporter.line(f'{"ran" if ok else "FAILED":7} {seconds:6.1f} s  {name}')


@pytest.fixture(scope='session')
def root():
    return ROOT


@pytest.fixture(scope='session')
def fashion_mnist():
    "Fashion-MNIST's folder; a test that asks for it is skipped where there is none."
    return find_fashion_mnist()[0] or pytest.skip('Fashion-MNIST is not on this machine: make data')


@pytest.fixture(scope='session')
def smoke(tmp_path_factory):
    """Labs' smoke profiles as the command runs them, each once for all tests: function lab ->
    (folder of runs, the finished process)."""

    @functools.cache
    def of(lab):
        root = tmp_path_factory.mktemp(lab)
        return root, shell(
            'run', lab, '--profile', 'smoke', '--device', 'cpu', '--threads', 1, '--out', root
        )

    return of


@pytest.fixture
def copy(tmp_path):
    "A copy of the project's files, without what git ignores, in which a test may do anything."
    shutil.copytree(ROOT, tmp_path / 'copy', ignore=NOT_SOURCES)
    return tmp_path / 'copy'


@pytest.fixture(scope='session')
def site(tmp_path_factory):
    """The site as `make docs` makes it, in a copy of the project: its folder. FASHION_LAB_SITE
    names one that is there already, to try these tests again and again."""
    if made := os.environ.get('FASHION_LAB_SITE'):
        return Path(made).resolve()
    copy = tmp_path_factory.mktemp('site') / 'copy'
    shutil.copytree(ROOT, copy, ignore=NOT_SOURCES)
    env = dict(os.environ, PYTHONPATH=str(copy), OMP_NUM_THREADS='1', XDG_CONFIG_HOME=str(copy))
    env.pop('IN_TEST', None)
    done = subprocess.run(
        [sys.executable, 'tools/website.py'],
        cwd=copy,
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return copy / '_docs'


# A real browser, for tests/browser

ARGS = (
    '--headless --no-sandbox --disable-gpu --disable-background-networking '
    '--disable-component-update --disable-sync --no-first-run'
).split()


@pytest.fixture(scope='session')
def browser():
    "Chromium, driven by Playwright."
    path = next(
        filter(
            None,
            map(
                shutil.which,
                [
                    os.environ.get('FASHION_LAB_CHROMIUM', ''),
                    'chromium',
                    'chromium-browser',
                    'google-chrome',
                ],
            ),
        ),
        None,
    )
    if not path:
        pytest.skip(
            'there is no Chromium on this machine: apt-get install chromium, or name it in '
            'FASHION_LAB_CHROMIUM'
        )
    api = pytest.importorskip(
        'playwright.sync_api', reason='playwright is not installed: make setup'
    )
    with api.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=path, args=ARGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope='session')
def base(browser, site):
    "The address of the site on a static server that answers as GitHub Pages does."
    sys.path.insert(0, str(ROOT / 'tools'))  # tools are no package
    import extras
    import website

    prefix = website.settings()['doc_baseurl'] + '/'
    server = extras.server(site, prefix)
    # a browser that leaves early is no news; other tests read what is printed
    server.handle_error = lambda request, address: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_address[1]}{prefix}'
    server.shutdown()


@contextlib.contextmanager
def watched(browser, base, **options):
    """A fresh tab, 1280 pixels wide; whatever it logs as an error, fails to load or asks of
    another host is in its `faults`."""
    context = browser.new_context(
        viewport=dict(width=1280, height=900),
        base_url=base,
        permissions=['clipboard-read', 'clipboard-write'],
        **options,
    )
    page, page.faults = (p := context.new_page()), []
    note = p.faults.append
    p.on('console', lambda m: m.type == 'error' and note(f'console: {m.text}'))
    p.on('pageerror', lambda e: note(f'exception: {e}'))
    p.on('requestfailed', lambda r: r.failure == 'net::ERR_ABORTED' or note(f'failed: {r.url}'))
    p.on('response', lambda r: r.status < 400 or note(f'{r.status}: {r.url}'))
    p.on(
        'request',
        lambda r: r.url.startswith((base, 'data:', 'blob:')) or note(f'another host: {r.url}'),
    )
    try:
        yield page
    finally:
        context.close()


@pytest.fixture
def tab(browser, base, request):
    "A tab of the site, `watched`."
    with watched(browser, base, **getattr(request, 'param', {})) as page:
        yield page
