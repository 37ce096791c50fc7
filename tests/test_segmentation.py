"""Segmentation: counts against definitions, masks and photos moved together, seamless tiles,
masks of any kind, and the lab from the shell."""

import numpy as np
import pytest
import torch
from fastai.callback.core import Callback
from hypothesis import given, settings, strategies as st
from PIL import Image
from sklearn.metrics import average_precision_score, jaccard_score

from fashion_lab.synthetic.facade_classes import colour_mask, FACADE_COLOURS
from fashion_lab.synthetic.classes import FACADE_CLASSES
from fashion_lab.synthetic.facade_drawer import synthetic_facades
from fashion_lab.data.cards import DataError, ImageError
from fashion_lab.data.resizing import decode_mask
from fashion_lab.data.facades import load_facades
from fashion_lab.data.masks import (
    given_code,
    infer_code,
    load_masked,
    mask_pairs,
    named_classes,
    read_mask,
)
from fashion_lab.runs.run import Run
from fashion_lab.train.loop import fit
from fashion_lab.segment.models import encoder, PlainSegNet, segment_costs, UNet
from fashion_lab.segment.metrics import (
    boundary_counts,
    histogram_ap,
    image_table,
    load_scores,
    measured,
    N_BINS,
    reliability_table,
    score_bins,
    segment_metrics,
    SegmentScores,
)
from fashion_lab.segment.tiles import segment_photo, tile_starts, tile_weights, tiled_probs
from fashion_lab.segment.train import (
    fit_segmenter,
    LOSSES,
    MASK_AUGMENTS,
    MaskAugment,
    MaskLoader,
    pixel_weights,
    SegmentLoss,
    SegmentRecipe,
)
from fashion_lab.segment.plots import plot_segments
from fashion_lab.studio.cli import main
from fashion_lab.segment import train as segment_training
from fashion_lab.labs import segmentation


def counts(scores, positive):
    return [
        np.bincount(
            score_bins(torch.as_tensor(scores[positive == yes], dtype=torch.float32)).numpy(),
            minlength=N_BINS,
        )
        for yes in (True, False)
    ]


# Average precision from counts


@pytest.mark.parametrize('scale', (1, 4, 8))
@pytest.mark.parametrize('share', (0.02, 0.4))
def test_average_precision_of_many_pixels_is_scikit_learns(scale, share):
    rng = np.random.default_rng(scale)
    positive = rng.random(600_000) < share
    p = torch.tensor(rng.normal(scale * (positive - 0.5), scale)).sigmoid().float().numpy()
    assert abs(histogram_ap(*counts(p, positive)) - average_precision_score(positive, p)) < 1e-4


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), st.booleans()),
        min_size=1,
        max_size=60,
    )
)
def test_average_precision_stays_in_range_whatever_the_ties(pairs):
    p = np.array([a for a, _ in pairs])
    positive = np.array([b for _, b in pairs])
    ap = histogram_ap(*counts(p, positive))
    assert np.isnan(ap) if not positive.any() else -1e-12 <= ap <= 1 + 1e-9
    if positive.all():
        assert ap == pytest.approx(1)


TIED = [
    ('no pixel of the class on top', [(0.9, 0, 100), (0.4, 1, 100), (0.4, 0, 100)], 1 / 3),
    ('all of the class below', [(0.9, 0, 100), (0.4, 1, 100)], 1 / 2),
]


def two_classes(
    rows,
    # rows (score, whether it is class 1, pixels) -> probabilities (1, 2, 1, pixels), masks (1, 1,
    # pixels)
):
    score, is_class, n = map(np.array, zip(*rows))
    p = torch.tensor(score.repeat(n), dtype=torch.float32)[None, None]
    return torch.stack([1 - p, p], 1), is_class.repeat(n)[None, None]


@pytest.mark.parametrize(
    'rows,right', [(rows, right) for _, rows, right in TIED], ids=[name for name, *_ in TIED]
)
def test_equal_scores_share_a_threshold_in_a_set_and_in_an_image(rows, right):
    probs, masks = two_classes(rows)
    s = SegmentScores(['others', 'one']).add(['a'], probs, masks)
    assert average_precision_score(masks.ravel(), probs[:, 1].ravel()) == pytest.approx(right)
    assert measured(s, ['ap'])['ap_one'] == pytest.approx(right)
    assert measured(s, ['ap'], [[1.0]])['ap_one'] == pytest.approx(right)


