"""Processes that train together, really started: their curves are those of one process, and
what is unequal between them changes nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = '''
import json, sys, tempfile, warnings
from pathlib import Path
import numpy as np, torch
from torch import nn
from fastai.callback.core import Callback
from fashion_lab.devices import set_seed
from fastai.torch_core import num_distrib, rank_distrib
from fashion_lab.data.augment import Augment
from fashion_lab.data.loaders import BatchLoader
from fastai.data.core import DataLoaders
from fashion_lab.train.loop import fit

folder = Path(sys.argv[1])
first = not rank_distrib()
draw = np.random.default_rng(0)
images = draw.integers(0, 256, (203, 8, 8), np.uint8)
labels = draw.integers(0, 3, 203)
images[labels == 1, 2:6] //= 3
images[labels == 2, :, 2:6] //= 3
rows = np.arange(203)
OPTIONS = dict(
    best=dict(patience=1, restore_best=True),
    average=dict(average=0.9, optimizer='sgd'),
    plateau=dict(schedule='plateau'),
    weights=dict(schedule='plateau', loss_func=nn.CrossEntropyLoss(torch.tensor([0.2, 1.0, 3.0]))),
)


class Seen(nn.Module):
    seen = 0

    def forward(self, x):
        self.seen += len(x) * self.training
        return x


class Cramped(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        if self.training and len(x) > 4:
            raise RuntimeError('CUDA out of memory. Tried to allocate more.')
        return self.net(x)


class Stop(Callback):
    def before_epoch(self):
        if self.epoch == 2:
            raise KeyboardInterrupt


def trained(case):
    set_seed(0 if first else 7)  # processes may begin with other weights: the first one's count
    net = nn.Sequential(
        Seen(),
        nn.Conv2d(1, 4, 3),
        *([nn.BatchNorm2d(4)] if case == 'norm' else []),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(144, 3),
    )
    dls = DataLoaders(
        BatchLoader(
            images,
            labels,
            32,
            True,
            Augment(flip=0.5) if case == 'augment' else None,
            0.5,
            0.25,
            1,
            rows=rows[:163],
        ),
        BatchLoader(images, labels, 13, mean=0.5, std=0.25, rows=rows[163:]),
    )
    kw = dict(epochs=4, lr=0.01, bf16=False, show=True) | OPTIONS.get(case, {})
    if case == 'resume':
        kw['checkpoint'] = (
            folder if first else Path(tempfile.mkdtemp())
        ) / 'c.pt'  # only the first process has the file
        try:
            fit(net, dls, cbs=[Stop()], **kw)
        except KeyboardInterrupt:
            pass
        assert kw['checkpoint'].exists() == first
        with torch.no_grad():
            [p.normal_() for p in net.parameters()]
    done = fit(Cramped(net) if case == 'memory' else net, dls, **kw)
    return dict(
        rank=rank_distrib(),
        of=max(1, num_distrib()),
        history=done.history.drop(columns='seconds').to_dict('list'),
        best=done.best_epoch,
        stopped=done.stopped_early,
        seen=net[0].seen,
        resumed=done.resumed_from,
        weights=torch.cat([p.detach().flatten() for p in net.parameters()]).tolist(),
        names=list(net.state_dict()),
        layers=[type(m).__name__ for m in net.modules()],
    )


for case in sys.argv[2:]:
    (folder / f'{case}-{rank_distrib()}.json').write_text(json.dumps(trained(case)))
'''
CASES = ['plain', 'best', 'average', 'plateau', 'weights', 'resume', 'augment', 'norm']


def train(folder, n, *cases):
    "What each process says: {case: [by rank]}, and the finished processes."
    (folder / 'script.py').write_text(SCRIPT)
    start = (
        ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', str(n)] if n > 1 else []
    )
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT), PYTHONWARNINGS='ignore')
    env.pop('FASHION_LAB_PROGRESS', None)
    done = subprocess.run(
        [sys.executable, *start, str(folder / 'script.py'), str(folder), *cases],
        capture_output=True,
        text=True,
        timeout=300,
        env=env,
    )
    return {
        c: [json.loads(p.read_text()) for p in sorted(folder.glob(f'{c}-*.json'))] for c in cases
    }, done


@pytest.fixture(scope='module')
def said(tmp_path_factory):
    "What one, two and three processes make of all cases: {number: {case: [by rank]}}."
    out = {}
    for n in (1, 2, 3):
        out[n], done = train(tmp_path_factory.mktemp(f'by-{n}'), n, *CASES)
        assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.parametrize('n', [2, 3])
@pytest.mark.parametrize('case', ['plain', 'best', 'average', 'plateau', 'weights', 'resume'])
def test_same_curve_and_weights_as_one_process(said, case, n):
    (one,), several = said[1][case], said[n][case]
    assert [r['rank'] for r in several] == list(range(n))
    assert {r['of'] for r in several} == {n}
    for r in several:
        assert abs(n * r['seen'] - one['seen']) <= n * 4 * 6, 'each has seen its part'
        assert r['history'].keys() == one['history'].keys()
        assert r['best'] == one['best']
        assert r['stopped'] == one['stopped']
        assert r['resumed'] == one['resumed']
        for k in one['history']:
            assert r['history'][k] == pytest.approx(one['history'][k], abs=2e-5), k
        assert r['weights'] == pytest.approx(one['weights'], abs=2e-4)
        assert r['names'] == one['names']
        assert r['weights'] == several[0]['weights'] and r['history'] == several[0]['history'], (
            'to the last bit the same in every process'
        )


def test_each_process_draws_augmentation_of_its_own_and_all_end_alike(said):
    (one,), (a, b) = said[1]['augment'], said[2]['augment']
    assert a['weights'] == b['weights'] != one['weights']
    assert a['history']['train_loss'] == pytest.approx(one['history']['train_loss'], rel=0.2)


def test_batch_normalisation_stays_an_ordinary_layer(said):
    a, b = said[2]['norm']
    assert 'BatchNorm2d' in a['layers'] and a['weights'] == b['weights']


def test_out_of_memory_is_not_hidden(tmp_path):
    """One process alone cannot make the batch smaller for all: it says what happened, and
    nobody waits for ever."""
    answers, done = train(tmp_path, 2, 'memory')
    assert not answers['memory']
    assert done.returncode
    assert 'out of memory' in done.stderr
