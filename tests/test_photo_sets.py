"""Sets of photos: what lies on disks, in archives and behind links, and what the user then
sees. All photos here are drawn (synthetic) and tiny."""

import errno
import http.server
import io
import json
import os
import pickle
import re
import signal
import stat
import subprocess
import sys
import threading
import time
import unicodedata
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from fashion_lab.core import printable
from fashion_lab.synthetic.classes import CLOSURES, CLOTHING_CLASSES, FACADE_CLASSES
from fashion_lab.data.cards import (
    CARDS,
    CMP_CLASSES,
    CMP_VALUES,
    DataError,
    MissingData,
    PHOTO_SETS,
)
from fashion_lab.data.archives import Archive, fetch_archive, git_digest, unpack, verify_photos
from fashion_lab.data.links import fetch_links
from fashion_lab.data.splits import split_items
from fashion_lab.arrays import LazyImages
from fashion_lab.data.lazy import DrawnImages
from fashion_lab.data.dataset import PhotoSet
from fashion_lab.data.locate import ARCHIVES, fetch_photos, find_photos
from fashion_lab.data.photo_tables import load_csv
from fashion_lab.data.folders import load_folder
from fashion_lab.data.clothing import load_closures, load_clothing, shoe_annotations
from fashion_lab.data.facades import load_facades
from fashion_lab.data.registry import describe, load_photos, LOADERS

# tiny sets cannot have every class in every part
CARELESS = pytest.mark.filterwarnings(
    'ignore:the groups do not allow', 'ignore:.*class', 'ignore:.*too few for'
)
pytestmark = CARELESS


def picture(colour=(200, 40, 40), size=(24, 18)):
    return Image.new('RGB', size, colour)


def save(file, image=None, **kw):
    file.parent.mkdir(parents=True, exist_ok=True)
    (image or picture()).save(file, **kw)
    return file


def jpeg(image=None):
    out = io.BytesIO()
    (image or picture()).save(out, 'JPEG', quality=95)
    return out.getvalue()


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    "Nobody's own data, cache or proxy plays a part, and nothing is fetched from the internet."
    for name in (
        'FASHION_LAB_DATA',
        'http_proxy',
        'HTTP_PROXY',
        'https_proxy',
        'HTTPS_PROXY',
        'all_proxy',
        'ALL_PROXY',
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('FASHION_LAB_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    for name, a in list(ARCHIVES.items()):
        monkeypatch.setitem(
            ARCHIVES, name, replace(a, urls=('http://127.0.0.1:9/x.zip',), tree='', known=())
        )


# Pixels on demand


class Views(LazyImages):
    def __init__(self, whole):
        self.whole, self.item_shape = whole, whole.shape[1:]

    def __len__(self):
        return len(self.whole)

    def read(self, rows):
        return self.whole[rows]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9), st.data(), st.booleans())
def test_lazy_images_index_like_an_array(n, data, keep):
    whole = np.random.default_rng(0).integers(0, 256, (n, 3, 3, 3), dtype=np.uint8)
    lazy = DrawnImages(lambda name, size: whole[name], range(n), 3) if keep else Views(whole)
    assert (len(lazy), lazy.shape, lazy.ndim, lazy.nbytes) == (n, whole.shape, 4, whole.nbytes)
    for _ in range(3):
        s = slice(
            *(data.draw(st.none() | st.integers(-12, 12)) for _ in range(2)),
            data.draw(st.sampled_from([None, 1, 2, -1])),
        )
        rows = data.draw(st.lists(st.integers(-n, n - 1), max_size=6)) if n else []
        mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
        for at in (s, rows, mask):
            assert np.array_equal(lazy[at], whole[np.asarray(at, int)] if at is rows else whole[at])
        if rows:
            assert np.array_equal(lazy[rows[0]], whole[rows[0]])
    assert np.array_equal(np.asarray(lazy), whole)
    assert np.asarray(lazy, np.float32).dtype == np.float32
    assert np.array_equal(np.array(list(lazy)).reshape(whole.shape), whole)
    for bad in (n, -n - 1):
        with pytest.raises(IndexError):
            lazy[bad]


def flat(name, size):
    return np.full((size, size, 3), int(name), np.uint8)


def drawn(n=12, **kw):
    return PhotoSet(
        pd.DataFrame(
            dict(
                id=range(n),
                path=[str(k) for k in range(n)],
                label=np.arange(n) % 3,
                split=['train'] * (n - 2) + ['valid', 'test'],
            )
        ),
        list('abc'),
        'flat',
        'synthetic',
        drawer=flat,
        **kw,
    )


def test_a_set_travels_to_other_processes():
    s = pickle.loads(pickle.dumps(drawn()))
    assert np.array_equal(pickle.loads(pickle.dumps(s.images(4)))[5], flat('5', 4))


def test_parts_and_subsets_keep_items_and_images_together():
    s = drawn()
    for part in (
        s.part('train'),
        s.subset(s.labels == 1),
        s.subset([7, 3, 3][:2]),
        s.sample(6, seed=1),
        s.with_split(['x'] * 12).part('x'),
    ):
        assert part.images(2)[:][:, 0, 0, 0].tolist() == part.ids.tolist()
        assert (part.items.source == 'synthetic').all()
        assert part.source == 'synthetic'
    assert s.sample(99) is s
    assert len(s.sample(6)) == 6
    assert s.sample(6, 1).ids.tolist() == s.sample(6, 1).ids.tolist()
    assert s.counts().to_numpy().sum() == 12
    assert s.counts().columns.tolist() == [
        'train',
        'valid',
        'test',
    ]
    before = s.items.copy()
    part = s.part('train').items
    part.loc[0, 'split'] = 'test'
    assert s.items.equals(before)


@pytest.mark.parametrize('frac', [-0.1, 1, 1.5, True, 'half', float('nan')])
def test_shares_outside_0_1_are_refused(frac):
    with pytest.raises(ValueError, match=r'valid_frac must lie in'):
        split_items(drawn().items, frac)


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=60, max_size=120).filter(lambda g: len(set(g)) > 9),
    st.integers(0, 99),
)
def test_no_group_stands_in_two_splits_and_the_test_part_stays(groups, seed):
    items = pd.DataFrame(dict(who=groups, label=np.arange(len(groups)) % 2))
    split = split_items(items, 0.2, 0.2, 'who', 'label', seed)
    other = split_items(items, 0.2, 0.2, 'who', 'label', seed + 1)
    assert set(split) == {'train', 'valid', 'test'}
    assert items.groupby('who').who.count().sum() == len(split)
    assert all(len(set(split[items.who == w])) == 1 for w in set(groups))
    assert ((split == 'test') == (other == 'test')).all()


# A folder per class