@pytest.mark.parametrize(
    'values',
    [[0.0, 0.1, 0.5, 0.9, 1.0], [0, 1 / 3, 2 / 3, 1], np.linspace(0, 1, 33)],
    ids=['five scores', 'votes of three', 'votes of 32'],
)
@given(data=st.data())
def test_average_precision_of_few_scores_is_scikit_learns(values, data):
    pairs = data.draw(
        st.lists(
            st.tuples(st.sampled_from(list(values)), st.booleans()), min_size=1, max_size=200
        ).filter(lambda rows: any(y for _, y in rows))
    )
    p = np.array([a for a, _ in pairs], np.float32)
    positive = np.array([b for _, b in pairs])
    assert histogram_ap(*counts(p, positive)) == pytest.approx(
        average_precision_score(positive, p), abs=1e-9
    )


def test_average_precision_of_votes_is_scikit_learns_in_a_set_and_nearly_in_each_image():
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (4, 50, 60))
    votes = np.mean(
        [np.where(rng.random(masks.shape) < 0.7, masks, 1 - masks) for _ in range(3)], 0
    )
    probs = torch.tensor(np.stack([1 - votes, votes], 1), dtype=torch.float32)
    s = SegmentScores(['others', 'one']).add(list('abcd'), probs, masks)
    assert measured(s)['ap_one'] == pytest.approx(
        average_precision_score(masks.ravel(), probs[:, 1].ravel()), abs=1e-9
    )
    for value, m, p in zip(measured(s, ['ap'], np.eye(4))['ap_one'], masks, probs):
        assert value == pytest.approx(average_precision_score(m.ravel(), p[1].ravel()), abs=1e-9)


def test_average_precision_of_scores_from_16_bit_logits_is_scikit_learns():
    rng = np.random.default_rng(2)
    truth = rng.choice(5, 100_000, p=[0.35, 0.41, 0.02, 0.16, 0.06])
    z = torch.tensor(rng.normal(0, 4, (len(truth), 5)) + 6 * np.eye(5)[truth]).bfloat16()
    for p in (z.float().softmax(1).numpy(), z.softmax(1).float().numpy()):
        for k in (0, 2):
            assert (
                abs(
                    histogram_ap(*counts(p[:, k], truth == k))
                    - average_precision_score(truth == k, p[:, k])
                )
                < 1e-4
            )


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=50))
def test_bins_keep_the_order_of_scores(scores):
    x = torch.tensor(sorted(scores), dtype=torch.float32)
    assert (score_bins(x).diff() >= 0).all()


def test_scores_that_are_certain_are_ties_as_for_scikit_learn():
    positive = np.r_[
        np.ones(300, bool), np.zeros(100, bool), np.ones(50, bool), np.zeros(550, bool)
    ]
    p = np.r_[np.ones(400), np.zeros(600)]  # 400 pixels at exactly 1, the rest at exactly 0
    assert histogram_ap(*counts(p, positive)) == pytest.approx(
        average_precision_score(positive, p), abs=1e-9
    )


def guess(masks, noise, seed=0):
    one = torch.nn.functional.one_hot(torch.tensor(masks).long(), 5).permute(0, 3, 1, 2).float()
    return (
        3 * one + noise * torch.randn(one.shape, generator=torch.Generator().manual_seed(seed))
    ).softmax(1)


@pytest.fixture(scope='module')
def drawn():
    return synthetic_facades(6, seed=3, size=64)


def test_overlap_is_scikit_learns_and_images_add_up(drawn):
    _, masks, table = drawn
    p = guess(masks, 2.0)
    s = SegmentScores(FACADE_CLASSES).add(table.id, p, masks)
    iou = jaccard_score(masks.ravel(), p.argmax(1).numpy().ravel(), average=None, labels=range(5))
    assert [measured(s)[f'iou_{c}'] for c in FACADE_CLASSES] == pytest.approx(iou)
    assert image_table(s).accuracy.mean() == pytest.approx(float(measured(s)['accuracy']))
    assert reliability_table(s)['count'].sum() == masks.size


