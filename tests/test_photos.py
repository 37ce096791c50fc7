"""What goes wrong with folders of photos and with the cache of decoded images. All photos here
are drawn (synthetic) and small."""

import errno
import io
import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image, ImageOps

from fashion_lab.data.cards import DataError, ImageError, MissingData
from fashion_lab.data.images import read_heif, read_image
from fashion_lab.data.scanning import left_out, problem_table, scan
from fashion_lab.data.resizing import decode, decode_mask
from fashion_lab.data.cached_images import batches, CachedImages
from fashion_lab.data.cache_index import cache_usage, clear_cache
from fashion_lab.data.image_cache import DecodedCache
from fashion_lab.data.statistics import photo_stats
from fashion_lab.data import images as data_images
from fashion_lab.data import resizing as data_resizing
from fashion_lab.data import cache_index as data_cache_index
from fashion_lab.data import cache_writer as data_cache_writer
from fashion_lab.data import cached_images as data_cached_images
from fashion_lab.data import image_cache as data_image_cache


def may_do_everything():
    "Whether this user, as the superuser, reads what nobody may read."
    with tempfile.NamedTemporaryFile() as f:
        return os.chmod(f.name, 0) or os.access(f.name, os.R_OK)


SUPERUSER = may_do_everything()


def pixels(seed, height=24, width=32):
    "Smooth colours, different for every seed, so that JPEG and scaling change little."
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def jpeg(path, seed=0, height=24, width=32, **kw):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, height, width)).save(path, quality=95, **kw)
    return path


def old(path, seconds=100):
    """Let a file look as if nobody had touched it for a while (its modification time; the
    change time cannot be set)."""
    t = time.time() - seconds
    os.utime(path, (t, t))
    return path


def orientation(n):
    e = Image.Exif()
    e[0x0112] = n
    return e


@pytest.fixture
def folder(tmp_path):
    "Twelve small photos."
    for i in range(12):
        jpeg(tmp_path / 'photos' / f'{i:02d}.jpg', i)
    return tmp_path / 'photos'


@pytest.fixture
def names(folder):
    return scan(folder).path.tolist()


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    monkeypatch.setenv('FASHION_LAB_CACHE', str(tmp_path / 'usercache'))


@pytest.fixture
def decodes(monkeypatch):
    "How many files `decode` was asked for."
    done = []
    monkeypatch.setattr(
        data_image_cache, 'decode', lambda path, *a: done.append(path) or decode(path, *a)
    )
    return done


def cached(tmp_path, size=16, **kw):
    return DecodedCache(size, folder=tmp_path / 'cache', **kw)


def same(images, folder, size=16):
    assert len(images)
    for i, f in enumerate(images.files):
        assert np.array_equal(images[i], decode(Path(folder) / f, size)[0]), f


# Scanning


def test_scan_finds_images_of_any_case_sorted_and_skips_what_is_hidden(tmp_path):
    for f in (
        'b/Z.JPG',
        'b/a.PnG',
        'A.jpeg',
        'a b  c.jpg',
        'ö.webp',
        'b/._a.jpg',
        '.hidden/x.jpg',
        'b/.ipynb_checkpoints/y.jpg',
        'notes.txt',
        'jpg',
        'x.jpg.txt',
    ):
        (tmp_path / f).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / f).write_bytes(b'x')
    t = scan(tmp_path)
    assert t.path.tolist() == sorted(['b/Z.JPG', 'b/a.PnG', 'A.jpeg', 'a b  c.jpg', 'ö.webp'])
    assert (t.problem == '').all()
    assert (t.bytes == 1).all()
    assert t.bytes.dtype == np.int64


def test_scan_names_empty_files_and_what_is_no_file(tmp_path):
    jpeg(tmp_path / 'good.jpg')
    (tmp_path / 'empty.jpg').touch()
    os.mkfifo(tmp_path / 'pipe.jpg')
    assert dict(zip(*scan(tmp_path)[['path', 'problem']].T.to_numpy())) == {
        'empty.jpg': 'is empty',
        'good.jpg': '',
        'pipe.jpg': 'is no ordinary file',
    }


def test_scan_passes_over_system_folders_and_names_what_is_too_large(tmp_path):
    for folder in ('__MACOSX/train/a', '@eaDir', '$RECYCLE.BIN', '.cache', 'train/a'):
        jpeg(tmp_path / folder / 'x.jpg')
    with open(tmp_path / 'disk.jpg', 'wb') as f:
        f.truncate(3 << 30)
    found = scan(tmp_path)
    assert dict(zip(found.path, found.problem)) == {
        'disk.jpg': 'has 3.0 GiB, more than the 1 GiB of the largest photos',
        'train/a/x.jpg': '',
    }
    got = DecodedCache(8, folder=tmp_path / 'cache').images(
        [
            'train/a/x.jpg',
            'disk.jpg',
            'n' * 300 + '.jpg',
            'nul\0.jpg',
            '~nobody_of_this_name/x.jpg',
        ],
        tmp_path,
    )
    assert got.files.tolist() == ['train/a/x.jpg']
    assert [p.split('(')[-1] for p in got.problems.problem] == [
        'has 3.0 GiB, more than the 1 GiB of the largest photos)',
        'File name too long)',
        'embedded null byte)',
        'is not there',
    ]


@pytest.mark.parametrize('read', [lambda p: decode(p, 8), decode_mask, lambda p: photo_stats([p])])
def test_a_pipe_is_never_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / 'pipe.png')
    try:
        answer = read(tmp_path / 'pipe.png').problem[0]
    except ImageError as e:
        answer = str(e)
    assert 'is no ordinary file' in answer


def test_a_large_mask_is_refused_by_its_size(tmp_path):
    Image.new('1', (9_500, 9_500)).save(tmp_path / 'm.png')
    with pytest.raises(
        ImageError,
        match='m.png has 9,500 x 9,500 = 90,250,000 pixels, more than the limit of 89,478,485',
    ):
        decode_mask(tmp_path / 'm.png')


