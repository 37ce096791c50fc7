"""Pictures as visitors bring them: every format, mode, shape and orientation that a browser reads.
Garments are drawn, or real photos where the clothing photos are on this machine."""

import io

import numpy as np
from PIL import Image

from fashion_lab.data.locate import find_photos
from fashion_lab.synthetic.garments import CLOTHING_CLASSES, draw_clothing

SHAPES = [
    (40, 60),
    (224, 224),
    (300, 400),
    (257, 401),
    (900, 301),
    (211, 1000),
    (1500, 1130),
    (3001, 1999),
]


def jpeg(image, rng, **options):
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(1, 9))
    options = dict(quality=int(rng.integers(60, 96)), subsampling=int(rng.integers(0, 3))) | options
    return dict(format='JPEG', exif=exif) | options


def cut_out(image):
    "Everything but an ellipse in the middle is more or less transparent."
    height, width = image.height, image.width
    y, x = np.mgrid[:height, :width]
    away = np.hypot(y / height - 0.5, x / width - 0.5)
    alpha = np.clip(500 * (0.55 - away), 0, 255).astype(np.uint8)
    image.putalpha(Image.fromarray(alpha))
    return image


def deep(image):
    return Image.fromarray(np.asarray(image.convert('L')).astype(np.uint16) * 257)


# kind -> (the picture in a mode, how it is saved)
KINDS = {
    'jpeg': lambda i, rng: (i, jpeg(i, rng)),
    'jpeg progressive': lambda i, rng: (i, jpeg(i, rng, progressive=True)),
    'jpeg grey': lambda i, rng: (i.convert('L'), jpeg(i, rng, subsampling=0)),
    'jpeg cmyk': lambda i, rng: (i.convert('CMYK'), jpeg(i, rng)),
    'png': lambda i, rng: (i, dict(format='PNG')),
    'png transparent': lambda i, rng: (cut_out(i), dict(format='PNG')),
    'png grey': lambda i, rng: (i.convert('L'), dict(format='PNG')),
    'png deep': lambda i, rng: (deep(i), dict(format='PNG')),
    'png palette': lambda i, rng: (i.quantize(64), dict(format='PNG')),
    'webp': lambda i, rng: (i, dict(format='WEBP', quality=85)),
    'gif': lambda i, rng: (i.quantize(64), dict(format='GIF')),
    'bmp': lambda i, rng: (i, dict(format='BMP')),
}
OFTEN = ['jpeg'] * 8 + list(KINDS)  # most photos are JPEG files


def real_photos():
    try:
        return sorted((find_photos('clothing') / 'images').glob('*.jpg'))
    except FileNotFoundError:
        return []


def scene(k, rng, photos):
    "A garment, as a photo of one of the shapes."
    height, width = SHAPES[k % len(SHAPES)]
    if photos:
        with Image.open(photos[int(rng.integers(len(photos)))]) as image:
            garment = image.convert('RGB')
    else:
        name = CLOTHING_CLASSES[k % len(CLOTHING_CLASSES)]
        garment = Image.fromarray(draw_clothing(name, rng, 256))
    side = max(height, width)
    across = garment.resize((side, side), Image.Resampling.BICUBIC)
    left, top = (side - width) // 2, (side - height) // 2
    return across.crop((left, top, left + width, top + height))


def pictures(n, seed=0):
    "`n` files as bytes: [(name, bytes), ...]."
    rng = np.random.default_rng(seed)
    photos = real_photos()
    made = []
    for k in range(n):
        kind = OFTEN[int(rng.integers(len(OFTEN)))]
        image, options = KINDS[kind](scene(k, rng, photos), rng)
        file = io.BytesIO()
        image.save(file, **options)
        made.append((f'{k:03d} {kind}', file.getvalue()))
    return made