def wardrobe(folder, n=12):
    for k, c in enumerate(('coat', 'dress', 'hat')):
        for i in range(n):
            save(folder / c / f'{i:02d}.jpg', picture((80 * k, 10 * i, 90)), quality=95)
    return folder


def test_one_bad_file_of_every_kind_never_stops_the_rest(tmp_path):
    folder = wardrobe(tmp_path / 'w')
    good = (folder / 'hat' / '00.jpg').read_bytes()
    (folder / 'hat' / 'cut.jpg').write_bytes(good[:-60])
    (folder / 'hat' / 'letter.jpg').write_text('Dear reader')
    (folder / 'hat' / 'empty.png').touch()
    (folder / 'stray.jpg').write_bytes(good)
    (tmp_path / 'secret.jpg').write_bytes(good)
    (folder / 'hat' / 'away.jpg').symlink_to(tmp_path / 'secret.jpg')
    save(folder / 'coat' / 'UPPER.JPG')
    save(folder / 'coat' / 'grün  1.png', Image.new('LA', (9, 9), (3, 0)))
    save(folder / 'coat' / 'print.jpg', picture().convert('CMYK'))
    s = load_folder(folder, size=16)
    assert len(s) == 39
    assert s.classes == ['coat', 'dress', 'hat']
    assert s.images().shape == (39, 16, 16, 3)
    assert set(s.problems.file) == {
        'hat/cut.jpg',
        'hat/letter.jpg',
        'hat/empty.png',
        'hat/away.jpg',
        'stray.jpg',
    }
    assert (s.problems.problem != '').all()
    assert re.search('39 train|train', repr(s)) and '5 problems' in repr(s)
    for k, c in enumerate(s.classes):  # the right image under the right label
        rows = [i for i, p in enumerate(s.items.path) if re.fullmatch(c + r'/\d\d\.jpg', p)]
        assert np.abs(s.images()[rows][:, 8, 8, 0].astype(int) - 80 * k).max() < 6
        assert set(s.labels[rows]) == {k}
    again = load_folder(folder, size=16)
    assert again.items.equals(s.items)
    assert load_folder(folder, size=None).problems.file.tolist() != s.problems.file.tolist()


def test_split_folders_are_splits(tmp_path):
    for split in ('Train', 'val', 'test'):
        wardrobe(tmp_path / 'w' / split, 3)
    save(tmp_path / 'w' / 'val' / 'loose.jpg')
    s = load_folder(tmp_path / 'w', size=None)
    assert s.counts().to_numpy().tolist() == [[3, 3, 3]] * 3
    assert s.splits == ['train', 'valid', 'test']
    assert s.problems.file.tolist() == ['val/loose.jpg']


def test_folders_that_are_no_set(tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'bad' / 'hat').mkdir(parents=True)
    (tmp_path / 'bad' / 'hat' / 'a.jpg').write_text('no')
    with pytest.raises(MissingData):
        load_folder(tmp_path / 'typo')
    with pytest.raises(DataError, match='no image|holds no'):
        load_folder(tmp_path / 'empty')
    with pytest.raises(DataError, match='a.jpg'):
        load_folder(tmp_path / 'bad', valid_frac=0, test_frac=0)
    wardrobe(tmp_path / 'w')
    with pytest.raises(DataError, match='expected hat/class_name/photo.jpg'):
        load_folder(tmp_path / 'w' / 'hat')


REFUSED_LAYOUTS = {
    'a part that has no split\'s name': (
        'train/a train/b later/a later/b',
        "holds the splits train and beside them later, which are no splits",
    ),
    'photos without labels': (
        'train/a train/b test/a unlabelled/batch1',
        'holds the splits test, train and beside them unlabelled',
    ),
    'splits without classes': (
        'train test',
        (
            'holds the splits test, train without a folder per class in them; expected '
            '.*/test/class_name/photo.jpg'
        ),
    ),
    'splits below classes': (
        'a/train a/test b/train b/test',
        'holds a split below a class, a/test; expected .*/train/class_name',
    ),
    'one folder around all': (
        'photos/a photos/b',
        'all photos of w lie in one folder, photos, with folders in it; give w/photos',
    ),
}


@pytest.mark.parametrize('what', REFUSED_LAYOUTS)
def test_layouts_that_can_be_read_in_two_ways_are_refused(tmp_path, what):
    folders, message = REFUSED_LAYOUTS[what]
    for f in folders.split():
        save(tmp_path / 'w' / f / 'x.jpg')
    with pytest.raises(DataError, match=message):
        load_folder(tmp_path / 'w', size=None)


@pytest.mark.parametrize(
    'folders,classes,splits',
    [
        ('train/a train/b dev/a dev/b', 'ab', ['train', 'valid']),
        ('Training_Set/a test-data/b', 'ab', ['train', 'test']),
        ('__MACOSX/train/a train/a train/b @eaDir/a', 'ab', ['train']),
        ('car train bus', ['bus', 'car', 'train'], ['train']),
    ],
)
@pytest.mark.filterwarnings('ignore:.* are too few for a')
def test_splits_by_their_usual_names(tmp_path, folders, classes, splits):
    for f in folders.split():
        save(tmp_path / 'w' / f / 'x.jpg')
    s = load_folder(tmp_path / 'w', size=None, valid_frac=0, test_frac=0)
    assert s.classes == list(classes)
    assert s.splits == splits
    assert len(s) == len([f for f in folders.split() if f[0] not in '_@'])


def test_a_class_without_a_photo_that_can_be_read_is_no_class(tmp_path):
    for f, classes in dict(w='abc', v='abc').items():
        for c in classes:
            [save(tmp_path / f / c / f'{k}.jpg') for k in range(4)]
    for k in range(4):
        (tmp_path / 'w' / 'b' / f'{k}.jpg').write_text('no photo')
        (tmp_path / 'v' / 'b' / f'{k}.jpg').write_bytes(b'')
    for f in 'wv':
        with pytest.warns(
            UserWarning,
            match="the classes 'b' are left out, because none of their photos can be used",
        ):
            s = load_folder(tmp_path / f, size=8)
        assert s.classes == ['a', 'c']
        assert set(s.labels) == {0, 1}
        assert len(s.problems) == 4
    table = pd.DataFrame(
        dict(image=[f'w/{c}/{k}.jpg' for c in 'abc' for k in range(4)], label=list('aaaabbbbcccc'))
    )
    with pytest.warns(UserWarning, match="the classes 'b' are left out"):
        assert load_csv(table, root=tmp_path, size=8).classes == ['a', 'c']
    with pytest.warns(
        UserWarning, match="has one class only, 'a'; a classifier needs two at least"
    ):
        load_csv(table[:4], root=tmp_path, size=8)


