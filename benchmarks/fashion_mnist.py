"""Side-by-side benchmarks of the Fashion-MNIST lab: ours against the usual per-image pipeline,
interleaved in one process.

    python benchmarks/fashion_mnist.py                 everything (about an hour on two cores, and
                                                       three more for `published`)
    python benchmarks/fashion_mnist.py train augment   only these parts: train, augment, memory,
                                                       accuracy, recipe, published
    python benchmarks/fashion_mnist.py --quick         tiny sizes, to see that it runs; nothing is
                                                       recorded

Results go to results/benchmarks.csv, for accuracy against time to
results/benchmarks_accuracy_time.csv, and for the published models (part `published`, several hours)
to results/benchmarks_published.csv. Times are wall-clock; only ratios carry over to another
machine. The peer is written from the published description: PIL images, one at a time, through
torchvision transforms (rotation, flip, crop), a DataLoader, batch 64, Adam at 0.001, 32-bit
arithmetic. It gets the number of DataLoader workers that suits it best.
"""

import copy
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
    "The published training loop; the seed decides initial weights, order and augmentation."

    def __init__(self, loader, seed=0, net=models_fashion_mnist.FashionCNN):
        set_seed(seed)
        self.loader, self.net, self.loss = loader, net(), nn.CrossEntropyLoss()
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
    "Train on the training pictures, test after every epoch; rows of (seconds, accuracy)."
    set_seed(seed)
    both, test = images.part('train'), images.part('test')
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


def plateau(peer):
    "The published schedule: a tenth of the rate after three epochs without a better loss."
    return torch.optim.lr_scheduler.ReduceLROnPlateau(peer.opt, patience=2, factor=0.1)


def accuracy_curve_peer(images, seed, epochs):
    """Rows of (seconds, test accuracy). The rate is lowered on the loss of the validation
    pictures; test pictures are looked at after every epoch, outside of the time, and decide
    nothing."""
    part, mean_std = images.part('train'), channel_stats(images.part('train').images)
    valid, test = (
        peer_loader(images.part(k), False, *mean_std, 0, 512, False) for k in ('valid', 'test')
    )
    peer = Peer(peer_loader(part, False, *mean_std, 0), seed)
    schedule, seconds, curve = plateau(peer), 0.0, []
    for e in range(epochs):
        start = time.perf_counter()
        peer.train()
        schedule.step(peer.test(valid)[1])
        seconds += time.perf_counter() - start
        curve.append((seconds, peer.test(test)[0]))
        print(f'  peer run {seed} epoch {e}: {seconds:.0f} s, {curve[-1][1]:.4f}', flush=True)
    return curve


def bench_accuracy(images, o):
    """Seconds until the test accuracy first reaches 92.7 %: the recipe, cut to four epochs,
    against the published protocol without augmentation. Both train on the same 50,000 pictures,
    with other initial weights in every repeat."""
    curves = []
    target = 0.3 if o.quick else 0.927
    times = dict(ours=[], peer=[])
    for r in range(1 if o.quick else o.curves):
        cfg = lab.Config(**(lab.RECIPE | dict(epochs=4)))
        ours = accuracy_curve_ours(images, cfg, r)
        theirs = accuracy_curve_peer(images, r, 2 if o.quick else 10)
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
            peer_is='published protocol without augmentation, rate lowered on validation loss',
        )


# the five networks whose figures were published, as the as-published protocol of the lab has them
MODELS = {name: dict(lab.PUBLISHED_VARIANTS[name]) for name in lab.PUBLISHED_ACCURACY}
PUBLISHED_RUNS = RESULTS / 'benchmarks_published.csv'


def published_net(changes):
    return lab.MODELS[changes.get('model', 'FashionCNN')](**dict(changes.get('options', ())))


def with_validation(peer, valid, epochs):
    """Train for all epochs; the validation pictures lower the rate and choose the epoch. Returns
    (rates of the epochs, the chosen epoch, its validation accuracy); the network ends as it was
    then."""
    schedule, rates, best, kept = plateau(peer), [], (-1, -1.0), None
    for e in range(epochs):
        rates.append(peer.opt.param_groups[0]['lr'])
        peer.train()
        accuracy, loss = peer.test(valid)
        schedule.step(loss)
        if accuracy > best[1]:
            best, kept = (e, accuracy), copy.deepcopy(peer.net.state_dict())
    peer.net.load_state_dict(kept)
    return rates, *best


def replayed(peer, rates):
    "Train with known rates, one per epoch."
    for rate in rates:
        for group in peer.opt.param_groups:
            group['lr'] = rate
        peer.train()


def published_run(images, name, seed, epochs):
    """Two rows: the published protocol with 50,000 training pictures, where the validation pictures
    decide; then, from the same initial weights, all 60,000 with the rates and the number of epochs
    that were found. Each is tested once."""
    changes, rows = MODELS[name], []
    augment = changes.get('augment') == 'published'
    stats = channel_stats(images.part('train').images)
    valid, test = (
        peer_loader(images.part(k), False, *stats, 0, 512, False) for k in ('valid', 'test')
    )
    for part in (images.part('train'), everything(images)):
        start = time.perf_counter()
        loader = peer_loader(part, augment, *stats, 0)
        peer = Peer(loader, seed, lambda: published_net(changes))
        if not rows:
            rates, epoch, accuracy = with_validation(peer, valid, epochs)
        else:
            replayed(peer, rates[: epoch + 1])
        rows.append(
            dict(
                variant=name,
                seed=seed,
                pictures=len(part),
                epochs=epochs,
                chosen_epoch=epoch + 1,
                last_rate=rates[epoch],
                validation=accuracy if not rows else float('nan'),
                test=peer.test(test)[0],
                n=len(images.part('test')),
                published=lab.PUBLISHED_ACCURACY[name],
                seconds=time.perf_counter() - start,
                **conditions(),
            )
        )
        print(f"  {name}, seed {seed}, {len(part):,} pictures: {rows[-1]['test']:.4f}", flush=True)
    return rows


def bench_published(images, o):
    """The five published models under the published protocol, with validation in place of the test
    set; a model and seed that is recorded is not trained again."""
    known = pd.DataFrame(columns=['variant', 'seed'])
    if PUBLISHED_RUNS.exists() and not o.quick:
        known = pd.read_csv(PUBLISHED_RUNS)
    for seed in range(1 if o.quick else o.seeds):
        for name in MODELS:
            if ((known.variant == name) & (known.seed == seed)).any():
                continue
            rows = pd.DataFrame(published_run(images, name, seed, 2 if o.quick else 10))
            known = pd.concat([known, rows], ignore_index=True) if len(known) else rows
            if not o.quick:
                save(PUBLISHED_RUNS, known)
    spread = known.groupby(['variant', 'pictures']).test.agg(['mean', 'std', 'count'])
    print(spread.round(4).to_string(), flush=True)


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
    published=bench_published,
)


if __name__ == '__main__':
    command(
        __doc__,
        PARTS,
        dict(images=1000),
        lambda o: load_fashion_mnist(source='synthetic' if o.quick else 'real'),
        images=(10_000, 'training images per round'),
        curves=(1, 'repeats of accuracy against time'),
        seeds=(3, 'runs of every published model'),
    )