def test_intervals_hold_the_value_and_narrow_with_more_images():
    _, masks, table = synthetic_facades(40, seed=5, size=32)
    few, many = (
        segment_metrics(
            SegmentScores(FACADE_CLASSES).add(table.id[:n], guess(masks[:n], 2.0), masks[:n]),
            ['accuracy'],
        )
        for n in (8, 40)
    )

    def width(f):
        return f['accuracy']['high'] - f['accuracy']['low']

    assert few['accuracy']['low'] < few['accuracy']['value'] < few['accuracy']['high']
    assert width(many) < width(few)


def test_images_of_different_sizes_are_evaluated_together(drawn):
    _, masks, table = drawn
    s = (
        SegmentScores(FACADE_CLASSES)
        .add(['a'], guess(masks[:1], 1.0), masks[:1])
        .add(['b'], guess(masks[1:2, :40, :50], 1.0), masks[1:2, :40, :50])
    )
    assert len(s) == 2 and s.total[0].sum() == 64 * 64 + 40 * 50


def test_a_mask_of_one_class_is_evaluated(drawn):
    _, masks, _ = drawn
    sky = np.zeros_like(masks[:1])
    m = measured(SegmentScores(FACADE_CLASSES).add(['sky'], guess(sky, 1.0), sky))
    assert m['ap_others'] == pytest.approx(1)
    assert np.isnan(m['ap_window'])
    assert np.isfinite(m['mean_ap'])


def test_boundaries_far_away_do_not_match():
    a, b = (torch.zeros(1, 40, 40, dtype=torch.uint8) for _ in 'ab')
    a[:, :10] = 1
    b[:, 30:] = 1
    assert boundary_counts(a, b, 2)[0, 1].tolist()[1::2] == [0, 0]


def test_scores_survive_the_disk(drawn, tmp_path):
    _, masks, table = drawn
    s = SegmentScores(FACADE_CLASSES).add(table.id, guess(masks, 2.0), masks)
    assert segment_metrics(load_scores(s.save(tmp_path / 's.npz')), ci=False) == segment_metrics(
        s, ci=False
    )


def test_scores_with_the_wider_bins_of_before_are_read(drawn, tmp_path):
    _, masks, table = drawn
    s = SegmentScores(FACADE_CLASSES).add(table.id, guess(masks, 2.0), masks)
    with np.load(s.save(tmp_path / 's.npz')) as z:
        kept = dict(z)
    kept |= dict(format=1, total=kept['total'].reshape(5, 2, -1, 16).sum(-1))
    np.savez_compressed(tmp_path / 'before.npz', **kept)
    before = load_scores(tmp_path / 'before.npz')
    assert before.total.shape == s.total.shape
    assert segment_metrics(before, ci=False) == pytest.approx(
        segment_metrics(s, ci=False), abs=2e-3
    )


# Networks


def test_the_published_network_costs_what_it_says_and_the_u_net_a_tenth():
    t = segment_costs(dict(plain=PlainSegNet(), unet=UNet(5, 'efficientnet_lite2'))).set_index(
        'net'
    )
    assert t.gmacs['plain'] == pytest.approx(19.4, abs=0.1)
    assert t.share['unet'] < 0.1


@pytest.mark.parametrize('size', ((32, 32), (65, 97), (100, 33)))
@pytest.mark.parametrize('name', ('test_resnet', 'test_efficientnet', 'test_convnext'))
def test_any_encoder_at_any_size(name, size):
    assert UNet(3, name, widths=(8, 8)).eval()(torch.zeros(2, 3, *size)).shape == (2, 3, *size)


def test_an_encoder_keeps_the_weights_that_it_is_given():
    import timm

    whole = timm.create_model('test_efficientnet')
    down = encoder('test_efficientnet', whole.state_dict())
    own = whole.state_dict()
    assert all(torch.equal(v, own[k]) for k, v in down.state_dict().items() if k in own)
    assert len(down.state_dict())


