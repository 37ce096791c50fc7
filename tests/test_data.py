"""What goes wrong with data, and what the user then sees. The data sets here are drawn
(synthetic) and tiny; tests of the real files skip where there are none."""

import errno
import gzip
import hashlib
import http.server
import io
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import urllib.error
import urllib.request
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageOps

from fashion_lab.synthetic.fashion_mnist import synthetic_fashion_mnist
from fashion_lab.data.cards import card, CARDS, DataError, FASHION_MNIST, ImageError, MissingData
from fashion_lab.data.images import read_image
from fashion_lab.data.folds import stratified_split
from fashion_lab.data.image_table import ImageTable
from fashion_lab.data.fashion_mnist import fetch, find_files, load_fashion_mnist, verify
from fashion_lab.data import download as data_download
from fashion_lab.data import fashion_mnist as data_fashion_mnist

# train images, train labels, test images, test labels
NAMES = [f.packed for f in FASHION_MNIST.files]
ARRAYS = synthetic_fashion_mnist(60, 30)


def idx(array):
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f'>{array.ndim}I', *array.shape)
        + array.astype(np.uint8).tobytes()
    )


def toy_card(arrays=ARRAYS, checked=True, **kw):
    files = tuple(
        replace(
            f,
            size=len(idx(a)),
            sha256=hashlib.sha256(idx(a)).hexdigest() if checked else '',
            packed_md5='',
        )
        for f, a in zip(FASHION_MNIST.files, arrays)
    )
    return replace(
        FASHION_MNIST,
        title='Toy (synthetic)',
        files=files,
        counts=dict(train=60, test=30),
        system=(),
        mirrors=(),
        **kw,
    )


def write(folder, packed=True, arrays=ARRAYS):
    folder.mkdir(parents=True, exist_ok=True)
    for f, a in zip(FASHION_MNIST.files, arrays):
        (folder / (f.packed if packed else f.name)).write_bytes(
            gzip.compress(idx(a), mtime=0) if packed else idx(a)
        )
    return folder


