"""Folders of photos: a folder per class, or nearly."""

import functools
import os
import unicodedata

from . import Case
from .sets import Photos, Refused, Source, check_source, photo, plant

TWO = dict(coat=4, hat=4)
ODD_LAYOUT = ('train|folder|class|split|part',)
LIKE_COLUMNS = 'error file answer notes probability id class label split path source'.split()


def linked(folder):  # a class that is a link to another
    plant(folder, dict(coat=4, hat=4))
    (folder / 'jacket').symlink_to('coat')
    return folder


def circle(folder):
    plant(folder, dict(coat=4, hat=4))
    (folder / 'coat' / 'again').symlink_to('..')
    return folder


def link_away(folder):
    plant(folder.parent / 'elsewhere', dict(dress=4))
    plant(folder, dict(coat=4, hat=4))
    (folder / 'dress').symlink_to(folder.parent / 'elsewhere' / 'dress')
    return folder


def link_itself(folder):
    plant(folder.parent / 'elsewhere', dict(coat=4, hat=4))
    folder.symlink_to(folder.parent / 'elsewhere')
    return folder


def empty_class(folder):
    plant(folder, TWO)
    (folder / 'dress').mkdir()
    return folder


def pipe_inside(folder):
    plant(folder, TWO)
    os.mkfifo(folder / 'coat' / 'pipe.jpg')
    return folder


def nothing(folder):
    folder.mkdir()
    return folder


def a_photo(folder):
    plant(folder, {'x.jpg': photo(0)})
    return folder / 'x.jpg'


def an_archive(folder):
    from .files import zipped

    plant(folder, {'photos.zip': zipped()})
    return folder / 'photos.zip'


def deep(folder):
    plant(folder, TWO)
    place = folder / 'coat'
    for k in range(40):
        place = place / f'level-{k}'
    place.mkdir(parents=True)
    (place / 'deep.jpg').write_bytes(photo(99))
    return folder


def twice(first, second):
    return lambda folder: plant(folder, TWO | {first: photo(77), second: photo(77)})


def given(path):
    return lambda folder: path


def accents(form):
    return unicodedata.normalize(form, 'b\u00e9ret')


