"""Notebooks as somebody uses them: JupyterLab and Voila in Chromium, a small notebook that is
run from the menu, and explorers that answer to mouse and keyboard."""

import contextlib
import importlib.util
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT, watched
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

# Explorers of the house on drawn data: nothing is looked for, and the network is trained for a
# moment
CELLS = dict(
    data=(
        "from fashion_lab.widgets import browse\nbrowse('clothing', 'synthetic', runs=[], "
        "rows=2, columns=6)"
    ),
    overlay="from fashion_lab.synthetic import FACADE_CLASSES, synthetic_facades\nfrom "
    "fashion_lab.widgets import explore_overlay\n"
    "images, masks, table = synthetic_facades(4, seed=3, size=96)\nexplore_overlay(images, "
    "masks[:, ::-1], FACADE_CLASSES, masks, table.id, source='synthetic')",
    costs="from fashion_lab.widgets import explore_costs\nexplore_costs('SmallCNN')",
    photo="from fashion_lab.labs import fashion_mnist\nfrom fashion_lab.widgets import try_photo\n"
    "run = fashion_mnist.run(fashion_mnist.configs('smoke', seeds=1, variants=['SmallCNN'], "
    "source='synthetic', epochs=1)[0], 'runs', show=False)\ntry_photo(fashion_mnist, run)",
)
FIELD = "from fashion_lab.widgets import explore_field\nexplore_field(kernel=3, depth=3)"


def needs(module):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f'{module} is not installed: make setup')