def test_scan_refuses_links_that_leave_the_folder(tmp_path):
    jpeg(tmp_path / 'out' / 'secret.jpg')
    jpeg(tmp_path / 'in' / 'sub' / 'a.jpg')
    (tmp_path / 'in' / 'inside.jpg').symlink_to('sub/a.jpg')
    (tmp_path / 'in' / 'leaves.jpg').symlink_to(tmp_path / 'out' / 'secret.jpg')
    (tmp_path / 'in' / 'dots.jpg').symlink_to('../out/secret.jpg')
    (tmp_path / 'in' / 'folder').symlink_to(tmp_path / 'out')
    (tmp_path / 'in' / 'nothing.jpg').symlink_to('gone.jpg')
    (tmp_path / 'in' / 'self.jpg').symlink_to('self.jpg')
    (tmp_path / 'in' / 'again').symlink_to('sub')
    want = {
        'again/': 'is a link to a folder that is scanned in its own place',
        'dots.jpg': 'is a link that leaves the folder',
        'folder/': 'is a link that leaves the folder',
        'inside.jpg': '',
        'leaves.jpg': 'is a link that leaves the folder',
        'nothing.jpg': 'is a link to nothing',
        'self.jpg': 'is a link to nothing',
        'sub/a.jpg': '',
    }
    t = scan(tmp_path / 'in')
    assert dict(zip(t.path, t.problem)) == want
    t = scan(tmp_path / 'in', follow_links=True)
    assert set(t.path[t.problem == '']) == {
        'inside.jpg',
        'sub/a.jpg',
        'leaves.jpg',
        'dots.jpg',
        'folder/secret.jpg',
    }


def test_scan_reaches_a_folder_that_is_a_link_itself_and_survives_circles(tmp_path):
    jpeg(tmp_path / 'real' / 'a.jpg')
    jpeg(tmp_path / 'other' / 'b.jpg')
    (tmp_path / 'link').symlink_to('real')
    (tmp_path / 'real' / 'up').symlink_to(tmp_path)
    (tmp_path / 'other' / 'round').symlink_to(tmp_path / 'other')
    assert scan(tmp_path / 'link').path[scan(tmp_path / 'link').problem == ''].tolist() == ['a.jpg']
    assert len(scan(tmp_path / 'link', follow_links=True)) < 20


def test_scan_does_not_mistake_a_neighbour_for_the_folder(tmp_path):
    jpeg(tmp_path / 'photos' / 'a.jpg')
    jpeg(tmp_path / 'photos2' / 'b.jpg')
    (tmp_path / 'photos' / 'b.jpg').symlink_to(tmp_path / 'photos2' / 'b.jpg')
    assert scan(tmp_path / 'photos').problem.tolist() == ['', 'is a link that leaves the folder']


@pytest.mark.skipif(SUPERUSER, reason='the superuser may read everything')
def test_scan_names_folders_and_files_that_may_not_be_read(tmp_path):
    jpeg(tmp_path / 'a.jpg')
    jpeg(tmp_path / 'closed' / 'b.jpg')
    jpeg(tmp_path / 'c.jpg').chmod(0)
    (tmp_path / 'closed').chmod(0)
    try:
        t = scan(tmp_path)
    finally:
        (tmp_path / 'closed').chmod(0o700)
    assert dict(zip(t.path, t.problem)) == {
        'a.jpg': '',
        'c.jpg': 'cannot be read (permission denied)',
        'closed/': 'cannot be opened (Permission denied)',
    }


def test_scan_goes_on_where_a_folder_cannot_be_opened(tmp_path, monkeypatch):
    "The same for the superuser, for whom no folder is closed."
    jpeg(tmp_path / 'a.jpg')
    jpeg(tmp_path / 'closed' / 'b.jpg')
    real = os.scandir

    def scandir(path):
        if str(path).rstrip('/').endswith('closed'):
            raise PermissionError(errno.EACCES, 'Permission denied')
        return real(path)

    monkeypatch.setattr(os, 'scandir', scandir)
    t = scan(tmp_path)
    assert dict(zip(t.path, t.problem)) == {
        'a.jpg': '',
        'closed/': 'cannot be opened (Permission denied)',
    }


def test_only_an_empty_scan_is_an_error(tmp_path):
    with pytest.raises(MissingData, match='is not there'):
        scan(tmp_path / 'nowhere')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataError, match='empty holds no usable image file .no file found, sought'):
        scan(tmp_path / 'empty')
    (tmp_path / 'empty' / 'a.csv').write_text('x')
    with pytest.raises(DataError, match=r'1 \.csv found'):
        scan(tmp_path / 'empty')
    (tmp_path / 'empty' / 'a.jpg').touch()
    with pytest.raises(DataError, match='a.jpg is empty'):
        scan(tmp_path / 'empty')
    assert len(scan(tmp_path / 'empty', '*.csv')) == 1


def test_left_out_is_one_sentence():
    assert left_out(problem_table(), 9) == ''
    table = problem_table([('a', 'is empty'), ('a', 'is empty'), ('b', 'is broken; send it again')])
    assert len(table) == 2
    assert left_out(table, 9) == '2 of 9 photos left out: a is empty; b is broken'


# Decoding


def kinds(folder):
    rgb = Image.fromarray(pixels(3))
    alpha = Image.fromarray(
        np.dstack([pixels(3), np.tile(np.linspace(0, 255, 32).astype(np.uint8), (24, 1))])
    )
    rgb.convert('L').save(folder / 'grey.jpg')
    rgb.convert('L').save(folder / 'grey.png')
    alpha.save(folder / 'rgba.png')
    alpha.save(folder / 'rgba named.jpg', format='PNG')
    rgb.convert('CMYK').save(folder / 'cmyk.jpg')
    rgb.convert('P', palette=Image.Palette.ADAPTIVE).save(folder / 'palette.png')
    rgb.convert('1').save(folder / 'bits.png')
    Image.fromarray(np.asarray(rgb.convert('L')).astype(np.uint16) * 257).save(folder / 'deep.png')
    rgb.save(folder / 'moving.gif', save_all=True, append_images=[Image.new('RGB', rgb.size)])
    rgb.save(folder / 'turned.jpg', exif=orientation(8))
    rgb.save(folder / 'a.webp')
    rgb.save(folder / 'b.bmp')


def test_every_kind_of_photo_becomes_what_read_image_makes_of_it(tmp_path):
    kinds(tmp_path)
    for f in sorted(tmp_path.iterdir()):
        image, notes = read_image(f)
        want = np.asarray(
            image.resize(
                (16, 16),
                Image.Resampling.BILINEAR,
                box=(
                    (image.width - 24) / 2,
                    (image.height - 24) / 2,
                    (image.width + 24) / 2,
                    (image.height + 24) / 2,
                ),
                reducing_gap=3.0,
            )
        )
        got, said = decode(f, 16)
        assert np.array_equal(got, want) and said == notes, f.name
    images = cached(tmp_path).images(sorted(tmp_path.glob('*.*')))
    assert not len(images.problems)
    assert {
        'grey',
        'converted from CMYK',
        'first of 2 frames',
        'turned upright (EXIF orientation)',
    } <= set(images.notes.note)