def test_accents_and_links_make_no_second_class_or_photo(tmp_path):
    composed = unicodedata.normalize('NFC', 'café')
    decomposed = unicodedata.normalize('NFD', 'café')
    for f in (composed, decomposed, 'tea'):
        save(tmp_path / 'w' / f / 'x.jpg')
    save(tmp_path / 'w' / 'tea' / 'y.jpg')
    (tmp_path / 'w' / composed / 'link.jpg').symlink_to('../tea/y.jpg')
    s = load_folder(tmp_path / 'w', size=None, valid_frac=0, test_frac=0)
    assert s.classes == [composed, 'tea']
    assert s.ids.tolist() == [
        f'{composed}/x.jpg',
        'tea/x.jpg',
        'tea/y.jpg',
    ]
    assert sorted(s.problems.problem.str.split(',').str[0]) == [
        'has the name of another photo',
        'is a link to another photo of this folder',
    ]
    assert (tmp_path / 'w' / s.items.path[0]).is_file()


# A list of files or links


class Shop(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        s = self.server
        s.asked.append(self.path)
        n = s.asked.count(self.path)
        status, body = s.answers.get(self.path, lambda n: (404, b'gone'))(n)
        self.send_response(status)
        self.send_header('Content-Length', len(body) + (9 if status == 299 else 0))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def shop():
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Shop)
    server.asked, server.answers, server.url = [], {}, f'http://127.0.0.1:{server.server_port}'
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_links(shop, tmp_path):
    body = jpeg()
    shop.answers = {
        '/ok.jpg': lambda n: (200, body),
        '/busy.jpg?w=9': lambda n: (503 if n < 3 else 200, body),
        '/page.jpg': lambda n: (200, b'<HTML>Sorry</HTML>'),
        '/short.jpg': lambda n: (299 if n < 2 else 200, body),
        '/big.jpg': lambda n: (200, bytes(3 << 20)),
        '/down.jpg': lambda n: (500, b''),
        '/noname': lambda n: (200, body),
    }
    urls = [shop.url + p for p in list(shop.answers) + ['/gone.jpg']] + [
        'http://127.0.0.1:9/x.jpg',
        'http://',
        shop.url + '/ok.jpg',
    ]
    got = fetch_links(urls, tmp_path / 'links', pause=0, max_mb=2).set_index('url').problem
    said = {u.replace(shop.url, ''): p for u, p in got.items()}
    assert [said[p] for p in ('/ok.jpg', '/busy.jpg?w=9', '/short.jpg', '/noname')] == [''] * 4
    for p, what in {
        '/page.jpg': 'a web page came instead',
        '/big.jpg': 'is larger than 2 MB',
        '/down.jpg': 'HTTP 500',
        '/gone.jpg': 'HTTP 404',
        'http://127.0.0.1:9/x.jpg': 'refused',
        'http://': 'could not be downloaded',
    }.items():
        assert what in said[p], (p, said[p])
    # hopeless links are asked for once
    assert (
        shop.asked.count('/gone.jpg') == 1
        and shop.asked.count('/down.jpg') == 3
        and shop.asked.count('/ok.jpg') == 1
    )
    assert len(list((tmp_path / 'links').iterdir())) == 4  # nothing half-written
    shop.asked.clear()
    fetch_links([shop.url + '/ok.jpg'], tmp_path / 'links')
    assert shop.asked == []


@pytest.mark.parametrize(
    'text',
    [
        '\ufefffile,label\r\na.jpg, cat \r\nb.jpg,dog\r\nc.jpg,cat\r\n',
        'Label;x;file\ncat;1;a.jpg\ndog;2;b.jpg\ncat;3;c.jpg\n',
        'link\tlabel\na.jpg\tcat\nb.jpg\tdog\nc.jpg\tcat',
    ],
)
def test_tables_of_every_kind(tmp_path, text):
    for f in 'abc':
        save(tmp_path / f'{f}.jpg')
    (tmp_path / 't.csv').write_text(text, newline='')
    s = load_csv(
        tmp_path / 't.csv',
        label='Label' if 'Label' in text else 'label',
        valid_frac=0,
        test_frac=0,
        size=8,
    )
    assert s.classes == ['cat', 'dog']
    assert s.labels.tolist() == [0, 1, 0]
    assert s.ids.tolist() == ['a.jpg', 'b.jpg', 'c.jpg']
    assert s.name == 't'


def test_tables_that_cannot_be_used(tmp_path):
    for f in 'ab':
        save(tmp_path / f'{f}.jpg')
    for text, what in {
        'file,kind\na.jpg,x\n': "'label'",
        'file,label\na.jpg,x\na.jpg,y\n': 'duplicated ids',
        'file,label\n': 'rows|empty|no ',
        'file,label\nlost.jpg,x\n': 'lost.jpg does not exist',
        '': 'empty',
    }.items():
        (tmp_path / 't.csv').write_text(text)
        with pytest.raises(DataError, match=what):
            load_csv(tmp_path / 't.csv', size=None)
    with pytest.raises(MissingData, match='there is no table'):
        load_csv(tmp_path / 'typo.csv')


def test_a_table_may_bring_its_split_and_groups(tmp_path, shop):
    shop.answers = {'/u.png': lambda n: (200, jpeg())}
    for k in range(6):
        save(tmp_path / f'{k}.jpg')
    frame = pd.DataFrame(
        dict(
            image=[f'{k}.jpg' for k in range(6)] + [shop.url + '/u.png'],
            label=list('xyxyxyx'),
            split=['train'] * 4 + ['valid'] * 3,
            who=[1, 1, 2, 2, 3, 3, 3],
        )
    )
    s = load_csv(frame, root=tmp_path, group='who', size=8)
    assert s.splits == ['train', 'valid']
    assert s.groups.tolist() == [1, 1, 2, 2, 3, 3, 3]
    assert np.abs(s.images()[6].astype(int) - s.images()[0]).max() < 9
    assert load_csv(frame, root=tmp_path, size=8, download=False).problems.problem.tolist() == [
        'is a link, and was not downloaded because of download=False'
    ]


@pytest.mark.parametrize(
    'cells,splits',
    [(['Train', 'DEV', ' test '], ['train', 'valid', 'test']), ([None, '', ' '], None)],
)
def test_splits_of_a_table_have_one_spelling(tmp_path, cells, splits):
    for f in 'abc':
        save(tmp_path / f'{f}.jpg')
    table = pd.DataFrame(dict(image=['a.jpg', 'b.jpg', 'c.jpg'], label=list('xyx'), split=cells))
    s = load_csv(table, root=tmp_path, size=None, valid_frac=0, test_frac=0)
    assert s.items.split.tolist() == (splits or ['train'] * 3)


@pytest.mark.filterwarnings('error')
def test_the_column_of_splits_may_be_written_in_any_case(tmp_path):
    for f in 'abc':
        save(tmp_path / f'{f}.jpg')
    table = pd.DataFrame(
        dict(image=['a.jpg', 'b.jpg', 'c.jpg'], label=list('xyx'), Split=['train', 'val', 'test'])
    )
    assert load_csv(table, root=tmp_path, size=None).items.split.tolist() == [
        'train',
        'valid',
        'test',
    ]
    with pytest.raises(DataError, match="has the columns 'Split', 'split'; keep one"):
        load_csv(table.assign(split='train'), root=tmp_path, size=None)