def contents(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob('*') if p.is_file()
    }


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    "Nobody's own data, cache or proxy plays a part, and no test waits between two tries."
    for name in ('FASHION_LAB_DATA', 'http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('FASHION_LAB_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')


@pytest.fixture
def toy(monkeypatch):
    "The toy data set's card, in the place of Fashion-MNIST's."
    monkeypatch.setitem(CARDS, 'fashion_mnist', toy_card())
    return CARDS['fashion_mnist']


# Where data is looked for


@pytest.mark.parametrize('packed', [True, False])
@pytest.mark.parametrize('below', ['', 'fashion-mnist', 'fashion_mnist', 'FashionMNIST/raw'])
@pytest.mark.parametrize('how', ['path', 'FASHION_LAB_DATA'])
def test_files_are_found_in_the_usual_layouts(tmp_path, toy, monkeypatch, packed, below, how):
    folder = write(tmp_path / 'here' / below, packed)
    if how == 'path':
        table = load_fashion_mnist(tmp_path / 'here', download=False)
    else:
        monkeypatch.setenv('FASHION_LAB_DATA', str(tmp_path / 'here'))
        table = load_fashion_mnist(download=False)
        assert find_files(toy) == folder
    assert table.source == 'real'
    assert np.array_equal(table.images, np.concatenate([ARRAYS[0], ARRAYS[2]]))
    assert np.array_equal(table.labels, np.concatenate([ARRAYS[1], ARRAYS[3]]))


def test_places_are_tried_in_the_documented_order(tmp_path, monkeypatch):
    path, env, cache, system = [
        write(tmp_path / d) for d in ('path', 'env', 'cache/fashion_mnist', 'system')
    ]
    c = replace(toy_card(), system=(str(system),))
    monkeypatch.setenv('FASHION_LAB_DATA', str(env))
    assert find_files(c, path) == path
    for folder in (env, cache, system):
        assert find_files(c) == folder
        (folder / NAMES[1]).unlink()  # an incomplete folder is passed over
    with pytest.raises(MissingData):
        find_files(c)


def test_data_that_is_nowhere_is_one_error_with_every_place_and_way(tmp_path, toy, monkeypatch):
    def draw(*args, **kw):
        raise AssertionError('synthetic images were drawn without having been asked for')

    monkeypatch.setattr(data_fashion_mnist, 'synthetic_fashion_mnist', draw)
    monkeypatch.setenv('FASHION_LAB_DATA', str(tmp_path))
    monkeypatch.setitem(
        CARDS,
        'fashion_mnist',
        replace(toy, system=('/nowhere/fashion-mnist',), mirrors=('http://127.0.0.1:9/',)),
    )
    with pytest.raises(FileNotFoundError) as e:
        load_fashion_mnist()
    said = str(e.value)
    for place in (
        tmp_path,
        tmp_path / 'fashion-mnist',
        tmp_path / 'FashionMNIST' / 'raw',
        tmp_path / 'cache' / 'fashion_mnist',
        '/nowhere/fashion-mnist',
        '127.0.0.1:9: Connection refused',
    ):
        assert str(place) in said
    for way in (
        'sudo apt install dataset-fashion-mnist',
        "fetch('fashion_mnist')",
        'https://github.com/zalandoresearch/fashion-mnist',
        'path=',
        'FASHION_LAB_DATA',
        "source='synthetic'",
    ):
        assert way in said
    assert contents(tmp_path) == {}


def test_a_given_path_is_the_only_place(tmp_path, toy):
    write(tmp_path / 'cache' / 'fashion_mnist')
    with pytest.raises(MissingData, match='no such folder'):
        load_fashion_mnist(tmp_path / 'typo')
    assert len(load_fashion_mnist()) == 90


# Files that are not what they should be


def truncate(n):
    return lambda b: b[:n]


def inside(change):
    return lambda b: gzip.compress(change(gzip.decompress(b)))


def flip(b):
    b = bytearray(b)
    b[-5] ^= 1
    return bytes(b)


BROKEN = {
    'truncated gz': (truncate(-200), 'is truncated: its gzip stream ends too early'),
    'empty': (truncate(0), 'magic number 0xnothing'),
    'corrupt gz': (
        lambda b: b[:300] + bytes(64) + b[364:],
        'is corrupt: its gzip stream cannot be unpacked',
    ),
    'truncated idx': (
        inside(truncate(-10)),
        'is truncated: it has 47,046 bytes, and its header promises 47,056',
    ),
    'too long': (inside(lambda b: b + b'x'), 'is too long'),
    'wrong magic': (
        inside(lambda b: b'\0\0\x08\x01' + b[4:]),
        r'magic number 0x00000801 instead of 0x00000803',
    ),
    'no idx at all': (lambda b: b'<html>404</html>', 'magic number 0x3c68746d'),
    'one bit': (inside(flip), 'is not the published file: the SHA-256'),
}


@pytest.mark.parametrize('kind', BROKEN)
def test_a_broken_file_is_named_with_its_fault(tmp_path, toy, kind):
    change, message = BROKEN[kind]
    folder = write(tmp_path / 'd')
    f = folder / NAMES[0]
    f.write_bytes(change(f.read_bytes()))
    before = contents(tmp_path)
    with pytest.raises(DataError, match=message) as e:
        load_fashion_mnist(folder)
    assert NAMES[0] in str(e.value)
    assert '\n' not in str(e.value)
    assert "fetch('fashion_mnist'" in str(e.value)
    assert list(verify(toy, folder).ok) == [False, True, True, True]
    assert re.search(message, verify(toy, folder).problem[0])
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    'a, b, message',
    [
        (0, 1, 'belongs into train-labels'),
        (0, 2, 'belongs into t10k-images'),
        (1, 3, 'belongs into t10k-labels'),
    ],
)
def test_swapped_files_are_noticed(tmp_path, toy, a, b, message):
    folder = write(tmp_path / 'd')
    a, b = folder / NAMES[a], folder / NAMES[b]
    a.rename(folder / 'aside')
    b.rename(a)
    (folder / 'aside').rename(b)
    with pytest.raises(DataError, match=f'{a.name}.*{message}.*swapped'):
        load_fashion_mnist(folder)


@pytest.mark.parametrize('name', NAMES)
def test_a_missing_file_is_named(tmp_path, toy, name):
    folder = write(tmp_path / 'd')
    (folder / name).unlink()
    with pytest.raises(MissingData, match=f'lacks {name[:-3]}'):
        load_fashion_mnist(folder)


def test_a_file_that_cannot_be_read_is_named(tmp_path, toy, monkeypatch):
    folder = write(tmp_path / 'd')
    read_bytes = Path.read_bytes

    def denied(self):
        if self.name == NAMES[1]:
            raise PermissionError(errno.EACCES, 'Permission denied')
        return read_bytes(self)

    monkeypatch.setattr(Path, 'read_bytes', denied)
    with pytest.raises(DataError, match=f'{NAMES[1]} .* cannot be read .Permission denied'):
        load_fashion_mnist(folder)


x, y, xt, yt = ARRAYS
UNFIT = {
    '59 labels': ((x, y[:-1], xt, yt), '60 training images, but 59 training labels'),
    'too few': ((x[:-1], y[:-1], xt, yt), 'holds 59 training images, and the card of .* says 60'),
    'label 10': ((x, y, xt, np.r_[yt[:-1], 10]), 'test label 10.*only the labels 0 to 9'),
    'sizes': (
        (x, y, xt[:, :27], yt),
        r'training images of \(28, 28\) pixels and test images of \(27, 28\)',
    ),
}


@pytest.mark.parametrize('kind', UNFIT)
def test_parts_that_do_not_belong_together_are_noticed_without_a_digest(
    tmp_path, monkeypatch, kind
):
    arrays, message = UNFIT[kind]
    monkeypatch.setitem(CARDS, 'fashion_mnist', toy_card(checked=False))
    with pytest.raises(DataError, match=message):
        load_fashion_mnist(write(tmp_path / 'd', arrays=arrays))