@pytest.mark.parametrize('n', range(1, 9))
def test_large_photos_are_turned_upright_though_the_decoder_reduces_them(tmp_path, n):
    upright = Image.fromarray(pixels(5, 300, 400))
    undo = {
        2: 'FLIP_LEFT_RIGHT',
        3: 'ROTATE_180',
        4: 'FLIP_TOP_BOTTOM',
        5: 'TRANSPOSE',
        6: 'ROTATE_90',
        7: 'TRANSVERSE',
        8: 'ROTATE_270',
    }
    stored = upright.transpose(Image.Transpose[undo[n]]) if n > 1 else upright
    stored.save(tmp_path / 'a.jpg', quality=95, exif=orientation(n))
    assert data_resizing._reduced(tmp_path / 'a.jpg', (24, 32), 'crop', None) is not None
    got, notes = decode(tmp_path / 'a.jpg', (24, 32))
    assert (
        np.abs(
            got.astype(int) - np.asarray(upright.resize((32, 24), Image.Resampling.BILINEAR))
        ).mean()
        < 2
    )
    assert np.array_equal(
        np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / 'a.jpg'))).shape, (300, 400, 3)
    )
    assert notes == ([] if n == 1 else ['turned upright (EXIF orientation)'])


def phone_photo(path, n=1):
    """A photo as phones (HEIC) or the web (AVIF) keep it, with a note on how the camera was held,
    and what it shows upright."""
    if path.suffix == '.heic' and not read_heif():
        pytest.skip('pillow-heif is not installed')
    back = {1: n, 3: 3, 6: 8, 8: 6}[n]
    upright = Image.fromarray(np.kron(pixels(n, 6, 8), np.ones((50, 50, 1), np.uint8)))
    exif = orientation(n).tobytes()
    ImageOps.exif_transpose(with_exif(upright, orientation(back))).save(path, quality=95, exif=exif)
    return upright


def with_exif(image, exif):
    file = io.BytesIO()
    image.save(file, 'PNG', exif=exif)
    return Image.open(file)


@pytest.mark.parametrize('ending', ['heic', 'avif'])
@pytest.mark.parametrize('n', [1, 3, 6, 8])
def test_photos_of_phones_are_read_upright(tmp_path, ending, n):
    path = tmp_path / f'a.{ending}'
    upright = phone_photo(path, n)
    for got in (read_image(path)[0], decode(path, (300, 400))[0]):
        assert np.asarray(got).shape == (300, 400, 3)
        assert np.abs(np.asarray(got).astype(int) - np.asarray(upright)).mean() < 6
    (row,) = photo_stats([path]).to_dict('records')
    assert (row['width'], row['height'], row['problem']) == (400, 300, '')