@pytest.mark.parametrize(
    'cells,message',
    [
        (['train', '', 'test'], 'names no split for 1 of its 3 rows; fill the column'),
        (['train', None, 'test'], 'names no split for 1'),
        (
            ['train', 'later', 'fold 3'],
            "names the splits 'fold 3', 'later' in its column 'split'; allowed are train, valid, test",
        ),
    ],
)
def test_splits_of_a_table_that_say_nothing_are_refused(tmp_path, cells, message):
    for f in 'abc':
        save(tmp_path / f'{f}.jpg')
    with pytest.raises(DataError, match=message):
        load_csv(
            pd.DataFrame(dict(image=['a.jpg', 'b.jpg', 'c.jpg'], label=list('xyx'), split=cells)),
            root=tmp_path,
            size=None,
        )


@pytest.mark.parametrize('other', ['./a.jpg', 'sub/../a.jpg', '{root}/a.jpg', 'link.jpg'])
def test_a_file_stands_in_a_table_once_whatever_it_is_called(tmp_path, other):
    save(tmp_path / 'a.jpg')
    save(tmp_path / 'sub' / 'b.jpg')
    (tmp_path / 'link.jpg').symlink_to('a.jpg')
    table = pd.DataFrame(
        dict(image=['a.jpg', 'sub/b.jpg', other.format(root=tmp_path)], label=list('xyy'))
    )
    with pytest.raises(
        DataError,
        match="lists the same file under two names: 'a.jpg' and '.*'; an item must stand there once",
    ):
        load_csv(table, root=tmp_path, size=None)


def test_one_odd_name_does_not_stop_a_table(tmp_path, shop):
    shop.answers = {'/u.jpg': lambda n: (200, jpeg())}
    save(tmp_path / 'a.jpg')
    save(tmp_path / unicodedata.normalize('NFD', 'grün.jpg'))
    os.mkfifo(tmp_path / 'pipe.jpg')
    odd = [
        'n' * 300 + '.jpg',
        '~nobody_of_this_name/x.jpg',
        'http://[bad/x.jpg',
        'http://\ud800/x.jpg',
        'http://exämple.invalid:port/x',
        'nul\0.jpg',
        'pipe.jpg',
    ]
    good = ['a.jpg', unicodedata.normalize('NFC', 'grün.jpg'), shop.url + '/u.jpg']
    table = pd.DataFrame(dict(image=odd + good, label=list('xyxyxyx') + list('xyx')))
    s = load_csv(table, root=tmp_path, size=8, valid_frac=0, test_frac=0, pause=0, timeout=3)
    assert s.ids.tolist() == good
    assert s.problems.file.tolist() == [printable(n) for n in odd]


@pytest.mark.parametrize(
    'text', ['\n\npath,label\na.jpg,x\nb.jpg,y\n', ';;\npath;label;\na.jpg;x;\nb.jpg;y;\n']
)
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
def test_the_column_with_photos_is_found_in_any_encoding(tmp_path, text, encoding):
    for f in 'ab':
        save(tmp_path / f'{f}.jpg')
    (tmp_path / 't.csv').write_text(text, encoding=encoding)
    assert load_csv(tmp_path / 't.csv', valid_frac=0, test_frac=0, size=None).ids.tolist() == [
        'a.jpg',
        'b.jpg',
    ]


def test_names_from_outside_are_text_on_a_page(tmp_path):
    for c in ('<img src=x onerror=alert(1)>', '![a](http:host)'):
        save(tmp_path / 'w' / c / 'x.jpg')
    (tmp_path / 'w' / '[link](http:host)`x`.jpg').write_text('x')
    page = load_folder(tmp_path / 'w', size=None, valid_frac=0, test_frac=0).report()
    assert '<img' not in page and '&lt;img src=x onerror=alert(1)>' in page
    assert not re.search(r'(?<!\\)[\[`]', page)


# Archives


def zipped(file, members, comment=b''):
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, 'w') as z:
        for name, data in members.items():
            z.writestr(name, data)
        z.comment = comment
    return file


@pytest.mark.parametrize(
    'member',
    [
        '../x.jpg',
        'a/../../x.jpg',
        '/x.jpg',
        '//host/x.jpg',
        'C:/x.jpg',
        'c:x.jpg',
        '..\\x.jpg',
        '\\x.jpg',
        'images/..',
    ],
)
def test_archives_that_would_write_elsewhere_are_refused(tmp_path, member):
    file = zipped(tmp_path / 'a.zip', {'images/ok.jpg': b'1', member: b'!'})
    with pytest.raises(DataError, match='is refused: its member .* leads out of the folder'):
        unpack(file, tmp_path / 'in' / 'side', ('*.jpg', 'images/*.jpg'))
    assert [p.name for p in tmp_path.rglob('*')] == ['a.zip']


@pytest.mark.parametrize(
    'mode,what',
    [
        (stat.S_IFLNK, 'is a link'),
        (stat.S_IFIFO, 'is not a plain file'),
        (stat.S_IFCHR, 'is not a plain file'),
    ],
)
def test_archives_with_links_or_devices_are_refused(tmp_path, mode, what):
    info = zipfile.ZipInfo('images/l.jpg')
    info.external_attr = (mode | 0o777) << 16
    info.create_system = 3
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as z:
        z.writestr('images/ok.jpg', b'1')
        z.writestr(info, '../../secret')
    with pytest.raises(DataError, match=what):
        unpack(tmp_path / 'a.zip', tmp_path / 'in', ('images/*.jpg',))
    assert not (tmp_path / 'in').exists()


def test_what_lies_in_a_folder_stays_whatever_is_unpacked_into_it(tmp_path):
    mine = tmp_path / 'mine'
    mine.mkdir()
    (mine / 'thesis.txt').write_text('years of work')
    (tmp_path / 'notzip.zip').write_text('no zip')
    broken = zipped(tmp_path / 'broken.zip', {f'images/{k}.jpg': bytes([k]) * 99 for k in range(5)})
    whole = bytearray(broken.read_bytes())
    whole[whole.index(b'\4' * 50) + 9] ^= 1
    broken.write_bytes(whole)
    for name in ('notzip.zip', 'broken.zip'):
        with pytest.raises(DataError, match='is damaged, or no zip archive'):
            unpack(tmp_path / name, mine, ('images/*.jpg',))
        assert inside(tmp_path / 'mine') == ['thesis.txt']
        assert [p.name for p in mine.iterdir()] == ['thesis.txt']
    unpack(zipped(tmp_path / 'a.zip', {'images/a.jpg': b'A'}), mine, ('images/*.jpg',))
    assert inside(mine) == ['images/a.jpg', 'thesis.txt']


