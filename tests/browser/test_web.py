"""The page that `fashion_lab export --format web` writes, as visitors use it: its answers are
Python's, whatever picture they bring, by mouse, keyboard, drop and paste, and without a network."""

import base64
import functools
import io
import json
import os
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from conftest import watched
from PIL import Image
from torch import nn
from visitors import pictures

from fashion_lab.data.cards import DataError
from fashion_lab.data.garment_photos import prepare_photo
from fashion_lab.export.answering import photo_pixels
from fashion_lab.export.formats import write_export
from fashion_lab.export.onnx import OnnxNet
from fashion_lab.export.web import runtime_files, WebNetwork, write_web
from fashion_lab.studio.package import GARMENT

MARKUP = '<img src=x onerror="document.title=1">'
MOST = 6  # of 255, where a large JPEG is decoded at an eighth, and its colours are coarser
N = 200 if os.environ.get('FASHION_LAB_CORPUS') == 'all' else 24
PIXELS = """async ({names, facts}) => {
  const {networkPixels, readPicture} = await import('./preparation.js');
  const answers = [];
  for (const name of names) {
    const blob = await (await fetch(`pictures/${name}`)).blob();
    const picture = await readPicture(new File([blob], name));
    const pixels = networkPixels(picture, facts);
    picture.close();
    answers.push(btoa(pixels.reduce((text, v) => text + String.fromCharCode(v), '')));
  }
  return answers;
}"""

KEPT = """async () => {
  const names = await caches.keys();
  const kept = names.length ? await (await caches.open(names[0])).keys() : [];
  const wanted = ['index.html', 'app.js', 'page.css', 'worker.js', 'preparation.js',
    'networks.json', '.onnx', '.wasm', 'simd-threaded.mjs', 'ort.wasm.min.mjs'];
  return wanted.every(end => kept.some(request => request.url.endsWith(end)));
}"""  # whether everything that an answer needs is kept