def test_a_heic_file_is_known_by_its_content_and_a_cut_one_is_one_bad_file(tmp_path):
    phone_photo(tmp_path / 'a.heic')
    whole = (tmp_path / 'a.heic').read_bytes()
    (tmp_path / 'b.jpg').write_bytes(whole)
    (tmp_path / 'cut.hif').write_bytes(whole[: len(whole) // 2])
    files = scan(tmp_path).path.tolist()
    assert files == ['a.heic', 'b.jpg', 'cut.hif']
    images = cached(tmp_path).images(files, root=tmp_path)
    assert np.array_equal(images[0], images[1])
    assert images.problems.file.tolist() == ['cut.hif']


def test_the_cache_asks_again_once_heic_can_be_read(tmp_path, monkeypatch):
    jpeg(tmp_path / 'b.jpg')
    (tmp_path / 'a.heic').write_bytes(b'\0\0\0\x18ftypheic' + bytes(500))
    monkeypatch.setattr(data_images, 'read_heif', lambda: False)
    said = [
        cached(tmp_path).images(['a.heic', 'b.jpg'], root=tmp_path).problems.problem.item(),
    ]
    monkeypatch.setattr(data_images, 'read_heif', lambda: True)
    said.append(cached(tmp_path).images(['a.heic', 'b.jpg'], root=tmp_path).problems.problem.item())
    assert 'pip install pillow-heif' in said[0] and 'damaged' in said[1]


@pytest.mark.parametrize('mode', ['L', 'CMYK', 'RGB'])
@pytest.mark.parametrize('fit', data_resizing.FITS)
def test_reduced_decoding_changes_next_to_nothing(tmp_path, mode, fit):
    Image.fromarray(pixels(7, 330, 410)).convert(mode).save(tmp_path / 'a.jpg', quality=95)
    quick, notes = decode(tmp_path / 'a.jpg', 40, fit)
    Image.open(tmp_path / 'a.jpg').save(tmp_path / 'a.tif')  # a format without the short cut
    slow, said = decode(tmp_path / 'a.tif', 40, fit)
    assert np.abs(quick.astype(int) - slow).mean() < 1.5 and notes == said


def test_what_is_broken_is_refused_by_name(tmp_path):
    whole = jpeg(tmp_path / 'whole.jpg', 0, 600, 800).read_bytes()
    (tmp_path / 'cut.jpg').write_bytes(whole[: len(whole) // 2])
    (tmp_path / 'empty.jpg').touch()
    (tmp_path / 'text.jpg').write_text('hello')
    for name, said in (('cut', 'is broken'), ('empty', 'it is empty'), ('text', 'it holds text')):
        with pytest.raises(ImageError, match=f'{name}.jpg.*{said}'):
            decode(tmp_path / f'{name}.jpg', 32)  # 32 takes the short cut,
        with pytest.raises(ImageError, match=f'{name}.jpg.*{said}'):
            decode(tmp_path / f'{name}.jpg', 500)  # 500 does not
    with pytest.raises(FileNotFoundError):
        decode(tmp_path / 'none.jpg', 32)
    with pytest.raises(ImageError, match='is a folder'):
        decode(tmp_path, 32)


def bomb(path):
    "A PNG of 20,000 x 20,000 pixels in few bytes, or a JPEG whose header promises 60,000 x 60,000."
    if path.suffix == '.png':
        Image.new('1', (20_000, 20_000)).save(path, compress_level=1)
    else:
        data = bytearray(jpeg(path).read_bytes())
        at = data.index(b'\xff\xc0') + 5
        data[at : at + 4] = (60_000).to_bytes(2, 'big') * 2
        path.write_bytes(data)
    return path


@pytest.mark.parametrize('name', ['bomb.png', 'bomb.jpg'])
def test_bombs_are_refused_without_being_decoded(tmp_path, name):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        bomb(tmp_path / name)
    start = time.process_time()
    with pytest.raises(ImageError, match=f'{name} has .*pixels, more than the limit'):
        decode(tmp_path / name, 32)
    assert time.process_time() - start < 2
    jpeg(tmp_path / 'good.jpg')
    assert (
        cached(tmp_path)
        .images([name, 'good.jpg'], root=tmp_path)
        .problems.problem[0]
        .startswith('has ')
    )


sizes = st.tuples(st.integers(1, 400), st.integers(1, 400))
edges = st.lists(st.integers(0, 20), min_size=2, max_size=2, unique=True).map(
    lambda p: tuple(v / 20 for v in sorted(p))
)
boxes = st.none() | st.tuples(edges, edges).map(lambda e: (e[0][0], e[1][0], e[0][1], e[1][1]))


@given(sizes, sizes, st.sampled_from(data_resizing.FITS), boxes)
def test_geometry_stays_in_the_photo_and_keeps_proportions(source, size, fit, box):
    (l, t, r, b), (wide, high) = data_resizing._geometry(source, size, fit, box)
    assert 0 <= l < r <= source[0]
    assert 0 <= t < b <= source[1]
    assert 1 <= wide <= size[1]
    assert 1 <= high <= size[0]
    part = np.multiply(box or (0, 0, 1, 1), (*source, *source))
    # nothing from outside the box
    assert (np.round((l - part[0], t - part[1], part[2] - r, part[3] - b), 6) >= 0).all()
    if fit == 'crop':
        # one scale in both directions
        assert (wide, high) == size[::-1] and np.isclose(wide / (r - l), high / (b - t), rtol=1e-6)
        assert np.isclose(l - part[0], part[2] - r, atol=1e-6)
        assert np.isclose(t - part[1], part[3] - b, atol=1e-6)
    else:
        assert np.allclose((l, t, r, b), part)
    if fit == 'pad':
        assert wide == size[1] or high == size[0]
        scale = min(size[1] / (r - l), size[0] / (b - t))
        assert abs(wide - (r - l) * scale) <= 1
        assert abs(high - (b - t) * scale) <= 1


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)), st.sampled_from(data_resizing.FITS), boxes
)
def test_photo_and_mask_show_the_same_part(tmp_path, size, fit, box):
    mask = np.zeros((40, 60), np.uint8)
    mask[8:, 12:] = 200
    for name in ('m.png', 'p.png'):
        Image.fromarray(mask).save(tmp_path / name)
    m = decode_mask(tmp_path / 'm.png', size, fit, 200, box)[0]
    p = decode(tmp_path / 'p.png', size, fit, 200, box)[0][..., 0]
    assert m.shape == p.shape == size and set(m.ravel()) <= {0, 200}
    sure = (p == 0) | (p == 200)
    assert not sure.any() or np.mean(m[sure] == p[sure]) > 0.9


def test_masks_keep_their_indices(tmp_path):
    m = np.arange(5, dtype=np.uint8).repeat(40).reshape(10, 20)
    image = Image.fromarray(m)
    image.putpalette(range(30))
    image.save(tmp_path / 'palette.png')
    image.save(tmp_path / 'clear.png', transparency=2)
    Image.fromarray(m).save(tmp_path / 'grey.png')
    Image.fromarray(m.astype(np.uint16)).save(tmp_path / 'deep.png')
    Image.fromarray(np.dstack([m] * 3)).save(tmp_path / 'rgb.png')
    Image.fromarray(np.dstack([m, m + 100])).save(tmp_path / 'la.png')
    image.save(tmp_path / 'a.gif')
    image.save(tmp_path / 'a.tif')
    for f in sorted(tmp_path.iterdir()):
        assert np.array_equal(decode_mask(f)[0], m), f.name
    Image.fromarray(m > 1).save(tmp_path / 'bits.png')
    assert np.array_equal(decode_mask(tmp_path / 'bits.png')[0], m > 1)
    assert decode_mask(tmp_path / 'grey.png', box=(0, 0, 0.5, 1))[0].shape == (10, 10)


def test_what_is_no_mask_is_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 300, np.uint16)).save(tmp_path / 'high.png')
    Image.fromarray(np.full((4, 4), 1, np.float32)).save(tmp_path / 'float.tif')
    Image.fromarray(pixels(0)).save(tmp_path / 'coloured.png')
    jpeg(tmp_path / 'lossy.jpg')
    (tmp_path / 'text.png').write_text('hello')
    (tmp_path / 'cut.png').write_bytes((tmp_path / 'coloured.png').read_bytes()[:-200])
    said = dict(
        high='holds the value 300',
        float='no mask of class indices',
        coloured='is a coloured picture',
        lossy='blurs class indices',
        text='it holds text',
        cut='is broken',
    )
    for f in sorted(tmp_path.iterdir()):
        with pytest.raises(ImageError, match=f'{f.name}.*{said[f.stem]}'):
            decode_mask(f, 8)
    with pytest.raises(FileNotFoundError):
        decode_mask(tmp_path / 'none.png')


# The cache


def test_each_photo_is_decoded_once(tmp_path, folder, names, decodes):
    images = cached(tmp_path).images(names, root=folder)
    assert images.decoded == len(decodes) == 12
    assert images.shape == (12, 16, 16, 3)
    assert images.kept.tolist() == list(range(12))
    same(images, folder)
    again = cached(tmp_path).images([str(folder / n) for n in reversed(names)])
    assert again.decoded == 0
    assert len(decodes) == 12
    assert np.array_equal(again[:], images[::-1])
    # another size is another record
    assert cached(tmp_path, size=8).images(names, root=folder).decoded == 12
    assert cached(tmp_path, fit='squash').images(names, root=folder).decoded == 12
    assert (
        cached(tmp_path, fit='pad').images(names[:1], root=folder).decoded
        == cached(tmp_path, fit='pad', fill='red').images(names[:1], root=folder).decoded
        == 1
    )


