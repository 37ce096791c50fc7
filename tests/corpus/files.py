"""Single files: broken ones, odd ones that can be read, and odd names.

Each is decoded, asked for in every `predict` beside good photos, and put into a class folder."""

import csv
import functools
import io
import os
import socket
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np
from PIL import Image

from . import Case
from .desk import in_every_way, must, no_crash, refused, says
from .pictures import chunk, encoded, heic, jpeg, many_frames, oriented, picture, png, png_of

LABS = ('closures', 'fashion_mnist', 'segmentation', 'shoe_pairs')


@dataclass(frozen=True)
class File:
    "One file, and what a user must see of it."

    name: object  # the file's name, text or bytes
    write: object  # its bytes, or a function that makes the file at a path
    words: tuple | None = None  # it is refused with these words; `None`: it is read
    shows: Callable | None = (
        None  # () -> the image that it must be read as, upright; default: `picture()`
    )
    said: tuple = ()  # words of a note where it is read
    either: bool = False  # refusing with these words is fine, and so is reading it rightly
    folder: str = 'same'  # in a class folder: 'same', 'ignored' (it is no photo's name), 'refused'
    near: float = 8.0  # mean difference of pixels from what it must show, in levels of 255

    @property
    def image(self):
        return (self.shows or picture)()


def put(file, folder) -> Path:
    "Make the file in a folder."
    folder.mkdir(parents=True, exist_ok=True)
    path = Path(os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(file.name))))
    if callable(file.write):
        file.write(path)
    else:
        path.write_bytes(file.write)
    return path


def relative(path) -> str:
    "A path as a careful user types it: with ./ where the name begins with a dash."
    text = os.path.relpath(path)
    return f'./{text}' if text.startswith('-') else text


def check_file(file, desk):
    "All calls for one file."
    path = put(file, desk.folder)
    ask_everybody(file, desk, relative(path), lambda: check_in_folder(file, desk))


def ask_everybody(file, desk, path, *more):
    "The Python API, and `predict` of every lab."
    predicted = [functools.partial(check_predicted, file, desk, lab, path) for lab in LABS]
    in_every_way(lambda: check_decoded(file, desk.call(decode, path)), *predicted, *more)


def decode(path):
    from fashion_lab.data.resizing import decode

    return decode(path, 32, 'squash')


def check_decoded(file, seen):
    "The Python API: the right pixels, or a reason."
    if file.words is not None and (seen.code or seen.crash or not file.either):
        return refused(seen, file.words)
    no_crash(seen)
    must(seen.code == 0, seen, 'a photo that is read')
    pixels, notes = seen.value
    right = np.asarray(file.image.convert('RGB').resize((32, 32), Image.Resampling.BILINEAR), float)
    off = np.abs(pixels - right).mean()
    must(off < file.near, seen, f'the right pixels; they differ by {off:.1f} levels on average')
    seen.out = '; '.join(notes)
    must(says(seen.out, file.said), seen, f'a note that says {" and ".join(file.said)}')


@functools.cache
def answers_alone(run) -> dict:
    "What a lab says of the two good photos where nothing else is in the way."
    from fashion_lab.runs.run import Run
    from fashion_lab.labs.registry import lab_module

    lab = lab_module(run.parent.name)
    return {
        name: lab.predict(name, Run(run)).iloc[0].to_dict() for name in ('good-1.jpg', 'good-2.jpg')
    }


def good_photos():
    for k in (1, 2):
        Path(f'good-{k}.jpg').write_bytes(jpeg(k))


