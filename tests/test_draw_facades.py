"""Synthetic facades: masks that are exact at any size and in any order, houses that stand, and
no argument taken in silence."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fashion_lab.synthetic.facade_classes import colour_mask, FACADE_COLOURS
from fashion_lab.synthetic.classes import FACADE_CLASSES
from fashion_lab.synthetic.facade_plans import draw_plan, STYLES
from fashion_lab.synthetic.facades import draw_facade
from fashion_lab.synthetic.facade_drawer import FacadeDrawer, synthetic_facades
from fashion_lab.synthetic.facade_balconies import _balcony
from fashion_lab.synthetic.facade_canvas import Site

few = settings(max_examples=12, deadline=None)
seeds = st.integers(0, 2**32 - 1)
new = np.random.default_rng


@settings(max_examples=30, deadline=None)
@given(seed=seeds, size=st.integers(32, 90), style=st.sampled_from((None, *STYLES)))
def test_any_house_has_an_image_and_a_mask(seed, size, style):
    image, mask = draw_facade(new(seed), size, style)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert mask.shape == (size, size)
    assert mask.dtype == np.uint8
    # every house has walls and windows
    assert mask.max() < len(FACADE_CLASSES) and {1, 3} <= set(np.unique(mask))
    assert image.std() > 5
    again = draw_facade(new(seed), size, style)
    assert (again[0] == image).all() and (again[1] == mask).all()


@few
@given(seed=seeds)
def test_the_mask_is_the_same_at_any_size(seed):
    """The middle of every small pixel lies in the same shape as the large pixel there: they
    differ at edges only."""
    a = new(seed)
    b = new(seed)
    n = 128
    small, large = draw_facade(a, n)[1], draw_facade(b, 5 * n)[1]
    assert a.bit_generator.state == b.bit_generator.state
    middle = large[2::5, 2::5]
    # small pixels whose large block is of one class: shapes that touch leave no gap between them at
    # either size
    blocks = large.reshape(n, 5, n, 5).transpose(0, 2, 1, 3).reshape(n, n, 25)
    inside = blocks.min(-1) == blocks.max(-1)
    assert (small == middle)[inside].mean() > 0.985
    assert (small == middle).mean() > 0.94


@pytest.mark.parametrize('kind', ('iron', 'solid', 'escape'))
def test_a_balcony_is_whole(kind):
    "Its railing and its floor meet, also where nothing is quite level."
    for size in (40, 57, 128):
        for y in np.linspace(0.55, 0.65, 21):
            site = Site(size, 0.0, 0.012)
            _balcony(
                site, new(0), draw_plan(new(0), 'stucco'), 0.1, 0.9, y, 0.2, kind, (20, 20, 20)
            )
            assert (
                site.mask()[
                    round((y - 0.18) * size) : round(y * size),
                    round(0.15 * size) : round(0.85 * size),
                ]
                == 4
            ).all(), (size, y)


@few
@given(
    x=st.integers(0, 20),
    y=st.integers(0, 20),
    w=st.integers(1, 20),
    h=st.integers(1, 20),
    label=st.integers(1, 4),
)
def test_a_box_covers_exactly_its_pixels(x, y, w, h, label):
    site = Site(40)
    site.box(x / 40, y / 40, (x + w) / 40, (y + h) / 40, (250, 250, 250), label)
    want = np.zeros((40, 40), np.uint8)
    want[y : y + h, x : x + w] = label
    assert (site.mask() == want).all()
    bright = site.picture().min(-1) > 125  # colour and class lie on the same pixels
    assert (bright == (want > 0)).all()


@few
@given(seed=seeds)
def test_colour_and_class_share_their_edges(seed):
    """Where the class changes, the picture changes: gradients on class edges are steeper than
    elsewhere."""
    image, mask = draw_facade(new(seed), 96)
    grey = image.astype(float).mean(-1)
    edge, inner = [], []
    for axis in (0, 1):
        step = np.abs(np.diff(grey, axis=axis))
        change = np.diff(mask.astype(int), axis=axis) != 0
        edge.append(step[change].mean())
        inner.append(step[~change].mean())
    assert np.mean(edge) > 1.15 * np.mean(inner)


@few
@given(seed=seeds, style=st.sampled_from(STYLES))
def test_plans_stand(seed, style):
    p = draw_plan(new(seed), style)
    assert p.style == style
    assert p.left < p.columns[0] - p.width / 2
    assert p.columns[-1] + p.width / 2 < p.right + 1e-9
    assert p.roof < p.floors[0]
    assert p.floors[-1] + p.height < p.base < p.street
    assert len(p.columns) >= 2
    assert len(p.floors) >= 2
    # windows do not overlap
    assert (np.diff(p.floors) > p.height).all() and (np.diff(p.columns) > p.width).all()


def test_shares_of_pixels_are_near_the_real_ones():
    masks = FacadeDrawer(150, seed=11, size=32)[:][1]
    share = np.bincount(masks.ravel(), minlength=5) / masks.size
    assert np.abs(share - (0.355, 0.406, 0.024, 0.165, 0.051)).max() < 0.06, share.round(3)
    assert {int(v) for v in np.unique(masks)} == set(range(5))


@few
@given(n=st.integers(1, 30), more=st.integers(1, 30), seed=st.integers(0, 1000))
def test_a_smaller_set_is_the_beginning_of_a_larger_one(n, more, seed):
    small = FacadeDrawer(n, seed, 32)
    large = FacadeDrawer(n + more, seed, 32)
    assert small.items.equals(large.items.iloc[:n])
    for a, b in zip(small[n - 1], large[n - 1]):
        assert (a == b).all()
    assert (large[n][0] != small[n - 1][0]).any()


def test_indexing_like_an_array():
    d = FacadeDrawer(9, size=32)
    images, masks = d[:]
    assert np.asarray(d.images).shape == d.images.shape == (9, 32, 32, 3)
    assert np.asarray(d.masks).shape == d.masks.shape == (9, 32, 32)
    assert (np.asarray(d.images) == images).all()
    assert (np.asarray(d.masks) == masks).all()
    assert len(d.masks) == len(d) == 9
    for key in (slice(1, 7, 3), [5, 5, 0], np.arange(9) % 2 == 0, slice(0, 0), -2, np.int64(4)):
        assert (d.images[key] == images[key]).all()
        assert (d.masks[key] == masks[key]).all()
        assert d.masks[key].shape == masks[key].shape
    for bad in (9, -10, [0, 9]):
        with pytest.raises(IndexError):
            d[bad]
    assert sum(1 for _ in d) == 9  # iteration ends


def test_synthetic_facades():
    images, masks, items = synthetic_facades(4, seed=2, size=48)
    assert images.shape == (4, 48, 48, 3)
    assert masks.shape == (4, 48, 48)
    assert list(items.columns) == ['id', 'source']
    assert items.id.is_unique and set(items.source) == {'synthetic'}
    assert (images[3] == FacadeDrawer(9, 2, 48)[3][0]).all()


def test_the_same_in_another_process():
    code = (
        "import hashlib; from fashion_lab.synthetic import FacadeDrawer; "
        "print(hashlib.sha256(b''.join(a.tobytes() for a in FacadeDrawer(4, seed=3, "
        "size=40)[:])).hexdigest())"
    )
    out = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, 'PYTHONHASHSEED': '1'},
    ).stdout
    assert (
        out
        == hashlib.sha256(
            b''.join(a.tobytes() for a in FacadeDrawer(4, seed=3, size=40)[:])
        ).hexdigest()
        + '\n'
    )


@few
@given(values=st.lists(st.integers(0, 4), min_size=1, max_size=20))
def test_colours_can_be_read_back(values):
    assert len(set(FACADE_COLOURS)) == 5
    assert [FACADE_COLOURS.index(tuple(c)) for c in colour_mask(values).tolist()] == values


@pytest.mark.parametrize(
    'call, says',
    [
        (lambda: colour_mask([[5]]), 'got also 5'),
        (lambda: colour_mask([[-1]]), 'got also -1'),
        (lambda: colour_mask([[1.0]]), 'float64'),
        (lambda: colour_mask([[True]]), 'bool'),
        (lambda: draw_facade(None), 'numpy Generator'),
        (lambda: draw_facade(new(0), 31), 'at least 32 pixels, got 31'),
        (lambda: draw_facade(new(0), 64, 'gothic'), 'allowed: stucco'),
        (lambda: FacadeDrawer(0), 'n must be'),
        (lambda: FacadeDrawer(2, seed=-1), 'seed must be'),
        (lambda: FacadeDrawer(2.5), 'got 2.5'),
        (lambda: FacadeDrawer(True), 'got True'),
    ],
)
def test_wrong_arguments_are_named(call, says):
    with pytest.raises(ValueError) as e:
        call()
    assert says in str(e.value)