# Masks and photos together


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from([k for k, v in MASK_AUGMENTS.items() if v]))
def test_augmentation_moves_masks_with_their_photographs_and_invents_no_class(seed, name):
    mask = torch.zeros(1, 48, 48, dtype=torch.uint8)
    mask[:, 12:30, 8:40] = 4
    x, m = MASK_AUGMENTS[name](
        torch.where(mask[:, None] == 4, 255, 0).byte().expand(-1, 3, -1, -1),
        mask,
        torch.Generator().manual_seed(seed),
    )
    assert set(m.unique().tolist()) <= {0, 4}
    light = x[:, 0] > 0.5 * x.max() if (m == 4).any() else x[:, 0] > 2
    # but for the rim, which is blended in the photo alone
    assert (light == (m == 4)).float().mean() > 0.93


def test_loaders_give_the_same_batches_again(drawn):
    images, masks, _ = drawn

    def make():
        return [
            (x.sum().item(), y.sum().item())
            for x, y in MaskLoader(
                images, masks, 2, True, MaskAugment(), [0.5] * 3, [0.5] * 3, seed=4
            )
        ]

    assert make() == make()


@pytest.mark.parametrize('kind', LOSSES + ('ce+dice', 'focal+dice', 'ce+focal+dice'))
def test_losses_fall_where_the_answer_gets_better(kind):
    t = torch.randint(5, (2, 16, 16), generator=torch.Generator().manual_seed(0))
    right = torch.nn.functional.one_hot(t, 5).permute(0, 3, 1, 2).float()
    values = [
        float(SegmentLoss(kind, pixel_weights(t.byte().numpy(), 5))(k * right, t))
        for k in (-2, 0, 2, 8)
    ]
    assert values == sorted(values, reverse=True) and values[-1] >= 0


def test_a_batch_that_lacks_a_class_has_a_finite_loss_and_gradient():
    z = torch.zeros(2, 5, 8, 8, requires_grad=True)
    SegmentLoss('ce+focal+dice')(z, torch.ones(2, 8, 8).long()).backward()
    assert torch.isfinite(z.grad).all()


def test_training_learns_goes_on_where_it_stopped_and_repeats_itself(tmp_path, monkeypatch):
    images, masks, _ = synthetic_facades(24, seed=1, size=32)
    r = SegmentRecipe(
        backbone='test_resnet',
        weights=None,
        widths=(16, 8),
        epochs=3,
        batch_size=4,
        lr=1e-2,
        bf16=False,
    )

    def train(checkpoint):
        return fit_segmenter(
            images,
            masks,
            FACADE_CLASSES,
            r,
            np.arange(16),
            np.arange(16, 24),
            0,
            'cpu',
            checkpoint,
            False,
        )

    whole = train(tmp_path / 'whole.pt')
    assert whole.history.train_loss.iloc[-1] < whole.history.train_loss.iloc[0]

    class CtrlC(Callback):
        order = 75  # after the checkpoint

        def after_epoch(self):
            if self.epoch == 1:
                raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(
            segment_training, 'fit', lambda *a, cbs=(), **kw: fit(*a, cbs=[*cbs, CtrlC()], **kw)
        )
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / 'half.pt')
    again = train(tmp_path / 'half.pt')
    assert len(again.history) == 3
    assert all(
        torch.equal(v, again.model.state_dict()[k]) for k, v in whole.model.state_dict().items()
    )


# Tiles


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(2, 8), st.integers(0, 6))
def test_tiles_cover_everything_once(n, tile, overlap):
    n, tile, overlap = 32 * n, 32 * tile, 32 * overlap
    if overlap > tile - 32:
        return
    starts, total = tile_starts(n, tile, overlap), np.zeros(n)
    for s, w in zip(starts, tile_weights(starts, tile, n)):
        total[s : s + len(w)] += w
    assert np.allclose(total, 1, atol=1e-6)
    assert all(s % 32 == 0 for s in starts)


def test_tiles_of_a_near_sighted_network_are_exact():
    torch.manual_seed(0)
    net, x = PlainSegNet(3, 4).eval(), torch.rand(1, 3, 192, 320)
    with torch.no_grad():
        assert torch.allclose(
            tiled_probs(net, x, 128, 64, mirror=False), net(x).softmax(1)[0], atol=1e-5
        )


