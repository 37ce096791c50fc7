"""Side-by-side benchmarks of the Fashion-MNIST lab: ours against the usual per-image pipeline,
interleaved in one process.

    python benchmarks/fashion_mnist.py                 everything (about an hour on two cores)
    python benchmarks/fashion_mnist.py train augment   only these parts: train, augment, memory,
                                                       accuracy, recipe
    python benchmarks/fashion_mnist.py --quick         tiny sizes, to see that it runs; nothing is
                                                       recorded

Results go to results/benchmarks.csv and, for accuracy against time,
results/benchmarks_accuracy_time.csv. Times are wall-clock; only ratios carry over to another
machine. The peer is written from the published description: PIL images, one at a time, through
torchvision transforms (rotation, flip, crop), a DataLoader, batch 64, Adam at 0.001, 32-bit
arithmetic. It gets the number of DataLoader workers that suits it best.
"""

import statistics
import subprocess
import sys
import tempfile
import time

import pandas as pd
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from fashion_lab.devices import set_seed
from fashion_lab.data.image_table import ImageTable
from fashion_lab.data.fashion_mnist import load_fashion_mnist
from fashion_lab.data.augment import channel_stats
from fashion_lab.data.loaders import BatchLoader
from fashion_lab.train.loop import fit, FitOptions, make_learner
from fashion_lab.labs import fashion_mnist as lab
from fashion_lab.models import fashion_mnist as models_fashion_mnist
from fastai.data.core import DataLoaders
from side_by_side import RESULTS, command, conditions, interleaved, record, save

PUBLISHED = [
    transforms.RandomRotation(10),
    transforms.RandomHorizontalFlip(),
    transforms.RandomCrop(28, padding=4),
]