def check_predicted(file, desk, lab, path):
    "The command: a row for the file, and the answers for its neighbours as if it were not there."
    good_photos()
    run = desk.trained[lab]
    pair = lab == 'shoe_pairs'
    alone = {} if pair else answers_alone(run)
    seen = desk.command(
        'predict', lab, 'good-1.jpg', path, *([] if pair else ['good-2.jpg']), '--csv', '--run', run
    )
    no_crash(seen)
    must('file,' in seen.out, seen, 'a table')
    table = list(csv.DictReader(io.StringIO(seen.out, newline='')))
    reasons = [
        row['error'] for row in table if row['error'] and 'cannot be compared' not in row['error']
    ]
    rejected = file.words is not None and (bool(reasons) or not file.either)
    must(seen.code == (1 if rejected else 0), seen, f'exit code {1 if rejected else 0}')
    must(len(reasons) == rejected, seen, f'{int(rejected)} row with an error, not {len(reasons)}')
    if rejected:
        must(says(reasons[0], file.words), seen, f'a reason that says {" and ".join(file.words)}')
        must('[Errno' not in reasons[0], seen, 'a sentence, not an error number')
    if pair:
        return
    must(len(table) == 3, seen, 'three rows')
    for name, row in alone.items():
        mine = table[0 if name == 'good-1.jpg' else 2]
        same = (
            mine['answer'] == row['answer']
            and abs(float(mine['probability']) - row['probability']) < 1e-4
        )
        must(same, seen, f'the answer for {name} as it is without the file')


def check_in_folder(file, desk):
    """A class folder: the file is an item with the right pixels, or is named with its problem;
    the others stay."""
    from fashion_lab.data.folders import load_folder

    folder = desk.folder / 'classes'
    for k in range(8):
        put(File(f'{k}.jpg', jpeg(k + 10)), folder / ('coat' if k < 4 else 'hat'))
    path = put(file, folder / 'hat')
    seen = desk.call(load_folder, folder, size=32, fit='squash')
    no_crash(seen)
    must(seen.code == 0, seen, 'a set of the other photos')
    photos = seen.value
    about = f'hat/{path.name}'
    seen.out = f'{photos!r}; {photos.problems.to_dict("records")}'
    taken = len(photos) - 8
    if file.folder == 'ignored':
        return must(taken == 0, seen, 'a file of another kind is passed over')
    rejected = file.words is not None and (not taken or not file.either)
    if file.folder == 'refused' or rejected:
        return must_be_named(photos, about, taken, file, seen)
    must(taken == 1 and not len(photos.problems), seen, 'an item more, and no problem')


def must_be_named(photos, about, taken, file, seen):
    "A file that cannot be used is no item and stands among the problems."
    must(taken == 0, seen, 'the file left out')
    named = [
        p
        for f, p in zip(photos.problems.file, photos.problems.problem)
        if last_name(f) == last_name(about)
    ]
    must(len(named) == 1, seen, f'{about!r} named among the problems')
    if file.words and file.folder == 'same':
        must(
            says(f'{about} {named[0]}', file.words),
            seen,
            f'a reason that says {" and ".join(file.words)}',
        )


def last_name(path) -> str:
    return os.fsencode(str(path).rstrip('/')).rpartition(b'/')[2].decode('utf-8', 'replace')


# Broken

BROKEN = ('broken|not an image|empty|truncated|cannot be read|damaged',)
SIZE = ('pixels|too large|larger than',)
ALL_STAGES = dict(
    jpeg=jpeg,
    png=png,
    gif=lambda: encoded(picture().quantize(), 'GIF'),
    bmp=lambda: encoded(picture(), 'BMP'),
    ppm=lambda: encoded(picture(), 'PPM'),
    tiff=lambda: encoded(picture(), 'TIFF'),
    webp=lambda: encoded(picture(), 'WEBP', lossless=True),
    avif=lambda: encoded(picture(), 'AVIF'),
)


def pipe(path):
    os.mkfifo(path)


def folder_named_so(path):
    path.mkdir()


def link_to(target):
    return lambda path: path.symlink_to(target)


def link_to_itself(path):
    path.symlink_to(path.name)


def listening_socket(path):
    with socket.socket(socket.AF_UNIX) as s:
        os.chdir(path.parent)
        s.bind(path.name)
        os.chdir(path.parents[2] if path.parent.name == 'hat' else path.parent)