@pytest.mark.parametrize(
    'member', ['a//{out}/x.jpg', './/{out}/x.jpg', 'a/./{out}/x.jpg', 'a//{out}//x.jpg']
)
def test_members_are_checked_as_they_are_written(tmp_path, member):
    out = (tmp_path / 'out').as_posix().lstrip('/')
    name = member.format(out=out)
    depth = len(name.split('/'))
    try:
        unpack(
            zipped(tmp_path / 'a.zip', {name: b'!'}),
            tmp_path / 'in',
            tuple('/'.join('*' * k) for k in range(1, depth + 1)),
        )
    except DataError:
        pass
    assert not (tmp_path / 'out').exists()
    assert all(p.startswith('in/') or p == 'a.zip' for p in inside(tmp_path))


def test_two_members_for_one_file_are_refused(tmp_path):
    file = zipped(tmp_path / 'a.zip', {'one/images/a.jpg': b'1', 'two/images/a.jpg': b'2'})
    with pytest.raises(
        DataError, match="its members 'one/images/a.jpg' and 'two/images/a.jpg' are one file"
    ):
        unpack(file, tmp_path / 'in', ('images/*.jpg',))
    assert not (tmp_path / 'in').exists()


def test_damaged_and_huge_archives(tmp_path):
    file = zipped(tmp_path / 'a.zip', {f'images/{k}.jpg': bytes([k]) * 999 for k in range(5)})
    whole = bytearray(file.read_bytes())
    whole[whole.index(b'\3' * 50) + 9] ^= 1
    file.write_bytes(whole)
    with pytest.raises(DataError, match='is damaged.*CRC'):
        unpack(file, tmp_path / 'in', ('images/*.jpg',))
    assert not (tmp_path / 'in').exists()
    bomb = tmp_path / 'b.zip'
    with zipfile.ZipFile(bomb, 'w', zipfile.ZIP_DEFLATED) as z:
        z.writestr('images/0.jpg', bytes(40 << 20))
    with pytest.raises(DataError, match='would unpack to 41,943,040 bytes'):
        unpack(bomb, tmp_path / 'in', ('images/*.jpg',), max_bytes=30 << 20)
    (tmp_path / 'c.zip').write_text('<html>')
    with pytest.raises(DataError, match='no zip archive'):
        unpack(tmp_path / 'c.zip', tmp_path / 'in', ('images/*.jpg',))


LABELS = ['T-Shirt', 'Pants', 'Shoes', 'Dress', 'Not sure', 'Hat']


def clothing_files(n=60, extra='lost-1,0,Skip,False\nlost-2,1,Hat,True\n'):
    rows = [f'p{k:03d},{k // 4},{LABELS[k % 6]},{k % 5 == 0}' for k in range(n)]
    return {
        'images.csv': ('image,sender_id,label,kids\n' + '\n'.join(rows) + '\n' + extra).encode(),
        **{f'images/p{k:03d}.jpg': jpeg(picture((3 * k, 20, 250 - 3 * k))) for k in range(n)},
    }


def write(folder, files=None):
    for name, data in (files or clothing_files()).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


class Host(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        s = self.server
        s.asked.append((self.path, self.headers.get('Range')))
        if self.path not in s.files:
            self.send_response(404)
            self.send_header('Content-Length', 0)
            self.end_headers()
            return
        body = s.files[self.path]
        start = int((self.headers.get('Range') or 'bytes=0-')[6:-1]) if s.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header('Content-Range', f'bytes {start}-{len(body) - 1}/{len(body)}')
        if s.length:
            self.send_header('Content-Length', len(body) - start)
        self.end_headers()
        stop = s.cut.pop(0) if s.cut and 'zip' in self.path else None
        self.wfile.write(body[start:stop])
        self.wfile.flush()
        if stop and s.hold:
            s.hold.wait(30)


@pytest.fixture
def host(monkeypatch):
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Host)
    members = {f'set-main/{p}': d for p, d in clothing_files().items()}
    out = io.BytesIO()
    zipped_to = zipfile.ZipFile(out, 'w')
    for name, data in {
        **members,
        'set-main/.github/run.yml': b'x',
        'set-main/README.md': b'hello',
    }.items():
        zipped_to.writestr(name, data)
    zipped_to.comment = b'c0ffee'
    zipped_to.close()
    tree = json.dumps(
        dict(
            truncated=False,
            tree=[
                dict(path=p, type='blob', sha=git_digest(d))
                for p, d in {**clothing_files(), 'README.md': b'hello'}.items()
            ],
        )
    ).encode()
    server.files, server.asked, server.cut, server.ranges, server.length, server.hold = (
        {'/set.zip': out.getvalue(), '/c0ffee/tree': tree},
        [],
        [],
        True,
        True,
        None,
    )
    server.url = f'http://127.0.0.1:{server.server_port}'
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setitem(
        ARCHIVES,
        'clothing',
        replace(
            ARCHIVES['clothing'], urls=(server.url + '/set.zip',), tree=server.url + '/c0ffee/tree'
        ),
    )
    yield server
    if server.hold:
        server.hold.set()
    server.shutdown()
    server.server_close()


def inside(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file())


def test_fetching_from_the_first_try_to_the_last_byte(host, tmp_path):
    s = load_clothing(size=16)
    home = tmp_path / 'cache' / 'clothing'
    assert inside(home) == sorted([*clothing_files(), 'README.md', 'manifest.json'])
    assert [p.name for p in (tmp_path / 'cache').iterdir() if 'fetching' in p.name] == []
    note = json.loads((home / 'manifest.json').read_text())
    assert note['commit'] == 'c0ffee'
    assert 'git digest' in note['compared']
    assert verify_photos(home).ok.all()
    assert len(s) == 50
    assert s.problems.file.tolist() == ['images/lost-1.jpg', 'images/lost-2.jpg']
    n = len(host.asked)
    assert find_photos('shoe_pairs') == fetch_photos('closures') == home
    # nothing is asked for twice
    assert (
        fetch_photos('clothing') == home
        and find_photos('closures') == home
        and len(host.asked) == n
    )


@pytest.mark.parametrize(
    'ranges,length', [(True, True), (False, True), (False, False), (True, False)]
)
def test_a_broken_connection(host, ranges, length):
    """Goes on where the server can, starts again where it cannot, and notices the break even
    where the server never said how long the file is."""
    host.ranges, host.length, host.cut = ranges, length, [9000, None]
    assert verify_photos(fetch_photos('clothing', pause=0, retries=2)).ok.all()
    assert [p for p, _ in host.asked] == ['/set.zip', '/set.zip', '/c0ffee/tree']
    assert host.asked[1][1] == 'bytes=9000-' or not length