class PerImage(Dataset):
    "The usual way: every image through PIL and torchvision, alone."

    def __init__(self, images, labels, augment, mean, std):
        self.images, self.labels = [Image.fromarray(i) for i in images], labels
        self.transform = transforms.Compose(
            [
                *(PUBLISHED if augment else []),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.transform(self.images[i]), int(self.labels[i])


def everything(images):
    "Train and validation pictures as one part: here nothing is chosen on either."
    both = images.items.split.isin(['train', 'valid']).to_numpy()
    return ImageTable(
        images.items[both].assign(split='train').reset_index(drop=True),
        images.images[both],
        images.classes,
        images.name,
        images.source,
    )


def head(part, n):
    return ImageTable(
        part.items.iloc[:n].reset_index(drop=True),
        part.images[:n],
        part.classes,
        part.name,
        part.source,
    )


def peer_loader(part, augment, mean, std, workers, bs=64, shuffle=True):
    return DataLoader(
        PerImage(part.images, part.labels, augment, mean, std),
        bs,
        shuffle=shuffle,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


class Peer:
    "The published training loop."

    def __init__(self, loader):
        set_seed(0)
        self.loader, self.net, self.loss = (
            loader,
            models_fashion_mnist.FashionCNN(),
            nn.CrossEntropyLoss(),
        )
        self.opt = torch.optim.Adam(self.net.parameters(), 1e-3)

    def train(self, limit=None):
        "One epoch, or `limit` images; returns (images, seconds)."
        self.net.train()
        n = 0
        start = time.perf_counter()
        for x, y in self.loader:
            self.opt.zero_grad()
            self.loss(self.net(x), y).backward()
            self.opt.step()
            n += len(y)
            if limit and n >= limit:
                break
        return n, time.perf_counter() - start

    @torch.no_grad()
    def test(self, loader):
        self.net.eval()
        right = loss = n = 0
        for x, y in loader:
            out = self.net(x)
            right += int((out.argmax(1) == y).sum())
            loss += float(self.loss(out, y)) * len(y)
            n += len(y)
        return right / n, loss / n


def ours_loader(part, augment, mean, std, bs=128, seed=0):
    return BatchLoader(part.images, part.labels, bs, True, augment, mean, std, seed)


def ours_step(loader, net, cfg):
    "Training as `fit` does it, on one loader without validation."
    options = FitOptions(
        optimizer=cfg.optimizer, loss_func=nn.CrossEntropyLoss(label_smoothing=cfg.label_smoothing)
    )
    learn = make_learner(net, DataLoaders(loader, device="cpu"), cfg.lr, options)
    start = time.perf_counter()
    learn.fit(1, cfg.lr, wd=[cfg.wd, 0.0])
    return len(loader) * loader.bs, time.perf_counter() - start


def bench_train(images, o):
    """Images per second while FashionCNN trains with augmentation: ours at the lab's batch
    size, the peer at 64."""
    part, (mean, std) = images.part('train'), channel_stats(images.part('train').images)
    n = o.images
    some = head(part, n)
    tasks = {
        f'peer{w}': (lambda p=Peer(peer_loader(some, True, mean, std, w)): p.train())
        for w in (0, 2)
    }
    for bs in (64, 128):
        loader = ours_loader(some, lab.AUGMENTS['published'], mean, std, bs)
        net = models_fashion_mnist.FashionCNN()
        tasks[f'ours{bs}'] = lambda l=loader, m=net, c=lab.Config(): ours_step(l, m, c)
    rates = interleaved(o.repeats, **tasks)
    peer = max(('peer0', 'peer2'), key=lambda k: statistics.median(rates[k]))
    for bs in (64, 128):
        record(
            'training with augmentation, batch ' + str(bs),
            rates[f'ours{bs}'],
            rates[peer],
            'images/s',
            o,
            peer_is=f'per-image PIL, batch 64, {peer[4:]} workers',
        )


def bench_augment(images, o):
    "Augmented, normalised batches without any training."
    part, (mean, std) = images.part('train'), channel_stats(images.part('train').images)
    n = o.images
    some = head(part, n)

    def drain(loader):
        start = time.perf_counter()
        k = 0
        for x, y in loader:
            k += len(y)
        return k, time.perf_counter() - start

    tasks = {f'peer{w}': (lambda l=peer_loader(some, True, mean, std, w): drain(l)) for w in (0, 2)}
    tasks['ours'] = lambda l=ours_loader(some, lab.AUGMENTS['published'], mean, std, 128): drain(l)
    rates = interleaved(o.repeats, **tasks)
    for w in (0, 2):
        record(
            f'augmentation alone, peer with {w} workers',
            rates['ours'],
            rates[f'peer{w}'],
            'images/s',
            o,
            peer_is=f'per-image PIL, {w} workers',
        )


def bench_memory(images, o):
    "Peak memory of a whole profile in a process of its own."
    with tempfile.TemporaryDirectory() as d:
        profile = 'smoke' if o.quick else 'quick'
        code = (
            "import resource, sys; from fashion_lab.studio.cli import main; main(['run', "
            f"'fashion_mnist', '--profile', '{profile}', '--out', r'{d}']); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        start = time.perf_counter()
        out = subprocess.run(
            [sys.executable, '-c', code], capture_output=True, text=True, check=True
        ).stdout
        seconds = time.perf_counter() - start
    record(
        f'peak memory of the {profile} profile',
        [int(out.split()[-1]) / 2**20],
        [2.0],
        'GiB',
        o,
        peer_is='limit',
    )
    record(f'wall-clock time of the {profile} profile', [seconds], [480.0], 's', o, peer_is='limit')


def accuracy_curve_ours(images, cfg, seed, epochs=None):
    "Train on train and valid together, test after every epoch; rows of (seconds, accuracy)."
    set_seed(seed)
    both, test = everything(images), images.part('test')
    mean, std = channel_stats(both.images)
    net = lab.build(cfg)
    dls = DataLoaders(
        ours_loader(both, lab.AUGMENTS[cfg.augment], mean, std, cfg.batch_size, seed),
        BatchLoader(test.images, test.labels, 512, mean=mean, std=std),
        device='cpu',
    )
    f = fit(
        net,
        dls,
        epochs or cfg.epochs,
        cfg.lr,
        cfg.schedule,
        cfg.optimizer,
        cfg.wd,
        loss_func=nn.CrossEntropyLoss(label_smoothing=cfg.label_smoothing),
        average=cfg.average,
    )
    return [(s, a) for s, a in zip(f.history.seconds.cumsum(), f.history.accuracy)]


def bench_accuracy(images, o):
    """Seconds until the test accuracy first reaches 92.7 %: the recipe, cut to four epochs,
    against the published protocol without augmentation."""
    curves = []
    target = 0.3 if o.quick else 0.927
    both, test = everything(images), images.part('test')
    mean, std = channel_stats(both.images)
    times = dict(ours=[], peer=[])
    for r in range(1 if o.quick else o.curves):
        cfg = lab.Config(**(lab.RECIPE | dict(epochs=4)))
        ours = accuracy_curve_ours(images, cfg, r)
        peer = Peer(peer_loader(both, False, mean, std, 0))
        loader = peer_loader(test, False, mean, std, 0, 512, False)
        seconds = 0.0
        torch.manual_seed(r)
        sched = torch.optim.lr_scheduler.ReduceLROnPlateau(peer.opt, patience=2, factor=0.1)
        theirs = []
        for e in range(2 if o.quick else 10):
            start = time.perf_counter()
            peer.train()
            acc, loss = peer.test(loader)
            sched.step(loss)
            seconds += time.perf_counter() - start
            theirs.append((seconds, acc))
            print(f'  peer run {r} epoch {e}: {seconds:.0f} s, {acc:.4f}', flush=True)
        print('  ours', [(round(s), round(a, 4)) for s, a in ours], flush=True)
        for who, curve in (('ours', ours), ('peer', theirs)):
            curves += [
                dict(who=who, repeat=r, epoch=k, seconds=s, accuracy=a)
                for k, (s, a) in enumerate(curve)
            ]
            times[who].append(next((s for s, a in curve if a >= target), float('nan')))
        if not o.quick:
            save(
                RESULTS / 'benchmarks_accuracy_time.csv',
                pd.DataFrame(curves).assign(**conditions()),
            )
        record(
            f'time to {target:.1%} test accuracy',
            times['ours'],
            times['peer'],
            's',
            o,
            peer_is='published protocol without augmentation',
        )


def recipe_step(loaders, net, cfg):
    "One epoch of the recipe as the lab trains it, averaging and validation included."
    f = fit(
        net,
        loaders,
        1,
        cfg.lr,
        cfg.schedule,
        cfg.optimizer,
        cfg.wd,
        loss_func=nn.CrossEntropyLoss(label_smoothing=cfg.label_smoothing),
        average=cfg.average,
        show=False,
    )
    return len(loaders.train.x), f.seconds


def bench_recipe(images, o):
    "The recipe, whole, against five of the ten epochs of the published pipeline with augmentation."
    mean, std = channel_stats(images.part('train').images)
    cfg = next(c for c in lab.configs('full', seeds=1, variants='recipe', protocol='fast'))
    both = everything(images)
    n = min(len(both), o.images)
    # speed only: nothing is learned from the pictures held out
    some, held = (
        head(both, n),
        head(images.part('test'), round(n * cfg.valid_frac)),
    )
    peer = Peer(peer_loader(some, True, mean, std, 0))
    train = ours_loader(
        head(both, n - len(held)), lab.AUGMENTS[cfg.augment], mean, std, cfg.batch_size
    )
    loaders = DataLoaders(
        train, BatchLoader(held.images, held.labels, 512, mean=mean, std=std), device='cpu'
    )
    net = lab.build(cfg)
    rates = interleaved(
        o.repeats, peer=lambda: peer.train(), ours=lambda: recipe_step(loaders, net, cfg)
    )
    # training images in all
    seen = dict(peer=5 * len(both), ours=cfg.epochs * round(len(both) * (1 - cfg.valid_frac)))
    seconds = {k: [seen[k] / r for r in v] for k, v in rates.items()}
    record(
        'recipe, whole, against five published epochs',
        seconds['ours'],
        seconds['peer'],
        's',
        o,
        peer_is='per-image PIL, batch 64, augmentation, five epochs of 60,000',
    )


PARTS = dict(
    train=bench_train,
    augment=bench_augment,
    recipe=bench_recipe,
    memory=bench_memory,
    accuracy=bench_accuracy,
)


if __name__ == '__main__':
    command(
        __doc__,
        PARTS,
        dict(images=1000),
        lambda o: load_fashion_mnist(source='synthetic' if o.quick else 'real'),
        images=(10_000, 'training images per round'),
        curves=(1, 'repeats of accuracy against time'),
    )