def link_outside(path):
    target = (
        path.parents[2] / 'elsewhere.jpg'
        if path.parent.name == 'hat'
        else path.with_name('elsewhere.jpg')
    )
    target.write_bytes(jpeg())
    path.symlink_to(target)


def sparse(path):
    path.write_bytes(jpeg()[:200])
    os.truncate(path, 800 << 20)


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w') as z:
        z.writestr('a.jpg', jpeg())
    return out.getvalue()


def pickled() -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([{'a': 1}], object), allow_pickle=True)
    return out.getvalue()


def bad_checksum() -> bytes:
    data = bytearray(png())
    data[data.index(b'IDAT') + 20] ^= 255
    return bytes(data)


def claims(width, height) -> bytes:
    return png_of(width, height, 8, 2, b'\0' * 64)


def solid(width, height) -> bytes:  # a small file of a very large picture
    pack = zlib.compressobj(9)
    row = b'\0' + bytes(3 * width)
    data = b''.join(pack.compress(row * 50) for _ in range(height // 50)) + pack.flush()
    head = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height // 50 * 50, 8, 2, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + head + chunk(b'IDAT', data) + chunk(b'IEND', b'')


def large_png(path):
    path.write_bytes(solid(13_000, 13_000))


def text_bomb() -> bytes:  # a text chunk that unpacks to 100 MB
    text = b'Comment\0\0' + zlib.compress(bytes(100 << 20), 9)
    data = png()
    return data[:33] + chunk(b'zTXt', text) + data[33:]


def tiff_of_nothing() -> bytes:  # strips that lie beyond the file
    data = bytearray(encoded(picture(), 'TIFF'))
    return bytes(data[:8] + data[-200:])


BROKEN_FILES = {
    'no bytes, jpg': File('x.jpg', b'', ('empty',)),
    'no bytes, png': File('x.png', b'', ('empty',)),
    'one byte': File('x.jpg', b'\xff', BROKEN),
    'text named jpg': File('x.jpg', b'Dear reader, the photo follows.', ('not an image',)),
    'a web page named jpg': File(
        'x.jpg', b'<!DOCTYPE html><html><body>Not found</body></html>', ('not an image',)
    ),
    'JSON named png': File('x.png', b'{"error": "quota exceeded"}', ('not an image',)),
    'a pointer of Git LFS': File(
        'x.jpg',
        b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n',
        ('not an image',),
    ),
    'a zip archive named jpg': File('x.jpg', zipped(), ('not an image',)),
    'a pickled array named jpg': File('x.jpg', pickled(), ('not an image',)),
    'a PDF named jpg': File(
        'x.jpg',
        b'%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF',
        ('not an image|PDF',),
    ),
    'an SVG named png': File(
        'x.png',
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        ('not an image|SVG',),
    ),
    'an EPS named jpg': File(
        'x.jpg',
        b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n',
        BROKEN,
    ),
    'a video named jpg': File(
        'x.jpg', struct.pack('>I', 24) + b'ftypisom\0\0\2\0isomiso2' + bytes(300), ('not an image',)
    ),
    'zeros': File('x.jpg', bytes(10_000), BROKEN),
    'random bytes': File('x.png', np.random.default_rng(0).bytes(10_000), BROKEN),
    'JPEG after rubbish': File('x.jpg', b'rubbish' + jpeg(), BROKEN),
    'JPEG begins and no more': File('x.jpg', jpeg()[:20], BROKEN),
    'PNG with a wrong checksum': File('x.png', bad_checksum(), BROKEN),
    'PNG header alone': File('x.png', png()[:33], BROKEN),
    'PNG that claims 60,000 x 60,000': File('x.png', claims(60_000, 60_000), SIZE),
    'PNG that claims no width': File('x.png', claims(0, 9), BROKEN),
    'PNG of 13,000 x 13,000 in 500 KB': File(
        'x.png', large_png, SIZE, either=True, shows=lambda: Image.new('RGB', (9, 9))
    ),
    'PNG with a text of 100 MB': File('x.png', text_bomb(), BROKEN, either=True),
    'PPM that claims 99,999 x 99,999': File('x.ppm', b'P6 99999 99999 255\n' + bytes(99), SIZE),
    'BMP that claims 2 billion lines': File(
        'x.bmp',
        encoded(picture(), 'BMP')[:22]
        + struct.pack('<i', 2**31 - 1)
        + encoded(picture(), 'BMP')[26:],
        ('pixels|broken|not an image',),
    ),
    'TIFF whose strips are elsewhere': File('x.tif', tiff_of_nothing(), BROKEN),
    'HEIC': File('x.heic', heic(), ('HEIC|HEIF',)),
    'HEIC named jpg': File('x.jpg', heic(), ('HEIC|HEIF',)),
    'a folder named jpg': File('x.jpg', folder_named_so, ('folder',), folder='ignored'),
    'a FIFO': File('x.jpg', pipe, ('ordinary file|regular file|pipe|FIFO',)),
    'a socket': File('x.jpg', listening_socket, ('ordinary file|regular file|socket',)),
    'a link to /dev/zero': File(
        'x.jpg', link_to('/dev/zero'), ('ordinary file|regular file|device',), folder='refused'
    ),
    'a link to /dev/null': File(
        'x.jpg',
        link_to('/dev/null'),
        ('ordinary file|regular file|device|empty',),
        folder='refused',
    ),
    'a link to nothing': File(
        'x.jpg',
        link_to('gone.jpg'),
        ('no file|nothing|not there|does not exist',),
        folder='refused',
    ),
    'a link to itself': File(
        'x.jpg', link_to_itself, ('link|circle|loop|no file',), folder='refused'
    ),
    'a link that leaves the folder': File('x.jpg', link_outside, folder='refused'),
    'a photo that goes on with 800 MB of nothing': File('x.jpg', sparse, BROKEN, either=True),
    'the rest that a Mac leaves beside photos': File(
        '._x.jpg', b'\0\5\x16\7\0\2\0\0' + bytes(112), BROKEN, folder='ignored'
    ),
}
BROKEN_FILES |= {
    f'{kind} cut in half': File(f'x.{kind}', make()[: len(make()) // 2], BROKEN)
    for kind, make in ALL_STAGES.items()
}
BROKEN_FILES |= {
    f'{kind} without its last ten bytes': File(
        f'x.{kind}', make()[:-10], BROKEN, either=kind not in ('bmp', 'ppm', 'tiff')
    )
    for kind, make in ALL_STAGES.items()
}


# Odd, and readable


def grey():
    return picture().convert('L')


def on_white(alpha):  # what a picture with an even alpha looks like on white
    return Image.blend(Image.new('RGB', (48, 32), 'white'), picture(), alpha / 255)


def with_alpha(alpha):
    image = picture().convert('RGBA')
    image.putalpha(alpha)
    return image


def palette():
    return picture().quantize(64)


def rows_of(pixels) -> bytes:
    return b''.join(b'\0' + row.tobytes() for row in pixels)


def deep_colour() -> bytes:  # 16 bits per channel
    values = np.asarray(picture()).astype('>u2') * 257
    return png_of(48, 32, 16, 2, rows_of(values.reshape(32, -1)))


def deep_grey(kind):
    return encoded(Image.fromarray(np.asarray(grey()).astype(np.uint16) * 257), kind)


def floats():
    return encoded(Image.fromarray(np.asarray(grey()).astype(np.float32) / 255), 'TIFF')


def with_exif(data):
    return jpeg(exif=b'Exif\0\0' + data)


def exif_entry(tag, kind, count, value):
    return b'II*\0\x08\0\0\0\1\0' + struct.pack('<HHI', tag, kind, count) + value + b'\0\0\0\0'


def frames(kind, **options):
    return encoded(
        picture(), kind, save_all=True, append_images=[picture(5), picture(6)], **options
    )


def gif_frames():
    return encoded(
        palette(), 'GIF', save_all=True, append_images=[picture(5).quantize(64)], duration=90
    )


def one_bit():
    return encoded(Image.fromarray((np.asarray(grey()) > 127)), 'PNG')


def transparent_palette():
    image = Image.new('P', (48, 32), 0)
    image.putpalette([0, 0, 0, 200, 30, 40])
    image.paste(1, (0, 0, 24, 32))
    return encoded(image, 'PNG', transparency=0)


def half_red():
    image = Image.new('RGB', (48, 32), 'white')
    image.paste((200, 30, 40), (0, 0, 24, 32))
    return image


READABLE_FILES = {
    'PNG named jpg': File('x.jpg', png()),
    'JPEG named png': File('x.png', jpeg()),
    'WebP named jpg': File('x.jpg', ALL_STAGES['webp']()),
    'GIF named jpg': File('x.jpg', ALL_STAGES['gif']()),
    'TIFF named png': File('x.png', ALL_STAGES['tiff']()),
    'BMP named jpeg': File('x.jpeg', ALL_STAGES['bmp']()),
    'AVIF': File('x.avif', ALL_STAGES['avif']()),
    'capital ending': File('X.JPG', jpeg()),
    'no ending': File('photo', jpeg(), folder='ignored'),
    'another ending': File('photo.dat', jpeg(), folder='ignored'),
    'two endings': File('photo.jpg.jpg', jpeg()),
    'a copy that is called so': File('x (1).jpg', jpeg()),
    'grey JPEG': File('x.jpg', encoded(grey()), shows=grey),
    'CMYK JPEG': File('x.jpg', encoded(picture().convert('CMYK'))),
    'CMYK TIFF': File('x.tif', encoded(picture().convert('CMYK'), 'TIFF')),
    'YCbCr TIFF': File('x.tif', encoded(picture().convert('YCbCr'), 'TIFF')),
    'Lab TIFF': File(
        'x.tif',
        encoded(Image.merge('LAB', [grey()] * 3), 'TIFF'),
        BROKEN,
        either=True,
        shows=grey,
        near=300,
    ),
    'progressive JPEG': File('x.jpg', jpeg(progressive=True)),
    'JPEG with a thumbnail and more behind it': File('x.jpg', jpeg() + jpeg(9)),
    'JPEG with 64 KB of comment': File('x.jpg', jpeg(comment=b'c' * 60_000)),
    'JPEG with a broken colour profile': File('x.jpg', jpeg(icc_profile=b'no profile' * 9)),
    'PNG with a broken colour profile': File('x.png', png(icc_profile=b'no profile' * 9)),
    'palette': File('x.png', encoded(palette(), 'PNG')),
    'palette with a transparent colour': File(
        'x.png', transparent_palette(), shows=half_red, said=('transparen|white',)
    ),
    'half transparent': File(
        'x.png',
        encoded(with_alpha(128), 'PNG'),
        shows=lambda: on_white(128),
        said=('transparen|white',),
    ),
    'wholly transparent': File(
        'x.png',
        encoded(with_alpha(0), 'PNG'),
        shows=lambda: on_white(0),
        said=('transparen|white',),
    ),
    'grey with alpha': File(
        'x.png',
        encoded(with_alpha(128).convert('LA'), 'PNG'),
        shows=lambda: on_white(128).convert('L'),
        said=('transparen|white',),
    ),
    'transparent WebP': File(
        'x.webp',
        encoded(with_alpha(128), 'WEBP', lossless=True),
        shows=lambda: on_white(128),
        said=('transparen|white',),
    ),
    'one bit per pixel': File(
        'x.png', one_bit(), shows=lambda: grey().point(lambda v: 255 * (v > 127))
    ),
    'PNG of 16 bits, grey': File('x.png', deep_grey('PNG'), shows=grey, said=('16',)),
    'PNG of 16 bits, coloured': File('x.png', deep_colour(), said=('16',)),
    'TIFF of 16 bits': File('x.tif', deep_grey('TIFF'), shows=grey, said=('16',)),
    'TIFF of floats': File('x.tif', floats(), ('float|mode|bits|cannot',), either=True, shows=grey),
    'animated GIF': File('x.gif', gif_frames(), said=('first of 2 frames|first frame',)),
    'animated PNG': File('x.png', frames('PNG'), said=('first of 3 frames|first frame',)),
    'animated WebP': File(
        'x.webp', frames('WEBP', lossless=True), said=('first of 3 frames|first frame',)
    ),
    'TIFF of three pages': File('x.tif', frames('TIFF'), said=('first of 3|first frame',)),
    'MPO of two eyes': File('x.jpg', frames('MPO'), said=('first of 3|first frame',)),
    'GIF of 200,000 frames': File(
        'x.gif',
        many_frames(200_000),
        shows=lambda: Image.open(io.BytesIO(many_frames(0))).convert('RGB'),
        said=('first',),
    ),
    'EXIF that is rubbish': File('x.jpg', with_exif(b'rubbish' * 9)),
    'EXIF that ends too early': File('x.jpg', with_exif(b'II*\0\x08\0\0\0\x09\0')),
    'EXIF that points at itself': File('x.jpg', with_exif(b'II*\0\x08\0\0\0\0\0\x08\0\0\0')),
    'EXIF with the orientation 0': File(
        'x.jpg', with_exif(exif_entry(0x112, 3, 1, struct.pack('<HH', 0, 0)))
    ),
    'EXIF with the orientation 99': File(
        'x.jpg', with_exif(exif_entry(0x112, 3, 1, struct.pack('<HH', 99, 0)))
    ),
    'EXIF whose orientation is a text': File('x.jpg', with_exif(exif_entry(0x112, 2, 4, b'top\0'))),
    'a single pixel': File(
        'x.png',
        encoded(Image.new('RGB', (1, 1), 'red'), 'PNG'),
        shows=lambda: Image.new('RGB', (1, 1), 'red'),
    ),
    'one pixel wide': File(
        'x.png',
        encoded(Image.new('RGB', (1, 900), 'red'), 'PNG'),
        shows=lambda: Image.new('RGB', (1, 1), 'red'),
    ),
    'one pixel high': File(
        'x.png',
        encoded(Image.new('RGB', (900, 1), 'red'), 'PNG'),
        shows=lambda: Image.new('RGB', (1, 1), 'red'),
    ),
}
READABLE_FILES |= {f'EXIF turned, {turn}': File('x.jpg', oriented(turn)) for turn in range(2, 9)}


# Names

NAMES = {
    'not UTF-8': b'bro\xe9ken.jpg',
    'composed accents': 'caf\u00e9.jpg',
    'decomposed accents': 'cafe\u0301.jpg',
    '255 bytes long': 'n' * 251 + '.jpg',
    '250 bytes of Chinese': '\u978b' * 82 + '.jpg',
    'a line break': 'left\nshoe.jpg',
    'a carriage return': 'left\rshoe.jpg',
    'a tab': 'left\tshoe.jpg',
    'terminal commands': '\x1b[31mred\x1b[0m.jpg',
    'a bell': 'ding\x07.jpg',
    'beginning with =': '=1+1.jpg',
    'beginning with +': '+1.jpg',
    'beginning with @': '@SUM(A1).jpg',
    'beginning with -': '-rf.jpg',
    'like an option': '--csv.jpg',
    'markup': '<img src=x onerror=alert(1)>.jpg',
    'a quotation mark': 'say "cheese".jpg',
    'an apostrophe': "it's.jpg",
    'format marks': '%s{0}{name}%(x)d.jpg',
    'a hash': '#1.jpg',
    'spaces around': ' shoe .jpg',
    'an emoji': '\U0001f45f.jpg',
    'written from the right': 'shoe\u202egpj.exe.jpg',
    'a tilde': '~nouser.jpg',
    'a backslash': 'a\\b.jpg',
    'a device of Windows': 'CON.jpg',
    'commas and semicolons': 'a,b;c.jpg',
    'glob marks': '[ab]*?.jpg',
    'a dollar': '$HOME.jpg',
    'two dots': '..x.jpg',
    'like a column': 'error.jpg',
    'a pipe': 'a|b.jpg',
    'no width': 'a\u200bb.jpg',
    'a null of Unicode': 'a\u2400.jpg',
}
NAMED_FILES = {f'named with {what}': File(name, jpeg()) for what, name in NAMES.items()}
NAMED_FILES |= {
    'named with two dots': File('..x.jpg', jpeg(), folder='ignored'),
    'named with a bare ending': File('.jpg', jpeg(), folder='ignored'),
}


def check_named(file, desk):
    """As every file; besides, no cell of the table is a formula, and people on plain terminals
    can read the answer."""
    check_file(file, desk)
    path = relative(desk.folder / os.fsdecode(file.name))
    run = desk.trained['closures']
    seen = desk.command('predict', 'closures', path, '--csv', '--run', run)
    cells = [cell for row in csv.reader(io.StringIO(seen.out, newline='')) for cell in row]
    formulas = [
        cell
        for cell in cells
        if cell[:1] in ('=', '+', '@', '\t', '\r') or cell[:1] == '-' and not is_number(cell)
    ]
    must(not formulas, seen, f'no cell that a spreadsheet computes: {formulas[:1]}')
    for encoding in ('utf-8', 'ascii'):
        seen = desk.command('predict', 'closures', path, '--run', run, encoding=encoding)
        no_crash(seen)
        must(
            seen.code == 0 and 'network:' in seen.out,
            seen,
            f'an answer on a terminal for {encoding}',
        )
        must(not set('\x1b\x07\r') & set(seen.out), seen, 'no commands to the terminal')


def is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


# What is no file at all

NOT_THERE = {
    'not there': ('gone.jpg', ('no file|not there|does not exist',)),
    'a name of 300 bytes': ('n' * 300 + '.jpg', ('long|no file|cannot be',)),
    'a path of 5,000 bytes': ('d/' * 2500 + 'x.jpg', ('long|no file|cannot be',)),
    'a home that nobody has': ('~nouser/x.jpg', ('home|user|no file',)),
    'a name with a null': ('a\0b.jpg', ('null|no file|cannot be|not a name',)),
    'no name': ('', ('folder|no file|empty|name',)),
    'below a file': ('good-1.jpg/x.jpg', ('no file|not there|not a folder|cannot be',)),
    'an address': ('https://127.0.0.1:9/x.jpg', ('no file|address|not there|download',)),
    'an odd address': ('http://[::1/x.jpg', ('no file|address|not there|download',)),
    'a pattern that nothing fits': ('*.jpeg', ('no file|not there',)),
    'the standard input': ('-', ('no file|not there|standard input',)),
    'a drive of Windows': ('C:\\photos\\x.jpg', ('no file|not there',)),
    'the folder itself': ('.', ('folder',)),
    'the root': ('/', ('folder',)),
    'a device': ('/dev/zero', ('ordinary file|regular file|device',)),
}


def check_not_there(name, words, desk):
    "A name behind which no photo is: it is reported, and its neighbours are answered."
    good_photos()
    file = File(name, b'', words)
    ask_everybody(file, desk, name)


def slow(name):
    return 3.0 if 'frames' in name or 'FIFO' in name or '/dev' in name else 20.0


CASES = [
    Case(f'files/{name}', functools.partial(check_file, file), slow(name))
    for name, file in (BROKEN_FILES | READABLE_FILES).items()
]
CASES += [
    Case(f'names/{name}', functools.partial(check_named, file))
    for name, file in NAMED_FILES.items()
]
CASES += [
    Case(f'names/{name}', functools.partial(check_not_there, *given))
    for name, given in NOT_THERE.items()
]
