"""Small networks that were never trained, stored as finished runs of quick on real data, for
`predict`."""

import numpy as np

ENVIRONMENT = dict(
    device='cpu',
    device_name='imaginary processor',
    threads=1,
    python='3.11.7',
    commit='0123456789',
    dirty=False,
    date='2026-01-31',
    command='test',
    versions=dict(torch='2.15.0'),
)


def make_runs(root) -> dict:  # lab -> the run's folder
    "A finished run of every lab that answers for photos."
    makers = dict(
        closures=closures_run,
        fashion_mnist=fashion_mnist_run,
        segmentation=segmentation_run,
        shoe_pairs=pairs_run,
    )
    return {lab: make(root).path for lab, make in makers.items()}


def scored(classes, n=12):
    "Predictions of `n` held-out photos."
    from fashion_lab.evaluate.predictions import Predictions

    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(len(classes)), n).astype(np.float32)
    return Predictions(
        [f'photo-{k}' for k in range(n)], probs, np.arange(n) % len(classes), list(classes)
    )


def numbers(*names):
    return {name: dict(value=0.5, low=0.4, high=0.6) for name in names}


def state_of(net):
    return {name: tensor.detach().clone().contiguous() for name, tensor in net.state_dict().items()}


def seeded():
    from fashion_lab.devices import set_seed

    set_seed(0)


def finish(lab, cfg, root, net, predictions, metrics, extra):
    from fashion_lab.runs.draft import start_run

    with start_run(lab, cfg, root) as draft:
        return draft.finish(
            metrics, [dict(epoch=0, train_loss=1.0)], predictions, state_of(net), ENVIRONMENT, extra
        )


def closures_run(root, classes=None, variant='linear-probe', seed=0):
    "A network for closures, or for classes of one's own."
    from fashion_lab.synthetic.classes import CLOSURES
    from fashion_lab.labs.photo_base import SMALL
    from fashion_lab.labs import closures as lab

    classes = list(classes or CLOSURES)
    options = tuple(
        (name, list(value) if isinstance(value, tuple) else value) for name, value in SMALL.items()
    )
    cfg = lab.Config(
        variant=variant,
        data='closures',
        source='real',
        profile='quick',
        take=2,
        seed=seed,
        options=options,
    )
    seeded()
    net = network_of(cfg.recipe, classes)
    scores = numbers(
        'accuracy', 'weighted_f1', 'macro_f1', 'balanced_accuracy', 'log_loss', 'calibration_error'
    )
    metrics = dict(
        test=scores, fold_0=scores, fold_1=scores, params=1, macs=1, train_s=1.0, infer_ms=1.0
    )
    extra = dict(
        warnings=[], senders=list(range(12)), fold=[0] * 6 + [1] * 6, classes=classes, fit='crop'
    )
    return finish('closures', cfg, root, net, dict(test=scored(classes)), metrics, extra)


def network_of(recipe, classes):
    from fashion_lab.train import finetune as transfer

    return transfer.new_classifier(recipe, None, classes).eval()


def fashion_mnist_run(root):
    from fashion_lab.data.cards import card
    from fashion_lab.labs import fashion_mnist as lab

    cfg = lab.Config(
        variant='LogisticBaseline', model='LogisticBaseline', source='real', profile='quick'
    )
    seeded()
    net, scores = lab.MODELS[cfg.model](), numbers('accuracy', 'macro_f1')
    metrics = dict(valid=scores, test=scores, params=1, macs=1, train_s=1.0, infer_ms=1.0)
    predictions = {split: scored(card('fashion_mnist').classes) for split in ('valid', 'test')}
    return finish(
        'fashion_mnist', cfg, root, net, predictions, metrics, dict(mean=[0.286], std=[0.353])
    )


def segmentation_run(root):
    from fashion_lab.segment.train import segment_net
    from fashion_lab.labs import segmentation as lab
    from fashion_lab.synthetic.classes import FACADE_CLASSES
    import torch

    options = tuple(
        (name, list(value) if isinstance(value, tuple) else value)
        for name, value in lab.SMALL.items()
    )
    cfg = lab.Config(source='real', profile='quick', size=32, options=options, test=True)
    seeded()
    net = segment_net(cfg.recipe, len(FACADE_CLASSES), weights=False)
    judged = segment_scores_of(FACADE_CLASSES, torch)
    scores = numbers(
        'mean_ap', *(f'ap_{c}' for c in FACADE_CLASSES), 'mean_iou', 'accuracy', 'mean_boundary_f'
    )
    metrics = dict(valid=scores, test=scores, params=1, macs=1, train_s=1.0, infer_ms=1.0)
    houses = {split: ['a', 'b', 'c', 'd'] for split in ('valid', 'test')}
    extra = dict(
        classes=list(FACADE_CLASSES), batch_size=4, fit='crop', colours=None, houses=houses
    )
    return finish('segmentation', cfg, root, net, dict(valid=judged, test=judged), metrics, extra)


def segment_scores_of(classes, torch):
    from fashion_lab.segment.metrics import SegmentScores

    seeded()
    probs = torch.rand(4, len(classes), 32, 32).softmax(1)
    return SegmentScores(list(classes)).add(
        [f'house-{k}' for k in range(4)], probs, probs.argmax(1)
    )


def pairs_run(root):
    from fashion_lab.labs import shoe_pairs as lab

    cfg = lab.Config(
        variant='CNNChannel',
        model='CNNChannel',
        mirror='none',
        source='real',
        profile='quick',
        size=32,
        options=(('width', 2),),
    )
    seeded()
    net = lab.build(cfg, trained=False)
    scores = numbers('balanced_accuracy', 'macro_auc', 'accuracy', 'top1', 'top5', 'mrr')
    metrics = dict(valid=scores, test=scores, params=1, macs=1, train_s=1.0, infer_ms=1.0)
    predictions = {split: scored(['different', 'same']) for split in ('valid', 'test')}
    extra = dict(
        warnings=[],
        problems=0,
        senders=list(range(12)),
        persons=list(range(12)),
        mean=[0.5] * 3,
        std=[0.25] * 3,
        fit='pad',
    )
    return finish('shoe_pairs', cfg, root, net, predictions, metrics, extra)
