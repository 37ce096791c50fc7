"""Seeds at once end where they end alone, whatever network, optimiser and number of them; what
cannot be trained together is refused by name."""

import copy

import numpy as np
import pytest
import torch
from fastai.data.core import DataLoaders
from torch import nn

from fashion_lab.devices import set_seed
from fashion_lab.data.augment import Augment
from fashion_lab.data.loaders import BatchLoader, FeatureLoader
from fashion_lab.models.fashion_mnist import AlternativeCNN, FashionCNN, LogisticBaseline, SmallCNN
from fashion_lab.train.callbacks import Diverged
from fashion_lab.train.loop import fit, predict_probs
from fashion_lab.train.stacked_models import check_stackable, StackedModels, unstack
from fashion_lab.train.stacked_batches import loaders_for_seeds, StackedLoader
from fashion_lab.train.stacked import fit_stacked

TOLERANCE = dict(float32=2e-3, float64=1e-9)  # of weights, after a few dozen steps


def made(network, seed):
    set_seed(seed)
    return network()


def loaders(n=70, bs=16, seed=0, **kw):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (n + 30, 28, 28), np.uint8)
    y = rng.integers(0, 10, n + 30)
    x[np.arange(n + 30), 2 * y] = 255  # something to learn
    return DataLoaders(
        BatchLoader(x[:n], y[:n], bs, shuffle=True, seed=seed, **kw),
        BatchLoader(x[n:], y[n:], 32, mean=[0.5], std=[0.3]),
    )


def no_dropout():
    return FashionCNN((4, 8, 8), dropout=0.0)


