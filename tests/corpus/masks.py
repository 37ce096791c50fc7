"""Photos with a mask each: palettes, colours, sizes, values, and what is missing."""

import functools
import io
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from . import Case
from .desk import in_every_way, must, no_crash, refused, says
from .pictures import encoded
from .sets import Refused, all_told, plant, rightly_refused

N, FACADES, SIDE = 16, 28, 32
COLOURS = np.array([[0, 0, 0], [220, 40, 40], [40, 200, 60]], np.uint8)


@dataclass(frozen=True)
class Masked:
    """The folder is read as so many photos, whose masks hold the classes that were drawn, under
    whatever names."""

    n: int = N
    classes: int = 3
    problems: dict = field(default_factory=dict)  # how a photo's name begins -> words about it
    said: tuple = ()
    or_refused: tuple | None = None  # refusing with these words is fine, too
    run_refuses: tuple = ()  # `run` cannot learn from it and says so


@dataclass(frozen=True)
class Source:
    build: object  # folder -> None
    right: object  # `Masked` or `Refused`


# What is drawn


@functools.cache
def photo(k, width=SIDE, height=SIDE) -> bytes:  # colours like those of no other photo
    rng = np.random.default_rng(500 + k)
    base = rng.integers(30, 225, 3)
    return encoded(
        Image.fromarray((base + rng.integers(-25, 25, (height, width, 3))).astype(np.uint8)), 'PNG'
    )


def truth(
    k, height=SIDE, width=SIDE
) -> np.ndarray:  # classes 0, 1, 2 in stripes, each photo's elsewhere
    stripes = np.sort(np.random.default_rng(900 + k).integers(6, SIDE - 6, 2))
    stripes[1] = max(stripes[1], stripes[0] + 4)
    return np.broadcast_to(np.digitize(np.arange(width), stripes), (height, width)).astype(np.uint8)


def grey(k):
    return encoded(Image.fromarray(truth(k)), 'PNG')


def coloured(k):
    return encoded(Image.fromarray(COLOURS[truth(k)]), 'PNG')


def indexed(values, palette) -> Image.Image:
    image = Image.fromarray(values)
    image.putpalette(np.asarray(palette, np.uint8).ravel().tolist())
    return image


def shared_palette(k):
    return encoded(indexed(truth(k), COLOURS), 'PNG')


def own_palette(k):  # the same colours, in another order in every file
    order = np.random.default_rng(k).permutation(3)
    return encoded(indexed(np.argsort(order).astype(np.uint8)[truth(k)], COLOURS[order]), 'PNG')


def adaptive(k):  # as Pillow's quantize makes it
    return encoded(Image.fromarray(COLOURS[truth(k)]).quantize(3), 'PNG')


def times(factor, plus=0, dtype=np.uint8):
    return lambda k: encoded(
        Image.fromarray((truth(k).astype(int) * factor + plus).astype(dtype)), 'PNG'
    )


def converted(mode, kind='PNG'):
    return lambda k: encoded(Image.fromarray(truth(k)).convert(mode), kind)


def two_values(k):
    return encoded(Image.fromarray((truth(k) > 0).astype(np.uint8) * 255), 'PNG')


def one_bit(k):
    return encoded(Image.fromarray(truth(k) > 0), 'PNG')


def as_jpeg(k):
    return encoded(Image.fromarray(truth(k) * 100), 'JPEG')


def floats(k):
    return encoded(Image.fromarray(truth(k).astype(np.float32)), 'TIFF')


def blended(k):  # edges smoothed by an editor
    return encoded(
        Image.fromarray(COLOURS[truth(k)])
        .resize((64, 64), Image.Resampling.BICUBIC)
        .resize((SIDE, SIDE), Image.Resampling.BILINEAR),
        'PNG',
    )


def with_rims(k):  # 255 along the borders of classes, as in Pascal VOC
    values = truth(k).copy()
    edge = np.flatnonzero(np.diff(values[0]))
    values[:, edge] = 255
    return encoded(indexed(values, np.vstack([COLOURS, np.full((253, 3), 7, np.uint8)])), 'PNG')


def with_alpha(k):
    image = Image.fromarray(COLOURS[truth(k)]).convert('RGBA')
    image.putalpha(255)
    return encoded(image, 'PNG')


def see_through(k):  # the background is transparent, its colours hold rubbish
    rgba = np.dstack([COLOURS[truth(k)], np.where(truth(k) > 0, 255, 0).astype(np.uint8)])
    return encoded(Image.fromarray(rgba), 'PNG')