def test_a_twelve_megapixel_photo_needs_little_memory_beyond_its_answer():
    import tracemalloc

    net = UNet(5, 'test_resnet', widths=(8, 8)).eval()
    out = segment_photo(net, np.zeros((3000, 4000, 3), np.uint8), short=128)
    assert out.mask.shape == (3000, 4000) and out.size == (128, 171)
    tracemalloc.start()
    segment_photo(net, np.zeros((3000, 4000, 3), np.uint8), short=128)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # numpy's share: the photo and the answer, not five maps of floats
    assert peak < 3 * 3000 * 4000 * 3


# Masks of any kind


def write(folder, images, masks, how, names='{}'):
    for sub, im in (('images', images), ('masks', masks)):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for i, (im, m) in enumerate(zip(images, masks)):
        Image.fromarray(im).save(folder / 'images' / f'{i}.jpg')
        how(m).save(folder / 'masks' / f'{names.format(i)}.png')
    return folder


DIALECTS = dict(
    grey=Image.fromarray,
    rgb=lambda m: Image.fromarray(colour_mask(m)),
    rgba=lambda m: Image.fromarray(colour_mask(m)).convert('RGBA'),
    sixteen=lambda m: Image.fromarray(m.astype(np.uint16)),
    greyrgb=lambda m: Image.fromarray(m).convert('RGB'),
)


@pytest.mark.parametrize('dialect', DIALECTS)
@pytest.mark.parametrize('names', ('{}', '{}_mask', '{}-seg'))
def test_every_dialect_gives_the_same_areas(drawn, dialect, names, tmp_path):
    images, masks, _ = drawn
    s = load_masked(write(tmp_path / 'set', images, masks, DIALECTS[dialect], names), size=64)
    got = np.asarray(s.masks(64))
    assert len(s.classes) == 5
    assert all(len(np.unique(masks[got == k])) == 1 for k in range(5))


def test_what_does_not_fit_is_named(drawn, tmp_path):
    images, masks, _ = drawn
    root = write(tmp_path / 'set', images, masks, DIALECTS['grey'])
    (root / 'masks' / '0.png').unlink()
    Image.new('L', (9, 9)).save(root / 'masks' / '1.png')
    (root / 'masks' / '2.png').write_text('none')
    (root / 'images' / '3.jpg').write_bytes(b'')
    Image.fromarray(masks[4]).save(root / 'masks' / 'stranger.png')
    s = load_masked(root, size=64)
    said = ' '.join(f'{f} {p}' for f, p in zip(s.problems.file, s.problems.problem))
    assert len(s) == 2
    for part in (
        '0.jpg has no mask',
        'has 64 x 64 pixels, and its mask 1.png has 9 x 9',
        '2.jpg has a mask that cannot be used',
        '3.jpg is empty',
        'stranger.png is a mask without a photo',
    ):
        assert part in said, (part, said)


def test_class_files_are_read_and_checked(drawn, tmp_path):
    images, masks, _ = drawn
    root = write(tmp_path / 'set', images, masks, DIALECTS['rgb'])
    (root / 'classes.csv').write_text(
        'name, r, g, b\n'
        + '\n'.join(f'{n}, {r}, {g}, {b}' for n, (r, g, b) in zip(FACADE_CLASSES, FACADE_COLOURS))
    )
    assert named_classes(root)[1] == [tuple(c) for c in FACADE_COLOURS]
    assert (np.asarray(load_masked(root, size=64).masks(64)) == masks).all()
    (root / 'classes.csv').write_text('name,r,g,b\nwall,1,2,x')
    with pytest.raises(DataError, match='no number'):
        load_masked(root)
    (root / 'classes.csv').unlink()
    (root / 'classes.txt').write_text('wall\nwindow')
    with pytest.raises(DataError, match='2 class names were given'):
        load_masked(root)


def own_palette(mask, seed, colours=FACADE_COLOURS):
    """A palette PNG whose numbers are in an order of its own, as `convert('P',
    palette=ADAPTIVE)` writes it."""
    order = np.random.default_rng(seed).permutation([k for k in range(5) if (mask == k).any()])
    numbers = np.zeros(256, np.uint8)
    numbers[order] = np.arange(len(order))
    out = Image.fromarray(numbers[mask]).convert('P')
    out.putpalette([c for k in order for c in colours[k]])
    return out