def odd():
    """Layers that treat an axis in their own way: group normalisation, a depthwise filter,
    average pooling."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, 3),
        nn.GroupNorm(2, 6),
        nn.SiLU(),
        nn.Conv2d(6, 6, 3, groups=6),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.LayerNorm(24),
        nn.Linear(24, 10),
    )


class Tied(nn.Module):
    "One filter bank that is used twice, and a part that is not trained."

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, 2)
        self.same = nn.Conv2d(1, 4, 3, 2)
        self.same.weight = self.conv.weight
        self.fixed, self.head = nn.Linear(1352, 16).requires_grad_(False), nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.fixed(torch.cat([self.conv(x), self.same(-x)], 1).relu().flatten(1)))


class Exact(nn.Module):
    "A network in float64, where rounding is too small to be mistaken for anything else."

    def __init__(self, net):
        super().__init__()
        self.net = net.double()

    def forward(self, x):
        return self.net(x.double())


@pytest.mark.parametrize('digits', ['float32', 'float64'])
@pytest.mark.parametrize(
    'network, options',
    [
        (LogisticBaseline, dict(lr=0.02, optimizer='momentum')),
        (SmallCNN, dict(lr=3e-3)),
        (SmallCNN, dict(lr=0.02, optimizer='sgd', schedule='constant')),
        (AlternativeCNN, dict(lr=1e-3, average=0.9)),
        (no_dropout, dict(lr=1e-3, optimizer='adam', schedule='one_cycle_linear')),
        (odd, dict(lr=1e-3, wd=0.5)),
        (Tied, dict(lr=1e-3)),
    ],
)
def test_as_alone(network, options, digits):
    """Losses, weights, statistics and predictions of three networks are those of three calls of
    `fit`."""
    tolerance, options = TOLERANCE[digits], dict(epochs=2, bf16=False, show=False) | options

    def make(s):
        return made((lambda: Exact(network())) if digits == 'float64' else network, s)

    nets = [make(s) for s in range(3)]
    start = copy.deepcopy(nets)
    both = fit_stacked(
        nets, loaders_for_seeds(loaders(augment=Augment(flip=0.5, pad=1)), [3, 4, 5]), **options
    )
    walking = (
        digits == 'float32' and network in (AlternativeCNN, no_dropout)
        # a bias in front of batch normalisation has no effect, and Adam makes steps of its
        # rounding;
        # running means and validation follow
    )
    for s, (f, net) in enumerate(zip(both, nets)):
        a = fit(make(s), loaders(seed=3 + s, augment=Augment(flip=0.5, pad=1)), **options)
        assert f.model is net
        assert not net.training
        assert list(f.history) == list(a.history)
        far = (f.history - a.history).abs().max()
        # losses are float32
        assert (
            far.train_loss < max(tolerance, 1e-5)
            and far.valid_loss < (0.05 if walking else max(tolerance, 1e-5))
            and far.lr == 0
        )
        assert far.accuracy < (0.1 if digits == 'float32' else 1e-9)
        assert digits == 'float32' or f.best_epoch == a.best_epoch
        dl = loaders().valid
        odd_ones = [
            n for n in net.state_dict() if walking and n.endswith(('0.0.bias', 'running_mean'))
        ]
        assert np.abs(predict_probs(net, dl, False) - predict_probs(a.model, dl, False)).max() < (
            0.05 if walking else max(tolerance, 1e-6)
        )
        for n, t in net.state_dict().items():
            assert n in odd_ones or torch.allclose(
                t.double(), a.model.state_dict()[n].double(), rtol=0, atol=tolerance
            ), n
        # something was learned
        assert (
            max((t - u).abs().max() for t, u in zip(net.parameters(), start[s].parameters()))
            > 2 * TOLERANCE['float32']
        )


@pytest.mark.parametrize('k', [1, 2, 5])
@pytest.mark.parametrize('shared', [True, False])
@pytest.mark.parametrize('network', [LogisticBaseline, AlternativeCNN, odd])
def test_each_its_own(network, shared, k):
    "Forward and gradient of every network, and what it keeps, are its own; images may be shared."
    nets = [made(network, s) for s in range(k)]
    net = StackedModels(nets)
    x = torch.randn(3, 1 if shared else k, 1, 28, 28)
    out = net(x)
    assert out.shape == (3, 10, k)
    (out * torch.arange(1.0, k + 1)).square().sum().backward()
    for i, n in enumerate(nets):
        alone = n(x[:, 0 if shared else i])
        assert torch.allclose(out[..., i], alone, atol=1e-4)
        (alone * (i + 1)).square().sum().backward()
        for name, p in n.named_parameters():
            g = net.get_parameter(net.keys[name]).grad[i]
            assert torch.allclose(g, p.grad, atol=1e-3 * max(1.0, p.grad.abs().max().item())), name
    for a, n in zip(unstack(net), nets):
        assert a.state_dict().keys() == n.state_dict().keys()
        assert not {id(p) for p in a.parameters()} & {id(p) for p in n.parameters()}
        assert all(
            torch.allclose(t.float(), u.float(), atol=1e-5)
            for t, u in zip(a.state_dict().values(), n.state_dict().values())
        )


def test_ties_and_frozen_parts_stay():
    net = StackedModels([made(Tied, s) for s in range(2)])
    a, b = unstack(net)
    assert a.conv.weight is a.same.weight
    assert a.conv.weight is not b.conv.weight
    assert not a.fixed.weight.requires_grad and a.head.weight.requires_grad
    assert len(list(net.parameters())) == 7 == len(list(a.parameters()))


def test_batch_normalisation_first():
    "It writes into its statistics even where all networks see the same images."
    net = StackedModels(
        [nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(784, 2)) for _ in range(2)]
    )
    net(torch.randn(4, 1, 1, 28, 28) + 3)
    mean = net.get_buffer('stacked/0/running_mean')
    assert mean.shape == (2, 1)
    assert torch.allclose(mean, torch.full_like(mean, 0.3), atol=0.05)
    assert net.get_buffer('stacked/0/num_batches_tracked').tolist() == [1, 1]


def test_mixed_precision_and_dropout_run():
    """In bfloat16, and with dropout, there is no single run to compare with: it learns, and the
    seeds differ."""
    fits = fit_stacked(
        [made(lambda: FashionCNN((4, 8), 0.5), 0) for _ in range(2)],
        loaders_for_seeds(loaders(), [0, 0]),
        epochs=4,
        lr=5e-3,
        bf16=True,
        show=False,
    )
    a, b = (f.history for f in fits)
    # same weights, same batches: the masks make the difference
    assert (a.train_loss != b.train_loss).all()
    assert a.train_loss.iloc[-1] < a.train_loss.iloc[0]
    assert b.train_loss.iloc[-1] < b.train_loss.iloc[0]


def test_all_out_of_memory_halves_all():
    class Cramped(LogisticBaseline):
        def forward(self, x):
            if self.training and len(x) > 10:
                raise RuntimeError('CUDA out of memory. Tried to allocate more.')
            return super().forward(x)

    dls = loaders_for_seeds(loaders(), [0, 1])
    with pytest.warns(UserWarning, match='going on with 8'):
        fits = fit_stacked([Cramped(), Cramped()], dls, epochs=2, show=False)
    assert [f.batch_size for f in fits] == [8, 8] == [d.train.bs for d in dls]
    assert [len(f.history) for f in fits] == [2, 2]


def test_checkpoints_of_others_are_refused(tmp_path):
    fit_stacked(
        [made(LogisticBaseline, s) for s in range(2)],
        loaders_for_seeds(loaders(), range(2)),
        epochs=1,
        checkpoint=tmp_path / 'two.pt',
        show=False,
    )
    fit(
        made(LogisticBaseline, 0), loaders(), epochs=1, checkpoint=tmp_path / 'alone.pt', show=False
    )
    for name, k, n in (
        ('two.pt', 3, '2 networks'),
        ('alone.pt', 3, '1 network'),
        ('two.pt', 1, '2 networks'),
    ):
        with pytest.raises(
            ValueError, match=f'{name} is the checkpoint of {n}, and {k} are to go on'
        ):
            fit_stacked(
                [made(LogisticBaseline, s) for s in range(k)],
                loaders_for_seeds(loaders(), range(k)),
                epochs=2,
                checkpoint=tmp_path / name,
                show=False,
            )
    (tmp_path / 'broken.pt').write_bytes(b'no checkpoint')
    with pytest.warns(UserWarning, match='cannot be read') as seen:
        fit_stacked(
            [made(LogisticBaseline, 0)],
            [loaders()],
            epochs=1,
            checkpoint=tmp_path / 'broken.pt',
            show=False,
        )
    assert len([w for w in seen if 'cannot be read' in str(w.message)]) == 1


def test_history_is_shared_out():
    fits = fit_stacked(
        [made(SmallCNN, s) for s in range(3)],
        loaders_for_seeds(loaders(), range(3)),
        epochs=2,
        monitor='accuracy',
        metrics=dict(accuracy=lambda z, y: float(y.float().mean()), n=lambda z, y: z.shape[1]),
        show=False,
    )
    for f in fits:
        assert (f.history.n == 10).all()
        assert f.best_epoch == 0
        assert f.history.accuracy.nunique() == 1
        assert f.seconds == fits[0].seconds > 0
    without = fit_stacked(
        [made(SmallCNN, s) for s in range(2)],
        [DataLoaders(d.train) for d in loaders_for_seeds(loaders(), range(2))],
        epochs=1,
        show=False,
    )
    assert without[0].best_epoch is None
    assert 'valid_loss' not in without[0].history


def test_who_diverged():
    nets = [made(LogisticBaseline, s) for s in range(3)]
    with torch.no_grad():
        nets[1][1].weight.fill_(torch.inf)
    with pytest.raises(Diverged, match=r'network 1 \(seed 8\) \(of 3\) is nan in epoch 0, batch 0'):
        fit_stacked(nets, loaders_for_seeds(loaders(), [7, 8, 9]), epochs=1, show=False)


def test_loaders_that_give_the_same_are_asked_once():
    a, b = loaders(), loaders(seed=1)
    assert StackedLoader([a.valid, b.valid]).shared
    assert not StackedLoader([a.train, b.train]).shared
    assert StackedLoader([a.train, loaders().train]).shared
    assert StackedLoader([a.train] * 3).shared
    other = b.valid.new()
    other.y = 9 - other.y
    assert not StackedLoader([a.valid, other]).shared
    assert not StackedLoader([a.valid, b.valid.new(mean=[0.4])]).shared
    features = [
        FeatureLoader(np.full((40, 1, 4), k, np.float32), np.zeros(40, int)) for k in (0, 1)
    ]
    assert not StackedLoader(features).shared
    assert next(iter(StackedLoader(features)))[0].shape == (
        40,
        2,
        4,
    )
    once = StackedLoader([a.train] * 3)
    x, y = next(iter(once))
    assert x.shape == (16, 1, 1, 28, 28)
    assert y.shape == (16, 3)
    assert (y[:, 0] == y[:, 2]).all()
    for _ in once:
        pass
    assert once.epoch == 1


def test_new_images_in_every_epoch():
    "The epoch reaches every loader, so that order and augmentation change as they do alone."
    both = StackedLoader([d.train for d in loaders_for_seeds(loaders(), [0, 1])])
    alone = loaders(seed=1).train
    epochs = [torch.cat([y[:, 1] for _, y in both]) for _ in range(2)]
    assert not torch.equal(*epochs)
    assert all(torch.equal(e, torch.cat([y for _, y in alone])) for e in epochs)
    both.epoch = 0
    assert torch.equal(epochs[0], torch.cat([y[:, 1] for _, y in both]))


class Scaled(nn.Module):
    "A setting that no parameter shows."

    def __init__(self, by):
        super().__init__()
        self.by, self.net = by, LogisticBaseline()

    def forward(self, x):
        return self.by * self.net(x)


@pytest.mark.parametrize(
    'nets, why',
    [
        ([Scaled(1.0), Scaled(2.0)], 'by of the network is 2.0, not 1.0'),
        ([SmallCNN(), SmallCNN(7)], 'out_features of layer 11 is 7, not 10'),
        ([SmallCNN(), AlternativeCNN()], 'the network is AlternativeCNN, not SmallCNN'),
        ([LogisticBaseline(), LogisticBaseline().requires_grad_(False)], 'not trained, not'),
        ([LogisticBaseline(), LogisticBaseline().double()], 'float64, trained, not'),
        ([], 'no network'),
        (
            [nn.Sequential(nn.BatchNorm2d(1, momentum=None), LogisticBaseline())],
            'layer|0 has momentum=None',
        ),
    ],
    ids=str,
)
def test_what_is_not_alike(nets, why):
    with pytest.raises(ValueError, match=why):
        check_stackable(nets)


@pytest.mark.parametrize(
    'option, why',
    [
        (dict(optimizer='muon'), 'whole matrices'),
        (dict(schedule='plateau'), 'lowers the rate'),
        (dict(patience=1), 'stops by'),
        (dict(restore_best=True), 'best epoch'),
        (dict(groups=2), 'parts of one'),
        (dict(fp16=True), 'step of all'),
        (dict(compile=True), 'never tried'),
    ],
)
def test_what_is_about_one_network(option, why):
    with pytest.raises(ValueError, match=why):
        fit_stacked([LogisticBaseline()], [loaders()], **option)


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    with pytest.raises(ValueError, match='in one process, and 2 were started'):
        fit_stacked([LogisticBaseline()], [loaders()])


def test_layout_reaches_every_loader():
    "`fit` sets it on the loader that it sees."
    dls = loaders_for_seeds(loaders(), range(2))
    nets = [made(AlternativeCNN, s) for s in range(2)]
    fit_stacked(nets, dls, epochs=1, channels_last=False, show=False)
    assert all(dl.layout == torch.contiguous_format for d in dls for dl in d.loaders)
    assert nets[1][0][0][0].weight.is_contiguous()
    fit_stacked(nets, dls, epochs=1, show=False)
    assert all(dl.layout == torch.channels_last for d in dls for dl in d.loaders)
    assert nets[1][1][0][0].weight.is_contiguous(memory_format=torch.channels_last)


def test_what_was_refused_left_the_networks_alone():
    nets = [made(LogisticBaseline, s) for s in range(2)]
    before = [n[1].weight.clone() for n in nets]
    with pytest.raises(ValueError, match='differ in images'):
        fit_stacked(nets, [loaders(), loaders(60)])
    with pytest.raises(ValueError, match='lr must be'):
        fit_stacked(nets, loaders_for_seeds(loaders(), range(2)), lr=-1)
    with pytest.raises(ValueError, match='unknown optimiser'):
        fit_stacked(nets, loaders_for_seeds(loaders(), range(2)), optimizer='lion')
    assert all(torch.equal(a, n[1].weight) for a, n in zip(before, nets))
