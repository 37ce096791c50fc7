"""Side-by-side benchmark of training several seeds at once (`fashion_lab.train.stacked`) against
the same seeds one after another, interleaved in one process.

    OMP_NUM_THREADS=1 python benchmarks/together.py             everything (about a quarter of an
                                                                hour on one thread)
    OMP_NUM_THREADS=1 python benchmarks/together.py --batch 16  the same in small steps
    python benchmarks/together.py SmallCNN                      only this network: LogisticBaseline,
                                                                SmallCNN, AlternativeCNN, FashionCNN
    python benchmarks/together.py --quick                       tiny sizes, to see that it runs;
                                                                nothing is recorded

Results go to results/benchmarks.csv. Images are random (no network is judged here), each seed has
its own order, both sides have the same networks, batches, optimiser (AdamW, one cycle), number
format (float32) and threads. Both are `train.loop.fit`: once with all networks as one, once for
each. The clock runs during the epoch; what is done once per training (stacking, the check of the
arguments) is left out on both sides.
"""

from functools import partial

import numpy as np
from fastai.data.core import DataLoaders

from fashion_lab.devices import set_seed
from fashion_lab.data.loaders import BatchLoader
from fashion_lab.train.loop import fit
from fashion_lab.train.stacked_batches import loaders_for_seeds
from fashion_lab.train.stacked import fit_stacked
from fashion_lab.labs.fashion_mnist_variants import MODELS
from side_by_side import command, interleaved, record

SEEDS = (1, 2, 4, 8, 16)
# of each seed, in one round
IMAGES = dict(LogisticBaseline=12800, SmallCNN=768, AlternativeCNN=768, FashionCNN=384)


def one_size(name, k, bs, o):
    "Images per second, all seeds counted."
    n = 2 * bs if o.quick else IMAGES[name]
    rng = np.random.default_rng(0)
    dls = loaders_for_seeds(
        DataLoaders(
            BatchLoader(
                rng.integers(0, 256, (n, 28, 28), np.uint8),
                rng.integers(0, 10, n),
                bs,
                shuffle=True,
            )
        ),
        range(k),
    )

    def networks():
        set_seed(0)
        return [MODELS[name]() for _ in range(k)]

    options = dict(epochs=1, lr=1e-4, bf16=False, show=False)

    def together():
        return k * n, sum(f.seconds for f in fit_stacked(networks(), dls, **options))

    def alone():
        return k * n, sum(fit(net, d, **options).seconds for net, d in zip(networks(), dls))

    rates = interleaved(o.repeats, together=together, alone=alone)
    record(
        f'together, {name}, {k} seed{"s"[: k != 1]}, batch {bs}',
        rates['together'],
        rates['alone'],
        'images/s',
        o,
        peer_is='the same seeds one after another',
    )


def bench(name, o):
    "One network, every number of seeds."
    for k in SEEDS[: 2 if o.quick else None]:
        one_size(name, k, o.batch, o)


if __name__ == '__main__':
    command(
        __doc__,
        {name: partial(bench, name) for name in IMAGES},
        dict(batch=8),
        batch=(128, 'images per step of each seed'),
    )