def interlaced_gif(k):
    return encoded(indexed(truth(k), COLOURS), 'GIF')


def array(k):
    out = io.BytesIO()
    np.save(out, truth(k))
    return out.getvalue()


# Folders


def apart(mask, ending='png', **changes):  # images/ and masks/
    tree = {f'images/{k:02d}.png': photo(k) for k in range(N)} | {
        f'masks/{k:02d}.{ending}': mask(k) for k in range(N)
    }
    return planted(tree, changes)


def beside(mask, first='', ending='jpg', **changes):  # photo.jpg and photo.png
    def shot(k):
        return encoded(Image.open(io.BytesIO(photo(k))), 'JPEG')

    tree = {f'{first}{k:02d}.{ending}': shot(k) for k in range(N)} | {
        f'{first}{k:02d}.png': mask(k) for k in range(N)
    }
    return planted(tree, changes)


def planted(
    tree, changes
):  # the changes: a file's new content, or `None` for a file that is missing
    kept = {name: content for name, content in (tree | changes).items() if content is not None}
    return lambda folder: plant(folder, kept)


def parts(*names):  # train/images/00.png and so on
    tree = {}
    for k in range(N):
        part = names[k % len(names)]
        tree |= {f'{part}/images/{k:02d}.png': photo(k), f'{part}/masks/{k:02d}.png': grey(k)}
    return planted(tree, {})


def facades(**changes):  # the published layout
    tree = {}
    for k in range(FACADES):
        where = 'test_dev' if k % 4 == 3 else 'train'
        tree |= {
            f'{where}/eecs442_{k:04d}.jpg': encoded(Image.open(io.BytesIO(photo(k))), 'JPEG'),
            f'{where}/eecs442_{k:04d}.png': grey(k),
        }
    return planted(tree, changes)


def turned(k):  # upright 20 x 32, stored lying with a remark
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.open(io.BytesIO(photo(k, 32, 20))), 'JPEG', exif=exif)


def sized(width, height):
    return encoded(Image.fromarray(np.zeros((height, width), np.uint8)), 'PNG')


def stray(value):
    values = truth(0).copy()
    values[:8, :8] = value
    return encoded(Image.fromarray(values), 'PNG')


def stray_colour():
    rgb = COLOURS[truth(0)].copy()
    rgb[:9, :9] = (1, 2, 3)
    return encoded(Image.fromarray(rgb), 'PNG')


def one_bad(mask, words, content):
    return Source(apart(mask, **{'masks/00.png': content}), Masked(N - 1, problems={'/00': words}))


