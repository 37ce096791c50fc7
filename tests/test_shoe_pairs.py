"""The shoe-pair lab: networks for pairs, what their scores are worth, heaps of shoes, and the
lab from the shell; bad input is one sentence. All shoes are drawn (synthetic) and tiny."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image

from fashion_lab.synthetic.pair_drawer import PairDrawer
from fashion_lab.data.cards import DataError
from fashion_lab.data.pairs import load_shoe_pairs
from fashion_lab.models.backbones import backbone
from fashion_lab.runs.run import Run
from fashion_lab.pairs.models import CNN, CNNChannel, HeadPair, SiamesePair
from fashion_lab.pairs.batches import PairAugment, PairLoader
from fashion_lab.pairs.contrast import PairFeatureLoader
from fashion_lab.pairs.metrics import (
    calibrated,
    equal_error_rate,
    match_shoes,
    pair_predictions,
    person_weights,
    retrieval,
    side_of,
    verification,
)
from fashion_lab.pairs.predictor import pair_data, PairPredictor
from fashion_lab.pairs.train import fit_network, fit_siamese, within_groups
from fashion_lab.pairs.background import swap_backgrounds, mask_background, mask_object, middle
from fashion_lab.labs import shoe_pairs as lab
from shell import shell

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture(scope='module', autouse=True)
def isolated(tmp_path_factory):
    with pytest.MonkeyPatch.context() as m:
        m.delenv('FASHION_LAB_DATA', raising=False)
        m.setenv('FASHION_LAB_CACHE', str(tmp_path_factory.mktemp('cache')))
        yield
    lab.shoes_of.cache_clear()


# Networks and batches


@pytest.mark.parametrize('kind', [SiamesePair, HeadPair])
@pytest.mark.parametrize('mirror', ['both', 'right', 'none'])
def test_siamese_networks_do_not_care_which_shoe_comes_first(kind, mirror):
    torch.manual_seed(0)
    net = kind(backbone('custom_cnn', size=32), mirror).eval()
    torch.nn.init.normal_(net.change.weight, std=0.05)
    net.centre.normal_(std=0.01)
    x = torch.randn(4, 6, 32, 32)
    y = torch.cat([x[:, 3:], x[:, :3]], 1)
    if mirror == 'right':
        y = y.flip(3)
    with torch.no_grad():
        a, b = net(x), net(y)
    assert torch.allclose(a, b, atol=1e-4)
    assert torch.allclose(a.sum(1), torch.zeros(4), atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_augmented_pairs_are_the_same_pairs(seed):
    """A red left shoe and a blue right one: after swap and mirror there is still one of each,
    and where the colour gradient points says who was mirrored."""
    x = torch.zeros(6, 6, 16, 16, dtype=torch.uint8)
    x[:, 0], x[:, 5] = 200, 200
    x[:, 0, :, :8] = 100
    x[:, 5, :, 8:] = 100  # darker on the outside of each
    out = PairAugment(scale=(1.0, 1.0), ratio=1.0, rotate=0.0, light=0.0, colour=0.0)(
        x, torch.Generator().manual_seed(seed)
    )
    for p in out:
        swapped = bool(p[0].sum() == 0)
        red, blue = (p[3], p[2]) if swapped else (p[0], p[5])
        assert (red > 0).all() and (blue > 0).all()
        # both mirrored, or neither
        assert bool(red[0, 0] < red[0, -1]) == bool(blue[0, -1] < blue[0, 0])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=20), st.integers(0, 5))
def test_wrong_pairs_are_dealt_within_groups(groups, seed):
    shoes = np.zeros((len(groups), 4, 4, 3), np.uint8)
    if pd.Series(groups).value_counts().max() < 2:
        with pytest.raises(ValueError, match='no group has two pairs'):
            PairLoader(shoes, shoes, groups=groups)
        return
    dl = PairLoader(shoes, shoes, groups=groups, seed=seed, mean=[0.0] * 3, std=[1.0] * 3)
    for epoch in range(3):
        t = dl.epoch_pairs(epoch, seed)
        right, wrong = t[t[:, 2] == 1], t[t[:, 2] == 0]
        assert len(right) == len(wrong)
        assert (right[:, 0] == right[:, 1]).all()
        assert (wrong[:, 0] != wrong[:, 1]).all()
        assert all(groups[i] == groups[j] for i, j in wrong[:, :2])
        assert sorted(wrong[:, 1]) == sorted(right[:, 1])


def test_batches_of_features_keep_partners_together():
    left = np.arange(40.0).reshape(10, 2, 2)
    right = left + 0.5
    dl = PairFeatureLoader(left, right, groups=list('aabbbccdde'), bs=4, shuffle=True, seed=1)
    seen = []
    for x, _ in dl:
        assert len(x) >= 3  # no small last batch
        pair = (x // 4)[..., 0].long()
        assert (pair[:, 0] == pair[:, 1]).all()
        seen += pair[:, 0].tolist()
    assert sorted(seen) == list(range(10))


@pytest.mark.parametrize('kind', [CNN, CNNChannel])
def test_networks_with_and_without_norm_and_dropout(kind):
    for norm, dropout, size in itertools.product((True, False), (0.0, 0.5), (3, 5)):
        net = kind(2, size, norm, dropout)
        kinds = [type(m) for m in net.modules()]
        assert kinds.count(torch.nn.BatchNorm2d) == 4 * norm
        assert kinds.count(torch.nn.Dropout) == (dropout > 0)
        assert kinds.count(torch.nn.Conv2d) == 4
        assert net(torch.rand(2, 6, 48, 48)).shape == (2, 2)


# Scores


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(0, 100))
def test_matching_is_optimal(n, seed):
    z = np.random.default_rng(seed).normal(0, 2, (n, n))
    sym = (z + z.T) / 2
    m = match_shoes(z)
    best = max(sum(max(z[i, p[i]], 0) for i in range(n)) for p in itertools.permutations(range(n)))
    assert np.isclose(m.log_odds.sum(), best)
    assert m['first'].is_unique
    assert m['second'].is_unique

    def pairings(left):
        if len(left) < 2:
            yield 0.0
            return
        a, rest = left[0], left[1:]
        yield from pairings(rest)
        for k, b in enumerate(rest):
            yield from (v + sym[a, b] for v in pairings(rest[:k] + rest[k + 1 :]))

    k = match_shoes(sym, sides=False)
    assert np.isclose(k.log_odds.sum(), max(pairings(list(range(n)))))
    assert len({*k['first'], *k['second']}) == 2 * len(k)


def test_odd_heaps():
    assert len(match_shoes(np.array([[2.0, 1.0, 3.0]]))) == 1
    assert len(match_shoes(np.zeros((2, 2)))) == 0
    assert len(match_shoes(np.ones((1, 1)), sides=False)) == 0
    assert match_shoes(np.array([[2.0, 1.0, 3.0]])).second.tolist() == [2]
    with pytest.raises(ValueError, match='finite'):
        match_shoes(np.array([[np.nan]]))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(0, 50))
def test_retrieval_counts_ranks(n, seed):
    s = np.random.default_rng(seed).integers(0, 4, (n, n)).astype(float)
    r = retrieval(s)
    ranks = [
        sorted(row, reverse=True).index(row[i]) + (row == row[i]).sum() for i, row in enumerate(s)
    ]
    assert np.isclose(r['mrr'], np.mean([1 / k for k in ranks]))
    assert np.isclose(r['top1'], np.mean([k == 1 for k in ranks]))
    assert r['top1'] <= r['top5'] <= 1


def test_thresholds_count_persons_not_pairs():
    "A person with a hundred pairs, whose scores all lie higher, does not decide alone."
    rng = np.random.default_rng(0)
    big = np.r_[rng.normal(0.9, 0.02, 300), rng.normal(0.7, 0.02, 300)]
    small = np.r_[rng.normal(0.6, 0.02, 10), rng.normal(0.4, 0.02, 10)]
    x = np.r_[big, small]
    y = np.r_[np.ones(300), np.zeros(300), np.ones(10), np.zeros(10)]
    who = np.r_[np.zeros(600), np.ones(20)]

    def threshold(person):
        s, o = calibrated(x, y, person, 1.0)
        return o / s

    assert threshold(None) > threshold(who) + 0.02
    w = person_weights(y, who)
    assert np.isclose(w[who == 0].sum(), w[who == 1].sum())
    assert np.isclose(w[y == 1].sum(), w[y == 0].sum())


def test_verification_knows_both_errors():
    p = pair_predictions(range(8), [5, 5, 5, -5, -5, -5, -5, 5], [1, 1, 1, 1, 0, 0, 0, 0])
    v = verification(p)
    assert v['recall_same'] == v['recall_different'] == 0.75
    assert v['eer'] == 0.25
    assert v['accuracy'] == 0.75


def brute_force_eer(scores, same):
    """The mean of the two error rates at the threshold where they differ least; of several
    such, at the highest."""
    errors = []
    for threshold in [np.inf, *sorted(set(scores.tolist()), reverse=True)]:
        accepted = scores >= threshold
        errors.append(((~accepted)[same].mean(), accepted[~same].mean()))
    refused, wrong = min(errors, key=lambda e: round(abs(e[0] - e[1]), 12))
    return (refused + wrong) / 2


@given(
    st.lists(st.tuples(st.integers(-6, 6), st.booleans()), min_size=2, max_size=40).filter(
        lambda rows: len({same for _, same in rows}) == 2
    )
)
def test_equal_error_rate_looks_at_every_threshold(rows):
    scores, same = np.array([s for s, _ in rows], float), np.array([same for _, same in rows])
    p = pair_predictions(range(len(rows)), scores, same)
    assert np.isclose(equal_error_rate(p), brute_force_eer(scores, same))


@pytest.mark.parametrize(
    'name,side',
    [
        ('u1_2_left_w.jpg', 'left'),
        ('RIGHT.png', 'right'),
        ('right-left.png', ''),
        ('bright.jpg', ''),
        ('l.jpg', 'left'),
        ('shoe 3 r.webp', 'right'),
    ],
)
def test_sides(name, side):
    assert side_of(name) == side


# Checks


@pytest.mark.parametrize('turn', ['', 'v', 'h'])
def test_lies_leave_the_shoe_or_the_floor_alone(turn):
    x, y = (np.random.default_rng(k).integers(0, 255, (6, 32, 32, 3), np.uint8) for k in (0, 1))
    m = middle(32, turn)[..., 0]
    turns = [turn] * 6
    assert (mask_background(x, turns)[:, m == 1] == x[:, m == 1]).all()
    assert (mask_background(x, turns)[:, m == 0] == 127).all()
    full = middle(32, turn, 0.95)[..., 0]
    assert (mask_object(x, turns)[:, full == 1] == 127).all()
    assert (mask_object(x, turns)[:, full == 0] == x[:, full == 0]).all()
    same = np.array([1, 0] * 3, bool)
    a, b = swap_backgrounds(x, y, same, turns, 3)
    assert (a[:, m == 1] == x[:, m == 1]).all()
    assert (b[:, m == 1] == y[:, m == 1]).all()
    shared = np.array([(p[m == 0] == q[m == 0]).all() for p, q in zip(a, b)])
    assert (shared == ~same).all()


# Training


@pytest.fixture(scope='module')
def drawn():
    return pair_data(
        load_shoe_pairs(source='synthetic', n=14, size=32, valid_frac=0.2, test_frac=0.3)
    )


def test_a_siamese_network_learns_from_its_training_persons_only(drawn):
    body = backbone('custom_cnn', size=32)
    t = fit_siamese(
        SiamesePair(body),
        drawn,
        drawn.rows('train'),
        drawn.rows('valid'),
        2,
        views=2,
        cache=None,
        show=False,
    )
    other = drawn.left.copy()
    other[drawn.rows(*drawn.tests)] = 0  # test shoes are gone: nothing that was learned may change
    u = fit_siamese(
        SiamesePair(body),
        replace(drawn, left=other),
        drawn.rows('train'),
        drawn.rows('valid'),
        2,
        views=2,
        cache=None,
        show=False,
    )
    a, b = t.predictor.net.state_dict(), u.predictor.net.state_dict()
    assert all(
        torch.allclose(a[k], b[k], atol=1e-4)
        for k in ('centre', 'slope', 'offset', 'change.weight')
    )


def test_features_are_computed_once(drawn, tmp_path, monkeypatch):
    from fashion_lab.models import features as models_features

    looked = []
    real = models_features._blocks
    monkeypatch.setattr(models_features, '_blocks', lambda *a: looked.append(1) or real(*a))
    body = backbone('custom_cnn', size=32)
    args = drawn, drawn.rows('train'), drawn.rows('valid'), 2
    fit_siamese(SiamesePair(body), *args, views=2, cache=tmp_path, show=False)
    first = len(looked)
    fit_siamese(SiamesePair(body), *args, views=2, cache=tmp_path, show=False, seed=1)
    assert first == 6 and len(looked) == first  # left and right: plain, mirrored, views


def test_a_network_learns_its_own_pairs(drawn):
    "Two dozen pairs without random changes, the same wrong ones every time: learned by heart."
    torch.manual_seed(0)
    rows = drawn.rows('train')[:12]
    t = fit_network(
        CNNChannel(4, 3, dropout=0.0),
        drawn,
        rows,
        None,
        25,
        lr=5e-3,
        batch_size=8,
        augment=None,
        anew=False,
        show=False,
    )
    dl = PairLoader(drawn.left[rows], drawn.right[rows], groups=drawn.pairing_group[rows])
    assert t.history.train_loss.iloc[-1] < 0.3
    assert (
        (
            (t.predictor(drawn.left[rows], drawn.right[rows], dl.items[:, :2]) > 0)
            == dl.items[:, 2]
        ).mean()
    ) > 0.9


def test_comparisons_within_groups():
    assert len(within_groups([1, 1, 1, 2])) == 10


def test_a_predictor_takes_uneven_numbers_of_shoes(drawn):
    predict = PairPredictor(CNNChannel(2).eval())
    z = predict(drawn.left[:1], drawn.right[:3])
    one_by_one = [predict(drawn.left[:1], drawn.right[k : k + 1])[0] for k in range(3)]
    assert z.shape == (1, 3) and np.allclose(z.T, one_by_one, atol=1e-3)


# The lab


def test_smoke_from_the_shell(smoke):
    root, out = smoke('shoe_pairs')
    assert out.returncode == 0, out.stderr
    assert 'synthetic' in out.stdout
    assert 'report:' in out.stdout
    assert '\r' not in out.stderr
    assert all(v in out.stdout for v in lab.QUICK)
    page = (root / 'shoe_pairs' / 'report-smoke' / 'index.html').read_text()
    assert '(synthetic)' in page and str(root) not in page
    run = Run(next(p for p in (root / 'shoe_pairs').iterdir() if p.name.startswith('siamese')))
    assert {
        'valid',
        'test',
        'test_m',
        'test_w',
        'test_easy',
        'test_masked_object',
        'test_masked_background',
        'test_swapped_background',
    } <= set(run.metrics)
    for split in ('test', 'test_m', 'test_w'):
        assert {'recall_same', 'recall_different', 'top1', 'top5', 'mrr', 'eer'} <= set(
            run.metrics[split]
        )
    assert set(run.metrics['test']['balanced_accuracy']) == {'value', 'low', 'high', 'interval'}
    assert len(run.extra['contributors']) == len(run.predictions('test'))


@pytest.mark.parametrize(
    'arguments, said',
    [
        (('--variants', 'siamesse'), 'siamese'),
        (('--profile', 'fast'), 'allowed: smoke, quick, full'),
        (('--protocol', 'random'), 'grouped-split'),
        (('--seeds', '0'), 'at least 1'),
    ],
)
def test_arguments_that_cannot_be_meant(arguments, said, capsys):
    from fashion_lab.studio.cli import main

    assert main(['run', 'shoe_pairs', *arguments]) == 2
    assert said in capsys.readouterr().err


def course(folder, students, pairs=3, size=40):
    for split, n in students.items():
        (folder / split).mkdir(parents=True, exist_ok=True)
        drawer = PairDrawer(n, len(split), size, pairs)
        for i in range(n * pairs):
            student, pair = i // pairs, i % pairs
            gender = 'mw'[student % 2] if split == 'train' else split[-1]
            for side in ('left', 'right'):
                name = f'u{student + 1:03d}_{pair + 1}_{side}_{gender}.jpg'
                Image.fromarray(drawer.shoe(i, side)).save(folder / split / name, 'PNG')
    return folder


def tiny(folder, **changes):
    return replace(
        lab.configs('smoke', variants='siamese', device='cpu', data_path=str(folder))[0],
        source='real',
        limit=None,
        checks=False,
        **changes,
    )


def test_the_course_layout_as_it_is(tmp_path):
    f = course(tmp_path / 's', dict(train=12, test_m=4, test_w=4))
    (f / 'train' / 'u001_1_left_w.jpg').unlink(missing_ok=True)
    (f / 'train' / 'u001_1_left_m.jpg').unlink(missing_ok=True)  # a single shoe without a partner
    t = f / 'train' / 'u002_2_right_w.jpg'
    t.write_bytes((f / 'train' / 'u002_2_left_w.jpg').read_bytes())  # the same photo given twice
    Image.new('RGB', (17, 90)).save(f / 'train' / 'u003_1_left_m.jpg')  # another size
    out = shell(
        'run',
        'shoe_pairs',
        '--profile',
        'smoke',
        '--source',
        f,
        '--device',
        'cpu',
        '--out',
        tmp_path / 'runs',
        '--variants',
        'siamese,CNNChannel',
    )
    assert out.returncode == 0, out.stderr
    assert 'test_m' in out.stdout
    assert 'test_w' in out.stdout
    assert 'published_test_m' in out.stdout
    # what was left out is said, once
    assert (
        'note: 1 not used: train/u001 lacks 1_left' in out.stdout
        and 'one and the same photo' in out.stdout
    )
    run = Run(
        next(
            p for p in (tmp_path / 'runs' / 'shoe_pairs').iterdir() if p.name.startswith('siamese')
        )
    )
    assert run.config['source'] == 'real'
    assert run.metrics['n']['test_m'] == run.metrics['n']['test_w'] == 24
    assert run.metrics['n']['test'] == 48
    assert any('one and the same photo' in w for w in run.extra['warnings'])
    assert run.extra['problems'] == 1
    assert 0 <= run.metrics['valid']['accuracy']['value'] <= 1


def test_few_persons(tmp_path):
    f = course(tmp_path / 's', dict(train=3, test_m=1))
    cfg = tiny(f)
    # no women's shoes, one man, hardly anybody to validate with
    run = lab.run(cfg, tmp_path / 'runs', show=False)
    assert set(run.metrics['n']) >= {'test', 'test_m'}
    assert 'test_w' not in run.metrics
    assert 'test_easy' not in run.metrics
    g = course(tmp_path / 't', dict(train=3))
    with pytest.raises(DataError, match='has no test persons'):
        lab.prepare(tiny(g))
    h = course(tmp_path / 'u', dict(train=3, test_m=2))
    (h / 'train').rename(h / 'old')
    with pytest.raises(DataError, match='no pairs to train on'):
        lab.prepare(tiny(h))


def test_persons_with_one_pair(tmp_path):
    course(tmp_path / 's', dict(train=8))
    rows = [
        dict(
            pair=f'{s}-{p}',
            person=s if s < 7 else f'{s}-{p}',
            image_left=f'train/u{s:03d}_{p}_left_{"mw"[(s - 1) % 2]}.jpg',
            image_right=f'train/u{s:03d}_{p}_right_{"mw"[(s - 1) % 2]}.jpg',
        )
        for s in range(1, 9)
        for p in (1, 2, 3)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / 's' / 'own.csv', index=False)
    run = lab.run(
        tiny(tmp_path / 's' / 'own.csv', valid_frac=0.2, test_frac=0.3),
        tmp_path / 'runs',
        show=False,
    )
    assert any('they have no partner for a wrong pair' in w for w in run.extra['warnings'])
    pd.DataFrame(rows).assign(person=lambda t: t.pair).to_csv(
        tmp_path / 's' / 'alone.csv', index=False
    )
    with pytest.raises(DataError, match='no person has two of them'):
        lab.prepare(tiny(tmp_path / 's' / 'alone.csv', valid_frac=0.2, test_frac=0.3))


def test_the_same_configuration_gives_the_same_answers(tmp_path):
    for name in ('siamese', 'CNN'):
        cfg = replace(lab.configs('smoke', variants=name, device='cpu')[0], checks=False)
        a, b = (lab.run(cfg, tmp_path / k, show=False) for k in 'ab')
        assert np.allclose(a.predictions('test').probs, b.predictions('test').probs, atol=1e-6)
        assert all(torch.allclose(a.weights()[k], b.weights()[k], atol=1e-6) for k in a.weights())


# Predictions


@pytest.fixture(scope='module')
def trained(smoke):
    return next(
        p for p in (smoke('shoe_pairs')[0] / 'shoe_pairs').iterdir() if p.name.startswith('siamese')
    )


def shoes(folder, n=3, named=True):
    folder.mkdir()
    drawer = PairDrawer(2, 5, 48)
    for i in range(n):
        for k, side in enumerate(('left', 'right')):
            Image.fromarray(drawer.shoe(i, side)).save(
                folder / (f'{i}_{side}.png' if named else f'{2 * i + k}.png')
            )
    return folder


@pytest.mark.parametrize('named', [True, False])
def test_a_heap_of_single_shoes(trained, tmp_path, named):
    f = shoes(tmp_path / 'heap', 3, named)
    (f / 'text.jpg').write_text('no photo')
    (f / 'copy_left.png').write_bytes(next(f.glob('0*')).read_bytes())
    Image.new('L', (30, 90)).save(f / 'grey_left.png')
    out = shell(
        'predict', 'shoe_pairs', f, '--run', trained, '--csv', '--picture', tmp_path / 'found.png'
    )
    assert out.returncode == 1 and (tmp_path / 'found.png').stat().st_size > 5000, out.stderr
    from io import StringIO

    t = pd.read_csv(StringIO(out.stdout), keep_default_na=False)
    assert (t.error != '').sum() == 2
    assert t.error.str.contains('is the same photo as').sum() == 1
    assert set(t.answer) <= {'same', 'no partner', ''}
    used = [n for r in t[t.error == ''].file for n in r.split(' + ')]
    assert len(used) == len(set(used)) == 7  # everybody once
    if named:
        assert all(
            'left' in r.split(' + ')[0] and 'right' in r.split(' + ')[1]
            for r in t.file
            if ' + ' in r
        )


def test_two_shoes(trained, tmp_path, monkeypatch, capsys):
    from fashion_lab.studio.cli import main

    f = shoes(tmp_path / 'two', 2)
    monkeypatch.chdir(tmp_path)
    assert (
        main(
            [
                'predict',
                'shoe_pairs',
                str(f / '0_left.png'),
                str(f / '0_right.png'),
                '--run',
                str(trained),
                '--heat',
                str(tmp_path / 'heat'),
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert 'same (' in out or 'different (' in out
    assert 'were right' in out
    assert len(list((tmp_path / 'heat').glob('*.png'))) == 1
    both = lab.predict([f / '0_right.png', f / '1_left.png'], Run(trained))
    swapped = lab.predict([f / '1_left.png', f / '0_right.png'], Run(trained))
    assert np.isclose(both.probability[0], swapped.probability[0], atol=1e-3)
    assert (
        'both names speak of the same foot'
        in lab.predict([f / '0_left.png', f / '1_left.png'], Run(trained)).notes[0]
    )
    (f / 'bad.png').write_text('x')
    t = lab.predict([f / '0_left.png', f / 'bad.png'], Run(trained))
    assert t.answer.tolist() == ['', '']
    assert 'the other photo cannot be read' in t.error[0]
    assert t.error[1]
    assert main(['predict', 'shoe_pairs', str(f / '0_left.png'), '--run', str(trained)]) == 2
    assert 'a pair needs two photos' in capsys.readouterr().err
    assert main(['predict', 'shoe_pairs', 'a.jpg', 'b.jpg', '--out', str(tmp_path / 'none')]) == 3
    assert 'fashion_lab run shoe_pairs' in capsys.readouterr().err
    assert not list(tmp_path.glob('*.png'))  # nothing is written that nobody asked for
