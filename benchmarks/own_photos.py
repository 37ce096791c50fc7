"""What do one's own photos cost: time and memory of whole commands on data sets of every layout.

    OMP_NUM_THREADS=1 python benchmarks/own_photos.py          needs the clothing photos
    python benchmarks/own_photos.py folders table              only these sets
    python benchmarks/own_photos.py --quick                    few photos; nothing is recorded

Three sets of 600 clothing photos: a folder per class; a CSV table with semicolons and columns that
no program could guess; folders train, valid and test. And 15,000 thumbnails of 64 pixels: parts of
the clothing photos, in a folder per class. Every command is a process of its own with an empty
cache, as on the first day; `scored` names the protocol and how many photos the score is of, `part`
the folder or value of those photos. Memory is the largest resident set, as `/usr/bin/time -v`
shows it. Results go to results/own_photos.csv: a row per set and command.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fashion_lab.data.selection import photos
from fashion_lab.runs.run import all_runs
from side_by_side import conditions, RESULTS, save

PARTS = ('train', 'train', 'train', 'valid', 'test')
THUMBNAIL = 64


def chosen(n):
    "(file, class, contributor) of `n` clothing photos: of the six most frequent classes, in equal parts."
    s = photos('clothing', 'real', None, 224, None)
    names = np.array(s.classes, object)[s.labels]
    frequent = pd.Series(names).value_counts().index[:6]
    rows = []
    for name in frequent:
        for k in np.flatnonzero(names == name)[: n // 6]:
            rows.append((Path(s.root) / s.items.path.iloc[k], name, s.items.sender_id.iloc[k]))
    return rows


def write_folders(folder, n):
    "A folder per class."
    for file, name, _ in chosen(n):
        (folder / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / name)
    return ['--source', str(folder)]


def write_table(folder, n):
    "A table with semicolons and columns in another language; photos beside it."
    (folder / 'bilder').mkdir(parents=True)
    rows = []
    for file, name, who in chosen(n):
        shutil.copy(file, folder / 'bilder')
        rows.append(dict(bild=f'bilder/{file.name}', art=name, wer=who))
    pd.DataFrame(rows).to_csv(folder / 'bestand.csv', sep=';', index=False)
    columns = ['--image', 'bild', '--label', 'art', '--group', 'wer']
    return ['--source', str(folder / 'bestand.csv'), *columns]


def write_parts(folder, n):
    "Folders train, valid and test, each with a folder per class; every contributor lies in one part."
    rows = chosen(n)
    order = {who: k for k, who in enumerate(sorted({who for _, _, who in rows}))}
    for file, name, who in rows:
        part = PARTS[order[who] % len(PARTS)]
        (folder / part / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / part / name)
    return ['--source', str(folder)]


def write_thumbnails(folder, n):
    "Square parts of the clothing photos, 64 pixels wide, in a folder per class."
    s = photos('clothing', 'real', None, 224, None)
    rng = np.random.default_rng(0)
    for k in range(n):
        row = k % len(s)
        target = folder / s.classes[s.labels[row]]
        target.mkdir(parents=True, exist_ok=True)
        image = Image.open(Path(s.root) / s.items.path.iloc[row]).convert('RGB')
        side = min(image.size) * rng.uniform(0.6, 1)
        left, top = rng.uniform(0, image.width - side), rng.uniform(0, image.height - side)
        box = (left, top, left + side, top + side)
        small = image.resize((THUMBNAIL,) * 2, Image.Resampling.BILINEAR, box=box)
        small.save(target / f'{k:05d}.jpg', quality=90)
    return ['--source', str(folder)]


SETS = dict(
    folders=(write_folders, 600, ('run',)),
    table=(write_table, 600, ('run',)),
    parts=(write_parts, 600, ('run',)),
    thumbnails=(write_thumbnails, 15_000, ('data', 'check', 'run')),
)


def command_of(kind, options, home):
    "The arguments behind `fashion_lab`."
    if kind == 'data':
        return ['data', 'photos', *options]
    if kind == 'check':
        return ['data', '--check', options[1], '--folder', str(home / 'check')]
    return ['run', 'photos', '--profile', 'quick', *options, '--out', str(home / 'runs')]


def timed(args, home):
    "Run a command; (seconds, CPU seconds, MB at most, its output)."
    env = os.environ | dict(FASHION_LAB_CACHE=str(home / 'cache'), FASHION_LAB_PROGRESS='0')
    start = time.perf_counter()
    with open(home / 'output.txt', 'w+') as out:
        command = [sys.executable, '-m', 'fashion_lab.studio.cli', *args]
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env, cwd=home)
        _, status, usage = os.wait4(child.pid, 0)
        out.seek(0)
        text = out.read()
    if status:
        raise SystemExit(f'{" ".join(args)} failed:\n{text[-2000:]}')
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3, text


def scored(home):
    "What the run's score is of, and the score."
    if not (home / 'runs').is_dir():
        return {}
    (run,) = all_runs(home / 'runs', 'photos')
    p = run.predictions('test')
    parts = sorted({i.partition('/')[0] for i in p.ids} & {'train', 'valid', 'test'})
    value = run.metrics['test']['accuracy']
    return dict(
        protocol=run.config['protocol'],
        scored=len(p),
        part=' '.join(parts),
        accuracy=round(value['value'], 4),
        ci_low=round(value['low'], 4),
        ci_high=round(value['high'], 4),
    )


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('sets', nargs='*', choices=[[], *SETS], default=[])
    p.add_argument('--quick', action='store_true')
    o = p.parse_args()
    stamp = conditions()
    names = ('device', 'threads', 'cores', 'torch', 'python', 'commit', 'date', 'command')
    file = RESULTS / 'own_photos.csv'
    for name in o.sets or SETS:
        write, n, kinds = SETS[name]
        n = n // 10 if o.quick else n
        with tempfile.TemporaryDirectory() as d:
            home = Path(d)
            options = write(home / name, n)
            for kind in kinds:
                args = command_of(kind, options, home)
                seconds, cpu, megabytes, text = timed(args, home)
                shown = ' '.join(args).replace(f'{home}/', '')
                row = dict(set=name, kind=kind, photos=n, ran=f'fashion_lab {shown}')
                row |= dict(seconds=round(seconds, 1), cpu_seconds=round(cpu, 1))
                row |= dict(peak_mb=round(megabytes)) | (scored(home) if kind == 'run' else {})
                print(row, flush=True)
                if o.quick:
                    continue
                old = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=['set', 'kind'])
                kept = old[(old['set'] != name) | (old['kind'] != kind)]
                row |= {k: stamp[k] for k in names}
                save(file, pd.concat([kept, pd.DataFrame([row])], ignore_index=True))


if __name__ == '__main__':
    main()