def test_bad_files_are_left_out_and_named_and_not_tried_again(tmp_path, folder, decodes):
    kinds(folder)
    (folder / 'text.jpg').write_text('hello')
    (folder / 'empty.png').touch()
    (folder / 'cut.jpg').write_bytes((folder / '00.jpg').read_bytes()[:400])
    (folder / 'sub.jpg').mkdir()
    os.mkfifo(folder / 'pipe.jpg')
    names = sorted(p.name for p in folder.iterdir()) + ['none.jpg']
    bad = ['cut.jpg', 'empty.png', 'pipe.jpg', 'sub.jpg', 'text.jpg', 'none.jpg']
    for first in (True, False):
        decodes.clear()
        images = cached(tmp_path).images(names, root=folder)
        assert images.problems.file.tolist() == bad
        assert (
            images.files.tolist()
            == [n for n in names if n not in bad]
            == [names[i] for i in images.kept]
        )
        # none, folder and pipe are never opened, one is a copy
        assert len(decodes) == (len(names) - 4 if first else 0)
        same(images, folder)
    said = dict(zip(images.problems.file, images.problems.problem))
    assert 'it holds text' in said['text.jpg']
    assert 'is broken' in said['cut.jpg']
    assert said['none.jpg'] == 'is not there'
    assert 'ordinary' in said['pipe.jpg']
    assert not any(p.startswith(f) for f, p in said.items())


def test_only_nothing_at_all_is_an_error(tmp_path, folder):
    (folder / 'text.jpg').write_text('hello')
    with pytest.raises(
        DataError,
        match='none of the photos can be used: 2 of 2 photos left out: text.jpg is not an image',
    ):
        cached(tmp_path).images(['text.jpg', 'none.jpg'], root=folder)
    with pytest.raises(DataError, match='list of paths is empty'):
        cached(tmp_path).images([])


def test_passing_trouble_is_not_remembered(tmp_path, folder, names, monkeypatch):
    def trouble(path, *a):
        if path.endswith('03.jpg'):
            raise ImageError(
                f'03.jpg is broken and cannot be read as an image ([Errno 5] {path})'
            ) from OSError(errno.EIO, 'Input/output error')
        if path.endswith('04.jpg'):
            raise PermissionError(errno.EACCES, 'Permission denied')
        return decode(path, *a)

    monkeypatch.setattr(data_image_cache, 'decode', trouble)
    assert cached(tmp_path).images(names, root=folder).problems.file.tolist() == [
        '03.jpg',
        '04.jpg',
    ]
    monkeypatch.undo()
    images = cached(tmp_path).images(names, root=folder)
    assert images.decoded == 2 and not len(images.problems)


def test_content_counts_and_not_the_name(tmp_path, folder, names, decodes):
    (folder / 'copy.jpg').write_bytes((folder / '00.jpg').read_bytes())
    images = cached(tmp_path).images([*names, 'copy.jpg'], root=folder)
    assert images.decoded == len(decodes) == 12
    assert np.array_equal(images[0], images[12])
    folder = folder.rename(tmp_path / 'elsewhere')
    assert cached(tmp_path).images(names, root=folder).decoded == 0


@pytest.mark.parametrize('settled', [True, False])
def test_content_that_changes_under_its_name_is_noticed(
    tmp_path, folder, names, monkeypatch, settled
):
    "Even with the same size and the old modification time put back."
    if settled:
        # the index takes part although the files are new
        monkeypatch.setattr(data_image_cache, '_SETTLED_S', -1.0)
    a = (folder / '00.jpg').read_bytes()
    b = (folder / '01.jpg').read_bytes()
    n = max(len(a), len(b))
    a, b = (d + b'\0' * (n - len(d)) for d in (a, b))
    (folder / '00.jpg').write_bytes(a)
    was = old(folder / '00.jpg').stat()
    before = cached(tmp_path).images(names, root=folder)
    time.sleep(0.02)
    (folder / '00.jpg').write_bytes(b)
    os.utime(folder / '00.jpg', ns=(was.st_atime_ns, was.st_mtime_ns))
    now = (folder / '00.jpg').stat()
    assert (now.st_size, now.st_mtime_ns) == (was.st_size, was.st_mtime_ns)
    after = cached(tmp_path).images(names, root=folder)
    same(after, folder)
    same(before.select(range(1, 12)), folder)
    assert not np.array_equal(before[0], after[0])


def test_unchanged_files_are_not_read_again(tmp_path, folder, names, monkeypatch):
    monkeypatch.setattr(data_image_cache, '_SETTLED_S', -1.0)
    cached(tmp_path).images(names, root=folder)

    def read(path):
        raise AssertionError(f'{path} was read again')

    monkeypatch.setattr(data_image_cache, 'file_sha256', read)
    monkeypatch.setattr(data_image_cache, 'alone', read)  # nor is the lock taken
    assert cached(tmp_path).images(names, root=folder).decoded == 0


def test_a_file_that_changes_while_it_is_read_is_left_out(tmp_path, folder, names, monkeypatch):
    def meddle(path, *a):
        if path.endswith('05.jpg'):
            time.sleep(0.02)
            jpeg(folder / '05.jpg', 99, 30, 30)
        return decode(path, *a)

    monkeypatch.setattr(data_image_cache, 'decode', meddle)
    images = cached(tmp_path).images(names, root=folder)
    assert images.problems.to_numpy().tolist() == [
        ['05.jpg', 'was changed while it was being read']
    ]
    monkeypatch.undo()
    images = cached(tmp_path).images(names, root=folder)
    assert len(images) == 12 and images.decoded == 1
    same(images, folder)


def test_boxes_masks_and_repetitions(tmp_path, folder, names):
    left, right = (0, 0, 0.5, 1), (0.5, 0, 1, 1)
    images = cached(tmp_path).images(
        ['00.jpg', '00.jpg', '01.jpg', '00.jpg', '00.jpg'], folder, [left, right, None, left, None]
    )
    assert images.decoded == 4 and np.array_equal(images[0], images[3])
    for i, (n, b) in enumerate(zip([0, 0, 1, 0, 0], [left, right, None, left, None])):
        assert np.array_equal(images[i], decode(folder / f'{n:02d}.jpg', 16, box=b)[0])
    m = np.arange(5, dtype=np.uint8).repeat(64).reshape(16, 20)
    Image.fromarray(m).save(tmp_path / 'm.png')
    masks = cached(tmp_path, masks=True).images([tmp_path / 'm.png', folder / '00.jpg'])
    assert masks.shape == (1, 16, 16)
    assert np.array_equal(masks[0], decode_mask(tmp_path / 'm.png', 16)[0])
    assert 'store masks as PNG' in masks.problems.problem[0]
    assert cached(tmp_path).images([tmp_path / 'm.png']).shape == (1, 16, 16, 3)