@contextlib.contextmanager
def served(command, folder):
    """A server as a process of its own, with settings of its own; ends with the block. What it
    said is in the folder's `server.log`."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    home = {
        f'JUPYTER_{k}_DIR': str(folder / 'home' / k.lower()) for k in ('CONFIG', 'DATA', 'RUNTIME')
    } | dict(
        JUPYTERLAB_SETTINGS_DIR=str(folder / 'home' / 'lab'),
        IPYTHONDIR=str(folder / 'home' / 'ipython'),
    )
    env = (
        {
            k: v
            for k, v in os.environ.items()
            if k not in ('IN_TEST', 'FASHION_LAB_PROGRESS', 'MPLBACKEND')
        }
        | home
        | dict(
            PYTHONPATH=str(ROOT),
            OMP_NUM_THREADS='1',
            FASHION_LAB_RUNS=str(folder / 'runs'),
            JUPYTER_PLATFORM_DIRS='1',
        )
    )
    base = f'http://127.0.0.1:{port}/'
    with (folder / 'server.log').open('w') as log:
        process = subprocess.Popen(
            [sys.executable, '-m', *command, f'--port={port}'],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            end = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(base, timeout=5).close()
                    break
                except urllib.error.HTTPError:
                    break  # an answer, too
                except OSError:
                    if process.poll() is not None or time.monotonic() > end:
                        pytest.fail(
                            f'{command[0]} does not answer:\n'
                            + (folder / 'server.log').read_text()[-3000:]
                        )
                    time.sleep(0.2)
            yield base
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def write(folder, name, cells):
    nbformat.write(
        new_notebook(
            cells=[new_markdown_cell('# Explorers'), *map(new_code_cell, cells)],
            metadata=dict(
                kernelspec=dict(name='python3', display_name='Python 3', language='python')
            ),
        ),
        folder / name,
    )


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('notebooks')
    write(folder, 'explorers.ipynb', CELLS.values())
    write(folder, 'field.ipynb', [FIELD])
    settings = folder / 'home' / 'lab' / '@jupyterlab'
    for name, text in {
        'notebook-extension/tracker': dict(windowingMode='none'),
        'apputils-extension/notification': dict(fetchNews='false', checkForUpdates=False),
    }.items():
        (settings / name).parent.mkdir(parents=True, exist_ok=True)
        (settings / f'{name}.jupyterlab-settings').write_text(json.dumps(text))
    return folder


STATE = """count => {
  const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')];
  const texts = prompts.map(p => p.innerText);
  const explorers = document.querySelectorAll('.jp-Notebook .fl-explorer');
  if (explorers.length >= count) return 'done';
  return texts.some(t => t.includes('*')) ? '' : `stopped at ${texts}`;
}"""


def run_all(page, address, count, most=120):
    """Open a notebook and run it from the menu, until it shows so many explorers. A page may
    send its cells before the kernel listens, and they are lost: then one clicks again, as a
    person would."""
    heard = []
    end = time.monotonic() + most
    state = ''
    page.on(
        'websocket',
        lambda ws: (
            '/channels' in ws.url
            and ws.on('framereceived', lambda frame: heard.append(time.monotonic()))
        ),
    )
    page.goto(address)
    while not heard and time.monotonic() < end:
        page.wait_for_timeout(100)
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for(
        state='attached', timeout=60_000
    )
    while state != 'done' and time.monotonic() < end:
        while (asked := page.locator('dialog.jp-Dialog')).count():
            # on a busy machine it may ask which kernel to take
            asked.first.locator('.jp-mod-accept').click()
        page.get_by_role('menuitem', name='Run', exact=True).click()
        page.get_by_role('menuitem', name='Run All Cells', exact=True).click()
        page.wait_for_timeout(1000)
        while not (state := page.evaluate(STATE, count)) and time.monotonic() < end:
            page.wait_for_timeout(200)
    if state != 'done':
        pytest.fail(
            f'the notebook does not run ({state}): '
            f'{page.locator(".jp-OutputArea").all_inner_texts()}'
        )


@pytest.fixture(scope='module')
def notebook(browser, folder):
    "The notebook in JupyterLab, after `Run All Cells` of the menu."
    needs('jupyterlab')
    token = secrets.token_hex(16)
    command = [
        'jupyterlab',
        '--no-browser',
        '--ip=127.0.0.1',
        '--allow-root',
        f'--IdentityProvider.token={token}',
        '--LabApp.news_url=None',
        '--LabApp.extension_manager=readonly',
        '--ServerApp.port_retries=0',
    ]
    with served(command, folder) as base, watched(browser, base) as page:
        run_all(page, f'lab/tree/explorers.ipynb?token={token}', len(CELLS))
        yield page


def shown(page, name):
    "Keep a picture of the page where FASHION_LAB_SCREENSHOTS names a folder."
    if where := os.environ.get('FASHION_LAB_SCREENSHOTS'):
        page.screenshot(path=Path(where) / f'{name}.png', full_page=True)


def explorer(page, title):
    return page.locator(f'.fl-explorer:has(.fl-title:has-text("{title}"))')


def changed(page, box, act):
    "Do something, and wait until the picture of the explorer is another one."
    picture = box.locator('img.fl-picture, .fl-picture img').first
    before = picture.get_attribute('src')
    act()
    page.wait_for_function(
        '([img, src]) => img.src != src && img.complete && img.naturalWidth > 0',
        arg=[picture.element_handle(), before],
        timeout=30_000,
    )


def choose(box, label, option):
    box.locator(f'.widget-dropdown:has(label:text-is("{label}")) select').select_option(option)


COLOURS = """img => {
  const [w, h] = [img.naturalWidth, img.naturalHeight];
  const canvas = new OffscreenCanvas(w, h).getContext('2d');
  canvas.drawImage(img, 0, 0);
  const d = canvas.getImageData(0, 0, w, h).data;
  const seen = new Set();
  for (let i = 0; i < d.length; i += 4) seen.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]);
  return seen.size;
}"""


def test_the_notebook_runs_without_errors(notebook):
    assert not notebook.locator(
        '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"], '
        '.jp-RenderedText[data-mime-type*="error"]'
    ).all_inner_texts()


def test_data_browser_shows_another_class(notebook):
    box = explorer(notebook, 'Data browser')

    def items():
        return int(
            re.search(r'page 1 of \d+, ([\d,]+) items', box.inner_text())[1].replace(',', '')
        )

    every = items()
    changed(notebook, box, lambda: choose(box, 'class', 'Hat'))
    assert 0 < items() < every
    changed(notebook, box, lambda: choose(box, 'class', 'all'))
    changed(notebook, box, lambda: box.get_by_role('button', name='next').click())
    assert 'page 2 of' in box.inner_text()


def test_overlay_follows_the_opacity(notebook):
    box = explorer(notebook, 'Photos and their classes')
    handle = box.get_by_role('slider').first
    picture = box.locator('.fl-picture').first
    many = picture.evaluate(COLOURS)
    changed(notebook, box, lambda: (handle.focus(), handle.press('End')))
    assert picture.evaluate(COLOURS) <= 6 < many, (
        'opaque: the colours of five classes, and white between the panels'
    )
    changed(notebook, box, lambda: box.get_by_label('window').uncheck())
    assert picture.evaluate(COLOURS) > 6, 'where a class is off, the photo shows'


def test_compute_explorer_shows_the_layer_that_is_picked(notebook):
    box = explorer(notebook, 'Where the operations are')
    layers = box.locator('.widget-dropdown:has(label:text-is("layer")) option').all_inner_texts()
    was = box.locator('.fl-note td').first.inner_text()
    other = next(n for n in layers if n != was)
    changed(notebook, box, lambda: choose(box, 'layer', other))
    assert box.locator('.fl-note td').first.inner_text() == other


def offer(page, box, file):
    with page.expect_file_chooser() as chooser:
        box.get_by_role('button', name='a photo').click()
    chooser.value.set_files(file)


def test_ones_own_photo_gets_an_answer(notebook, tmp_path):
    from fashion_lab.synthetic.fashion_mnist import draw_garment
    from fashion_lab.synthetic.classes import FASHION_CLASSES
    import numpy as np

    Image.fromarray(draw_garment(8, np.random.default_rng(0), 200)).convert('RGB').save(
        tmp_path / 'my bag.jpg'
    )
    (tmp_path / 'letter.jpg').write_text('<script>no photo</script>')
    box = explorer(notebook, 'Try your own photo')
    offer(notebook, box, tmp_path / 'letter.jpg')
    box.get_by_text('letter.jpg is no picture that can be read').wait_for(timeout=30_000)
    offer(notebook, box, tmp_path / 'my bag.jpg')
    box.locator('img.fl-picture, .fl-picture img').first.wait_for(timeout=30_000)
    notebook.wait_for_function(
        'e => /, \\d+\\.\\d%/.test(e.innerText)',
        arg=box.locator('.fl-note').first.element_handle(),
        timeout=30_000,
    )
    assert (m := re.match(r'(.+?), (\d+\.\d)%', box.locator('.fl-note').first.inner_text().strip()))
    assert m[1] in FASHION_CLASSES
    assert 10 <= float(m[2]) <= 100
    # the answer for the bag does not stay below the next error
    Image.new('RGB', (300, 200), 'white').save(tmp_path / 'paper.jpg')
    offer(notebook, box, tmp_path / 'paper.jpg')
    box.get_by_text('paper.jpg is blank').wait_for(timeout=30_000)
    box.locator('img.fl-picture, .fl-picture img').first.wait_for(state='hidden', timeout=30_000)


def test_nothing_is_wider_than_the_page_and_dark_is_readable(notebook):
    def light(css):
        return sum(map(float, re.findall(r'[\d.]+', css)[:3]))

    note = explorer(notebook, 'Data browser').locator('.fl-title').first
    for theme in ('JupyterLab Light', 'JupyterLab Dark'):
        notebook.get_by_role('menuitem', name='Settings', exact=True).click()
        notebook.locator('.lm-Menu-itemLabel:text-is("Theme")').click()
        notebook.locator(f'.lm-Menu-itemLabel:text-is("{theme}")').click()
        notebook.wait_for_function(
            f"document.body.dataset.jpThemeName == '{theme}' && "
            "!document.querySelector('#jupyterlab-splash')"
        )
        ink = light(note.evaluate('e => getComputedStyle(e).color'))
        ground = light(
            notebook.evaluate(
                "getComputedStyle(document.querySelector('.jp-Notebook')).backgroundColor"
            )
        )
        assert (ink > 450 > 200 > ground) if 'Dark' in theme else (ink < 250 < 600 < ground), (
            theme,
            ink,
            ground,
        )
        assert not notebook.evaluate(
            "[...document.querySelectorAll('.fl-explorer')].filter(e => e.scrollWidth > "
            "e.clientWidth + 1).map(e => e.innerText.slice(0, 30))"
        )
        shown(notebook, theme.split()[1].lower())


def test_lab_asks_nothing_of_another_host(notebook):
    """After all tests above: no request left this machine, nothing failed to load, and no
    script of ours has broken."""
    assert not [
        f for f in notebook.faults if f.startswith(('another host', 'failed', 'exception'))
    ], notebook.faults


def test_voila_serves_an_explorer(browser, folder):
    needs('voila')
    with (
        served(['voila', 'field.ipynb', '--no-browser', '--Voila.ip=127.0.0.1'], folder) as base,
        watched(browser, base) as page,
    ):
        page.route(
            lambda url: not url.startswith((base, 'data:', 'blob:')), lambda route: route.abort()
        )
        page.goto('', timeout=120_000)  # a kernel starts first
        box = explorer(page, 'The receptive field of one output')
        box.get_by_text('One output depends on 7 x 7 pixels').wait_for(timeout=60_000)
        handle = box.locator('.widget-slider:has(label:text-is("dilation"))').get_by_role('slider')
        changed(page, box, lambda: (handle.focus(), handle.press('ArrowRight')))
        assert 'One output depends on 13 x 13 pixels' in box.inner_text()
        shown(page, 'voila')
        faults = [f for f in page.faults if f.startswith(('another host', 'exception'))]
        # the icon font is asked for by Voila's own page, and was refused above
        assert not [f for f in faults if 'fontawesome' not in f], faults
