"""Side-by-side benchmarks of transfer learning: frozen parts computed once, against fastai's
`vision_learner` that computes them in every epoch, interleaved in one process.

    python benchmarks/transfer.py                  everything (about twenty minutes on two cores)
    python benchmarks/transfer.py head             only this part: head, tail
    python benchmarks/transfer.py --quick          tiny sizes, to see that it runs; nothing is
                                                   recorded

Results go to results/benchmarks.csv. Photos are drawn (synthetic) garments, JPEG files of 256 px;
both sides train EfficientNet-Lite0 at 224 px in batches of 32 with random crops and flips (fastai's
`aug_transforms`, our kept views), in the arithmetic that each chooses: ours in bfloat16 where the
hardware has it, fastai's in float32, its default. Weights are random, which changes no time. One
epoch is measured from the second on: what comes before, once, is measured too.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fashion_lab.synthetic.classes import CLOTHING_CLASSES
from fashion_lab.synthetic.clothing_drawer import ClothingDrawer
from fashion_lab.data.tables import label_codes
from fashion_lab.data.loaders import FeatureLoader
from fashion_lab.models.layers import head
from fashion_lab.models.backbones import backbone
from fashion_lab.models.features import frozen_features
from fashion_lab.train.loop import fit
from fashion_lab.train.classifier import PhotoClassifier
from fashion_lab.train.recipe import AUGMENTS
from side_by_side import command, interleaved, record

from fastai.callback.core import Callback, CancelValidException
from fastai.data.core import DataLoaders
from fastai.vision.all import ImageDataLoaders, Resize, aug_transforms, vision_learner

ARCH, SIZE, BS = 'efficientnet_lite0', 224, 32


class NoValidation(Callback):
    "Only training is timed."

    def before_validate(self):
        raise CancelValidException


def written(folder, n):
    "`n` drawn garments as JPEG files, and their table."
    drawer = ClothingDrawer(n, size=256)
    for i in range(n):
        Image.fromarray(drawer.draw(i)).save(folder / f'{i:05d}.jpg', quality=90)
    return drawer, pd.DataFrame(
        dict(name=[f'{i:05d}.jpg' for i in range(n)], label=drawer.items.label.to_numpy())
    )


def peer(folder, table, workers, stage=None):
    """A task: one epoch of fastai's learner with a frozen body, or with everything before
    `stage` frozen."""
    dls = ImageDataLoaders.from_df(
        table,
        folder,
        fn_col='name',
        label_col='label',
        valid_pct=0.05,
        seed=0,
        item_tfms=Resize(256),
        batch_tfms=aug_transforms(size=SIZE),
        bs=BS,
        num_workers=workers,
        device='cpu',
    )
    learn = vision_learner(dls, f'tf_{ARCH}', pretrained=False, normalize=False, cbs=NoValidation)
    learn.freeze()
    if stage is not None:
        learn.model[0].model.blocks[stage:].requires_grad_(True)
        learn.model[0].model.conv_head.requires_grad_(True)

    def epoch():
        start = time.perf_counter()
        with learn.no_bar(), learn.no_logging():
            learn.fit(1, 1e-3)
        return len(dls.train_ds), time.perf_counter() - start

    return epoch


def ours(features, labels, part):
    "A task: one epoch on what is kept."
    dls = DataLoaders(
        FeatureLoader(features, labels, bs=BS, shuffle=True, classes=list(CLOTHING_CLASSES))
    )

    def epoch():
        start = time.perf_counter()
        fit(part, dls, 1, 1e-3, show=False)
        return len(labels), time.perf_counter() - start

    return epoch


def compare(name, o, stage):
    "Epochs of both sides, and what ours computes once."
    with tempfile.TemporaryDirectory() as d:
        drawer, table = written(Path(d), o.images)
        body = backbone(ARCH, None, SIZE)
        labels = label_codes(table.label, CLOTHING_CLASSES)
        net = PhotoClassifier(
            body, head(body.n_features, len(CLOTHING_CLASSES), dropout=0.2), list(CLOTHING_CLASSES)
        )
        front, rest = (
            (body, net.head)
            if stage is None
            else (
                body.split(f'blocks.{stage}')[0],
                PhotoClassifier(body.split(f'blocks.{stage}')[1], net.head, net.classes),
            )
        )
        images = np.stack(
            [np.asarray(Image.open(Path(d) / f).resize((SIZE, SIZE))) for f in table.name]
        )
        start = time.perf_counter()
        kept = frozen_features(
            front,
            images,
            views=o.views,
            augment=AUGMENTS['usual'],
            cache=d,
            store='float32' if stage is None else 'float16',
            device='cpu',
        )
        print(
            (
                f'  kept once: {o.views} views of {len(images)} photos in '
                f'{time.perf_counter() - start:.1f} s'
            ),
            flush=True,
        )
        tasks = {f'peer{w}': peer(Path(d), table, w, stage) for w in (0, 2)} | dict(
            ours=ours(kept, labels, rest)
        )
        rates = interleaved(o.repeats, **tasks)
    best = max(('peer0', 'peer2'), key=lambda k: np.median(rates[k]))
    record(
        name,
        rates['ours'],
        rates[best],
        'photos/s',
        o,
        peer_is=f'fastai vision_learner, frozen in the same place, batch {BS}, {best[4:]} workers',
    )


def bench_head(o):
    compare('transfer, epochs of a head on a frozen body', o, None)


def bench_tail(o):
    compare('transfer, epochs of the last stages (blocks.5 on)', o, 5)


PARTS = dict(head=bench_head, tail=bench_tail)


if __name__ == '__main__':
    command(
        __doc__,
        PARTS,
        dict(images=64, views=2),
        images=(512, 'photos'),
        views=(8, 'kept views per photo'),
    )
