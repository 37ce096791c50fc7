"""Tables of photos: what spreadsheets, scripts and people write."""

import functools
import os

from . import Case
from .sets import Photos, Refused, Source, check_source, photo, plant

TWO = dict(coat=4, hat=4)
NAMES = [f'p{k}.jpg' for k in range(8)]
LABELS = ['coat', 'hat'] * 4
HEAD = 'file,label'


def lines(labels=LABELS, names=NAMES, mark=',') -> list:
    "A line per photo."
    return [f'{name}{mark}{label}' for name, label in zip(names, labels)]


def written(head, rows, end='\n', encoding='utf-8') -> bytes:
    return end.join([head, *rows, '']).encode(encoding)


def table(content, name='t.csv', **more):
    "What makes a folder with eight photos and a table, and gives the table."

    def build(folder):
        photos = {n: photo(k) for k, n in enumerate(NAMES)}
        plant(folder, photos | {name: content} | more)
        return folder / name

    return build


def plain(*rows, **more):
    return table(written(HEAD, [*lines(), *rows]), **more)


def with_labels(labels):
    return table(written(HEAD, lines(labels)))


def with_column(name, values):
    return table(
        written(f'{HEAD},{name}', [f'{line},{value}' for line, value in zip(lines(), values)])
    )


def with_absolute_paths(folder):
    plant(folder, {n: photo(k) for k, n in enumerate(NAMES)})
    (folder / 't.csv').write_bytes(written(HEAD, lines(names=[folder / n for n in NAMES])))
    return folder / 't.csv'


def with_a_pipe(folder):
    path = plain('pipe.jpg,hat')(folder)
    os.mkfifo(folder / 'pipe.jpg')
    return path


def beside_the_photos(folder):  # ../ in every row
    plant(folder, {f'photos/{n}': photo(k) for k, n in enumerate(NAMES)})
    plant(
        folder / 'lists', {'t.csv': written(HEAD, lines(names=[f'../photos/{n}' for n in NAMES]))}
    )
    return folder / 'lists' / 't.csv'


def a_folder_called_so(folder):
    (folder / 't.csv').mkdir(parents=True)
    return folder / 't.csv'


def a_pipe_called_so(folder):
    folder.mkdir()
    os.mkfifo(folder / 't.csv')
    return folder / 't.csv'


def a_link_to_nothing(folder):
    folder.mkdir()
    (folder / 't.csv').symlink_to('gone.csv')
    return folder / 't.csv'


def composed_on_disk(folder):  # the table says it decomposed
    plant(folder, {n: photo(k) for k, n in enumerate(NAMES)} | {'caf\u00e9.jpg': photo(20)})
    (folder / 't.csv').write_bytes(written(HEAD, [*lines(), 'cafe\u0301.jpg,hat']))
    return folder / 't.csv'


def a_bad_row(name, words, shown=None):  # one row more, which cannot be used
    return Source(plain(f'{name},hat'), Photos(TWO, problems={shown or name: words}))


SPREADSHEET = b'PK\3\4' + bytes(200)
SPLITS = ['train', 'train', 'train', 'train', 'valid', 'valid', 'test', 'test']
SPLIT_COUNTS = dict(train=4, valid=2, test=2)
GONE = 'exist|not there|no file|missing'

