"""What folders and tables of photos must be read as, by the Python API, by `data`, and by `run`
up to the training."""

import functools
import html
import os
from dataclasses import dataclass, field
from pathlib import Path


from .desk import in_every_way, must, no_crash, refused, says
from .pictures import encoded, picture


def plant(folder, tree) -> Path:
    """Fill a folder: names of folders with a number of photos, each another one, and names of
    files with their bytes."""
    serial = 0
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tree.items():
        path = Path(os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(name))))
        if not isinstance(content, int):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            continue
        path.mkdir(parents=True, exist_ok=True)
        for k in range(content):
            (path / f'{serial + k}.jpg').write_bytes(photo(serial + k))
        serial += content
    return folder


@functools.cache
def photo(seed) -> bytes:
    "A photo like no other."
    return encoded(picture(1000 + seed, 40, 32))


@dataclass(frozen=True)
class Refused:
    "The input cannot be used, and these words say why."

    words: tuple


@dataclass(frozen=True)
class Photos:
    "The input is read as this."

    classes: dict  # class -> number of photos
    splits: dict | None = None  # split -> number of photos, where the input says so
    problems: dict = field(default_factory=dict)  # how a file's name ends -> words about it
    said: tuple = ()  # words that a user must see, wherever
    or_refused: tuple | None = None  # refusing with these words is fine, too
    # `run` cannot learn from it and says so; `data` may refuse, too, or say so
    run_refuses: tuple = ()


@dataclass(frozen=True)
class Source:
    "An input: what makes it, and what must come of it."

    build: object  # function folder -> the path to give, or a tree for `plant`
    right: object  # `Refused` or `Photos`


def made(source, folder):
    if callable(source.build):
        return source.build(folder)
    return plant(folder, source.build)


def check_source(source, desk):
    "All calls for one folder or table of labelled photos."
    from fashion_lab.data.clothing import load_closures
    from fashion_lab.data.registry import noted

    path = made(source, desk.folder / 'own')

    def load_own():
        return noted(load_closures, path, size=32, download=False)

    def by_python():
        check_photos(source.right, desk.call(load_own), 'Python')

    def by_data():
        check_page(source.right, desk.command('data', 'closures', '--source', path))

    def by_run():
        seen = desk.run_smoke('closures', path)
        check_photos(source.right, with_set(seen, desk), 'run')

    in_every_way(by_python, by_data, by_run)


def with_set(seen, desk):
    "The photos that `run` would train on, and what it would say of them."
    if seen.value is None:
        return seen
    from fashion_lab.labs.cross_validation import _about, assigned_folds, photos_of

    cfg = seen.value
    told = desk.call(photos_of, seen.value)
    seen.value, seen.crash = told.value, told.crash
    if told.value is not None:
        seen.err += '\n'.join([told.err, *_about(told.value), *assigned_folds(told.value, cfg)[1]])
    return seen


def rightly_refused(right, seen, way) -> bool:
    "Whether the input was refused as it must or may be; otherwise it is read without a fault."
    no_crash(seen)
    words = right.words if isinstance(right, Refused) else None
    if words is None and right.run_refuses and (way == 'run' or seen.code):
        words = right.run_refuses
    if words is None and right.or_refused is not None and seen.code:
        words = right.or_refused
    if words is None:
        must(seen.code == 0, seen, 'a set that is read')
        return False
    refused(seen, words)
    return True


def all_told(seen) -> str:
    "All that was printed of a set, and what it says of itself and of its files."
    problems = seen.value.problems
    of_files = (f'{f} {p}' for f, p in zip(problems.file, problems.problem))
    return '\n'.join([seen.text, *seen.value.notes, *of_files])


def check_photos(right, seen, way):
    "A `PhotoSet` holds what it must, or there is none."
    if rightly_refused(right, seen, way):
        return
    photos = seen.value
    told = all_told(seen)
    seen.out = f'{photos!r}; {counts_of(photos)}; {told.strip()}'
    must(counts_of(photos) == right.classes, seen, f'the classes {right.classes}')
    must(utf8([*photos.classes, *photos.ids]), seen, 'names that a file in UTF-8 can hold')
    if right.splits:
        must(
            photos.items.split.value_counts().to_dict() == right.splits,
            seen,
            f'the splits {right.splits}',
        )
    check_problems(right, photos.problems, told, seen)
    must(says(told, right.said), seen, f'said: {" and ".join(right.said)}')
    if right.run_refuses:
        must(
            says(told, right.run_refuses),
            seen,
            f'said beforehand: {" and ".join(right.run_refuses)}',
        )


def counts_of(photos) -> dict:  # class -> number of items
    return {c: int((photos.labels == k).sum()) for k, c in enumerate(photos.classes)}


def utf8(names) -> bool:
    try:
        '\n'.join(map(str, names)).encode('utf-8')
    except UnicodeEncodeError:
        return False
    return True


def check_problems(right, problems, told, seen):
    "Every bad file is named with its reason, and no good one is."
    for name, words in right.problems.items():
        lines = [line for line in told.splitlines() if name in line]
        must(any(says(line, [words]) for line in lines), seen, f'{name} named, with {words}')
    strange = [
        f
        for f in problems.file
        if not any(name in str(f) for name in right.problems)
        and not says(str(f), ['|'.join(right.said) or '(?!)'])
    ]
    must(not strange, seen, f'no problem with {strange[:3]}')


def check_page(right, seen):
    "`data` says the same in words, with an exit code that says whether it found anything."
    no_crash(seen)
    if isinstance(right, Refused):
        return refused(seen, right.words)
    if right.run_refuses and seen.code:
        return refused(seen, right.run_refuses)
    if right.or_refused is not None and seen.code:
        return refused(seen, right.or_refused)
    must(seen.code == 0, seen, 'a page (exit code 0)')
    for name, words in right.problems.items():
        must(
            name in plain(seen.text) and says(plain(seen.text), [words]),
            seen,
            f'{name} on the page, with {words}',
        )
    must(says(plain(seen.text), right.said), seen, f'said on the page: {" and ".join(right.said)}')
    if right.run_refuses:
        must(
            says(seen.text, right.run_refuses),
            seen,
            f'said on the page: {" and ".join(right.run_refuses)}',
        )
    total = sum(right.classes.values())
    must(counted(seen.out) == total, seen, f'{total} photos on the page, not {counted(seen.out)}')


def plain(page) -> str:  # as a reader of the page sees it
    return html.unescape(page).replace('\\', '')


def counted(page) -> int:  # how many photos the page's table of classes counts
    lines = page.splitlines()
    start = next((k for k, line in enumerate(lines) if line.startswith('| class |')), len(lines))
    total = 0
    for line in lines[start + 2 :]:
        if not line.startswith('|'):
            break
        cells = line.split('|')[lines[start].count('|') * -1 + 1 : -1]
        total += sum(int(cell.replace(',', '')) for cell in cells)
    return total