def test_names_in_any_encoding(tmp_path):
    raw = os.fsencode(tmp_path) + b'/\xff\xe4.jpg'
    try:
        open(raw, 'wb').write(jpeg(tmp_path / 'a.jpg').read_bytes())
    except OSError:
        pytest.skip('this file system has only names in UTF-8')
    name = os.fsdecode(raw)
    assert np.array_equal(cached(tmp_path).images([name])[0], decode(tmp_path / 'a.jpg', 16)[0])
    assert os.path.basename(name) in scan(tmp_path).path.tolist()


def test_filters_for_warnings_are_left_alone(tmp_path, folder, names):
    before = list(warnings.filters)
    cached(tmp_path, workers=8).images(names, root=folder)
    assert warnings.filters == before


def test_arguments_are_checked():
    for bad in (0, -1, 12.5, True, (1, 2, 3), 'big', 10_000):
        with pytest.raises(ValueError, match='size must be'):
            DecodedCache(bad)
    for bad in (0, -1, True, 'much'):
        with pytest.raises(ValueError, match='cap_gb'):
            DecodedCache(8, cap_gb=bad)
    for bad in ('blueish', (1, 2), 256, (1.0, 2.5, 3), None):
        with pytest.raises(ValueError, match='fill must be'):
            data_resizing.fill_colour(bad, 3)
    for bad in ((0, 0, 1), 'a', (0, 0, 0, 1), (0, 0, 1.1, 1), (0, float('nan'), 1, 1)):
        with pytest.raises(ValueError, match='box must be'):
            data_resizing.box_part(bad)


# Reading as an array


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_cached_images_index_like_an_array(tmp_path, data):
    if not (tmp_path / 'records-a.u8').exists():
        for name, n in (('a', 7), ('b', 6)):
            (tmp_path / f'records-{name}.u8').write_bytes(
                np.random.default_rng(n).integers(0, 256, n * 12, dtype=np.uint8).tobytes()
            )
    stored = [
        np.fromfile(tmp_path / f'records-{n}.u8', np.uint8).reshape(-1, 2, 2, 3) for n in 'ab'
    ]
    files = data_cached_images.OpenFiles(
        open(tmp_path / f'records-{n}.u8', 'rb', buffering=0) for n in 'ab'
    )
    rows = data.draw(
        st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=1, max_size=12)
    )
    images = CachedImages(files, *zip(*rows), (2, 2, 3))
    array = np.stack([stored[f][s] for f, s in rows])
    n = len(array)
    ints = st.integers(-n, n - 1)
    mask = st.lists(st.booleans(), min_size=n, max_size=n).map(np.array)
    key = data.draw(
        st.one_of(
            ints,
            st.slices(n),
            st.lists(ints, max_size=9),
            st.lists(ints, max_size=9).map(lambda v: np.array(v, int)),
            mask,
            ints.map(np.int64),
            st.tuples(ints, st.slices(2)),
            st.tuples(st.slices(n), st.integers(0, 1)),
            st.tuples(st.lists(ints, min_size=1), st.just(slice(None)), st.integers(0, 1)),
            st.just((..., 0)),
            st.just(()),
            st.just(...),
        )
    )
    want = array[np.asarray(key, int)] if isinstance(key, list) else array[key]
    got = images[key]
    assert got.shape == want.shape
    assert got.dtype == np.uint8
    assert np.array_equal(got, want)
    assert np.array_equal(images, array)
    assert np.array_equal(np.stack(list(images)), array)
    assert images.nbytes == array.nbytes
    for bad in (n, -n - 1, [0, n]):
        with pytest.raises(IndexError):
            images[bad]
    assert np.array_equal(np.asarray(images, dtype=np.float32), array.astype(np.float32))


def test_subsets_share_the_files_and_keep_their_place(tmp_path, folder, names):
    (folder / '05.jpg').write_text('no photo')
    images = cached(tmp_path).images(names, root=folder)
    part = images.select(images.kept % 2 == 0)
    assert part.kept.tolist() == [0, 2, 4, 6, 8, 10]
    assert part.files.tolist() == [names[i] for i in part.kept]
    assert part.problems is images.problems
    whole = images[:]
    del images
    same(part, folder)
    assert np.array_equal(part.select([2, 0])[:], whole[[4, 0]])
    assert len(part.select([])) == 0
    assert np.array_equal(np.concatenate(list(batches(part, 4))), part[:])
    assert [len(b) for b in batches(part, 4)] == [4, 2]


def test_files_are_closed_when_nobody_needs_them(tmp_path, folder, names):
    images = cached(tmp_path).images(names, root=folder)
    files = list(images._files)
    part = images.select([0])
    del images
    assert not files[0].closed and part[0].any()
    del part
    assert files[0].closed


def test_a_worker_gets_a_working_copy(tmp_path, folder, names):
    images = cached(tmp_path).images(names, root=folder)
    copy = pickle.loads(pickle.dumps(images))
    assert np.array_equal(copy[:], images[:])
    assert copy.files.tolist() == names
    sent = pickle.dumps(images)
    clear_cache(tmp_path / 'cache')
    same(images, folder)  # who has the files open keeps them
    with pytest.raises(DataError, match='evicted'):
        pickle.loads(sent)


