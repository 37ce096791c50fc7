"""Side-by-side benchmarks of photo loading: decoded once and kept, against fastai's
`ImageDataLoaders.from_df`, interleaved in one process.

    python benchmarks/photos.py                  everything (about half an hour on two cores, 5 GB
                                                 of disk)
    python benchmarks/photos.py loading          only this part: loading, memory
    python benchmarks/photos.py --quick          tiny sizes, to see that it runs; nothing is
                                                 recorded

Results go to results/benchmarks.csv. Photos are drawn (synthetic) JPEG files of 400 x 400 pixels,
every one with a content of its own. Both sides deliver the same: shuffled batches of 64 as float
tensors in [0, 1] at the working size, from the same files. The peer gets the number of DataLoader
workers that suits it best. *Cold* is a first run with an empty cache (files were just written, so
the system has them in memory, for both sides alike); *warm* is a second run, which includes looking
every file up again. Peak memory and linear cost: each number of files in a process of its own,
which scans, decodes into the cache, looks up again and iterates twice (in order and shuffled).
"""

import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from fastai.vision.all import ImageDataLoaders, Resize
from PIL import Image

from fashion_lab.synthetic.fashion_mnist import draw_garment
from fashion_lab.data.scanning import scan
from fashion_lab.data.image_cache import DecodedCache
from side_by_side import command, interleaved, record