def test_swapped_files_are_noticed_without_a_digest(tmp_path, monkeypatch):
    monkeypatch.setitem(CARDS, 'fashion_mnist', toy_card(checked=False))
    with pytest.raises(DataError, match='magic number 0x00000801 instead of 0x00000803'):
        load_fashion_mnist(write(tmp_path / 'd', arrays=(y, x, xt, yt)))


# Downloads


class Mirror:
    """A server on this machine that misbehaves on request; `asked` lists (path, Range header)
    of every request."""

    def __init__(self):
        self.files, self.asked, self.ranges, self.status, self.cut, self.release, self.pause = (
            {},
            [],
            True,
            {},
            [],
            None,
            0,
        )
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_GET(self):
                mirror.answer(self)

        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self.server.server_port}/'
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, h):
        asked = h.headers.get('Range')
        self.asked.append((h.path, asked))
        body = self.files.get(h.path.rsplit('/', 1)[-1])
        status = next(
            (s for p, s in self.status.items() if h.path.startswith(p)),
            200 if body is not None else 404,
        )
        if status != 200:
            h.send_error(status)
            return
        start = int(asked[6:-1]) if asked and self.ranges else 0
        if start >= len(body):
            h.send_error(416)
            return
        h.send_response(206 if start else 200)
        if start:
            h.send_header('Content-Range', f'bytes {start}-{len(body) - 1}/{len(body)}')
        h.send_header('Content-Length', str(len(body) - start))
        h.end_headers()
        part = body[start:]
        if self.cut and (n := self.cut.pop(0)) is not None:
            part = part[:n]
        time.sleep(self.pause)
        try:
            h.wfile.write(part)
            h.wfile.flush()
            if self.release and len(part) < len(body) - start:
                self.release.wait(30)  # a connection that hangs
        except OSError:
            pass
        h.close_connection = True

    def close(self):
        if self.release:
            self.release.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def mirror():
    m = Mirror()
    m.files = {
        f.packed: gzip.compress(idx(a), mtime=0) for f, a in zip(FASHION_MNIST.files, ARRAYS)
    }
    yield m
    m.close()


def online(mirror, *paths):
    return replace(toy_card(), mirrors=tuple(mirror.url + p for p in paths or ['']))


def test_a_download_is_verified_stored_and_not_repeated(mirror, tmp_path, monkeypatch):
    monkeypatch.setitem(CARDS, 'fashion_mnist', online(mirror))
    assert len(load_fashion_mnist()) == 90
    assert contents(tmp_path) == {f'cache/fashion_mnist/{k}': v for k, v in mirror.files.items()}
    assert [p for p, _ in mirror.asked] == ['/' + n for n in NAMES]
    load_fashion_mnist()
    fetch('fashion_mnist')
    assert len(mirror.asked) == 4


def test_only_what_is_missing_or_wrong_is_fetched(mirror, tmp_path):
    folder = write(tmp_path / 'd')
    (folder / NAMES[0]).write_bytes(b'\x1f\x8bbroken')
    (folder / NAMES[2]).unlink()
    (folder / NAMES[1]).unlink()
    (folder / NAMES[1][:-3]).write_bytes(b'an unpacked file that is wrong')
    with pytest.warns(UserWarning, match='fetched anew'):
        fetch(online(mirror), folder)
    assert [p[1:] for p, _ in mirror.asked] == NAMES[:3]
    assert contents(folder) == mirror.files


def test_corruption_in_the_cache_is_not_hidden_and_fetch_repairs_it(mirror, tmp_path, monkeypatch):
    monkeypatch.setitem(CARDS, 'fashion_mnist', online(mirror))
    load_fashion_mnist()
    f = tmp_path / 'cache' / 'fashion_mnist' / NAMES[0]
    f.write_bytes(inside(flip)(f.read_bytes()))
    with pytest.raises(DataError, match="not the published file.*call fetch"):
        load_fashion_mnist()
    with pytest.warns(UserWarning, match=NAMES[0]):
        fetch('fashion_mnist')
    assert len(load_fashion_mnist()) == 90


