"""Training: which epoch is the best, what losses are means of, and what a full disk says."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback
from fastai.data.core import DataLoaders
from hypothesis import given, strategies as st
from torch import nn

from fashion_lab.devices import set_seed
from fashion_lab.data.loaders import BatchLoader
from fashion_lab.train.callbacks import batch_weight, BestEpoch, Diverged
from fashion_lab.train.loop import arithmetic, fit, lr_range_test, predict_probs
from fashion_lab.train.stacked_batches import loaders_for_seeds
from fashion_lab.train.stacked import fit_stacked
from fashion_lab.segment.train import SegmentLoss

pytestmark = pytest.mark.filterwarnings('ignore')
WEIGHTS = torch.tensor([0.2, 1.0, 3.0])


def loaders(bs=32, valid_bs=13):
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (80, 8, 8), np.uint8)
    labels = draw.choice(3, 80, p=[0.6, 0.3, 0.1])
    rows = np.arange(80)
    how = dict(mean=0.5, std=0.25)
    return DataLoaders(
        BatchLoader(images, labels, bs, True, seed=1, rows=rows[:40], **how),
        BatchLoader(images, labels, valid_bs, rows=rows[40:], **how),
    )


def net(seed=0):
    set_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


class Forge(Callback):
    "Writes other numbers into the history, before anything looks at them."

    order = 45

    def __init__(self, **columns):
        self.columns = columns

    def after_epoch(self):
        for k, values in self.columns.items():
            self.learn.epoch_log.rows[-1][k] = values[self.epoch]


# The best epoch


@pytest.mark.parametrize(
    'losses,best',
    [([np.nan, 1, 1], 1), ([np.nan, 2, 1], 2), ([1, np.nan, 2], 0), ([np.nan, np.nan, np.inf], 2)],
)
def test_an_epoch_without_a_number_is_never_the_best(losses, best):
    done = fit(
        net(), loaders(), epochs=3, bf16=False, restore_best=True, cbs=[Forge(valid_loss=losses)]
    )
    assert done.best_epoch == best
    until = fit(
        net(),
        loaders(),
        epochs=3,
        schedule='constant',
        bf16=False,
        restore_best=True,
        cbs=[Forge(valid_loss=losses)],
    )
    alone = fit(net(), loaders(), epochs=best + 1, schedule='constant', bf16=False)
    assert torch.equal(until.model[1].weight, alone.model[1].weight)


def test_without_any_number_the_last_weights_stay_and_it_is_said():
    nan = [np.nan] * 3
    with pytest.warns(UserWarning, match='valid_loss was not a number in any epoch'):
        done = fit(
            net(), loaders(), epochs=3, bf16=False, restore_best=True, cbs=[Forge(valid_loss=nan)]
        )
    assert done.best_epoch is None
    assert torch.equal(
        done.model[1].weight, fit(net(), loaders(), epochs=3, bf16=False).model[1].weight
    )
    stopped = fit(
        net(), loaders(), epochs=9, bf16=False, patience=2, cbs=[Forge(valid_loss=[np.nan] * 9)]
    )
    assert stopped.stopped_early and len(stopped.history) == 2


def test_a_training_that_was_interrupted_after_it_had_stopped_is_finished(tmp_path):
    "It used to come back untrained, with an empty history."
    options = dict(
        epochs=9,
        bf16=False,
        schedule='constant',
        patience=2,
        restore_best=True,
        checkpoint=tmp_path / 'c.pt',
    )
    losses = Forge(valid_loss=[1, 2, 3])
    first, again = (fit(net(seed), loaders(), cbs=[losses], **options) for seed in (0, 1))
    assert first.stopped_early
    assert again.stopped_early
    assert (first.best_epoch, again.best_epoch) == (0, 0)
    assert torch.equal(first.model[1].weight, again.model[1].weight)
    pd.testing.assert_frame_equal(first.history, again.history)


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 3)), min_size=1, max_size=8),
    st.sampled_from(['valid_loss', 'accuracy']),
)
def test_the_best_epoch_is_pandas(values, monitor):
    values = pd.Series([np.nan if v is None else float(v) for v in values])
    callback = BestEpoch(monitor, keep=False)
    for epoch, value in enumerate(values):
        if callback.is_better(value):
            callback.best, callback.at = value, epoch
    if values.isna().all():
        assert callback.at is None
    elif monitor == 'valid_loss':
        assert callback.at == values.idxmin()
    else:
        assert callback.at == values.idxmax()


def test_networks_trained_together_pass_over_epochs_without_a_number():
    fits = fit_stacked(
        [net(0), net(1)],
        loaders_for_seeds(loaders(), [0, 1]),
        epochs=3,
        lr=1e-3,
        bf16=False,
        loss_func=NanAtFirst(4),
    )
    for f in fits:
        assert f.history.valid_loss.isna().tolist() == [True, False, False]
        assert f.best_epoch == f.history.valid_loss[1:].idxmin()


class NanAtFirst:
    "Cross-entropy that is NaN for the first calls outside training."

    def __init__(self, calls):
        self.left = 2 * calls

    def __call__(self, logits, targets):
        loss = nn.functional.cross_entropy(logits, targets)
        if loss.requires_grad or self.left <= 0:
            return loss
        self.left -= 1
        return loss * torch.nan


def test_a_range_test_without_a_loss_is_one_sentence():
    broken = net()
    with torch.no_grad():
        broken[1].weight.fill_(torch.nan)
    with pytest.raises(
        Diverged,
        match=(
            'the loss of the range test is nan from a learning rate of 1e-06 on: begin with '
            'smaller rates'
        ),
    ):
        lr_range_test(broken, loaders(), n=20, bf16=False)


# Arithmetic


def test_what_is_evaluated_does_not_depend_on_bfloat16_in_the_processor(monkeypatch):
    """Predictions are float32 on a processor with bfloat16 and on one without, unless bfloat16 is
    asked for; only training goes by what the processor has."""
    model, dl = net(), loaders().valid
    has = {}
    for native in (True, False):
        monkeypatch.setattr('fashion_lab.train.loop.has_bf16', lambda device, native=native: native)
        has[native] = predict_probs(model, dl), predict_probs(model, dl, 'auto')
        assert arithmetic(device='cpu') == (torch.bfloat16 if native else torch.float32)
    plain = has[False][0]
    for probs in (*has[True], *has[False]):
        assert np.array_equal(probs, plain)
    assert not np.array_equal(predict_probs(model, dl, True), plain)


# Means of losses


def whole_set_loss(model, dl, loss_func):  # in one batch
    with torch.no_grad():
        return float(loss_func(model(dl.batch(torch.arange(len(dl.y)))[0]), dl.y))


@pytest.mark.parametrize('bs', [1, 7, 13, 40])
@pytest.mark.parametrize(
    'loss_func',
    [
        nn.CrossEntropyLoss(WEIGHTS),
        nn.CrossEntropyLoss(WEIGHTS, label_smoothing=0.1),
        nn.CrossEntropyLoss(),
    ],
    ids=['weights', 'weights and smoothing', 'plain'],
)
def test_validation_loss_is_that_of_the_whole_set_whatever_the_batch(loss_func, bs):
    dls = loaders(valid_bs=bs)
    done = fit(net(), dls, epochs=1, bf16=False, loss_func=loss_func)
    assert done.history.valid_loss.iloc[0] == pytest.approx(
        whole_set_loss(done.model, dls.valid, loss_func), rel=1e-5
    )


def test_validation_loss_of_networks_trained_together_is_weighted_likewise():
    loss_func, dls = nn.CrossEntropyLoss(WEIGHTS), loaders(valid_bs=7)
    fits = fit_stacked(
        [net(0), net(1)], loaders_for_seeds(dls, [0, 1]), epochs=2, bf16=False, loss_func=loss_func
    )
    for f in fits:
        assert f.history.valid_loss.iloc[-1] == pytest.approx(
            whole_set_loss(f.model, dls.valid, loss_func), rel=1e-5
        )


def test_plateau_and_patience_do_not_depend_on_the_validation_batch():
    how = dict(
        epochs=6,
        lr=0.5,
        schedule='plateau',
        optimizer='sgd',
        bf16=False,
        patience=3,
        loss_func=nn.CrossEntropyLoss(WEIGHTS),
    )
    one, other = (fit(net(), loaders(valid_bs=bs), **how) for bs in (40, 3))
    columns = ['train_loss', 'lr', 'valid_loss']
    np.testing.assert_allclose(one.history[columns], other.history[columns], rtol=1e-4)


@pytest.mark.parametrize('kinds', ['ce', 'focal'])
@pytest.mark.parametrize('weights', [None, [0.2, 1.0, 3.0]])
def test_loss_of_masks_is_that_of_the_whole_set(kinds, weights):
    loss_func = SegmentLoss(kinds, weights)
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(10, 3, 6, 5, generator=draw)
    masks = torch.randint(0, 3, (10, 6, 5), generator=draw)
    parts = [
        (loss_func(z, m), batch_weight(loss_func, m))
        for z, m in zip(logits.split(3), masks.split(3))
    ]
    mean = sum(loss * w for loss, w in parts) / sum(w for _, w in parts)
    assert float(mean) == pytest.approx(float(loss_func(logits, masks)), rel=1e-5)


def test_what_a_batch_counts():
    y = torch.tensor([0, 2, -100])
    assert batch_weight(nn.CrossEntropyLoss(), y) == 3
    assert batch_weight(nn.functional.cross_entropy, y) == 3
    assert float(batch_weight(nn.CrossEntropyLoss(WEIGHTS), y)) == pytest.approx(3.2)
    # soft targets: divided by the images
    assert batch_weight(nn.CrossEntropyLoss(WEIGHTS), torch.full((4, 3), 1 / 3)) == 4


# A full disk

FULL = """
import resource, signal, sys, torch
from fashion_lab.train.callbacks import write_checkpoint

path = sys.argv[1]
write_checkpoint(dict(epoch=1), path)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # as a disk that is full after 100 kB
write_checkpoint(dict(epoch=2, x=torch.randn(1_000_000)), path)
"""


@pytest.mark.skipif(sys.platform == 'win32', reason='no limits on files')
def test_a_full_disk_is_said_and_the_checkpoint_before_stays(tmp_path):
    path = tmp_path / 'c.pt'
    done = subprocess.run([sys.executable, '-c', FULL, str(path)], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('OSError: the checkpoint c.pt cannot be written to')
    assert 'free some space' in last
    assert 'MiB are free' in last
    assert torch.load(path, weights_only=True) == dict(epoch=1)
    assert [p.name for p in tmp_path.iterdir()] == ['c.pt']