def test_content_that_differs_from_the_repositorys_own_digests_is_refused(host, tmp_path):
    tree = json.loads(host.files['/c0ffee/tree'])
    tree['tree'][3]['sha'] = '0' * 40
    host.files['/c0ffee/tree'] = json.dumps(tree).encode()
    with pytest.raises(
        DataError,
        match=(
            "1 of 62 files differ from the repository's own digests, for instance images/.*; "
            "the archive was removed"
        ),
    ):
        fetch_photos('clothing')
    assert inside(tmp_path / 'cache') == []


@pytest.mark.parametrize(
    'answer', [None, b'<html>rate limit</html>', b'{"truncated": true, "tree": []}']
)
def test_without_the_repositorys_digests_the_manifest_says_so(host, answer):
    host.files.pop('/c0ffee/tree') if answer is None else host.files.update(
        {'/c0ffee/tree': answer}
    )
    with pytest.warns(
        UserWarning,
        match=(
            'compared with the checksums inside their archive only .127.0.0.1.* did not answer '
            'with its digests.: that notices damage, but no exchange'
        ),
    ):
        home = fetch_photos('clothing')
    assert json.loads((home / 'manifest.json').read_text())['compared'] == 'CRC-32 of every file'


@pytest.mark.parametrize('comment', [b'', b'0123456789012345678901234567890123456789'])
def test_other_content_is_refused_whatever_commit_the_archive_claims(host, tmp_path, comment):
    zipped(
        tmp_path / 'x.zip',
        {f'set-main/{p}': d for p, d in {**clothing_files(), 'README.md': b'other'}.items()},
        comment,
    )
    host.files['/set.zip'] = (tmp_path / 'x.zip').read_bytes()
    with pytest.raises(
        DataError, match='1 of 62 files differ .*, for instance README.md; the archive was removed'
    ):
        fetch_photos('clothing')
    assert inside(tmp_path / 'cache') == []


def test_a_file_whose_content_is_known_is_compared_without_anybodys_help(
    host, tmp_path, monkeypatch
):
    monkeypatch.setitem(
        ARCHIVES,
        'clothing',
        replace(ARCHIVES['clothing'], tree='', known=(('images.csv', '0' * 64),)),
    )
    with pytest.raises(DataError, match='1 of 62 files differ .*, for instance images.csv'):
        fetch_photos('clothing')
    assert inside(tmp_path / 'cache') == []


def test_archives_come_over_https(monkeypatch):
    with pytest.raises(ValueError, match='over https only.*got http://example.org/a.zip'):
        Archive(('http://example.org/a.zip',), ('*.jpg',))
    with pytest.raises(ValueError, match='over https only'):
        Archive(('https://example.org/a.zip',), ('*.jpg',), 'http://example.org/tree')

    class Answer(io.BytesIO):
        status = 200
        headers = {}

        def geturl(self):
            return 'http://example.org/a.zip'

    monkeypatch.setattr('urllib.request.urlopen', lambda *a, **k: Answer())
    with pytest.raises(MissingData, match='leads on from https to plain http'):
        fetch_archive(
            Archive(('https://example.org/a.zip',), ('*.jpg',)), Path('anywhere'), pause=0
        )


@pytest.mark.parametrize(
    'text',
    [
        '[]',
        '3',
        '{}',
        '{"files": []}',
        '{"files": {"a": 1}}',
        '{"files": {"a": [1]}}',
        '{"files": {"a": ["1", 2]}}',
        '{"files": {"../a": [1, "x"]}}',
        '{"files": {"/etc/passwd": [1, "x"]}}',
        '{"files": {"": [1, "x"]}}',
        '{"files": {"a\\u0000": [1, "x"]}}',
        '[' * 100_000,
        '\xff',
    ],
)
def test_manifests_that_nobody_here_wrote(tmp_path, text):
    (tmp_path / 'manifest.json').write_text(text, encoding='latin-1')
    with pytest.raises(DataError, match='manifest.json in .* is damaged'):
        verify_photos(tmp_path)


def test_what_is_missing_or_no_file_any_more(tmp_path):
    (tmp_path / 'manifest.json').write_text(
        json.dumps(
            dict(
                files={'lost': [1, 'x'], 'n' * 300: [1, 'x'], 'folder': [1, 'x'], 'pipe': [1, 'x']}
            )
        )
    )
    (tmp_path / 'folder').mkdir()
    os.mkfifo(tmp_path / 'pipe')
    assert verify_photos(tmp_path).problem.tolist() == [
        'is missing',
        'is missing',
        'is no file',
        'is no file',
    ]


def test_no_network_and_wrong_answers(host, tmp_path):
    host.files['/set.zip'] = b'<html>Not found</html>'
    with pytest.raises(MissingData) as e:
        load_clothing()
    said = str(e.value)
    for part in (
        'Clothing dataset was not found',
        'FASHION_LAB_DATA: not set',
        f'cache: {tmp_path}',
        'what arrived is no zip archive; it was removed',
        "fetch_photos('clothing')",
        'path=',
        "source='synthetic'",
    ):
        assert part in said, part
    with pytest.raises(MissingData, match='refused'):
        fetch_photos('facades', pause=0)
    with pytest.raises(MissingData, match='not tried, because of download=False'):
        load_closures(download=False)
    assert inside(tmp_path / 'cache') == []


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_is_full_or_read_only(host, tmp_path, monkeypatch, code):
    real = Path.write_bytes

    def denied(self, data):
        if 'unpacked' in self.parts:
            raise OSError(code, os.strerror(code))
        return real(self, data)

    monkeypatch.setattr(Path, 'write_bytes', denied)
    with pytest.raises(DataError, match=re.escape(os.strerror(code)) + '.*choose another folder'):
        fetch_photos('clothing')
    assert not (tmp_path / 'cache' / 'clothing').exists()
    monkeypatch.undo()
    monkeypatch.setenv('FASHION_LAB_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setitem(
        ARCHIVES,
        'clothing',
        replace(ARCHIVES['clothing'], urls=(host.url + '/set.zip',), tree='', known=()),
    )
    n = len(host.asked)
    # the archive was still there
    assert verify_photos(fetch_photos('clothing')).ok.all() and len(host.asked) == n