SOURCES = {
    # ways to save a table
    'UTF-8': Source(plain(), Photos(TWO)),
    'a byte order mark': Source(table(written(HEAD, lines(), encoding='utf-8-sig')), Photos(TWO)),
    'UTF-16 with its mark': Source(table(written(HEAD, lines(), encoding='utf-16')), Photos(TWO)),
    'UTF-16 with a column path': Source(
        table(written('path,label', lines(), encoding='utf-16')), Photos(TWO)
    ),
    'UTF-16 without its mark': Source(
        table(written(HEAD, lines(), encoding='utf-16-le')), Refused(('UTF-8|binary|text',))
    ),
    'UTF-32': Source(
        table(written(HEAD, lines(), encoding='utf-32')), Refused(('UTF-8|binary|text',))
    ),
    'a code of old': Source(
        table(written(HEAD, lines(['caf\u00e9', 'hat'] * 4), encoding='latin-1')),
        Refused(('UTF-8',)),
    ),
    'semicolons': Source(table(written('file;label', lines(mark=';'))), Photos(TWO)),
    'semicolons and a column path': Source(
        table(written('path;label', lines(mark=';'))), Photos(TWO)
    ),
    'tabs': Source(table(written('file\tlabel', lines(mark='\t'))), Photos(TWO)),
    'tabs in a file called tsv': Source(
        table(written('file\tlabel', lines(mark='\t')), 't.tsv'), Photos(TWO)
    ),
    'a file called txt': Source(table(written(HEAD, lines()), 't.txt'), Photos(TWO)),
    'a file called CSV': Source(table(written(HEAD, lines()), 'T.CSV'), Photos(TWO)),
    'line ends of Windows': Source(table(written(HEAD, lines(), '\r\n')), Photos(TWO)),
    'line ends of old Macs': Source(
        table(written(HEAD, lines(), '\r')), Photos(TWO, or_refused=('line|column',))
    ),
    'quotation marks': Source(
        table(written('"file","label"', [f'"{n}","{c}"' for n, c in zip(NAMES, LABELS)])),
        Photos(TWO),
    ),
    'spaces around': Source(
        table(written(' file , label ', [f' {n} , {c} ' for n, c in zip(NAMES, LABELS)])),
        Photos(TWO),
    ),
    'blank lines among the rows': Source(
        table(written(HEAD, [x for line in lines() for x in (line, '')])), Photos(TWO)
    ),
    'blank lines before the header': Source(table(b'\n\n' + written(HEAD, lines())), Photos(TWO)),
    'blank lines before a header with path': Source(
        table(b'\n\n' + written('path,label', lines())), Photos(TWO)
    ),
    'empty rows of a spreadsheet': Source(
        table(written(HEAD, [*lines(), ',', ',', ','])), Photos(TWO)
    ),
    'separators at the end of every line': Source(
        table(written(f'{HEAD},,', [f'{line},,' for line in lines()])), Photos(TWO)
    ),
    'a line that says the separator': Source(
        table(b'sep=;\n' + written('file;label', lines(mark=';'))),
        Photos(TWO, or_refused=('column|cells',)),
    ),
    'remarks': Source(
        table(b'# my photos\n' + written(HEAD, lines())), Photos(TWO, or_refused=('column|cells',))
    ),
    'a header in capitals': Source(
        table(written('File,Label', lines())), Photos(TWO, or_refused=('label',))
    ),
    'a column of numbers in front': Source(
        table(written(f',{HEAD}', [f'{k},{line}' for k, line in enumerate(lines())])), Photos(TWO)
    ),
    # tables that are none
    'a spreadsheet': Source(table(SPREADSHEET), Refused(('spreadsheet|archive',))),
    'a photo called csv': Source(table(photo(3)), Refused(('UTF-8|binary|text',))),
    'JSON': Source(table(b'[{"file": "p0.jpg", "label": "coat"}]'), Refused(('column|CSV',))),
    'nulls': Source(
        table(written(HEAD, lines()).replace(b'hat', b'h\0t')), Refused(('binary|null|text',))
    ),
    'no bytes': Source(table(b''), Refused(('empty',))),
    'spaces alone': Source(table(b'  \n \n'), Refused(('empty|column',))),
    'a header alone': Source(table(written(HEAD, [])), Refused(('no items|no rows|empty',))),
    'no header': Source(table('\n'.join(lines()).encode()), Refused(('column',))),
    'one column': Source(table(written('file', NAMES)), Refused(('label',))),
    'another name for labels': Source(
        table(written('file,labels', lines())), Refused(("'label'|label",))
    ),
    'no column of files': Source(
        table(written('picture,label', lines())), Refused(('column', 'image|file|path'))
    ),
    'a column twice': Source(
        table(written('file,label,label', [f'{line},hat' for line in lines()])),
        Refused(('more than one column',)),
    ),
    'a cell too many': Source(plain('p9.jpg,hat,red'), Refused(('line 10',))),
    'a cell too few': Source(plain('p9.jpg'), Refused(('line 10',))),
    'a quotation mark that is not closed': Source(plain('"p9.jpg,hat'), Refused(('line',))),
    'a cell of 200,000 letters': Source(
        plain('p9.jpg,' + 'x' * 200_000), Refused(('line|long|large|field',))
    ),
    'no such table': Source(lambda folder: 'gone/t.csv', Refused(('gone',))),
    'a folder called csv': Source(a_folder_called_so, Refused(('folder|image|photo',))),
    'a pipe called csv': Source(a_pipe_called_so, Refused(('file|table|pipe',))),
    'a link called csv': Source(
        a_link_to_nothing, Refused(('no table|no folder|not there|no file',))
    ),
    # rows
    'a photo that is not there': a_bad_row('gone.jpg', GONE),
    'no photo is there': Source(
        table(written(HEAD, lines(names=[f'gone/{n}' for n in NAMES]))), Refused(('gone/p0.jpg',))
    ),
    'a home that nobody has': a_bad_row('~nouser/x.jpg', 'exist|not there|home|user'),
    'a name of 300 letters': a_bad_row('n' * 300 + '.jpg', 'exist|not there|long', 'n' * 50),
    'a path of 5,000 letters': a_bad_row('d/' * 2500 + 'x.jpg', 'exist|not there|long', 'd/d/d/'),
    'an address that nobody answers': a_bad_row(
        'http://127.0.0.1:9/x.jpg', 'download|refused|connection'
    ),
    'an address that is none': a_bad_row('http://[::1/x.jpg', 'address|download'),
    'an address without a host': a_bad_row('http:///x.jpg', 'address|download|host'),
    'an address of another kind': a_bad_row('ftp://127.0.0.1/x.jpg', f'{GONE}|address'),
    'a file that is no photo': Source(
        plain('/etc/passwd,hat'), Photos(TWO, problems={'/etc/passwd': 'not an image'})
    ),
    'the table itself': a_bad_row('t.csv', 'not an image'),
    'a folder for a photo': a_bad_row('.', f'{GONE}|folder|file', '.'),
    'a device for a photo': a_bad_row('/dev/zero', f'{GONE}|ordinary|regular|device'),
    'a pipe for a photo': Source(
        with_a_pipe, Photos(TWO, problems={'pipe.jpg': f'{GONE}|ordinary|regular|pipe'})
    ),
    'an empty photo': Source(
        table(written(HEAD, [*lines(), 'bad.jpg,hat']), **{'bad.jpg': b''}),
        Photos(TWO, problems={'bad.jpg': 'empty'}),
    ),
    'a broken photo': Source(
        table(written(HEAD, [*lines(), 'bad.jpg,hat']), **{'bad.jpg': photo(9)[:300]}),
        Photos(TWO, problems={'bad.jpg': 'broken|truncated'}),
    ),
    'the paths of Windows': Source(
        table(written(HEAD, [*lines(), 'sub\\p9.jpg,hat']), **{'sub/p9.jpg': photo(9)}),
        Photos(dict(coat=4, hat=5), or_refused=None)
        if os.sep == '\\'
        else Photos(TWO, problems={'p9.jpg': GONE}),
    ),
    'paths from the root': Source(with_absolute_paths, Photos(TWO)),
    'paths that go up': Source(beside_the_photos, Photos(TWO)),
    'paths with ./': Source(
        table(written(HEAD, lines(names=[f'./{n}' for n in NAMES]))), Photos(TWO)
    ),
    'a path in two ways': Source(
        plain('./p0.jpg,coat'), Refused(('p0.jpg', 'twice|once|duplicat|same'))
    ),
    'a path in two ways, with two labels': Source(
        plain('./p0.jpg,hat'), Refused(('p0.jpg', 'twice|once|duplicat|same|two'))
    ),
    'a path around a corner, with another label': Source(
        plain('sub/../p0.jpg,hat', **{'sub/x.txt': b''}),
        Refused(('p0.jpg', 'twice|once|duplicat|same|two')),
    ),
    'a row twice': Source(plain('p0.jpg,coat'), Refused(('p0.jpg', 'line 2', 'line 10'))),
    'a photo with two labels': Source(
        plain('p0.jpg,hat'), Refused(('p0.jpg', 'line 2', 'line 10'))
    ),
    'the same photo under two names, with two labels': Source(
        table(written(HEAD, [*lines(), 'copy.jpg,hat']), **{'copy.jpg': photo(0)}),
        Photos(
            dict(coat=4, hat=5),
            said=('same|copy|identical|two labels',),
            or_refused=('copy.jpg|same',),
        ),
    ),
    'an accent composed on the disk': Source(
        composed_on_disk, Photos(dict(coat=4, hat=5), or_refused=None)
    ),
    'a row without a photo': Source(plain(',hat'), Refused(('line 10',))),
    'a name with a comma, quoted': Source(
        table(written(HEAD, [*lines(), '"a, b.jpg",hat']), **{'a, b.jpg': photo(30)}),
        Photos(dict(coat=4, hat=5)),
    ),
    'a name with a comma, not quoted': Source(plain('a, b.jpg,hat'), Refused(('line 10',))),
    # labels
    'a row without a label': Source(plain('p9.jpg,'), Refused(('line 10',))),
    'numbers for labels': Source(with_labels(['1', '2'] * 4), Photos({'1': 4, '2': 4})),
    'numbers with zeros in front': Source(
        with_labels(['007', '7'] * 4), Photos({'007': 4, '7': 4})
    ),
    'fractions for labels': Source(with_labels(['1.0', '1.50'] * 4), Photos({'1.0': 4, '1.50': 4})),
    'words for nothing': Source(
        with_labels(['nan', 'None', 'NA', 'null'] * 2),
        Photos(dict(NA=2, nan=2, null=2) | {'None': 2}),
    ),
    'true and false': Source(with_labels(['true', 'false'] * 4), Photos(dict(false=4, true=4))),
    'capitals': Source(
        with_labels(['coat', 'hat', 'Coat', 'hat', 'coat', 'hat', 'coat', 'hat']),
        Photos(TWO, said=('Coat',)),
    ),
    'a space behind a label': Source(with_labels(['coat', 'hat', 'coat ', 'hat'] * 2), Photos(TWO)),
    'accents composed and decomposed': Source(
        with_labels(['b\u00e9ret', 'hat', 'be\u0301ret', 'hat'] * 2),
        Photos({'b\u00e9ret': 4, 'hat': 4}),
    ),
    'one label': Source(
        with_labels(['coat'] * 8),
        Photos(dict(coat=8), run_refuses=('one class|single class|two classes|only class',)),
    ),
    'a label of one photo': Source(
        with_labels([*LABELS[:7], 'scarf']),
        Photos(dict(coat=4, hat=3, scarf=1), run_refuses=('scarf',)),
    ),
    'a label for every photo': Source(
        with_labels(list('abcdefgh')),
        Photos({c: 1 for c in 'abcdefgh'}, run_refuses=('photo|items',)),
    ),
    'markup for labels': Source(
        with_labels(['<script>', 'hat'] * 4), Photos({'<script>': 4, 'hat': 4})
    ),
    'a label of two lines': Source(
        table(
            written(
                HEAD, [f'{n},"rain\ncoat"' if k % 2 else f'{n},hat' for k, n in enumerate(NAMES)]
            )
        ),
        Photos({'rain coat': 4, 'hat': 4}, or_refused=('line',)),
    ),
    # further columns
    'columns called like ours': Source(
        table(
            written(
                'file,label,id,class,turn,floor,source,split_a',
                [f'{line},{k},x,v,1,web,y' for k, line in enumerate(lines())],
            )
        ),
        Photos(TWO),
    ),
    'a column called group': Source(with_column('group', list('abcdabcd')), Photos(TWO)),
    'splits': Source(with_column('split', SPLITS), Photos(TWO, SPLIT_COUNTS)),
    'splits in capitals': Source(
        with_column('split', [s.title() for s in SPLITS]),
        Photos(TWO, SPLIT_COUNTS, or_refused=('split',)),
    ),
    'splits called val and testing': Source(
        with_column('split', [dict(valid='val', test='testing').get(s, s) for s in SPLITS]),
        Photos(TWO, SPLIT_COUNTS, or_refused=('split',)),
    ),
    'a split called DEV': Source(
        with_column('split', [dict(valid='DEV').get(s, s) for s in SPLITS]),
        Photos(TWO, SPLIT_COUNTS, or_refused=('DEV',)),
    ),
    'a split that nobody knows': Source(
        with_column('split', [dict(valid='later').get(s, s) for s in SPLITS]),
        Photos(TWO, dict(train=4, later=2, test=2), said=('later',), or_refused=('later',)),
    ),
    'splits that are partly empty': Source(
        with_column('split', [s if k % 3 else '' for k, s in enumerate(SPLITS)]),
        Photos(TWO, said=('split',), or_refused=('split',)),
    ),
    'splits that are all empty': Source(
        with_column('split', [''] * 8), Photos(TWO, or_refused=('split',))
    ),
    'numbers for splits': Source(
        with_column('split', [0, 0, 0, 0, 1, 1, 2, 2]),
        Photos(TWO, said=('split',), or_refused=('split',)),
    ),
    'senders': Source(with_column('sender_id', list('aabbccdd')), Photos(TWO)),
    'senders that are partly unknown': Source(
        with_column('sender_id', ['a', 'a', 'b', 'b', 'c', 'c', '', '']),
        Photos(TWO, said=('sender_id|who took|sender',)),
    ),
    'a sender of all': Source(
        with_column('sender_id', ['a'] * 8), Photos(TWO, said=('contributor',))
    ),
    'a sender called like another in capitals': Source(
        with_column('sender_id', ['a', 'A', 'b', 'B', 'c', 'C', 'd', 'D']), Photos(TWO)
    ),
}

CASES = [
    Case(f'tables/{name}', functools.partial(check_source, source))
    for name, source in SOURCES.items()
]
