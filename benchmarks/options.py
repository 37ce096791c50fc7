"""What each switch of `train.loop.fit` buys on this machine's device: the switch on against the
switch off, everything else the same, interleaved in one process.

    python benchmarks/options.py                     everything (about ten minutes on two cores)
    python benchmarks/options.py bf16 compile        only these parts: bf16, fp16, channels_last,
                                                     compile
    python benchmarks/options.py --device cuda       on a graphics card
    python benchmarks/options.py --quick             tiny sizes, to see that it runs; nothing is
                                                     recorded

Results go to results/benchmarks.csv, with the device in the name, so that rows of several devices
stand side by side. Networks: the Fashion-MNIST lab's FashionCNN at 28 pixels and EfficientNet-Lite0
(weights drawn) at 128 pixels. Training images per second, from the second epoch on: what
compilation costs at first is not part of it. Pictures are drawn at random: nothing is learned, and
times do not depend on it.
"""

import numpy as np

from fashion_lab.devices import pick_device, set_seed
from fashion_lab.data.loaders import BatchLoader
from fashion_lab.models.backbones import backbone
from fashion_lab.models.fashion_mnist import FashionCNN
from fashion_lab.train.loop import fit
from fastai.data.core import DataLoaders
from side_by_side import command, interleaved, record
from torch import nn

SWITCHES = dict(
    bf16=(dict(bf16=True), dict(bf16=False), 'float32'),
    fp16=(dict(bf16=False, fp16=True), dict(bf16=False), 'float32'),
    channels_last=(dict(channels_last=True), dict(channels_last=False), 'channels first'),
    compile=(dict(compile=True), dict(), 'not compiled'),
)


def networks(o):
    "name -> (network, pictures): drawn pictures of the size that the network takes."
    draw = np.random.default_rng(0)
    n, m = (256, 16) if o.quick else (4096, 96)
    lite = backbone('efficientnet_lite0', weights=None)
    return dict(
        FashionCNN=(FashionCNN(), draw.integers(0, 256, (n, 28, 28), np.uint8), 256),
        EfficientNetLite0=(
            nn.Sequential(lite, nn.Linear(lite.n_features, 10)),
            draw.integers(0, 256, (m, 128, 128, 3), np.uint8),
            32,
        ),
    )


def measured(switch):
    on, off, off_is = SWITCHES[switch]

    def part(o):
        device = pick_device(o.device)
        for name, (net, pictures, bs) in networks(o).items():
            labels = np.arange(len(pictures)) % 10

            def trained(kw):
                def once():
                    set_seed(0)
                    dls = DataLoaders(
                        BatchLoader(
                            pictures, labels, bs, shuffle=True, mean=0.5, std=0.25, device=device
                        ),
                        device=device,
                    )
                    return 2 * len(pictures), fit(
                        net, dls, 3, 1e-4, show=False, **kw
                    ).history.seconds[1:].sum()

                return once

            rates = interleaved(o.repeats, with_it=trained(on), without=trained(off))
            record(
                f'{switch}: {name} on {device.type}',
                rates['with_it'],
                rates['without'],
                'images/s',
                o,
                f'the same training, {off_is}',
            )

    return part


if __name__ == '__main__':
    command(
        __doc__, {k: measured(k) for k in SWITCHES}, {}, device=('auto', 'cpu, cuda, mps or auto')
    )