def fetcher(url, folder):
    code = (
        'from fashion_lab.data import locate as p; from dataclasses import replace\n'
        f'p.ARCHIVES["clothing"] = replace(p.ARCHIVES["clothing"], urls=({url!r},), tree="", '
        'known=())\n'
        f'try: print(p.fetch_photos("clothing", {str(folder)!r}).name)\nexcept ValueError as e: '
        'raise SystemExit(str(e))'
    )
    return subprocess.Popen(
        [sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_two_processes_fetch_together_and_a_killed_one_leaves_nothing_half_done(host, tmp_path):
    host.hold, host.cut = threading.Event(), [9000]
    first = fetcher(host.url + '/set.zip', tmp_path / 'd')
    work = tmp_path / '.d-fetching'
    deadline = time.monotonic() + 60
    while (
        not any(p.stat().st_size == 9000 for p in work.glob('*.part'))
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    with pytest.raises(DataError, match='another process has been fetching'):
        fetch_photos('clothing', tmp_path / 'd', wait=0.1)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=180)
    host.hold.set()
    assert not (tmp_path / 'd').exists()
    both = [fetcher(host.url + '/set.zip', tmp_path / 'd') for _ in range(2)]
    assert [(p.wait(60), p.communicate()[0]) for p in both] == [(0, 'd\n')] * 2
    assert [r for _, r in host.asked] == [None, 'bytes=9000-']
    assert verify_photos(tmp_path / 'd').ok.all()
    assert not work.exists()


# The published sets


@pytest.mark.parametrize('below', ['', 'clothing', 'clothing-dataset', 'clothing-dataset-master'])
@pytest.mark.parametrize('how', ['path', 'FASHION_LAB_DATA', 'cache'])
def test_clothing_is_found_where_it_usually_lies(tmp_path, monkeypatch, below, how):
    if how == 'cache' and below:
        return
    write(tmp_path / ('cache/clothing' if how == 'cache' else 'here') / below)
    if how == 'FASHION_LAB_DATA':
        monkeypatch.setenv(how, str(tmp_path / 'here'))
    assert (
        len(load_clothing(tmp_path / 'here' if how == 'path' else None, size=None, download=False))
        == 50
    )


def test_clothing(tmp_path):
    s = load_clothing(write(tmp_path / 'c'), size=16)
    assert s.classes == list(CLOTHING_CLASSES)
    assert s.source == 'real'
    assert s.items.groupby('sender_id').split.nunique().max() == 1
    assert s.kind == 'images'
    for k in range(0, 50, 7):
        n = int(s.ids[k][1:])
        assert s.classes[s.labels[k]] == LABELS[n % 6]
        assert np.abs(s.images()[k][8, 8].astype(int) - [3 * n, 20, 250 - 3 * n]).max() < 9
        assert s.items.sender_id[k] == n // 4
    top = load_clothing(tmp_path / 'c', top10=True, size=None)
    assert len(top.classes) == 10
    assert len(top) == 50
    assert 'left out' in s.notes[0]
    assert s.in_memory(8).images.shape == (50, 8, 8, 3)
    seeds = [load_clothing(tmp_path / 'c', seed=k, size=None).items.split for k in range(3)]
    assert all(((a == 'test') == (seeds[0] == 'test')).all() for a in seeds)
    assert any((a != seeds[0]).any() for a in seeds)


@pytest.mark.parametrize(
    'change,what',
    [
        (lambda t: t.replace(b'sender_id', b'sender'), "'sender_id'"),
        (lambda t: t.replace(b'Pants', b'Pantz'), "did you mean 'Pants'"),
        (lambda t: t + b'p001,1,Hat,True\n', "duplicated ids"),
        (lambda t: b'', 'empty'),
        (lambda t: t.split(b'\n')[0], 'rows|no item|needs'),
    ],
)
def test_a_broken_list(tmp_path, change, what):
    files = clothing_files()
    files['images.csv'] = change(files['images.csv'])
    with pytest.raises(DataError, match=what):
        load_clothing(write(tmp_path / 'c', files), size=None)


def test_a_list_from_a_spreadsheet(tmp_path):
    files = clothing_files()
    files['images.csv'] = b'\xef\xbb\xbf' + files['images.csv'].replace(b'\n', b'\r\n')
    assert len(load_clothing(write(tmp_path / 'c', files), size=None)) == 50


def test_other_photos_under_the_same_list(tmp_path):
    files = {p: d for p, d in clothing_files().items() if p == 'images.csv'}
    files['images/other.jpg'] = jpeg()
    with pytest.raises(DataError, match='none of the 62 photos that images.csv lists'):
        load_clothing(write(tmp_path / 'c', files))
    with pytest.raises(DataError, match='none of the 431 annotated shoe photos'):
        load_closures(write(tmp_path / 'd'))


def test_closures(tmp_path):
    notes = shoe_annotations()
    lines = [f'{r.image},{r.sender_id},Shoes,False' for r in notes.itertuples()]
    write(
        tmp_path / 'c',
        {
            'images.csv': ('image,sender_id,label,kids\n' + '\n'.join(lines)).encode(),
            **{f'images/{i}.jpg': b'x' for i in notes.image[:-1]},
        },
    )
    s = load_closures(tmp_path / 'c', size=None)
    lost = notes.image.iloc[-1]
    usable = notes[notes.closure.isin(CLOSURES) & (notes.image != lost)]
    assert s.classes == list(CLOSURES)
    assert len(s) == len(usable)
    assert s.problems.file.tolist() == [f'images/{lost}.jpg']
    assert [s.classes[k] for k in s.labels] == usable.set_index('image').closure[s.ids].tolist()
    assert s.items.also.notna().sum() == usable.also.notna().sum()
    assert s.items.groupby('sender_id').split.nunique().max() == 1
    assert notes.closure.isin(CLOSURES).sum() == CARDS['closures'].counts['of the 6 classes']


def test_own_photos_through_the_same_calls(tmp_path):
    for load in (load_clothing, load_closures):
        assert load(wardrobe(tmp_path / 'w'), size=8).classes == ['coat', 'dress', 'hat']
    frame = pd.DataFrame(dict(image=['coat/00.jpg', 'hat/00.jpg'], label=['coat', 'hat']))
    frame.to_csv(tmp_path / 'w' / 't.csv', index=False)
    assert len(load_closures(tmp_path / 'w' / 't.csv', valid_frac=0, test_frac=0, size=8)) == 2


# Facades


def facade(folder, name, mask=None, size=(20, 20), colours=None):
    mask = (
        (np.arange(size[0] * size[1]).reshape(size[::-1]) % 5).astype(np.uint8)
        if mask is None
        else mask
    )
    save(folder / f'{name}.jpg', picture((90, 90, 90), size))
    image = Image.fromarray(mask)
    image.putpalette(
        np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes()
    ) if colours else None
    save(folder / f'{name}.png', image)


def test_facades_in_the_mini_layout(tmp_path):
    for k in (0, 5, 799, 800, 905):
        facade(tmp_path / 'f' / 'train', f'eecs442_{k:04d}', colours=k % 2)
    facade(tmp_path / 'f' / 'test_dev', 'eecs442_0000')
    save(tmp_path / 'f' / 'colormap.png')
    save(tmp_path / 'f' / 'other' / 'x.jpg')
    s = load_facades(tmp_path / 'f', size=10)
    assert dict(zip(s.ids, s.items.split)) == {
        'test_dev/eecs442_0000': 'test',
        **{
            f'train/eecs442_{k:04d}': 'train' if k < 800 else 'valid' for k in (0, 5, 799, 800, 905)
        },
    }
    assert s.kind == 'masks'
    assert s.classes == list(FACADE_CLASSES)
    assert not len(s.problems)
    assert s.masks().shape == (6, 10, 10)
    assert s.images().shape == (6, 10, 10, 3)
    assert np.array_equal(s.masks(20)[0], np.arange(400).reshape(20, 20) % 5)
    assert s.pixel_shares(20).round(6).tolist() == [0.2] * 5
    with pytest.raises(ValueError, match='no labels per image but masks'):
        s.labels


def test_masks_that_would_break_a_training_are_named_before_it(tmp_path):
    f = tmp_path / 'f' / 'train'
    for k in range(12):
        facade(f, f'a_{k:04d}')
    facade(f, 'large', np.zeros((40, 40), np.uint8))
    bad = np.zeros((20, 20), np.uint8)
    bad[3, 4], bad[0, 0] = 7, 255
    facade(f, 'values', bad)
    (f / 'values.png').rename(f / 'values.png')
    save(f / 'alone.jpg')
    save(f / 'blurred.jpg')
    save(f / 'blurred.png', picture(size=(24, 18)), format='JPEG')
    facade(f, 'broken')
    (f / 'broken.png').write_bytes((f / 'broken.png').read_bytes()[:50])
    facade(f, 'nophoto')
    (f / 'nophoto.jpg').write_text('hello')
    facade(f, 'coloured')
    save(f / 'coloured.png', picture(size=(20, 20)))
    s = load_facades(tmp_path / 'f', size=8)
    said = s.problems.set_index('file').problem
    assert len(s) == 12
    assert set(said.index) == {
        f'train/{n}.jpg'
        for n in ('values', 'alone', 'blurred', 'broken', 'nophoto', 'coloured', 'large')
    }
    assert (
        'has a mask values.png with the values 7, 255, which stand for no class (allowed: 0 to 4)'
        in said['train/values.jpg']
    )
    assert 'has 20 x 20 pixels, and its mask large.png has 40 x 40' in said['train/large.jpg']
    assert 'has no mask' in said['train/alone.jpg']
    assert 'JPEG' in said['train/blurred.jpg']
    for p in f.glob('a_*'):
        p.unlink()
    with pytest.raises(DataError, match='none of the photos'):
        load_facades(tmp_path / 'f')


def test_facades_in_the_cmp_layout(tmp_path):
    mask = (np.arange(12 * 14).reshape(12, 14) % 12 + 1).astype(np.uint8)
    for k in range(20):
        facade(
            tmp_path / 'CMP_facade_DB_base' / 'base',
            f'cmp_b{k:04d}',
            mask,
            size=(14, 12),
            colours=True,
        )
    s = load_facades(tmp_path, size=12, fit='squash')
    assert set(s.splits) == {'train', 'valid', 'test'}
    assert len(s) == 20
    assert 'twelve labels' in s.notes[0]
    assert s.masks().shape == (20, 12, 12) and s.masks()[:].max() == 4
    share = s.pixel_shares(12)
    assert share.min() > 0.02 and share['others'] > 0.5
    one = load_facades(tmp_path, size=None, fit='crop')
    raw = np.array(Image.open(tmp_path / 'CMP_facade_DB_base' / 'base' / 'cmp_b0000.png'))
    # the middle, with every value mapped
    assert np.array_equal(one.masks(12)[0], np.vectorize(CMP_VALUES.get)(raw[:, 1:13]))
    assert CMP_VALUES[1 + CMP_CLASSES.index('balcony')] == FACADE_CLASSES.index('balcony')


def test_masks_follow_their_photos(tmp_path):
    "A photo whose colour shows its class: after any fit and size, mask and photo still agree."
    rng = np.random.default_rng(0)
    for k in range(4):
        mask = np.kron(rng.integers(0, 5, (5, 8)), np.ones((8, 8), int)).astype(np.uint8)
        save(tmp_path / 'train' / f'x_{k}.png', Image.fromarray(mask))
        save(
            tmp_path / 'train' / f'x_{k}.jpg',
            Image.fromarray(np.repeat(mask[..., None] * 60, 3, 2)),
            quality=100,
            subsampling=0,
        )
    for fit in ('crop', 'squash'):
        s = load_facades(tmp_path, size=40, fit=fit)
        assert (np.abs(s.images()[:][..., 0].astype(int) - s.masks()[:] * 60) < 30).mean() > 0.9


# Drawn sets


@pytest.mark.parametrize(
    'load,name',
    [(load_clothing, 'clothing'), (load_closures, 'closures'), (load_facades, 'facades')],
)
def test_drawn_sets(load, name):
    s = load(source='synthetic', n=120, size=32)
    again = load(source='synthetic', n=120, size=32)
    assert s.items.equals(again.items)
    assert (s.items.source == 'synthetic').all()
    assert len(s) == 120
    assert s.classes == list(CARDS[name].classes)
    rows = [0, 57, 119]
    assert np.array_equal(s.images()[rows], again.images()[rows[::-1]][::-1])
    assert s.images(48)[1].shape == (48, 48, 3)
    assert set(s.splits) == {'train', 'valid', 'test'}
    if name == 'facades':
        assert np.array_equal(s.masks()[rows], again.masks()[rows])
        assert s.masks()[rows].max() < 5
        assert s.masks().dtype == np.uint8
    else:
        assert s.items.groupby(s.group).split.nunique().max() == 1
        assert len(set(s.labels)) > 3
    assert 'synthetic' in repr(s) and '**synthetic**' in s.report()
    pickle.loads(pickle.dumps(s.images()))[3]
    with pytest.raises(ValueError, match='drawn, not read'):
        load('some/folder', source='synthetic')


def test_drawings_are_never_chosen_silently(monkeypatch):
    for name in PHOTO_SETS:
        with pytest.raises(MissingData):
            load_photos(name, download=False)


# Pages


def test_describe(tmp_path, monkeypatch):
    assert set(LOADERS) == set(CARDS)
    page = describe('clothing', write(tmp_path / 'c'), size=8)
    for part in (
        'Clothing dataset',
        'CC0',
        'Found: clothing (real images)',
        '| T-Shirt |',
        '2 files could not be used',
        'images/lost-2.jpg',
    ):
        assert part in page, part
    lost = describe('facades')
    assert '**Facades**' in lost
    assert 'was not found' in lost
    assert str(tmp_path / 'cache') in lost
    assert 'could not be used' in describe(
        'facades', tmp_path / 'c'
    ) or 'was not found' in describe('facades', tmp_path / 'c')
    with pytest.raises(ValueError, match="Did you mean 'facades'"):
        describe('facade')
