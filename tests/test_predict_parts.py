"""Answers in parts: the same as in one go, whatever is killed on the way, and from every kind of
list."""

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import redirect_stdout
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from fashion_lab.studio.cli import main
from fashion_lab.synthetic.closure_drawer import ClosureDrawer


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "Twenty drawn shoes, and a file that is no photo."
    folder = tmp_path_factory.mktemp('shoes')
    shoes = ClosureDrawer(20, size=256)
    for k in range(20):
        Image.fromarray(shoes[k]).save(folder / f'shoe{k:02}.jpg')
    (folder / 'shoe07b.jpg').write_text('no picture')
    return folder


def predict(*arguments):
    "(exit code, what `predict closures` prints)"
    out = io.StringIO()
    with redirect_stdout(out):
        code = main(['predict', 'closures', *map(str, arguments)])
    return code, out.getvalue()


def parts_of(folder):
    return {p.name: p.read_bytes() for p in sorted(Path(folder).glob('part-*'))}


def table_of(folder):
    files = sorted(Path(folder).glob('part-*.csv'))
    return pd.concat([pd.read_csv(f) for f in files], ignore_index=True)


def same_answers(a, b):
    "Whether two tables have the same answers, in the same order; names of files aside."
    texts = ['answer', 'notes', 'error']
    pd.testing.assert_frame_equal(a[texts].fillna(''), b[texts].fillna(''), check_dtype=False)
    numbers = [c for c in a if c.startswith('p') and c != 'probability']
    pd.testing.assert_frame_equal(a[numbers], b[numbers], atol=1e-5, check_dtype=False)


def test_parts_hold_what_is_printed(folder, tmp_path):
    code, printed = predict(folder, '--csv')
    assert code == 1, 'one file is no photo'
    here = pd.read_csv(io.StringIO(printed))
    code, told = predict(folder, '--parts', tmp_path / 'parts', '--per-part', 4)
    assert code == 1 and '21 photos in 6 parts, 1 could not be used' in told
    there = table_of(tmp_path / 'parts')
    assert there.file.tolist() == here.file.tolist()
    assert list(there) == list(here)
    same_answers(here, there)


def test_a_killed_command_goes_on(folder, tmp_path):
    "Killed without notice, and started again: finished parts stay, and the rest is answered for."
    out = tmp_path / 'parts'
    command = f'predict closures {folder} --parts {out} --per-part 1'.split()
    slow = (
        'import sys, time; from fashion_lab.studio import photo_parts as p; was = p.PartJob.__call__\n'
        'def slowly(*a): time.sleep(.1); return was(*a)\n'
        'p.PartJob.__call__ = slowly\n'
        'from fashion_lab.studio.cli import main; sys.exit(main(sys.argv[1:]))'
    )
    process = subprocess.Popen([sys.executable, '-c', slow, *command])
    until = time.monotonic() + 120
    while len(parts_of(out)) < 3 and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    before = {p: p.stat().st_mtime_ns for p in out.glob('part-*')}
    assert 3 <= len(before) < 21
    code, told = predict(folder, '--parts', out, '--per-part', 1)
    assert code == 1 and f'{21 - len(before)} photos' in told
    assert {p: p.stat().st_mtime_ns for p in before} == before, 'answered for once'
    predict(folder, '--parts', tmp_path / 'at once', '--per-part', 1)
    assert parts_of(out) == parts_of(tmp_path / 'at once')


@pytest.fixture
def shards(folder, tmp_path):
    "The photos in three archives, as WebDataset keeps them, with their labels."
    photos = sorted(folder.iterdir())
    for k in range(3):
        with tarfile.open(tmp_path / f'{k}.tar', 'w') as archive:
            for photo in photos[7 * k : 7 * k + 7]:
                archive.add(photo, photo.name)
                label = tarfile.TarInfo(photo.with_suffix('.cls').name)
                archive.addfile(label, io.BytesIO())
    return tmp_path


def test_archives_are_answered_for_like_folders(folder, shards):
    predict(folder, '--parts', shards / 'from folder')
    code, told = predict(shards / '*.tar', '--parts', shards / 'from shards')
    assert code == 1 and '21 photos in 3 parts' in told
    here, there = table_of(shards / 'from folder'), table_of(shards / 'from shards')
    assert there.file[0] == f'{shards}/0.tar/shoe00.jpg'
    assert there.file.str.rsplit('/').str[-1].tolist() == here.file.str.rsplit('/').str[-1].tolist()
    same_answers(here, there)


def test_a_broken_archive_is_one_part_without_a_file(shards, capsys):
    whole = (shards / '1.tar').read_bytes()
    (shards / '1.tar').write_bytes(b'no archive')
    code, _ = predict(shards / '*.tar', '--parts', shards / 'out')
    assert code == 1 and len(parts_of(shards / 'out')) == 2
    said = capsys.readouterr().err
    assert 'part 1: ' in said and 'start the same command again' in said
    (shards / '1.tar').write_bytes(whole)
    code, told = predict(shards / '*.tar', '--parts', shards / 'out')
    assert '7 photos in 1 parts' in told and len(parts_of(shards / 'out')) == 3


def test_parquet_in_and_out(folder, tmp_path):
    pytest.importorskip('pyarrow', reason="Parquet needs pyarrow: pip install 'fashion_lab[scale]'")
    photos = sorted(map(str, folder.iterdir()))
    pd.DataFrame(dict(file=photos, price=range(21))).to_parquet(tmp_path / 'list.parquet')
    predict(tmp_path / 'list.parquet', '--parts', tmp_path / 'csv')
    code, _ = predict(tmp_path / 'list.parquet', '--parts', tmp_path / 'parquet', '--parquet')
    here, there = table_of(tmp_path / 'csv'), pd.read_parquet(tmp_path / 'parquet')
    assert code == 1 and there.probability.isna().sum() == 1
    assert here.file.tolist() == there.file.tolist() == photos
    same_answers(here, there)


MISTAKES = {
    '--executor ray': '--executor are for answers in a folder: name one with --parts FOLDER',
    '--parquet': '--parquet are for answers in a folder',
    '--parts out --json': 'leave --json out',
    '--parts out --cpus 2': '--cpus are for --executor ray',
    '--parts out --executor rai': "unknown executor 'rai'; allowed: sequential, ray",
    '--parts out --per-part 0': 'photos in a part must be a whole number of at least 1',
    '--parts notes.txt': 'notes.txt is a file: answers in parts need a folder',
    '--parts out --parquet': 'Parquet needs pyarrow',
}


@pytest.mark.parametrize('options', MISTAKES)
def test_mistakes_get_a_sentence(options, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    (tmp_path / 'notes.txt').touch()
    photo = next(folder.glob('*.jpg'))
    code, _ = predict(photo, *options.split())
    said = capsys.readouterr().err
    assert MISTAKES[options] in said and 'Traceback' not in said
    assert code in (1, 2)


def test_other_lists_and_other_networks_are_refused(folder, tmp_path, capsys):
    out = tmp_path / 'out'
    predict(folder, '--parts', out, '--per-part', 5)
    assert predict(*sorted(folder.iterdir())[1:], '--parts', out, '--per-part', 5)[0] == 2
    assert 'the list of photos has changed' in capsys.readouterr().err
    assert main(['predict', 'clothing', str(folder), '--parts', str(out), '--per-part', '5']) == 2
    assert 'or another folder' in capsys.readouterr().err
    assert main(['predict', 'shoe_pairs', str(folder), '--parts', str(out)]) == 2
    assert 'compares photos with each other' in capsys.readouterr().err