def test_masks_with_palettes_of_their_own_are_read_by_colour(tmp_path):
    images, masks, _ = synthetic_facades(12, seed=3, size=64)
    seeds = iter(range(12))
    root = write(tmp_path / 'set', images, masks, lambda m: own_palette(m, next(seeds)))
    s = load_masked(root, size=64)
    by_colour = {f'#{bytes(c).hex()}': k for k, c in enumerate(FACADE_COLOURS)}
    order = [int(i) for i in s.items.id.str.extract(r'(\d+)$')[0]]
    got = np.array([by_colour[c] for c in s.classes])[np.asarray(s.masks(64))]
    assert len(s) == 12 and np.array_equal(got, masks[order])
    (root / 'classes.csv').write_text(
        'name,r,g,b\n'
        + '\n'.join(f'{n},{r},{g},{b}' for n, (r, g, b) in zip(FACADE_CLASSES, FACADE_COLOURS))
    )
    named = load_masked(root, size=64)
    assert named.classes == list(FACADE_CLASSES)
    assert np.array_equal(named.masks(64), masks[order])

    (root / 'classes.csv').write_text(
        'name,value\n' + '\n'.join(f'{n},{k}' for k, n in enumerate(FACADE_CLASSES))
    )
    with pytest.raises(DataError, match='palettes of their own.*name,r,g,b instead of name,value'):
        load_masked(root, size=64)
    (root / 'classes.csv').unlink()
    (root / 'classes.txt').write_text('\n'.join(FACADE_CLASSES))
    with pytest.raises(DataError, match='palettes of their own.*give the names in classes.csv'):
        load_masked(root, size=64)
    (root / 'classes.txt').unlink()
    Image.fromarray(masks[order[0]]).save(root / 'masks' / f'{order[0]}.png')
    assert load_masked(root, size=64).problems.problem.str.contains(
        'where the other masks hold colours'
    ).tolist() == [True]


def test_one_palette_may_be_cut_where_a_file_needs_less_of_it(tmp_path):
    images, masks, _ = synthetic_facades(4, seed=3, size=64)
    masks = masks.copy()
    masks[0][masks[0] > 1] = 0

    def cut(m):
        out = Image.fromarray(m).convert('P')
        out.putpalette([c for rgb in FACADE_COLOURS[: m.max() + 1] for c in rgb])
        return out

    s = load_masked(write(tmp_path / 'set', images, masks, cut), size=64)
    assert s.classes == [f'class {k}' for k in range(5)]
    assert np.array_equal(s.masks(64), masks)


def test_facades_with_palettes_of_their_own_are_refused(tmp_path):
    images, masks, _ = synthetic_facades(3, seed=3, size=32)
    (tmp_path / 'train').mkdir()
    for i, (im, m) in enumerate(zip(images, masks)):
        Image.fromarray(im).save(tmp_path / 'train' / f'{i}.jpg')
        own_palette(m, i).save(tmp_path / 'train' / f'{i}.png')
    with pytest.raises(DataError, match='palettes of their own'):
        load_facades(tmp_path, size=32)


def test_masks_outside_of_the_splits_are_left_out_and_named(drawn, tmp_path):
    images, masks, _ = drawn
    for split in ('train', 'Dev', 'test'):
        write(tmp_path / 'set' / split, images[:2], masks[:2], DIALECTS['grey'])
    write(tmp_path / 'set' / 'more', images[:1], masks[:1], DIALECTS['grey'])
    s = load_masked(tmp_path / 'set', size=32)
    assert s.items.split.value_counts().to_dict() == dict(train=2, valid=2, test=2)
    assert s.problems.to_numpy().tolist() == [
        ['more/images/0.jpg', 'lies in no folder train, valid or test, as others do']
    ]