def drawn(seed, size=400):
    "A JPEG file's bytes: a drawn garment (synthetic) on coloured cloth."
    rng = np.random.default_rng(seed)
    ink = draw_garment(int(rng.integers(10)), rng, size)[..., None] / 255
    weave = rng.normal(0, 8, (size // 2, size // 2, 1)).repeat(2, 0).repeat(2, 1)
    image = rng.integers(60, 200, 3) * (1 - ink) + rng.integers(30, 255, 3) * ink + weave
    out = io.BytesIO()
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(out, 'JPEG', quality=90)
    return out.getvalue()


def write_photos(folder, n):
    """`n` JPEG files: 64 pictures again and again, told apart by a comment in each file, so
    that every content is new."""
    pictures = [drawn(s) for s in range(min(64, n))]
    for i in range(n):
        if i % 1000 == 0:
            (sub := folder / f'{i // 1000:03d}').mkdir(parents=True)
        note = f'photo {i}'.encode()
        data = pictures[i % len(pictures)]
        (sub / f'{i:06d}.jpg').write_bytes(
            data[:2] + b'\xff\xfe' + (len(note) + 2).to_bytes(2, 'big') + note + data[2:]
        )
    return scan(folder).path.tolist()


def tensors(images, labels, order, bs=64):
    "Batches as fastai delivers them: float tensors in [0, 1] and labels, in random order."
    for a in range(0, len(order), bs):
        rows = order[a : a + bs]
        yield torch.from_numpy(images[rows]).permute(0, 3, 1, 2).float().div_(255), labels[rows]


def bench_loading(o):
    "Photos per second: first run, second run, and every further epoch."
    with tempfile.TemporaryDirectory() as d:
        d, rng, n = Path(d), np.random.default_rng(0), o.images // 64 * 64
        names = write_photos(d / 'photos', n)
        labels = torch.arange(n) % 10
        table = pd.DataFrame(dict(name=names, label=labels.numpy()))
        peers = {
            w: ImageDataLoaders.from_df(
                table,
                d / 'photos',
                fn_col='name',
                label_col='label',
                valid_pct=0.0,
                item_tfms=Resize(o.size),
                bs=64,
                num_workers=w,
                device='cpu',
            ).train
            for w in (0, 2)
        }
        kept = DecodedCache(o.size, folder=d / 'warm')
        held = kept.images(names, root=d / 'photos')

        def drain(make):
            start = time.perf_counter()
            k = 0
            for x, y in make():
                k += len(x)
                assert x.shape[1:] == (3, o.size, o.size) and x.dtype == torch.float32
            assert k == n
            return k, time.perf_counter() - start

        def cold():
            try:
                return drain(
                    lambda: tensors(
                        DecodedCache(o.size, folder=d / 'cold').images(names, root=d / 'photos'),
                        labels,
                        rng.permutation(n),
                    )
                )
            finally:
                shutil.rmtree(d / 'cold')

        tasks = {f'peer{w}': (lambda dl=dl: drain(lambda: dl)) for w, dl in peers.items()}
        tasks |= dict(
            cold=cold,
            warm=lambda: drain(
                lambda: tensors(kept.images(names, root=d / 'photos'), labels, rng.permutation(n))
            ),
            epoch=lambda: drain(lambda: tensors(held, labels, rng.permutation(n))),
        )
        rates = interleaved(o.repeats, **tasks)
    peer = max(('peer0', 'peer2'), key=lambda k: sum(rates[k]))
    said = f'fastai ImageDataLoaders.from_df, {peer[4:]} workers'
    for what, name in (('first run', 'cold'), ('second run', 'warm'), ('further epochs', 'epoch')):
        record(
            f'photos 400 px to {o.size} px, {what}',
            rates[name],
            rates[peer],
            'photos/s',
            o,
            peer_is=said,
        )


CHILD = """
if True:
    import json, resource, sys, time
    from pathlib import Path
    import numpy as np
    from fashion_lab.data.scanning import scan
    from fashion_lab.data.cached_images import batches
    from fashion_lab.data.image_cache import DecodedCache

    def peak():
        "Peak resident memory of this program in bytes; what `getrusage` says may be its parent's."
        status = Path('/proc/self/status')
        if status.exists():
            return 1024 * int(
                next(l.split()[1] for l in status.read_text().splitlines() if l.startswith('VmHWM'))
            )
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
            1 if sys.platform == 'darwin' else 1024
        )

    folder = Path(sys.argv[1])
    size = int(sys.argv[3])
    seconds = {}
    start = time.perf_counter()

    def lap(name):
        global start
        seconds[name] = time.perf_counter() - start
        start = time.perf_counter()

    cache = DecodedCache(size, folder=sys.argv[2], cap_gb=100)
    names = scan(folder).path
    lap('scan')
    images = cache.images(names, root=folder)
    assert images.decoded == len(names)
    lap('first')
    images = cache.images(names, root=folder)
    lap('again')
    images = cache.images(names, root=folder)
    assert images.decoded == 0
    lap('second')
    assert sum(len(b) for b in batches(images, 256)) == len(names)
    lap('in order')
    assert sum(
        len(b) for b in batches(images, 64, np.random.default_rng(0).permutation(len(names)))
    ) == len(names)
    lap('shuffled')
    print(json.dumps(dict(seconds=seconds, peak=peak())))
"""


def bench_memory(o):
    "Peak memory and seconds per photo for more and more files."
    cost = {}
    for n in (200, 400, 800) if o.quick else (5_000, 15_000, 50_000):
        with tempfile.TemporaryDirectory() as d:
            write_photos(Path(d) / 'photos', n)
            done = subprocess.run(
                [sys.executable, '-c', CHILD, f'{d}/photos', f'{d}/cache', str(o.size)],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                sys.exit(done.stderr)
            got = json.loads(done.stdout)
        print(
            f"  {n:,} photos: peak {got['peak'] / 1e9:.2f} GB; "
            + ', '.join(f'{k} {s:.2f} s' for k, s in got['seconds'].items()),
            flush=True,
        )
        s = got['seconds']
        cost[n] = 1000 * (s['scan'] + s['first']) / n, 1000 * (s['second'] + s['shuffled']) / n
        few = min(cost)
        record(
            f'photos, peak memory with {n:,} files',
            [got['peak'] / 1e9],
            [1.5],
            'GB',
            o,
            peer_is='limit',
        )
        for k, what in enumerate(('first run', 'second run')):
            record(
                f'photos, {what} per photo with {n:,} files',
                [cost[n][k]],
                [cost[few][k]],
                'ms',
                o,
                peer_is=f'the same with {few:,} files',
            )


PARTS = dict(loading=bench_loading, memory=bench_memory)


if __name__ == '__main__':
    command(
        __doc__,
        PARTS,
        dict(images=128),
        images=(2048, 'photos per round'),
        size=(128, 'working size'),
    )
