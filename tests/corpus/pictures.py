"""Pictures, whole and broken, as bytes."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def picture(seed=0, width=48, height=32):
    "A colourful picture in which up, down, left and right can be told apart."
    rng = np.random.default_rng(seed)
    corners = rng.integers(20, 236, (3, 4, 3)).astype(np.uint8)
    return Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR)


def encoded(image, kind='JPEG', **options) -> bytes:
    "An image as a file's bytes."
    if kind == 'JPEG':
        options = dict(quality=95, subsampling=0) | options
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def jpeg(seed=0, **options):
    return encoded(picture(seed), 'JPEG', **options)


def png(seed=0, **options):
    return encoded(picture(seed), 'PNG', **options)


def chunk(name, data) -> bytes:
    "A chunk of a PNG file."
    return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))


def png_of(width, height, depth, colour, rows, *extra) -> bytes:
    """A PNG file from its parts: bits per channel, colour type, the packed rows, and chunks
    that go before them."""
    head = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0))
    return (
        b'\x89PNG\r\n\x1a\n'
        + head
        + b''.join(extra)
        + chunk(b'IDAT', zlib.compress(rows, 9))
        + chunk(b'IEND', b'')
    )


def oriented(turn, seed=0) -> bytes:
    "A JPEG whose pixels are turned, and whose EXIF says how to turn them back."
    back = {
        2: 'FLIP_LEFT_RIGHT',
        3: 'ROTATE_180',
        4: 'FLIP_TOP_BOTTOM',
        5: 'TRANSPOSE',
        6: 'ROTATE_90',
        7: 'TRANSVERSE',
        8: 'ROTATE_270',
    }
    exif = Image.Exif()
    exif[0x0112] = turn
    return encoded(picture(seed).transpose(Image.Transpose[back[turn]]), 'JPEG', exif=exif)


def many_frames(n) -> bytes:
    "A GIF of `n` tiny frames, the first of them `picture()`'s size and grey."
    first = encoded(Image.new('P', (48, 32), 1), 'GIF')
    frame = (
        b'\x21\xf9\x04\x00\x0a\x00\x00\x00'
        + b'\x2c\0\0\0\0\x01\0\x01\0\0'
        + b'\x02\x02\x44\x01\x00'
    )
    return first[:-1] + frame * n + b';'


def heic() -> bytes:
    "The beginning of a HEIC file, as telephones write them."
    return (
        struct.pack('>I', 24)
        + b'ftypheic\0\0\0\0mif1heic'
        + struct.pack('>I', 400)
        + b'meta'
        + bytes(392)
    )