@pytest.mark.parametrize(
    'text,message',
    [
        ('name,value\n', 'names the columns name, value, but no class'),
        ('', 'is empty'),
        ('name,value\nwall,1,2', 'has 3 cells in line 2'),
        ('name,value\n"wall,1', 'cannot be read as CSV'),
        ('name,value\nwall,one', 'holds something that is no number'),
    ],
)
def test_lists_of_classes_that_nobody_understands(tmp_path, text, message):
    (tmp_path / 'classes.csv').write_text(text)
    with pytest.raises(DataError, match=message):
        named_classes(tmp_path)


def test_names_of_classes_are_no_html():
    html = given_code(['<script>alert(1)</script>', 'a&b'], [0, 1])._repr_html_()
    assert '<script>' not in html
    assert '&lt;script&gt;' in html
    assert 'a&amp;b' in html
    assert '<span style=' in html


def test_a_mask_of_another_kind_than_the_rest_is_refused(drawn, tmp_path):
    images, masks, _ = drawn
    root = write(tmp_path / 'set', images, masks, DIALECTS['grey'])
    code = infer_code(sorted((root / 'masks').iterdir()))[0]
    Image.fromarray(colour_mask(masks[0])).save(root / 'odd.png')
    with pytest.raises(ImageError, match='is a colour map'):
        read_mask(root / 'odd.png', code)


def test_pairs_in_split_folders(drawn, tmp_path):
    images, masks, _ = drawn
    for split in ('train', 'val', 'test'):
        write(tmp_path / 'set' / split, images[:2], masks[:2], DIALECTS['grey'])
    items, bad = mask_pairs(tmp_path / 'set')
    assert not bad
    assert items.split.value_counts().to_dict() == dict(train=2, valid=2, test=2)


# The lab


def test_smoke_from_the_shell(smoke):
    root, out = smoke('segmentation')
    assert out.returncode == 0, out.stderr
    assert 'test mean ap' in out.stdout
    assert 'synthetic' in out.stdout
    assert '\r' not in out.stderr
    page = (root / 'segmentation' / 'report-smoke' / 'index.html').read_text()
    assert '(synthetic)' in page and 'worst.png' in page


def test_any_photo_gives_a_mask_and_an_overlay_and_a_bad_file_its_reason(smoke, tmp_path, capsys):
    root, _ = smoke('segmentation')
    run = next(p for p in (root / 'segmentation').iterdir() if p.name.startswith('unet-s0'))
    photo = np.random.default_rng(0).integers(0, 255, (70, 130, 4), np.uint8)
    Image.fromarray(photo).save(tmp_path / 'rgba.png')
    Image.fromarray(photo[..., 0]).save(tmp_path / 'grey.png')
    (tmp_path / 'text.jpg').write_text('no photo')
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(photo[..., :3]).save(tmp_path / 'turned.jpg', exif=turned)
    photos = [str(tmp_path / f) for f in ('rgba.png', 'grey.png', 'turned.jpg', 'text.jpg')]
    assert (
        main(
            [
                'predict',
                'segmentation',
                *photos,
                '--run',
                str(run),
                '--folder',
                str(tmp_path / 'out'),
            ]
        )
        == 1
    )
    out = capsys.readouterr().out
    assert 'text.jpg: error' in out and 'seen at' in out
    assert decode_mask(tmp_path / 'out' / 'rgba-mask.png')[0].shape == (70, 130)
    assert Image.open(tmp_path / 'out' / 'turned-overlay.png').size == (70, 130)
    assert (
        main(['predict', 'closures', photos[1], '--run', str(run), '--folder', str(tmp_path)]) == 2
    )


def test_masks_that_cannot_be_learned_are_refused_before_training(tmp_path, drawn, capsys):
    images, masks, _ = drawn
    root = write(tmp_path / 'set', [*images] * 3, [*np.zeros_like(masks)] * 3, DIALECTS['grey'])
    assert (
        main(
            [
                'run',
                'segmentation',
                '--profile',
                'smoke',
                '--source',
                str(root),
                '--out',
                str(tmp_path / 'runs'),
            ]
        )
        == 2
    )
    assert 'at least two classes' in capsys.readouterr().err
    assert not list((tmp_path / 'runs').rglob('run.json'))


