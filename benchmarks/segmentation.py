"""Side-by-side benchmarks of segmentation: training images per second, and average precision over
all pixels; both sides in one process, taking turns.

    python benchmarks/segmentation.py            everything (about ten minutes on two cores)
    python benchmarks/segmentation.py ap         only this part: train, ap
    python benchmarks/segmentation.py --quick    tiny sizes, to see that it runs; nothing is
                                                 recorded

Results go to results/benchmarks.csv. Photos and masks are drawn (synthetic), 256 x 256 pixels,
batches of 16. *train*: our U-Net as the lab trains it (in-memory uint8, augmentation of whole
batches, bfloat16 where the processor has it), against the published plain network trained by the
same loop, and against fastai's `unet_learner` with the same encoder, as its documentation shows it:
image files, `SegmentationDataLoaders`, `aug_transforms`, float32. The number of its DataLoader
workers is the one that suits it best. *ap*: `SegmentScores` (counts, all measures at once) and the
counting of average precision alone, against scikit-learn's `average_precision_score` for each
class, on as many pixels as the facade set's test part has.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import timm
import torch
from fastai.data.core import DataLoaders
from fastai.vision.all import (
    CrossEntropyLossFlat,
    SegmentationDataLoaders,
    aug_transforms,
    unet_learner,
)
from PIL import Image
from sklearn.metrics import average_precision_score
from torch import nn

from fashion_lab.synthetic.classes import FACADE_CLASSES
from fashion_lab.synthetic.facade_drawer import synthetic_facades
from fashion_lab.train.loop import make_learner
from fashion_lab.segment.models import PlainSegNet, UNet
from fashion_lab.segment.metrics import histogram_ap, measured, N_BINS, score_bins, SegmentScores
from fashion_lab.segment.train import MASK_AUGMENTS, MaskLoader
from side_by_side import command, interleaved, record

ENCODER = 'efficientnet_lite2'


def lab_learner(net, images, masks):
    "The lab's loop around a network."
    dls = DataLoaders(
        MaskLoader(
            images,
            masks,
            16,
            True,
            MASK_AUGMENTS['usual'],
            list(net.mean),
            list(net.std),
            classes=FACADE_CLASSES,
        )
    )
    return make_learner(net, dls, 1e-3)


def fastai_learner(folder, images, masks, workers, size):
    "fastai's own, from image files."
    for i, (im, m) in enumerate(zip(images, masks)):
        for sub, a in (('images', im), ('masks', m)):
            (folder / sub).mkdir(parents=True, exist_ok=True)
            Image.fromarray(a).save(folder / sub / f'{i}.png')
    dls = SegmentationDataLoaders.from_label_func(
        folder,
        sorted((folder / 'images').iterdir()),
        lambda f: folder / 'masks' / f.name,
        codes=list(FACADE_CLASSES),
        valid_pct=0.0,
        bs=16,
        batch_tfms=aug_transforms(size=size, max_rotate=0.0),
        num_workers=workers,
        device=torch.device('cpu'),
    )

    def cut(m):
        # so that it finds every halving of the resolution
        return nn.Sequential(m.conv_stem, m.bn1, *m.blocks)

    return unet_learner(
        dls,
        lambda pretrained: timm.create_model(f'tf_{ENCODER}', pretrained=False),
        n_out=5,
        pretrained=False,
        normalize=False,
        cut=cut,
        loss_func=CrossEntropyLossFlat(axis=1),
    )


def bench_train(o):
    "Training images per second."
    images, masks, _ = synthetic_facades(o.images, seed=0, size=o.size)

    def timed(learn):
        def epoch():
            start = time.perf_counter()
            with learn.no_bar(), learn.no_logging():
                learn.fit(1)
            return o.images, time.perf_counter() - start

        return epoch

    with tempfile.TemporaryDirectory() as d:
        learners = dict(
            unet=lab_learner(UNet(5, ENCODER), images, masks),
            plain=lab_learner(PlainSegNet(5, 8 if o.quick else 64), images, masks),
        )
        learners |= {
            f'fastai{w}': fastai_learner(Path(d) / f'w{w}', images, masks, w, o.size)
            for w in ((0,) if o.quick else (0, 2))
        }
        for l in learners.values():
            l._do_epoch = l._do_epoch_train  # nothing is validated
        rates = interleaved(o.repeats, **{k: timed(l) for k, l in learners.items()})
    best = max((k for k in rates if k.startswith('fastai')), key=lambda k: np.median(rates[k]))
    record(
        f'segmentation, training at {o.size} px, against the plain network',
        rates['unet'],
        rates['plain'],
        'images/s',
        o,
        peer_is='PlainSegNet in the same loop',
    )
    record(
        f"segmentation, training at {o.size} px, against unet_learner",
        rates['unet'],
        rates[best],
        'images/s',
        o,
        peer_is=f'fastai unet_learner, {ENCODER}, float32, {best[6:]} workers',
    )


def bench_ap(o):
    "Seconds for average precision over all pixels."
    n = (4, 114)[not o.quick]
    rng = torch.Generator().manual_seed(0)
    masks = synthetic_facades(n, seed=1, size=o.size)[1]
    probs = torch.cat(
        [
            (
                3 * nn.functional.one_hot(torch.tensor(m).long(), 5).permute(2, 0, 1)[None].float()
                + 2 * torch.randn(1, 5, o.size, o.size, generator=rng)
            ).softmax(1)
            for m in masks
        ]
    )
    flat = probs.permute(1, 0, 2, 3).reshape(5, -1).numpy()
    truth = masks.ravel()
    answers = {}

    def clock(name, f):
        def go():
            start = time.perf_counter()
            answers[name] = np.array(f())
            s = time.perf_counter() - start
            return 1, s

        return go

    def everything():
        s = SegmentScores(FACADE_CLASSES)
        for k in range(0, n, 16):
            s.add(range(k, min(k + 16, n)), probs[k : k + 16], masks[k : k + 16])
        m = measured(s, ['ap'])
        return [m[f'ap_{c}'] for c in FACADE_CLASSES]

    def alone():
        t = torch.from_numpy(truth)
        return [
            histogram_ap(
                *np.flip(
                    torch.bincount(
                        score_bins(torch.from_numpy(flat[k])) + N_BINS * (t == k),
                        minlength=2 * N_BINS,
                    )
                    .view(2, N_BINS)
                    .numpy(),
                    0,
                )
            )
            for k in range(5)
        ]

    rates = interleaved(
        o.repeats,
        counts=clock('counts', everything),
        alone=clock('alone', alone),
        sklearn=clock(
            'sklearn', lambda: [average_precision_score(truth == k, flat[k]) for k in range(5)]
        ),
    )
    gap = max(abs(answers[k] - answers['sklearn']).max() for k in ('counts', 'alone'))
    print(f'  largest difference from scikit-learn: {gap:.1e}')
    assert gap < 1e-4 or o.quick
    seconds = {k: [1 / r for r in v] for k, v in rates.items()}
    record(
        f'average precision of {truth.size:,} pixels, five classes',
        seconds['alone'],
        seconds['sklearn'],
        's',
        o,
        peer_is='scikit-learn average_precision_score',
    )
    record(
        f'average precision, overlap, boundaries and calibration of {truth.size:,} pixels, per image',
        seconds['counts'],
        seconds['sklearn'],
        's',
        o,
        peer_is='scikit-learn average_precision_score, average precision alone',
    )


PARTS = dict(train=bench_train, ap=bench_ap)


if __name__ == '__main__':
    command(
        __doc__,
        PARTS,
        dict(images=16, size=64),
        images=(64, 'training images per round'),
        size=(256, 'pixels'),
    )