@pytest.mark.skipif(
    not Path('/proc/self/status').exists(), reason='memory is measured as Linux counts it'
)
def test_a_pass_takes_the_memory_of_a_batch(tmp_path):
    "Records of 400 MB (a file with a hole, which takes no space) read to their end."
    code = """
if True:
    import sys, numpy as np
    from pathlib import Path
    from fashion_lab.data.cached_images import batches, CachedImages, OpenFiles

    def peak():
        return int(
            next(
                l.split()[1]
                for l in Path('/proc/self/status').read_text().splitlines()
                if l.startswith('VmHWM')
            )
        )

    n = 8_000
    record = 128 * 128 * 3
    with open(sys.argv[1], 'wb') as f:
        f.truncate(n * record)
    images = CachedImages(
        OpenFiles([open(sys.argv[1], 'rb', buffering=0)]), np.zeros(n), np.arange(n), (128, 128, 3)
    )
    before = peak()
    assert sum(len(b) for b in batches(images, 256)) == n
    assert (
        sum(len(b) for b in batches(images, 256, np.random.default_rng(0).permutation(n)[:500]))
        == 500
    )
    print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, '-c', code, str(tmp_path / 'records-a.u8')],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) / 2**10 < 60, 'megabytes'


# Space


def records(tmp_path):
    return sum(f.stat().st_size for f in (tmp_path / 'cache').glob('records-*.u8')) // (16 * 16 * 3)


def test_the_cap_holds_and_what_was_used_last_stays(tmp_path):
    for i in range(60):
        jpeg(tmp_path / 'photos' / f'{i:02d}.jpg', i)
    names = scan(tmp_path / 'photos').path
    cache = cached(tmp_path, cap_gb=32 * 16 * 16 * 3 / 1e9)

    def ask(a, b):
        return cache.images(names[a:b], root=tmp_path / 'photos')

    first = ask(0, 10)
    for a in (10, 20, 30, 40, 50):
        assert ask(a, a + 10).decoded == 10
        assert ask(0, 10).decoded == 0
        assert records(tmp_path) <= 32
    assert ask(10, 20).decoded == 10
    same(first, tmp_path / 'photos')
    assert cache.usage().images.sum() == records(tmp_path)


def test_evicted_images_stay_readable_for_who_holds_them(tmp_path):
    for i in range(30):
        jpeg(tmp_path / 'photos' / f'{i:02d}.jpg', i)
    names = scan(tmp_path / 'photos').path
    cache = cached(tmp_path, cap_gb=20 * 16 * 16 * 3 / 1e9)
    first = cache.images(names[:15], root=tmp_path / 'photos')
    same(cache.images(names[15:], root=tmp_path / 'photos'), tmp_path / 'photos')
    same(first, tmp_path / 'photos')
    assert records(tmp_path) <= 20


def test_a_request_that_fits_is_met_though_its_own_files_are_in_the_way(tmp_path):
    for i in range(112):
        jpeg(tmp_path / 'photos' / f'{i:03d}.jpg', i)
    names = scan(tmp_path / 'photos').path.tolist()
    cache = cached(tmp_path, cap_gb=64 * 16 * 16 * 3 / 1e9)
    assert cache.per_file == 4
    assert cache.images(names[:64], root=tmp_path / 'photos').decoded == 64
    # one image from every file, and 48 new ones
    images = cache.images(names[:64:4] + names[64:], root=tmp_path / 'photos')
    assert len(images) == 64 and records(tmp_path) <= 64
    same(images, tmp_path / 'photos')


def test_working_sizes_share_the_cap(tmp_path, folder, names):
    cap = 14 * 16 * 16 * 3 / 1e9
    cached(tmp_path, cap_gb=cap).images(names, root=folder)
    cached(tmp_path, size=8, cap_gb=cap).images(names, root=folder)
    assert cache_usage(tmp_path / 'cache').mb.sum() <= cap * 1e3 + 1e-9
    same(cached(tmp_path, cap_gb=cap).images(names, root=folder), folder)


def test_what_cannot_fit_is_refused_before_decoding(tmp_path, folder, names, decodes, monkeypatch):
    with pytest.raises(
        DataError, match='12 images of 16 x 16 x 3 take .* give a higher cap_gb, or a smaller size'
    ):
        cached(tmp_path, cap_gb=11 * 16 * 16 * 3 / 1e9).images(names, root=folder)
    monkeypatch.setattr(shutil, 'disk_usage', lambda p: type('', (), dict(free=100)))
    with pytest.raises(DataError, match='12 images .* the disk of .* has 0.00 GB left: make room'):
        cached(tmp_path).images(names, root=folder)
    assert not decodes


def test_a_full_disk_is_one_clear_error_and_loses_nothing(tmp_path, folder, names, monkeypatch):
    class Full(io.FileIO):
        left = 5 * 16 * 16 * 3 + 100

        def write(self, data):
            if self.left <= 0:
                raise OSError(errno.ENOSPC, 'No space left on device')
            n = super().write(data[: self.left])
            Full.left -= n
            return n

    monkeypatch.setattr(
        data_cache_writer,
        'open',
        lambda f, mode, **kw: Full(f, mode) if mode != 'rb' else open(f, mode, **kw),
        raising=False,
    )
    with pytest.raises(
        DataError,
        match='cannot be written .No space left on device.: make room there, call clear_cache',
    ):
        cached(tmp_path).images(names, root=folder)
    monkeypatch.undo()
    images = cached(tmp_path).images(names, root=folder)
    assert images.decoded == 7  # five were whole
    same(images, folder)
    assert records(tmp_path) == 12


def test_a_full_disk_under_the_index(tmp_path, folder, names, monkeypatch):
    real = sqlite3.connect

    def small(*a, **kw):
        db = real(*a, **kw)
        db.execute('pragma max_page_count = 6')
        return db

    monkeypatch.setattr(sqlite3, 'connect', small)
    with pytest.raises(DataError, match='cannot be written .*full'):
        (
            cached(tmp_path).images(names, root=folder, boxes=[(0, 0, 0.5, 1)] * 12),
            cached(tmp_path).images([jpeg(tmp_path / 'more' / f'{i}.jpg', i) for i in range(80)]),
        )
    monkeypatch.undo()
    same(cached(tmp_path).images(names, root=folder), folder)


def test_a_folder_that_cannot_be_made(tmp_path, folder, names):
    (tmp_path / 'file').touch()
    with pytest.raises(DataError, match='cannot be written'):
        DecodedCache(16, folder=tmp_path / 'file' / 'cache').images(names, root=folder)


@pytest.mark.skipif(SUPERUSER, reason='the superuser may write everywhere')
def test_a_cache_that_may_only_be_read(tmp_path, folder, names, monkeypatch):
    monkeypatch.setattr(data_image_cache, '_SETTLED_S', -1.0)
    cached(tmp_path).images(names, root=folder)
    for f in [*(tmp_path / 'cache').iterdir()]:
        f.chmod(0o400)
    (tmp_path / 'cache').chmod(0o500)
    try:
        same(cached(tmp_path).images(names, root=folder), folder)
    finally:
        (tmp_path / 'cache').chmod(0o700)


# Damage


def test_the_cache_mends_itself(tmp_path, folder, names):
    cached(tmp_path).images(names, root=folder)
    records_file = next((tmp_path / 'cache').glob('records-*.u8'))
    reader = cached(tmp_path).images(names, root=folder)
    os.truncate(records_file, 5 * 16 * 16 * 3 + 7)
    with pytest.raises(DataError, match='ends too early'):
        reader[:]
    images = cached(tmp_path).images(names, root=folder)
    assert images.decoded == 12
    same(images, folder)
    next((tmp_path / 'cache').glob('records-*.u8')).unlink()
    same(cached(tmp_path).images(names, root=folder), folder)
    (tmp_path / 'cache' / 'records-stray.u8').write_bytes(b'x' * 100)
    jpeg(folder / 'new.jpg', 77)
    cached(tmp_path).images(['new.jpg'], root=folder)
    assert not (tmp_path / 'cache' / 'records-stray.u8').exists()


def test_a_damaged_index_is_named_and_cleared(tmp_path, folder, names):
    cached(tmp_path).images(names, root=folder)
    (tmp_path / 'cache' / 'index.sqlite').write_bytes(b'not a database' * 500)
    with pytest.raises(DataError, match='is damaged .*call clear_cache'):
        cached(tmp_path).images(names, root=folder)
    assert clear_cache(tmp_path / 'cache') > 0
    same(cached(tmp_path).images(names, root=folder), folder)


def test_clearing_touches_only_its_own_files(tmp_path, folder, names):
    assert clear_cache() == 0 and not len(cache_usage())
    DecodedCache(16).images(names, root=folder)
    DecodedCache(8).images(names, root=folder)
    home = tmp_path / 'usercache' / 'decoded'
    (home / 'mine.txt').touch()
    assert cache_usage()[['kind', 'size', 'fit', 'images']].to_numpy().tolist() == [
        ['photo', '8x8', 'crop', 12],
        ['photo', '16x16', 'crop', 12],
    ]
    assert DecodedCache(8).clear() == 12 * 8 * 8 * 3
    assert cache_usage()['size'].tolist() == ['16x16']
    assert clear_cache() > 12 * 16 * 16 * 3
    assert {f.name for f in home.iterdir()} <= {'mine.txt', '.lock'}
    assert len(list(folder.iterdir())) == 12


# Several processes

RUN = """
if True:
    import os, signal, sys, time
    from pathlib import Path
    from fashion_lab.data import (
        resizing as data_resizing,
        cache_writer as data_cache_writer,
        image_cache as data_image_cache,
        scanning as data_scanning,
    )

    cache = Path(sys.argv[1])
    folder = Path(sys.argv[2])
    go = Path(sys.argv[3])
    names = data_scanning.scan(folder).path
    go.with_name(go.name + str(os.getpid())).touch()
    while not go.exists():
        time.sleep(0.005)