def test_real_facades_keep_their_published_split(data_folder_of_facades):
    s = segmentation.photos_of(segmentation.Config(size=256))
    assert s.items.split.value_counts().to_dict() == dict(train=800, valid=106, test=114)


@pytest.fixture
def data_folder_of_facades():
    from fashion_lab.data.cards import MissingData
    from fashion_lab.data.locate import find_photos

    try:
        folder = find_photos('facades', None, download=False)
    except MissingData:
        pytest.skip('the facade photos are not on this machine')
    if not (folder / 'test_dev').is_dir():
        pytest.skip('another layout')


def test_a_figure_of_one_photo_without_truth(drawn):
    images, masks, _ = drawn
    assert len(plot_segments(images[:1], masks[:1], FACADE_CLASSES).axes) == 2


def test_a_finished_run_can_be_looked_at_again(smoke):
    root, _ = smoke('segmentation')
    run = Run(next(p for p in (root / 'segmentation').iterdir() if p.name.startswith('plain-s0')))
    assert type(segmentation.network_of(run)).__name__ == 'PlainSegNet'
    assert len(segmentation.evaluated_on(run)) == run.metrics['n']['test']


@pytest.mark.parametrize(
    'photo, mask',
    [
        ('images/{}/1.jpg', 'masks/{}/1.png'),
        ('{}/images/1.jpg', '{}/masks/1.png'),
        ('{}/1.jpg', 'masks/{}/1_mask.png'),
        ('train/images/{}/1.jpg', 'train/masks/{}/1.png'),
    ],
)
def test_photos_of_one_name_in_different_folders_get_their_own_masks(tmp_path, photo, mask):
    files = [(photo.format(f), mask.format(f)) for f in 'ab']
    for i, m in files:
        for name, a in ((i, np.zeros((8, 8, 3), np.uint8)), (m, np.eye(8, dtype=np.uint8))):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(a).save(tmp_path / name)
    items, bad = mask_pairs(tmp_path)
    assert sorted(zip(items.path, items['mask'])) == sorted(files)
    assert bad == []


def test_a_mask_that_could_be_anybodys_is_nobodys(tmp_path):
    for name in (
        'images/a/1.jpg',
        'images/b/1.jpg',
        'masks/1.png',
        'images/2.jpg',
        'masks/2.png',
        'masks/2_mask.png',
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / name)
    items, bad = mask_pairs(tmp_path)
    said = dict(bad)
    assert not len(items)
    for f in 'ab':
        assert 'can belong to only one' in said[f'images/{f}/1.jpg']
    assert 'has 2 masks of its name' in said['images/2.jpg']
    assert 'without a photo' in said['masks/1.png']


def test_class_names_with_a_mark_in_front_of_the_file_or_in_another_encoding(tmp_path):
    (tmp_path / 'classes.txt').write_bytes('\ufeffsky\nwall\n'.encode())
    assert named_classes(tmp_path) == (['sky', 'wall'], None)
    (tmp_path / 'classes.txt').write_bytes('fa\xe7ade\n'.encode('latin1'))
    with pytest.raises(DataError, match='classes.txt is not written in UTF-8'):
        named_classes(tmp_path)


@pytest.mark.parametrize(
    'names, keys, said',
    [
        (['a', 'b'], [(0, 0, 300), (1, 1, 1)], 'between 0 and 255, got 300'),
        (['a', 'b'], [0, -1], 'between 0 and 65535, got -1'),
        (['a', 'a'], [0, 1], "'a' is given 2 times"),
    ],
)
def test_a_written_code_that_no_mask_can_have_is_refused(names, keys, said):
    with pytest.raises(DataError, match=said):
        given_code(names, keys)


def test_neither_a_mask_nor_an_overlay_is_written_over(tmp_path):
    from fashion_lab.core import free_paths

    assert [f.name for f in free_paths(tmp_path, 'house', 'mask', 'overlay')] == [
        'house-mask.png',
        'house-overlay.png',
    ]
    (tmp_path / 'house-overlay.png').touch()  # its mask was moved away
    (tmp_path / 'house-mask-2.png').touch()
    assert [f.name for f in free_paths(tmp_path, 'house', 'mask', 'overlay')] == [
        'house-mask-3.png',
        'house-overlay-3.png',
    ]