def test_a_broken_connection_is_resumed(mirror, tmp_path):
    n = len(mirror.files[NAMES[0]])
    mirror.cut = [n // 3, n // 3]  # the first two answers break off
    folder = fetch(online(mirror), tmp_path / 'd', pause=0)
    assert mirror.asked[:3] == [
        ('/' + NAMES[0], None),
        ('/' + NAMES[0], f'bytes={n // 3}-'),
        ('/' + NAMES[0], f'bytes={2 * (n // 3)}-'),
    ]
    assert contents(folder) == mirror.files


def test_a_server_that_cannot_resume_starts_again(mirror, tmp_path):
    mirror.ranges, mirror.cut = False, [500]
    assert contents(fetch(online(mirror), tmp_path / 'd', pause=0)) == mirror.files
    assert mirror.asked[1] == ('/' + NAMES[0], 'bytes=500-')


@pytest.mark.parametrize(
    'left', [b'left over from something else', bytes(10**5)], ids=['wrong', 'longer than the file']
)
def test_a_useless_part_from_before_does_no_harm(mirror, tmp_path, left):
    (tmp_path / 'd').mkdir()
    (tmp_path / 'd' / (NAMES[0] + '.part')).write_bytes(left)
    assert contents(fetch(online(mirror), tmp_path / 'd', pause=0)) == mirror.files


FAILING = {'not there': ({'/bad/': 404}, 1), 'server error': ({'/bad/': 503}, 3)}


@pytest.mark.parametrize('kind', FAILING)
def test_the_next_mirror_is_asked(mirror, tmp_path, kind):
    mirror.status, tries = FAILING[kind]
    assert contents(fetch(online(mirror, 'bad/', ''), tmp_path / 'd', pause=0)) == mirror.files
    assert [p for p, _ in mirror.asked[: tries + 1]] == [f'/bad/{NAMES[0]}'] * tries + [
        f'/{NAMES[0]}'
    ]


def test_the_next_mirror_is_asked_when_one_is_down_or_lies(mirror, tmp_path):
    liar = Mirror()
    liar.files = dict(mirror.files, **{NAMES[0]: inside(flip)(mirror.files[NAMES[0]])})
    try:
        assert (
            contents(
                fetch(
                    replace(toy_card(), mirrors=('http://127.0.0.1:9/', liar.url, mirror.url)),
                    tmp_path / 'd',
                )
            )
            == mirror.files
        )
    finally:
        liar.close()
    assert [p[1:] for p, _ in mirror.asked] == NAMES[:1]
    assert len(liar.asked) == 4


def test_a_download_with_the_wrong_digest_is_removed_and_said_so(mirror, tmp_path):
    mirror.files[NAMES[0]] = inside(flip)(mirror.files[NAMES[0]])
    with pytest.raises(
        DataError,
        match=(
            f'{NAMES[0]} could not be fetched: 127.0.0.1:.*SHA-256 of its content is '
            '[0-9a-f]+... instead of.*it was removed'
        ),
    ) as e:
        fetch(online(mirror), tmp_path / 'd')
    assert '\n' not in str(e.value) and contents(tmp_path) == {}


def test_no_network(tmp_path, monkeypatch):
    def unreachable(request, timeout):
        raise urllib.error.URLError(socket.gaierror(-2, 'Name or service not known'))

    monkeypatch.setattr(urllib.request, 'urlopen', unreachable)
    start = time.monotonic()
    with pytest.raises(
        MissingData,
        match='storage.googleapis.com: Name or service not known; raw.githubusercontent.com: Name',
    ) as e:
        find_files(replace(FASHION_MNIST, system=()))
    # nobody waits for mirrors that cannot be reached
    assert 'cache' in str(e.value) and contents(tmp_path) == {} and time.monotonic() - start < 10


def test_what_arrived_before_the_network_died_is_kept_for_the_next_try(mirror, tmp_path):
    mirror.cut = [1000] + [0] * 3
    with pytest.raises(
        MissingData,
        match=(
            r'the connection ended after 1,000 of [0-9,]+ bytes \(the 1,000 bytes that arrived '
            r'are kept'
        ),
    ):
        fetch(online(mirror), tmp_path / 'd', pause=0)
    assert contents(tmp_path) == {f'd/{NAMES[0]}.part': mirror.files[NAMES[0]][:1000]}
    assert find_files_fails(online(mirror), tmp_path / 'd')  # a part is not taken for the file
    mirror.asked.clear()
    assert contents(fetch(online(mirror), tmp_path / 'd')) == mirror.files
    assert mirror.asked[0][1] == 'bytes=1000-'


def find_files_fails(c, folder):
    with pytest.raises(MissingData):
        find_files(c, folder)
    return True


def test_a_silent_server_is_given_up(mirror, tmp_path):
    mirror.release, mirror.cut = threading.Event(), [100, 0, 0, 0]
    with pytest.raises(MissingData, match='timed out'):
        fetch(online(mirror), tmp_path / 'd', timeout=0.2, pause=0)


# Disks and processes


def test_a_cache_that_cannot_be_made(mirror, tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('in the way')
    monkeypatch.setenv('FASHION_LAB_CACHE', str(tmp_path / 'file'))  # fails for root, too
    monkeypatch.setitem(CARDS, 'fashion_mnist', online(mirror))
    with pytest.raises(DataError, match='cannot be written .Not a directory.: .*FASHION_LAB_CACHE'):
        load_fashion_mnist()
    assert contents(tmp_path) == {'file': b'in the way'}
    assert not mirror.asked


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_leaves_nothing_half_written(mirror, tmp_path, monkeypatch, code):
    class Full(io.FileIO):
        def write(self, b):
            if self.tell() + len(b) > 1500:
                raise OSError(code, os.strerror(code))
            return super().write(b)

    monkeypatch.setattr(data_download, 'open', lambda path, mode: Full(path, mode), raising=False)
    mirror.files[NAMES[1]] = gzip.compress(idx(ARRAYS[1]), mtime=0)
    with pytest.raises(
        DataError,
        match=re.escape(os.strerror(code)) + '.*make room there, or choose another folder',
    ):
        fetch(online(mirror), tmp_path / 'd')
    assert contents(tmp_path) == {}


def test_a_read_only_folder(mirror, tmp_path, monkeypatch):
    def denied(path, mode):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(data_download, 'open', denied, raising=False)
    with pytest.raises(DataError, match='Read-only file system'):
        fetch(online(mirror), tmp_path / 'd')
    assert contents(tmp_path) == {}
    # nothing to do, so nothing is written
    assert fetch(toy_card(), write(tmp_path / 'whole')) == tmp_path / 'whole'


def fetcher(c, folder):
    "Another process that fetches; it prints what a user would see."
    imports = 'from fashion_lab.data.cards import *\nfrom fashion_lab.data.fashion_mnist import *'
    code = (
        f'{imports}\ntry: print(fetch({c!r}, {str(folder)!r}).name)\nexcept ValueError as e: '
        'raise SystemExit(str(e))'
    )
    return subprocess.Popen(
        [sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_two_processes_fetch_together(mirror, tmp_path):
    mirror.pause = 0.1
    both = [fetcher(online(mirror), tmp_path / 'd') for _ in range(2)]
    said = [p.communicate(timeout=180) for p in both]
    assert [(p.returncode, out) for p, (out, _) in zip(both, said)] == [(0, 'd\n')] * 2, said
    assert sorted(p[1:] for p, _ in mirror.asked) == sorted(NAMES)  # each file once
    assert contents(tmp_path / 'd') == mirror.files


def test_a_killed_download_is_resumed(mirror, tmp_path):
    n = len(mirror.files[NAMES[0]])
    part = tmp_path / 'd' / (NAMES[0] + '.part')
    mirror.release, mirror.cut = threading.Event(), [n // 2]
    child = fetcher(online(mirror), tmp_path / 'd')
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size == n // 2) and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(DataError, match='another process has been fetching'):
        fetch(online(mirror), tmp_path / 'd', wait=0.1)
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=180)
    mirror.release.set()
    assert part.stat().st_size == n // 2
    assert contents(fetch(online(mirror), tmp_path / 'd')) == mirror.files
    assert mirror.asked[1] == ('/' + NAMES[0], f'bytes={n // 2}-')


# Splits

LABELS = st.lists(st.integers(0, 5), min_size=2, max_size=300)


@settings(max_examples=200, deadline=None)
@given(LABELS, st.floats(0.01, 0.99), st.integers(0, 2**32))
def test_a_split_holds_out_the_same_share_of_every_class(labels, frac, seed):
    labels = np.array(labels)
    try:
        held = stratified_split(labels, frac, seed)
    except ValueError as e:
        # one of each: all have to stay
        assert 'nothing to hold out' in str(e) and (
            round(frac * len(labels)) == 0 or len(set(labels)) == len(labels)
        )
        return
    assert held.dtype == bool
    assert held.shape == labels.shape
    assert np.array_equal(held, stratified_split(labels, frac, seed))
    for c in np.unique(labels):
        n, k = (labels == c).sum(), held[labels == c].sum()
        assert abs(k - frac * n) <= 1.5 and k < n  # the total is rounded, too
    assert held.sum() <= round(frac * len(labels))
    # names instead of numbers
    relabelled = stratified_split(np.array(list('fbadce'))[labels], frac, seed)
    assert relabelled.sum() == held.sum()


@pytest.mark.parametrize(
    'frac', [0, 1, 0.0, 1.0, -0.1, 1.1, 2, float('nan'), float('inf'), None, 'half', True]
)
def test_a_fraction_outside_0_1_is_refused_before_anything_is_read(frac, tmp_path):
    for call in (
        lambda: stratified_split([0, 1] * 5, frac),
        lambda: load_fashion_mnist(tmp_path, valid_frac=frac),
    ):
        with pytest.raises(ValueError, match=rf'frac must lie in \(0, 1\), got {frac!r}'):
            call()


@settings(max_examples=25, deadline=None)
@given(st.integers(10, 3000), st.integers(0, 5))
def test_a_limit_takes_a_balanced_subset_of_every_split(limit, seed):
    whole = load_fashion_mnist(source='synthetic', seed=seed)
    some = load_fashion_mnist(source='synthetic', seed=seed, limit=limit)
    assert len(some.part('train')) == min(limit, 2000)
    assert np.ptp(some.counts().to_numpy(), axis=0).max() <= 1
    assert len(some.part('valid')) == min(max(round(limit / 2000 * 400), 10), 400)
    at = {i: k for k, i in enumerate(whole.ids)}
    rows = [at[i] for i in some.ids]
    assert rows == sorted(rows)
    assert np.array_equal(some.images, whole.images[rows])
    assert np.array_equal(some.labels, whole.labels[rows])
    assert (some.items.split.to_numpy() == whole.items.split.to_numpy()[rows]).all()


@pytest.fixture(scope='module', autouse=True)
def drawn_once():
    "Drawing takes half a second, and the properties above ask for the same images again and again."
    kept = {}
    draw = data_fashion_mnist.synthetic_fashion_mnist

    def once(*args):
        return kept[args] if args in kept else kept.setdefault(args, draw(*args))

    data_fashion_mnist.synthetic_fashion_mnist = once
    yield
    data_fashion_mnist.synthetic_fashion_mnist = draw


def test_parts_are_the_whole_and_know_where_they_come_from():
    table = load_fashion_mnist(source='synthetic')
    parts = [table.part(s) for s in ('train', 'valid', 'test')]
    assert sorted(i for p in parts for i in p.ids) == sorted(table.ids)
    assert all(p.source == 'synthetic' and isinstance(p, ImageTable) for p in parts)
    assert all(i.startswith('test' if p is parts[2] else 'train') for p in parts for i in p.ids)
    before = table.images.copy()
    parts[0].images[:] = 0
    assert np.array_equal(table.images, before)


# The real files


def test_real_fashion_mnist(fashion_mnist):
    checked = verify('fashion_mnist', fashion_mnist)
    assert checked.ok.all()
    assert checked['bytes'].tolist() == [f.size for f in card('fashion_mnist').files]
    table = load_fashion_mnist(fashion_mnist)
    assert (table.counts() == [5000, 1000, 1000]).all(axis=None)
    assert table.images.shape == (70_000, 28, 28)
    assert table.source == 'real'
    # the mean that everybody normalises with
    assert (
        abs(table.part('train').images.mean() / 255 - 0.286) < 0.001
        and table.images.flags.writeable
    )


def test_real_files_that_were_fetched_from_a_mirror(fashion_mnist, mirror, tmp_path):
    "As on a machine without them; the big file's connection breaks once."
    mirror.files = {
        f.packed: (fashion_mnist / f.packed).read_bytes()
        if (fashion_mnist / f.packed).exists()
        else (fashion_mnist / f.name).read_bytes()
        for f in FASHION_MNIST.files
    }
    mirror.cut = [9_000_000]
    c = replace(FASHION_MNIST, mirrors=(mirror.url,), system=())
    assert verify(c, find_files(c)).ok.all()
    assert mirror.asked[1][1] == 'bytes=9000000-'


# Photos

RGB = np.zeros((40, 60, 3), np.uint8)
RGB[:20, :30] = 220, 40, 40
RGB[20:, 30:] = 40, 40, 220  # two corners in colour
PHOTO = Image.fromarray(RGB)


def close(a, b, by=12):
    return np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= by


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['jpg', 'png', 'tif', 'webp'])
def test_photos_are_turned_upright(tmp_path, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    PHOTO.save(tmp_path / f'p.{kind}', exif=exif, quality=95)
    image, notes = read_image(tmp_path / f'p.{kind}')
    want = PHOTO.copy()
    want.getexif()[0x0112] = orientation
    assert image.size == ((60, 40) if orientation < 5 else (40, 60))
    assert image.mode == 'RGB'
    assert (
        np.abs(np.asarray(image, int) - np.asarray(ImageOps.exif_transpose(want), int)).mean() < 6
    )
    assert kind == 'tif' or bool(notes) == (orientation > 1)  # Pillow turns a TIFF by itself


GREY = np.linspace(0, 255, 40 * 60).reshape(40, 60)


def save_palette(f, photo=PHOTO):
    p = photo.quantize(8)
    p.save(f, transparency=p.getpixel((59, 0)))


def png16(f, array):
    "A PNG with 16 bits per channel, which Pillow reads but does not write."
    h, w, c = array.shape

    def chunk(kind, body):
        return (
            struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
        )

    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in array)
    f.write_bytes(
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, 16, {3: 2, 4: 6}[c], 0, 0, 0))
        + chunk(b'IDAT', zlib.compress(rows))
        + chunk(b'IEND', b'')
    )


def grey_rgb(a):
    return np.repeat(np.rint(a).astype(np.uint8)[..., None], 3, axis=2)


ON_WHITE = RGB.copy()
ON_WHITE[(RGB == 0).all(2)] = 255
BACK = np.where((RGB == 0).all(2), 0, 255).astype(np.uint8)
PHOTOS = {
    'rgb.png': (PHOTO.save, RGB, []),
    'grey.png': (Image.fromarray(GREY.astype(np.uint8)).save, grey_rgb(np.floor(GREY)), ['grey']),
    'bilevel.png': (Image.fromarray(BACK).convert('1').save, grey_rgb(BACK), ['grey']),
    'rgba.png': (
        Image.fromarray(np.dstack([RGB, BACK])).save,
        ON_WHITE,
        ['transparent parts laid on white'],
    ),
    'opaque.png': (
        Image.fromarray(np.dstack([RGB, np.full((40, 60), 255, np.uint8)])).save,
        RGB,
        [],
    ),
    'half.png': (
        Image.fromarray(np.dstack([RGB, np.full((40, 60), 128, np.uint8)])).save,
        255 - (255 - RGB.astype(int)) * 128 // 255,
        ['transparent parts laid on white'],
    ),
    'la.png': (
        Image.merge('LA', [Image.fromarray(BACK // 2), Image.fromarray(BACK)]).save,
        grey_rgb(np.where(BACK, 127, 255)),
        ['transparent parts laid on white'],
    ),
    'palette.png': (PHOTO.quantize(8).save, RGB, []),
    'palette_alpha.png': (save_palette, ON_WHITE, ['transparent parts laid on white']),
    'colour_key.png': (
        lambda f: PHOTO.save(f, transparency=(0, 0, 0)),
        ON_WHITE,
        ['transparent parts laid on white'],
    ),
    'cmyk.jpg': (
        lambda f: PHOTO.convert('CMYK').save(f, quality=95),
        None,
        ['converted from CMYK'],
    ),
    'cmyk.tif': (PHOTO.convert('CMYK').save, RGB, ['converted from CMYK']),
    'lab.tif': (
        Image.new('LAB', (60, 40), (255, 128, 128)).save,
        np.full((40, 60, 3), 255),
        ['converted from LAB'],
    ),
    'deep.png': (
        Image.fromarray(np.rint(GREY * 257).astype(np.uint16)).save,
        grey_rgb(GREY),
        ['scaled from 16 to 8 bits', 'grey'],
    ),
    'deep.tif': (
        Image.fromarray(np.rint(GREY * 257).astype(np.uint16)).save,
        grey_rgb(GREY),
        ['scaled from 16 to 8 bits', 'grey'],
    ),
    'dark.png': (
        Image.fromarray(np.full((40, 60), 200, np.uint16)).save,
        np.full((40, 60, 3), 1),
        ['scaled from 16 to 8 bits', 'grey'],
    ),
    'deep_rgb.png': (
        lambda f: png16(f, RGB.astype(np.uint16) * 257),
        RGB,
        ['scaled from 16 to 8 bits'],
    ),
    'deep_rgba.png': (
        lambda f: png16(f, np.dstack([RGB, BACK]).astype(np.uint16) * 257),
        ON_WHITE,
        ['scaled from 16 to 8 bits', 'transparent parts laid on white'],
    ),
    'float.tif': (
        Image.fromarray((GREY / 255).astype(np.float32)).save,
        grey_rgb(GREY),
        ['scaled from 32 to 8 bits', 'grey'],
    ),
    'integer.tif': (
        Image.fromarray((GREY * 1000).astype(np.int32)).save,
        grey_rgb(GREY),
        ['scaled from 32 to 8 bits', 'grey'],
    ),
    'one.png': (Image.new('RGB', (1, 1), (1, 2, 3)).save, np.array([[[1, 2, 3]]]), []),
    'moving.gif': (
        lambda f: PHOTO.save(
            f,
            save_all=True,
            append_images=[Image.new('RGB', (60, 40), c) for c in ('green', 'blue', 'red')],
        ),
        RGB,
        ['first of 4 frames'],
    ),
    'moving.webp': (
        lambda f: PHOTO.save(
            f, save_all=True, append_images=[Image.new('RGB', (60, 40), 'green')], lossless=True
        ),
        RGB,
        ['first of 2 frames'],
    ),
    'pages.tif': (
        lambda f: PHOTO.save(f, save_all=True, append_images=[Image.new('RGB', (9, 9))]),
        RGB,
        ['first of 2 frames'],
    ),
}


@pytest.mark.parametrize('name', PHOTOS)
def test_photos_of_every_kind_become_rgb(tmp_path, name):
    save, want, notes = PHOTOS[name]
    save(tmp_path / name)
    image, said = read_image(tmp_path / name)
    assert image.mode == 'RGB' and said == notes
    if want is not None:
        assert close(image, want, 3), np.abs(np.asarray(image, int) - want).max()
    else:
        assert np.abs(np.asarray(image, int) - RGB).mean() < 6


def bomb(f, side=30_000):
    "A PNG of a few bytes that says it is 900 million pixels."

    def chunk(kind, body):
        return (
            struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
        )

    f.write_bytes(
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', struct.pack('>IIBBBBB', side, side, 8, 2, 0, 0, 0))
        + chunk(b'IDAT', zlib.compress(bytes(1000)))
        + chunk(b'IEND', b'')
    )


def cut(kind, share):
    return lambda f: (
        PHOTO.save(f, kind),
        f.write_bytes(f.read_bytes()[: int(f.stat().st_size * share)]),
    )


# below the limit: it is tried, and the little there is of it does not suffice
NO_PHOTOS = {
    'letter.jpg': (
        lambda f: f.write_text('Dear reader, this is no picture.'),
        r'letter.jpg is not an image \(it holds text\)',
    ),
    'empty.png': (lambda f: f.write_bytes(b''), r'empty.png is not an image \(it is empty\)'),
    'noise.jpg': (
        lambda f: f.write_bytes(np.random.default_rng(0).bytes(2000)),
        r'noise.jpg is not an image \(its format is unknown\)',
    ),
    'phone.heic': (
        lambda f: f.write_bytes(b'\0\0\0\x18ftypheic' + bytes(500)),
        'export it as JPEG',
    ),
    'half.jpg': (cut('JPEG', 0.6), 'half.jpg is broken'),
    'half.png': (cut('PNG', 0.6), 'half.png is broken'),
    'half.gif': (cut('GIF', 0.5), 'half.gif is broken'),
    'half.webp': (cut('WEBP', 0.5), 'half.webp is (broken|not an image)'),
    'huge.png': (
        bomb,
        'huge.png has 900,000,000 pixels, more than the limit of 89,478,485; scale it down',
    ),
    'large.png': (
        lambda f: bomb(f, 13_000),
        'large.png has 13,000 x 13,000 = 169,000,000 pixels, more than the limit of 89,478,485',
    ),
    'below.png': (lambda f: bomb(f, 9_000), 'below.png is broken'),
}


@pytest.mark.parametrize('name', NO_PHOTOS)
@pytest.mark.filterwarnings('error')
def test_what_is_no_photo_is_refused_by_name(tmp_path, name):
    make, message = NO_PHOTOS[name]
    make(tmp_path / name)
    with pytest.raises(ImageError, match=message) as e:
        read_image(tmp_path / name)
    assert isinstance(e.value, ValueError) and '\n' not in str(e.value)


def test_photos_that_are_not_there_or_too_large(tmp_path):
    PHOTO.save(tmp_path / 'p.png')
    with pytest.raises(
        ImageError, match='p.png has 60 x 40 = 2,400 pixels, more than the limit of 2,399'
    ):
        read_image(tmp_path / 'p.png', max_pixels=2399)
    with pytest.raises(FileNotFoundError, match='there is no file'):
        read_image(tmp_path / 'q.png')
    with pytest.raises(ImageError, match='is a folder'):
        read_image(tmp_path)


@pytest.mark.parametrize('name', ['x' * 300 + '.png', '~nobody_of_this_name/x.png', 'nul\0.png'])
def test_odd_names_are_refused_as_any_other(name):
    with pytest.raises((ImageError, FileNotFoundError)) as e:
        read_image(name)
    assert '\n' not in str(e.value)


def test_only_ordinary_files_of_a_photos_size_are_opened(tmp_path):
    with open(tmp_path / 'disk.jpg', 'wb') as f:
        f.truncate(3 << 30)
    with open(tmp_path / 'part.jpg', 'wb') as f:
        f.truncate(1 << 30)
    os.mkfifo(tmp_path / 'pipe.jpg')
    tracemalloc.start()
    with pytest.raises(ImageError, match='disk.jpg has 3.0 GiB, more than the 1 GiB'):
        read_image(tmp_path / 'disk.jpg')
    with pytest.raises(ImageError, match='part.jpg is not an image'):
        read_image(tmp_path / 'part.jpg')
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    with pytest.raises(ImageError, match='pipe.jpg is no ordinary file'):
        read_image(tmp_path / 'pipe.jpg')


def test_frames_are_not_counted_to_the_end(tmp_path):
    first, other = [], []
    for out, colour in ((first, 'red'), (other, 'blue')):
        f = io.BytesIO()
        Image.new('P', (2, 2)).save(f, 'GIF') if colour == 'red' else Image.new(
            'P', (2, 2), 1
        ).save(f, 'GIF')
        out.append(f.getvalue())
    head, frame = first[0][:-1], other[0][other[0].index(b',') : -1]
    (tmp_path / 'long.gif').write_bytes(head + frame * 400_000 + b';')
    start = time.perf_counter()
    assert read_image(tmp_path / 'long.gif')[1] == ['first of more than 10 frames']
    assert time.perf_counter() - start < 1


def test_strips_on_white_are_what_the_whole_would_be(tmp_path):
    glass = Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 40, 4), dtype=np.uint8))
    glass.save(tmp_path / 'glass.png')
    image, notes = read_image(tmp_path / 'glass.png')
    assert notes == ['transparent parts laid on white']
    assert np.array_equal(
        image, Image.alpha_composite(Image.new('RGBA', glass.size, 'white'), glass).convert('RGB')
    )


ENCODED = {}
for kind in ('JPEG', 'PNG', 'GIF', 'BMP', 'TIFF', 'WEBP'):
    out = io.BytesIO()
    PHOTO.save(out, kind)
    ENCODED[kind] = out.getvalue()


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(ENCODED)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=12),
    st.floats(0.05, 1),
)
def test_damage_never_gets_past_as_another_error(tmp_path_factory, kind, changes, share):
    "Whatever happened to a file: it is read as RGB, or refused by name."
    damaged = bytearray(ENCODED[kind])
    for at, value in changes:
        damaged[int(at * min(len(damaged), 2000))] = value
    f = tmp_path_factory.getbasetemp() / f'damaged.{kind.lower()}'
    f.write_bytes(damaged[: int(share * len(damaged))])
    try:
        image, notes = read_image(f, max_pixels=10**6)
    except ImageError as e:
        assert f.name in str(e)
    else:
        assert image.mode == 'RGB' and all(isinstance(n, str) for n in notes)