"""


def child(code, *args):
    return subprocess.Popen(
        [sys.executable, '-c', RUN + code, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_write_the_same_cache_at_once(tmp_path):
    for i in range(40):
        jpeg(tmp_path / 'photos' / f'{i:02d}.jpg', i)
    code = """
    slow = data_resizing.decode
    data_image_cache.decode = lambda *a: time.sleep(.005) or slow(*a)
    mine = names if sys.argv[4] == '0' else names[::-1]
    images = data_image_cache.DecodedCache(16, folder=cache).images(list(mine), root=folder)
    assert all((images[i] == slow(folder/n, 16)[0]).all() for i, n in enumerate(mine))
    print(images.decoded)"""
    both = [
        child(code, tmp_path / 'cache', tmp_path / 'photos', tmp_path / 'go', k) for k in (0, 1)
    ]
    while len(list(tmp_path.glob('go*'))) < 2 and all(p.poll() is None for p in both):
        time.sleep(0.01)
    (tmp_path / 'go').touch()
    out = [p.communicate(timeout=60) for p in both]
    assert [p.returncode for p in both] == [0, 0], out
    assert sorted(int(o) for o, _ in out) == [0, 40]  # the second found what the first had done
    assert records(tmp_path) == 40


@pytest.mark.parametrize(
    'when', ['in the middle of a record', 'before the index is written', 'after a record']
)
def test_a_writer_that_is_killed_leaves_no_half_record(tmp_path, folder, names, when):
    code = """
    when, adds = sys.argv[4], []
    data_cache_writer.COMMIT_S = 0. if when != 'before the index is written' else 1e9
    add = data_cache_writer.Writer.add
    def killed(self, key, pixels, *a):
        if len(adds) == 7:
            if when == 'in the middle of a record': self.file.write(b'x'*(self.cache.record//2))
            os.kill(os.getpid(), signal.SIGKILL)
        adds.append(add(self, key, pixels, *a))
    data_cache_writer.Writer.add = killed
    data_image_cache.DecodedCache(16, folder=cache).images(names, root=folder)"""
    (tmp_path / 'go').touch()
    p = child(code, tmp_path / 'cache', folder, tmp_path / 'go', when)
    out = p.communicate(timeout=60)
    assert p.returncode == -signal.SIGKILL, out
    left = sum(f.stat().st_size for f in (tmp_path / 'cache').glob('records-*.u8'))
    assert left >= 7 * 768
    assert (left % 768 != 0) == (when == 'in the middle of a record')
    images = cached(tmp_path).images(names, root=folder)
    # what was entered is kept
    assert images.decoded == (12 if when == 'before the index is written' else 5)
    same(images, folder)
    assert [f.stat().st_size for f in (tmp_path / 'cache').glob('records-*.u8')] == [12 * 768]


def test_an_interrupted_run_keeps_what_was_decoded(tmp_path, folder, names, monkeypatch):
    def stop(self, key, pixels, *a):
        if self.rows and len(self.rows) == 4:
            raise KeyboardInterrupt
        return add(self, key, pixels, *a)

    add = data_cache_writer.Writer.add
    monkeypatch.setattr(data_cache_writer.Writer, 'add', stop)
    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path).images(names, root=folder)
    monkeypatch.undo()
    images = cached(tmp_path).images(names, root=folder)
    assert images.decoded == 8
    same(images, folder)


def test_threads_may_share_a_cache_and_its_images(tmp_path, folder, names):
    cache = cached(tmp_path)
    done = []

    def ask(k):
        images = cache.images(names[k:] + names[:k], root=folder)
        for _ in range(5):
            same(images, folder)
        done.append(images.decoded)

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(done) == [0, 0, 0, 12]


def test_waiting_for_another_writer_ends(tmp_path, folder, names):
    (tmp_path / 'cache').mkdir()
    with data_cache_index.alone(tmp_path / 'cache', 1):
        error = []

        def ask():
            try:
                cached(tmp_path, wait=0.1).images(names, root=folder)
            except DataError as e:
                error.append(str(e))

        t = threading.Thread(target=ask)
        t.start()
        t.join()
    assert 'another process has been writing' in error[0]


def test_reading_where_there_is_no_preadv(tmp_path, folder, names, monkeypatch):
    images = cached(tmp_path).images(names, root=folder)
    monkeypatch.delattr(os, 'preadv', raising=False)
    same(images, folder)