SOURCES = {
    'grey numbers': Source(apart(grey), Masked()),
    'one palette': Source(apart(shared_palette), Masked()),
    'a palette of its own in every file': Source(
        apart(own_palette), Masked(or_refused=('palette',))
    ),
    'adaptive palettes': Source(apart(adaptive), Masked(or_refused=('palette',))),
    'colours': Source(apart(coloured), Masked()),
    'colours with alpha': Source(apart(with_alpha), Masked()),
    'a transparent background': Source(
        apart(see_through), Masked(or_refused=('transparen|alpha|colour',))
    ),
    'palettes and colours mixed': Source(
        apart(lambda k: own_palette(k) if k % 2 else coloured(k)),
        Masked(or_refused=('palette|colour',)),
    ),
    'grey numbers and palettes mixed': Source(
        apart(lambda k: shared_palette(k) if k % 2 else grey(k)),
        Masked(or_refused=('palette|colour',)),
    ),
    'GIFs': Source(apart(interlaced_gif, 'gif'), Masked(or_refused=('GIF|PNG',))),
    'numbers with gaps': Source(apart(times(90)), Masked()),
    'numbers from 1': Source(apart(times(1, 1)), Masked()),
    '16 bits, small numbers': Source(apart(times(1, 0, np.uint16)), Masked()),
    '16 bits, large numbers': Source(apart(times(1000, 0, np.uint16)), Masked()),
    'black and white': Source(apart(two_values), Masked(classes=2)),
    'one bit': Source(apart(one_bit), Masked(classes=2)),
    'grey with alpha': Source(apart(converted('LA')), Masked()),
    'grey as RGB': Source(apart(converted('RGB')), Masked()),
    'TIFFs': Source(apart(converted('L', 'TIFF'), 'tif'), Masked()),
    'floats': Source(apart(floats, 'tif'), Refused(('mode|float|numbers|mask',))),
    'JPEGs': Source(apart(as_jpeg, 'jpg'), Refused(('JPEG',))),
    'smoothed edges': Source(apart(blended), Refused(('smooth|blend|edges|colours',))),
    'rims of 255': Source(apart(with_rims), Masked(said=('255',), classes=4, or_refused=('255',))),
    'arrays of NumPy': Source(apart(array, 'npy'), Refused(('mask|image',))),
    'photos for masks': Source(apart(lambda k: photo(k + 50)), Refused(('photo|colours|mask',))),
    'one class': Source(apart(times(0)), Masked(classes=1, run_refuses=('class',))),
    # single masks
    'a mask is missing': Source(
        apart(grey, **{'masks/00.png': None}), Masked(N - 1, problems={'images/00': 'no mask'})
    ),
    'a photo is missing': Source(
        apart(grey, **{'images/00.png': None}),
        Masked(N - 1, problems={'masks/00': 'without a photo|no photo'}),
    ),
    'an empty mask': one_bad(grey, 'empty', b''),
    'a broken mask': one_bad(grey, 'broken|cannot|truncated', grey(0)[:60]),
    'a text for a mask': one_bad(grey, 'not an image|cannot', b'0 0 1 1'),
    'a JPEG called png': one_bad(grey, 'JPEG', as_jpeg(0)),
    'a mask of another size': one_bad(grey, '32 x 32|16 x 16', sized(16, 16)),
    'a mask that lies': one_bad(grey, '32|20', sized(20, 32)),
    'a colour that stands for nothing': Source(
        apart(coloured, **{'masks/00.png': stray_colour()}), Masked(classes=4, said=('#010203',))
    ),
    'a smoothed mask': one_bad(coloured, 'smooth|blend|edges', blended(0)),
    'numbers beyond 255 in one mask': Source(
        apart(grey, **{'masks/00.png': times(300, 0, np.uint16)(0)}),
        Masked(classes=5, said=('class 300',)),
    ),
    'an empty photo': Source(
        apart(grey, **{'images/00.png': b''}), Masked(N - 1, problems={'images/00': 'empty'})
    ),
    'a broken photo': Source(
        apart(grey, **{'images/00.png': photo(0)[:99]}),
        Masked(N - 1, problems={'images/00': 'broken|truncated'}),
    ),
    'two masks of one photo': Source(
        apart(grey, **{'masks/00_mask.png': grey(3)}),
        Masked(N - 1, problems={'images/00': '2 masks|two masks'}),
    ),
    'two photos of one mask': Source(
        apart(grey, **{'images/00.jpg': encoded(Image.open(io.BytesIO(photo(60))), 'JPEG')}),
        Masked(N - 1, problems={'images/00': 'one of them|shares|two photo'}),
    ),
    'all masks missing': Source(
        apart(grey, **{f'masks/{k:02d}.png': None for k in range(N)}), Refused(('mask',))
    ),
    'all masks broken': Source(apart(lambda k: b'no mask'), Refused(('mask',))),
    # layouts
    'masks beside photos': Source(beside(grey), Masked()),
    'masks beside photos, in capitals': Source(beside(grey, ending='JPG'), Masked()),
    'train, valid, test': Source(parts('train', 'valid', 'test'), Masked()),
    'train and dev': Source(parts('train', 'dev'), Masked()),
    'train and test alone': Source(parts('train', 'test'), Masked()),
    'the published layout': Source(facades(), Masked(FACADES, 5)),
    'a value that the published layout has not': Source(
        facades(**{'train/eecs442_0000.png': stray(9)}),
        Masked(FACADES - 1, 5, problems={'eecs442_0000': '9'}),
    ),
    'a mask that the published layout lacks': Source(
        facades(**{'train/eecs442_0000.png': None}),
        Masked(FACADES - 1, 5, problems={'eecs442_0000': 'no mask'}),
    ),
    'what a Mac puts into archives': Source(
        apart(
            grey,
            **{f'__MACOSX/images/._{k:02d}.png': b'no' for k in range(3)},
            **{'__MACOSX/masks/00.png': b'no'},
        ),
        Masked(),
    ),
    'names of classes': Source(apart(grey, **{'classes.txt': b'wall\nwindow\nsky\n'}), Masked()),
    'fewer names than classes': Source(
        apart(grey, **{'classes.txt': b'wall\nwindow\n'}), Refused(('2 class names|names',))
    ),
    'a name twice': Source(
        apart(grey, **{'classes.csv': b'name,value\nwall,0\nwall,1\nsky,2\n'}), Refused(('wall',))
    ),
    'a value that is no number': Source(
        apart(grey, **{'classes.csv': b'name,value\nwall,zero\nsky,1\n'}),
        Refused(('classes.csv', 'number')),
    ),
    'names in UTF-16': Source(
        apart(grey, **{'classes.txt': 'wall\nwindow\nsky\n'.encode('utf-16')}),
        Masked(or_refused=('UTF-8',)),
    ),
    'a list of classes without columns': Source(
        apart(grey, **{'classes.csv': b'wall\nsky\n'}), Refused(('classes.csv',))
    ),
    'a list of no classes': Source(apart(grey, **{'classes.csv': b''}), Refused(('classes.csv',))),
    'classes called like columns': Source(
        apart(grey, **{'classes.txt': b'file\nmask\nlow\n'}), Masked()
    ),
    'markup for classes': Source(
        apart(grey, **{'classes.txt': b'<script>alert(1)</script>\nhat\nsky\n'}), Masked()
    ),
    'two photos in all': Source(
        planted(
            {
                f'{d}/{k}.png': (photo if d == 'images' else grey)(k)
                for k in range(2)
                for d in ('images', 'masks')
            },
            {},
        ),
        Masked(2, run_refuses=('photo',)),
    ),
}