BAD = b'not a photo'
SOURCES = {
    # layouts that are read
    'a folder per class': Source(TWO, Photos(TWO)),
    'train, valid, test': Source(
        {
            'train/coat': 4,
            'train/hat': 4,
            'valid/coat': 2,
            'valid/hat': 2,
            'test/coat': 1,
            'test/hat': 1,
        },
        Photos(dict(coat=7, hat=7), dict(train=8, valid=4, test=2)),
    ),
    'Train, Val, TEST': Source(
        {
            'Train/coat': 4,
            'Train/hat': 4,
            'Val/coat': 2,
            'Val/hat': 2,
            'TEST/coat': 1,
            'TEST/hat': 1,
        },
        Photos(dict(coat=7, hat=7), dict(train=8, valid=4, test=2)),
    ),
    'training, validation, testing': Source(
        {
            'training/coat': 4,
            'training/hat': 4,
            'validation/coat': 2,
            'validation/hat': 2,
            'testing/coat': 1,
            'testing/hat': 1,
        },
        Photos(dict(coat=7, hat=7), dict(train=8, valid=4, test=2)),
    ),
    'train alone': Source({'train/coat': 4, 'train/hat': 4}, Photos(TWO)),
    'a class called train, beside bus': Source(dict(train=4, bus=4), Photos(dict(bus=4, train=4))),
    'classes with folders in them': Source({'coat/red': 2, 'coat/blue': 2, 'hat': 4}, Photos(TWO)),
    'forty folders deep': Source(deep, Photos(dict(coat=5, hat=4))),
    'the folder is a link': Source(link_itself, Photos(TWO)),
    'hidden files and thumbnails': Source(
        TWO
        | {
            '.DS_Store': BAD,
            'coat/.hidden.jpg': photo(50),
            'hat/Thumbs.db': BAD,
            '.thumbs/coat/1.jpg': photo(51),
            'coat/._1.jpg': BAD,
        },
        Photos(TWO),
    ),
    'texts among the photos': Source(
        TWO | {'README.txt': BAD, 'coat/labels.json': b'{}'}, Photos(TWO)
    ),
    'a class in one part only': Source(
        {'train/coat': 4, 'train/hat': 4, 'test/coat': 2, 'test/dress': 3},
        Photos(dict(coat=6, dress=3, hat=4), dict(train=8, test=5)),
    ),
    # layouts that look like something else
    'dev beside train': Source(
        {'train/coat': 4, 'train/hat': 4, 'dev/coat': 2, 'dev/hat': 2},
        Photos(dict(coat=6, hat=6), dict(train=8, valid=4), or_refused=('dev',)),
    ),
    'DEV beside train': Source(
        {'train/coat': 4, 'train/hat': 4, 'DEV/coat': 2, 'DEV/hat': 2},
        Photos(dict(coat=6, hat=6), dict(train=8, valid=4), or_refused=('DEV',)),
    ),
    'holdout beside train': Source(
        {'train/coat': 4, 'train/hat': 4, 'holdout/coat': 2, 'holdout/hat': 2},
        Photos(dict(coat=6, hat=6), said=('holdout',), or_refused=('holdout',)),
    ),
    'train, test, and unlabelled in batches': Source(
        {'train/coat': 4, 'train/hat': 4, 'test/coat': 2, 'test/hat': 2, 'unlabelled/batch1': 3},
        Photos(
            dict(coat=6, hat=6),
            dict(train=8, test=4),
            said=('unlabelled',),
            or_refused=('unlabelled',),
        ),
    ),
    'train, test, and loose photos beside': Source(
        {'train/coat': 4, 'train/hat': 4, 'test/coat': 2, 'test/hat': 2, 'new': 2},
        Photos(dict(coat=6, hat=6), dict(train=8, test=4), said=('new',), or_refused=('new',)),
    ),
    'what a Mac puts into archives': Source(
        {'train/coat': 4, 'train/hat': 4, '__MACOSX/train/coat': 4, '__MACOSX/train/hat': 4},
        Photos(TWO),
    ),
    'what a Mac puts beside classes': Source(
        TWO | {'__MACOSX/coat/._1.jpg': BAD, '__MACOSX/coat': 2}, Photos(TWO)
    ),
    'what notebooks leave': Source(
        TWO | {'.ipynb_checkpoints/1-checkpoint.jpg': photo(50), 'coat/.ipynb_checkpoints': 2},
        Photos(TWO),
    ),
    'a folder around the classes': Source(
        {'dataset/coat': 4, 'dataset/hat': 4}, Photos(TWO, or_refused=('class|folder',))
    ),
    'a folder around train and test': Source(
        {'data/train/coat': 4, 'data/train/hat': 4, 'data/test/coat': 2, 'data/test/hat': 2},
        Photos(dict(coat=6, hat=6), dict(train=8, test=4), or_refused=ODD_LAYOUT),
    ),
    'parts inside the classes': Source(
        {'coat/train': 4, 'coat/test': 2, 'hat/train': 4, 'hat/test': 2},
        Photos(dict(coat=6, hat=6), dict(train=8, test=4), or_refused=ODD_LAYOUT),
    ),
    'folds': Source(
        {f'fold{k}/{c}': 3 for k in range(3) for c in TWO},
        Photos(dict(coat=9, hat=9), said=('fold',), or_refused=('fold|same',)),
    ),
    'a part and a class side by side': Source(
        {'train/coat': 4, 'train/hat': 4, 'dress': 4},
        Photos(TWO, problems={}, said=('dress',), or_refused=('dress',)),
    ),
    'val and valid both': Source(
        {'train/coat': 4, 'train/hat': 4, 'val/coat': 2, 'valid/hat': 2},
        Photos(dict(coat=6, hat=6), dict(train=8, valid=4)),
    ),
    'images and labels, as detectors want them': Source(
        {'images': 6, 'labels/0.txt': b'0 .5 .5 1 1'},
        Photos(dict(images=6), run_refuses=('one class|single class|two classes',)),
    ),
    # classes
    'one class': Source(
        dict(coat=8),
        Photos(dict(coat=8), run_refuses=('one class|single class|two classes|only class',)),
    ),
    'one photo of a class': Source(
        dict(coat=6, hat=6, scarf=1), Photos(dict(coat=6, hat=6, scarf=1), run_refuses=('scarf',))
    ),
    'one photo per class': Source(
        dict(coat=1, hat=1), Photos(dict(coat=1, hat=1), run_refuses=('photo|items',))
    ),
    'three photos': Source(
        dict(coat=2, hat=1), Photos(dict(coat=2, hat=1), run_refuses=('photo|items',))
    ),
    'an empty class': Source(empty_class, Photos(TWO, said=('dress',))),
    'a class whose photos are all broken': Source(
        TWO | {f'dress/{k}.jpg': BAD for k in range(3)},
        Photos(TWO, problems={f'dress/{k}.jpg': 'not an image' for k in range(3)}, said=('dress',)),
    ),
    'all photos broken': Source(
        {f'{c}/{k}.jpg': BAD for c in TWO for k in range(3)}, Refused(('0.jpg',))
    ),
    'one broken photo': Source(
        TWO | {'hat/bad.jpg': BAD}, Photos(TWO, problems={'hat/bad.jpg': 'not an image'})
    ),
    'one empty photo': Source(
        TWO | {'hat/bad.jpg': b''}, Photos(TWO, problems={'hat/bad.jpg': 'empty'})
    ),
    'a photo in no class': Source(
        TWO | {'stray.jpg': photo(60)}, Photos(TWO, problems={'stray.jpg': 'class'})
    ),
    'a photo in a part, in no class': Source(
        {'train/coat': 4, 'train/hat': 4, 'test/coat': 2, 'test/stray.jpg': photo(60)},
        Photos(dict(coat=6, hat=4), dict(train=8, test=2), problems={'test/stray.jpg': 'class'}),
    ),
    'capitals': Source(dict(Coat=2, coat=4, hat=4), Photos(dict(coat=6, hat=4), said=('Coat',))),
    'three ways to join words': Source(
        {'rain-coat': 2, 'rain_coat': 3, 'rain coat': 2, 'hat': 4},
        Photos(dict(hat=4, rain_coat=7), said=('rain-coat',)),
    ),
    'a space behind a class': Source(
        {'coat ': 2, 'coat': 4, 'hat': 4}, Photos(dict(coat=6, hat=4), said=('coat ',))
    ),
    'accents composed and decomposed': Source(
        {accents('NFC'): 4, accents('NFD'): 2, 'hat': 4}, Photos({accents('NFC'): 6, 'hat': 4})
    ),
    'a class called by another in a part': Source(
        {'train/Coat': 4, 'train/hat': 4, 'test/coat': 2, 'test/hat': 2},
        Photos(dict(Coat=6, hat=6), dict(train=8, test=4), said=('coat',)),
    ),
    'a class that is no UTF-8': Source(
        {b'caf\xe9': 4, 'hat': 4}, Photos({r'caf\xe9': 4, 'hat': 4})
    ),
    'a photo whose name is no UTF-8': Source(
        {'coat': 4, 'hat': 4, b'hat/caf\xe9.jpg': photo(70)}, Photos(dict(coat=4, hat=5))
    ),
    'markup for a class': Source({'<b>coat<': 4, 'hat': 4}, Photos({'<b>coat<': 4, 'hat': 4})),
    'a formula for a class': Source({'=1+1': 4, 'hat': 4}, Photos({'=1+1': 4, 'hat': 4})),
    'a line break in a class': Source(
        {'rain\ncoat': 4, 'hat': 4}, Photos({'rain coat': 4, 'hat': 4}, or_refused=('line|rain',))
    ),
    'a bar in a class': Source({'coat|jacket': 4, 'hat': 4}, Photos({'coat|jacket': 4, 'hat': 4})),
    'a class of 250 letters': Source({'c' * 250: 4, 'hat': 4}, Photos({'c' * 250: 4, 'hat': 4})),
    'numbers for classes': Source({'1': 4, '2': 4, '10': 4}, Photos({'1': 4, '10': 4, '2': 4})),
    'words for nothing': Source(
        dict(nan=4, None_=4) | {'NA': 4, 'null': 4}, Photos(dict(nan=4, None_=4, NA=4, null=4))
    ),
    'classes called like columns': Source(
        dict.fromkeys(LIKE_COLUMNS, 2), Photos(dict.fromkeys(LIKE_COLUMNS, 2))
    ),
    # the same photo twice
    'one photo in two classes': Source(
        twice('coat/a.jpg', 'hat/b.jpg'),
        Photos(
            dict(coat=5, hat=5),
            said=('same|twice|two classes|copies|identical',),
            or_refused=('same|twice|two|identical',),
        ),
    ),
    'one photo in two parts': Source(
        lambda folder: plant(
            folder,
            {
                'train/coat': 4,
                'train/hat': 4,
                'test/coat': 2,
                'test/hat': 2,
                'train/hat/a.jpg': photo(77),
                'test/hat/b.jpg': photo(77),
            },
        ),
        Photos(
            dict(coat=6, hat=8),
            dict(train=9, test=5),
            said=('same|twice|copies|identical|both',),
            or_refused=('same|twice|identical',),
        ),
    ),
    # links and what is no photo
    'a class that is a link to another': Source(linked, Photos(TWO, problems={'jacket': 'link'})),
    'a link in a circle': Source(circle, Photos(TWO, problems={'coat/again': 'link'})),
    'a class that lies elsewhere': Source(link_away, Photos(TWO, problems={'dress': 'link'})),
    'a pipe among photos': Source(
        pipe_inside, Photos(TWO, problems={'pipe.jpg': 'ordinary file|regular file|pipe'})
    ),
    # nothing to read
    'nothing': Source(nothing, Refused(('photo|image',))),
    'texts alone': Source({'coat/a.txt': BAD, 'hat/b.txt': BAD}, Refused(('photo|image',))),
    'photos without classes': Source({f'{k}.jpg': photo(k) for k in range(6)}, Refused(('class',))),
    'a photo for a folder': Source(a_photo, Refused(('folder',))),
    'an archive for a folder': Source(an_archive, Refused(('folder|archive|unpack',))),
    'no such folder': Source(given('gone/photos'), Refused(('gone',))),
    'a home that nobody has': Source(given('~nouser/photos'), Refused(('~nouser',))),
    'a path of 5,000 letters': Source(
        given('photos/' * 700), Refused(('long|no folder|not there',))
    ),
    'a null in the path': Source(given('pho\0tos/x'), Refused(('null|no folder|not there|path',))),
    'no path': Source(given(''), Refused(('source|folder|path',))),
    'the columns of the published list are wrong': Source(
        {'images.csv': b'image,label\na,Hat\n', 'images': 3}, Refused(('column',))
    ),
    'the published list is in a code of old': Source(
        {
            'images.csv': 'image,sender_id,label,kids\na,1,Caf\u00e9,False\n'.encode('latin-1'),
            'images': 3,
        },
        Refused(('UTF-8',)),
    ),
    'the published list names other photos': Source(
        {'images.csv': b'image,sender_id,label,kids\na,1,Shoes,False\n', 'images': 3},
        Refused(('photo',)),
    ),
}

CASES = [
    Case(f'folders/{name}', functools.partial(check_source, source))
    for name, source in SOURCES.items()
]