def sensitive(side, channels, n_classes):
    """A network whose answer hangs on every part of a picture: differences of means of its
    blocks."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.AvgPool2d(side // 7), nn.Flatten(), nn.Linear(49 * channels, n_classes))
    with torch.no_grad():
        net[2].weight -= net[2].weight.mean(1, keepdim=True)
        net[2].weight *= 20
        net[2].bias.zero_()
    return net.eval()


def exported(folder, name, side, channels, **options):
    classes = [MARKUP] + [f'class {k}' for k in range(1, 10)]
    net = sensitive(side, channels, 10)
    file, facts, _ = write_export(
        net, (channels, side, side), folder, name=name, about=dict(classes=classes), **options
    )
    return WebNetwork(name, name, [file], json.loads(facts.read_text()), card=dict(Data=MARKUP))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "The page with a network for photos and one for garments, and a folder of pictures."
    try:
        runtime_files()
    except DataError as e:
        pytest.skip(str(e))
    root = tmp_path_factory.mktemp('page')
    networks = [
        exported(root / 'made', 'photo', 224, 3),
        exported(root / 'made', 'garment', 28, 1, prepare=GARMENT, needs='scipy'),
    ]
    write_web(root / 'page', networks, MARKUP)
    (root / 'page' / 'pictures').mkdir()
    return root / 'page'


@pytest.fixture(scope='module')
def address(folder):
    class Server(ThreadingHTTPServer):
        def handle_error(self, request, client):
            pass  # a browser that leaves early is no news

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = Server(('127.0.0.1', 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_address[1]}/'
    server.shutdown()


@pytest.fixture
def page(browser, address):
    with watched(browser, address) as tab:
        tab.goto('index.html')
        tab.wait_for_selector('#fl-network option', state='attached')
        yield tab
        assert not tab.faults


def drawn(width=300, height=400, format='PNG', **options):
    image = Image.new('RGB', (width, height), 'white')
    image.paste((20, 40, 90), (width // 4, height // 8, width // 2, height - height // 8))
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def give(page, content, name='shoe.png'):
    page.set_input_files('#fl-file', dict(name=name, mimeType='', buffer=content))


def answer(page):
    page.wait_for_selector('#fl-result:not([hidden])', timeout=60_000)
    page.locator('#fl-status', has_text='Answered').wait_for(timeout=60_000)
    return page.inner_text('#fl-answer')


def expected(folder, content, network=0):
    facts = json.loads((folder / 'networks.json').read_text())[network]
    path = folder / 'pictures' / 'given'
    path.write_bytes(content)
    p = OnnxNet(folder / facts['files'][0]).compute(photo_pixels(path, (224, 224))[None])[0]
    return f"{facts['classes'][p.argmax()]}, {100 * p.max():.1f} %"


def in_browser(page, folder, files, network):
    "The pixels that the page makes of files."
    facts = json.loads((folder / 'networks.json').read_text())[network]
    for name, content in files:
        (folder / 'pictures' / name).write_bytes(content)
    made = page.evaluate(PIXELS, dict(names=[name for name, _ in files], facts=facts))
    shape = facts['input']['shape'][1:]
    return [np.frombuffer(base64.b64decode(text), np.uint8).reshape(shape) for text in made]


def test_photos_are_prepared_as_in_python(page, folder):
    files = pictures(N)
    here = [photo_pixels(io.BytesIO(content), (224, 224)) for _, content in files]
    there = in_browser(page, folder, files, 0)
    off = [np.abs(a.astype(int) - b).max() for a, b in zip(here, there)]
    assert max(off) <= MOST, dict(zip([name for name, _ in files], off))
    net = next(n for n in map(OnnxNet, folder.glob('networks/*.onnx')) if n.shape[0] == 224)
    answers = [net.compute(np.stack(pixels)).argmax(1) for pixels in (here, there)]
    assert len(set(answers[0])) > 3, 'the network must tell pictures apart'
    assert (answers[0] == answers[1]).mean() >= 0.995


def test_pad_and_squash_are_prepared_as_in_python(page, folder):
    files = pictures(12, seed=1)
    facts = json.loads((folder / 'networks.json').read_text())[0]
    for name, content in files:
        (folder / 'pictures' / name).write_bytes(content)
    for fit, colours in [('pad', 'RGB'), ('squash', 'grey')]:
        wanted = facts | dict(preparation=dict(size=[61, 90], fit=fit))
        wanted['input'] = dict(colours=colours)
        made = page.evaluate(PIXELS, dict(names=[name for name, _ in files], facts=wanted))
        for (name, content), text in zip(files, made):
            here = photo_pixels(io.BytesIO(content), (61, 90), fit, colours)
            there = np.frombuffer(base64.b64decode(text), np.uint8).reshape(here.shape)
            off = np.abs(here.astype(int) - there)
            assert off.max() <= MOST and off.mean() < 0.5, (name, fit)


def test_garments_are_prepared_as_in_python(page, folder):
    files = pictures(7, seed=2)  # the next one has 6 megapixels, and is made smaller first
    for (name, content), there in zip(files, in_browser(page, folder, files, 1)):
        path = folder / 'pictures' / name
        here, _ = prepare_photo(path)
        off = np.abs(here.astype(int) - there[..., 0])
        assert off.mean() < 0.5 and off.max() <= MOST, name


def test_an_answer_by_file_is_pythons_and_names_are_text(page, folder):
    give(page, drawn(), f'{MARKUP}.png')
    assert answer(page) == expected(folder, drawn())
    assert MARKUP in page.inner_text('#fl-pictures')
    assert MARKUP in page.inner_text('#fl-bars') and page.inner_text('h1') == MARKUP
    page.click('#fl-card summary')
    assert MARKUP in page.inner_text('#fl-facts')
    assert page.locator('img').count() == 0 and page.title() == MARKUP


def test_drop_and_paste(page, folder):
    content = drawn()
    carried = page.evaluate_handle(
        """async address => {
          const carried = new DataTransfer();
          const bytes = await (await fetch(address)).blob();
          carried.items.add(new File([bytes], 'dropped.png', {type: 'image/png'}));
          return carried;
        }""",
        served(folder, content),
    )
    page.dispatch_event('#fl-drop', 'drop', dict(dataTransfer=carried))
    assert answer(page) == expected(folder, content)
    page.evaluate("document.querySelector('#fl-status').textContent = ''")
    page.evaluate(
        "carried => document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: carried}))",
        carried,
    )
    assert answer(page) == expected(folder, content)


def served(folder, content):
    (folder / 'pictures' / 'carried').write_bytes(content)
    return 'pictures/carried'


def test_by_keyboard(page, folder, tmp_path):
    (tmp_path / 'shoe.png').write_bytes(drawn())
    page.on('filechooser', lambda chooser: None)  # a listener is known after the next call
    page.focus('#fl-file')
    with page.expect_file_chooser() as chooser:
        page.keyboard.press('Enter')
    chooser.value.set_files(tmp_path / 'shoe.png')
    assert answer(page) == expected(folder, drawn())
    page.focus('#fl-heat')
    page.keyboard.press('Enter')
    page.wait_for_selector('#fl-heat-note:not([hidden])', timeout=60_000)
    assert 'Largest change' in page.inner_text('#fl-pictures')


@pytest.mark.parametrize(
    'name, content, told',
    [
        ('IMG_1.HEIC', b'\0\0\0\x18ftypheic' + bytes(90), 'is a HEIC photo'),
        ('photo.jpg', b'\0\0\0\x18ftypheic' + bytes(90), 'is a HEIC photo'),
        ('notes.txt', b'a shopping list\n', 'holds text, and is no photo'),
        ('empty.jpg', b'', 'is empty'),
        ('scan.tif', b'II*\0' + bytes(90), 'is a TIFF file'),
        ('half.png', drawn()[:60], 'is damaged'),
        ('data.bin', bytes(range(200)), 'is no photo that this browser can read'),
    ],
)
def test_what_cannot_be_read_is_told(page, folder, name, content, told):
    give(page, content, name)
    page.wait_for_selector('#fl-error:not([hidden])')
    assert page.inner_text('#fl-error').startswith(f'{name} {told}')
    assert not page.is_visible('#fl-result')
    give(page, drawn())
    assert answer(page) == expected(folder, drawn())
    assert not page.is_visible('#fl-error')


def test_fifty_megapixels(page, folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = drawn(8660, 5774, 'JPEG', exif=exif)
    give(page, content, 'large.jpg')
    assert answer(page) == expected(folder, content)


def test_works_without_a_network_once_it_has_answered(browser, address, folder):
    with watched(browser, address) as page:
        page.goto('index.html')
        give(page, drawn())
        answer(page)
        deadline = time.monotonic() + 20
        while not page.evaluate(KEPT) and time.monotonic() < deadline:
            page.wait_for_timeout(200)
        page.context.set_offline(True)
        page.reload()
        page.wait_for_selector('#fl-network option', state='attached')
        give(page, drawn())
        assert answer(page) == expected(folder, drawn())


def test_drawing_by_mouse_and_keyboard(page):
    page.select_option('#fl-network', label='garment')
    pad = page.locator('#fl-drawing')
    box = pad.bounding_box()
    page.mouse.move(box['x'] + 100, box['y'] + 60)
    page.mouse.down()
    page.mouse.move(box['x'] + 100, box['y'] + 200, steps=8)
    page.mouse.up()
    first = answer(page)
    seen = page.locator('#fl-pictures canvas')
    assert seen.get_attribute('width') == '28'
    bright = """canvas => {
      const {data} = canvas.getContext('2d').getImageData(0, 0, 28, 28);
      return data.filter((v, k) => k % 4 === 0 && v > 100).length;
    }"""
    before = seen.evaluate(bright)
    assert before > 20
    pad.focus()
    page.keyboard.press('Space')
    for _ in range(8):
        page.keyboard.press('ArrowRight')
    page.wait_for_timeout(300)
    assert answer(page) and first
    assert page.locator('#fl-pictures canvas').evaluate(bright) > before
    page.click('#fl-clear')
    assert not page.is_visible('#fl-result')


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_fits_a_phone(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(dict(width=390, height=844))
    give(page, drawn(), 'a very long name of a file, as cameras and people make them.png')
    answer(page)
    assert page.evaluate('document.documentElement.scrollWidth') <= 390
    ground = page.evaluate('getComputedStyle(document.body).backgroundColor')
    assert (sum(map(int, ground[4:-1].split(',')[:3])) < 200) == (scheme == 'dark')


def test_pages_policy_is_strict(folder):
    text = (folder / 'index.html').read_text()
    assert "default-src 'none'" in text and 'unsafe-inline' not in text
    assert "'unsafe-eval'" not in text and MARKUP not in text