# The calls


def check_source(source, desk):
    from fashion_lab.data.facades import load_facades
    from fashion_lab.data.masks import load_masked
    from fashion_lab.data.registry import noted
    from fashion_lab.labs.segmentation import is_facades

    path = desk.folder / 'own'
    source.build(path)

    def load_own():
        if is_facades(path):
            return noted(load_facades, path, size=SIDE, download=False)
        return noted(load_masked, path, size=SIDE)

    def by_python():
        check_masks(source.right, desk.call(load_own), 'Python')

    def by_data():
        check_page(source.right, desk.command('data', 'facades', '--source', path))

    def by_run():
        seen = desk.run_smoke('segmentation', path)
        check_masks(source.right, with_set(seen, desk), 'run')

    in_every_way(by_python, by_data, by_run)


def with_set(seen, desk):
    if seen.value is None:
        return seen
    from fashion_lab.labs.segmentation import photos_of

    told = desk.call(photos_of, seen.value)
    seen.value, seen.crash, seen.err = told.value, told.crash, seen.err + told.err
    return seen


def check_masks(right, seen, way):
    "A set of photos with masks holds what it must, or there is none."
    if rightly_refused(right, seen, way):
        return
    photos = seen.value
    told = all_told(seen)
    seen.out = f'{photos!r}; {photos.classes}; {told.strip()}'
    must(len(photos) == right.n, seen, f'{right.n} photos')
    must(len(photos.classes) == right.classes, seen, f'{right.classes} classes')
    check_problems(right, told, seen)
    must(says(told, right.said), seen, f'said: {" and ".join(right.said)}')
    if right.classes == 3:
        check_classes(photos, seen)


def check_classes(photos, seen):
    "The same class has the same number in all masks."
    meaning = {}
    for name, mask in zip(photos.items.id, photos.masks(SIDE)):
        drawn = truth(int(name.rpartition('/')[2].rpartition('_')[2]))
        for k in range(3):
            values = set(np.unique(mask[drawn == k]).tolist()) - {
                int(v)
                for v in np.unique(mask)
                if (mask == v).mean() < 0.08 and (drawn == k).mean() > 0.09
            }
            meaning.setdefault(k, set()).update(values)
    right = all(len(v) == 1 for v in meaning.values()) and len(set.union(*meaning.values())) == 3
    must(right, seen, f'one number for each class, not {meaning}')


def check_problems(right, told, seen):
    for name, words in right.problems.items():
        must(
            any(name in line and says(line, [words]) for line in told.splitlines()),
            seen,
            f'{name} named, with {words}',
        )


def check_page(right, seen):
    "`data` says the same in words."
    no_crash(seen)
    if isinstance(right, Refused):
        return refused(seen, right.words)
    if right.run_refuses and seen.code:
        return refused(seen, right.run_refuses)
    if right.or_refused is not None and seen.code:
        return refused(seen, right.or_refused)
    must(seen.code == 0, seen, 'a page (exit code 0)')
    must('Not on this machine' not in seen.out, seen, 'a page about what is there')
    check_problems(right, seen.text, seen)
    must(says(seen.text, right.said), seen, f'said on the page: {" and ".join(right.said)}')
    must('<script>' not in seen.out, seen, 'no markup from names')


CASES = [
    Case(f'masks/{name}', functools.partial(check_source, source))
    for name, source in SOURCES.items()
]
