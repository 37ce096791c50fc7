"""Side-by-side benchmark of the shoe-pair lab: training CNNChannel on batches from memory, against
the usual per-image PIL pipeline, interleaved in one process.

    python benchmarks/shoe_pairs.py              everything (about ten minutes on two cores)
    python benchmarks/shoe_pairs.py --quick      tiny sizes, to see that it runs; nothing is
                                                 recorded

Results go to results/benchmarks.csv. Pairs are drawn (synthetic), each shoe a JPEG file of 448 x
448 pixels, trained at 224 pixels; `--size 96` is what the lab's own networks from scratch take.
Both sides train the same network with the same random changes: mirror image and swap for both shoes
together, crop, turn, light and colour for each by itself. The peer is written as such projects are:
PIL images, opened and changed one at a time through torchvision transforms, a DataLoader, batch 32,
Adam at 0.001, 32-bit arithmetic. It gets the number of DataLoader workers that suits it best. Ours
decodes once, before the clock starts, as a training of many epochs does.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from fastai.data.core import DataLoaders
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from fashion_lab.devices import set_seed
from fashion_lab.synthetic.pair_drawer import PairDrawer
from fashion_lab.data.image_cache import DecodedCache
from fashion_lab.train.loop import make_learner
from fashion_lab.pairs.models import CNNChannel
from fashion_lab.pairs.batches import PairAugment, PairLoader
from side_by_side import command, interleaved, record


class PerImage(Dataset):
    "Pairs the usual way: both files opened, and changed one after the other."

    def __init__(self, folder, items, size):
        self.folder, self.items = folder, items
        self.each = transforms.Compose(
            [
                transforms.RandomRotation(10),
                transforms.RandomResizedCrop(size, (0.7, 1.0), (1 / 1.1, 1.1)),
                transforms.ColorJitter(0.2, 0.2, 0.2),
                transforms.ToTensor(),
                transforms.Normalize([0.5] * 3, [0.25] * 3),
            ]
        )

    def __len__(self):
        return len(self.items)

    def __getitem__(self, k):
        i, j, y = self.items[k]
        left, right = (
            Image.open(self.folder / f'{n}_{side}.jpg').convert('RGB')
            for n, side in ((i, 'left'), (j, 'right'))
        )
        flip, swap = torch.rand(2) < 0.5
        if swap:
            left, right = right, left
        if flip ^ swap:
            left, right = (x.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for x in (left, right))
        return torch.cat([self.each(left), self.each(right)]), int(y)


class Peer:
    "The usual training loop."

    def __init__(self, loader, width):
        set_seed(0)
        self.loader, self.net, self.loss = loader, CNNChannel(width), nn.CrossEntropyLoss()
        self.opt = torch.optim.Adam(self.net.parameters(), 1e-3)

    def train(self):
        self.net.train()
        n = 0
        start = time.perf_counter()
        for x, y in self.loader:
            self.opt.zero_grad()
            self.loss(self.net(x), y).backward()
            self.opt.step()
            n += len(y)
        return n, time.perf_counter() - start


def ours(loader, net):
    "An epoch as `train.loop.fit` does it."
    learn = make_learner(net, DataLoaders(loader, device='cpu'), 1e-3)
    start = time.perf_counter()
    learn.fit(1, 1e-3, wd=[0.05, 0.0])
    return len(loader.y), time.perf_counter() - start


def bench_train(o):
    "Pairs per second."
    with tempfile.TemporaryDirectory() as d:
        d, drawer = Path(d), PairDrawer(o.persons, size=o.files)
        for i in range(len(drawer)):
            for side in ('left', 'right'):
                Image.fromarray(drawer.shoe(i, side)).save(d / f'{i}_{side}.jpg', quality=90)
        left, right = (
            np.asarray(
                DecodedCache(o.size, folder=d / 'cache').images(
                    [f'{i}_{side}.jpg' for i in range(len(drawer))], root=d
                )[:]
            )
            for side in ('left', 'right')
        )
        loader = PairLoader(
            left, right, groups=drawer.items.person, bs=32, shuffle=True, augment=PairAugment()
        )
        peers = {
            f'peer{w}': Peer(
                DataLoader(
                    PerImage(d, loader.items.tolist(), o.size),
                    32,
                    shuffle=True,
                    num_workers=w,
                    persistent_workers=w > 0,
                ),
                o.width,
            )
            for w in (0, 2)
        }
        net = CNNChannel(o.width)
        rates = interleaved(
            o.repeats, ours=lambda: ours(loader, net), **{k: v.train for k, v in peers.items()}
        )
    best = max(peers, key=lambda k: np.median(rates[k]))
    record(
        f'CNNChannel, training on pairs of {o.size} px from files of {o.files} px',
        rates['ours'],
        rates[best],
        'pairs/s',
        o,
        peer_is=f'per-image PIL from JPEG files, batch 32, {best[4:]} workers',
    )


if __name__ == '__main__':
    command(
        __doc__,
        dict(train=bench_train),
        dict(persons=6, size=64, files=128),
        persons=(32, 'three pairs each, every one also as a wrong pair'),
        width=(8, 'of the network'),
        size=(224, 'pixels as the network sees them'),
        files=(448, 'pixels of the files'),
    )
