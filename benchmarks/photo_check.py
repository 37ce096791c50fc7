"""What does `fashion_lab data --check` find of faults that were planted among real photos?

    OMP_NUM_THREADS=1 python benchmarks/photo_check.py           all clothing photos
    python benchmarks/photo_check.py --photos 1500               this many of them
    python benchmarks/photo_check.py --quick                     few photos; nothing is recorded

Planted, each in photos of its own: 100 copies (a quarter each: the same bytes, compressed anew,
scaled down, brightened), 50 labels exchanged for another class, 30 photos blurred (a Gaussian of 4
to 6 pixels on 256), 20 photos with a tenth to a fifth of their light. Recall is the share of
planted faults that are found, precision the share of planted ones among the photos that are named:
the clothing photos have faults of their own, which count as false here. `first` is the precision
among as many photos as were planted, the clearest first. Results go to results/photo_check.csv.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter

from fashion_lab.data.folders import load_own
from fashion_lab.data.selection import photos
from fashion_lab.studio.check_page import page_of_check, worst
from fashion_lab.studio.photo_check import check_photos
from side_by_side import conditions, RESULTS, save

COUNTS = dict(copy=100, suspect=50, blurred=30, dark=20)


def copied(path, target, kind):
    "A copy of one of four kinds."
    if kind == 0:
        target.write_bytes(path.read_bytes())
        return
    image = Image.open(path).convert('RGB')
    if kind == 2:
        image = image.resize(
            (image.width * 2 // 3, image.height * 2 // 3), Image.Resampling.BICUBIC
        )
    if kind == 3:
        image = image.point(lambda v: min(255, int(v * 1.15) + 5))
    image.save(target, quality=60 if kind == 1 else 90)


def planted(s, folder, o):
    "(A table of photos with faults, and which file has which fault)."
    rng = np.random.default_rng(0)
    counts = {k: max(4, n // 10) for k, n in COUNTS.items()} if o.quick else COUNTS
    order = rng.permutation(len(s))
    rows, faults = [], {}
    for row in order:
        path = (Path(s.root) / s.items.path.iloc[row]).resolve()
        item = dict(file=str(path), label=s.classes[s.labels[row]])
        item['sender_id'] = s.items.sender_id.iloc[row]
        rows.append(item)
    todo = [(fault, k) for fault, n in counts.items() for k in range(n)]
    for i, (fault, k) in enumerate(todo):
        item = rows[i]
        path, new = Path(item['file']), folder / f'{i}.jpg'
        if fault == 'copy':
            copied(path, new, k % 4)
            rows.append(item | dict(file=str(new)))
        elif fault == 'suspect':
            others = [c for c in s.classes if c != item['label']]
            item['label'] = others[rng.integers(len(others))]
            new = path
        elif fault == 'blurred':
            image = Image.open(path).convert('RGB')
            image.filter(ImageFilter.GaussianBlur(rng.uniform(4, 6))).save(new, quality=90)
        else:
            light = rng.uniform(0.1, 0.2)
            Image.open(path).convert('RGB').point(lambda v: int(v * light)).save(new, quality=90)
        if fault in ('blurred', 'dark'):
            item['file'] = str(new)
        faults[str(new)] = fault
    return pd.DataFrame(rows), faults


def measure(check, faults):
    "A row per fault: recall, precision, and the precision of the first."
    ids = check.table.id.to_numpy()
    rows = []
    for fault in COUNTS:
        is_planted = np.array([faults.get(i) == fault for i in ids])
        found = worst(check, fault)
        hits = is_planted[found]
        n = int(is_planted.sum())
        first = hits[:n].mean() if len(found) else np.nan
        row = dict(fault=fault, planted=n, named=len(found), found=int(hits.sum()))
        row |= dict(
            recall=hits.sum() / n, precision=hits.mean() if len(found) else np.nan, first=first
        )
        rows.append(row)
    return pd.DataFrame(rows).round(4)


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--photos', type=int, help='at most this many, of whole contributors')
    p.add_argument('--quick', action='store_true')
    o = p.parse_args()
    s = photos('clothing', 'real', 300 if o.quick else o.photos, 224, None)
    with tempfile.TemporaryDirectory() as d:
        table, faults = planted(s, Path(d), o)
        listed = Path(d) / 'photos.csv'
        table.to_csv(listed, index=False)
        own = load_own(listed, lambda folder: False)
        start, cpu = time.perf_counter(), time.process_time()
        check = check_photos(own)
        page = page_of_check(check)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        # a copy may stand before its original in the table that was read
        out = measure(check, faults)
    facts = dict(photos=len(own), seconds=round(seconds, 1), cpu_seconds=round(cpu, 1))
    facts |= dict(page_mb=round(len(page) / 1e6, 2), agreement=round(check.accuracy, 4))
    stamp = conditions()
    names = ('device', 'threads', 'cores', 'torch', 'python', 'commit', 'date', 'command')
    out = out.assign(**facts, **{k: stamp[k] for k in names})
    print(out.iloc[:, :12].to_string(index=False))
    if not o.quick:
        save(RESULTS / 'photo_check.csv', out)


if __name__ == '__main__':
    main()
