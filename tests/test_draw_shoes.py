"""Synthetic shoes: what a pair shares and what it does not, the same photo at any size and in
any order, and no argument taken in silence."""

import dataclasses
import hashlib
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fashion_lab.synthetic.shoe_colours import PATTERNS, SHOE_COLOURS
from fashion_lab.synthetic.shoe_kinds import KINDS_OF, shoe_identity, SHOE_KINDS
from fashion_lab.synthetic.classes import CLOSURES
from fashion_lab.synthetic.shoe_scenes import FLOORS, scene
from fashion_lab.synthetic.shoes import draw_pair_photo, draw_shoe
from fashion_lab.synthetic.closure_drawer import ClosureDrawer, synthetic_closures
from fashion_lab.synthetic.pair_drawer import PairDrawer, synthetic_shoe_pairs
from fashion_lab.synthetic import closure_drawer, shoe_closures_beside, shoe_pen, shoes

few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)
new = np.random.default_rng
EVERY = [(c, k) for c in CLOSURES for k in KINDS_OF[c]]


def halved(image):
    return image.reshape(len(image) // 2, 2, len(image) // 2, 2, 3).mean((1, 3))


def quiet(seed=0, **changes):
    "A scene without dust, cast or stripes, in which colours can be compared."
    return dataclasses.replace(
        scene(new(seed)),
        floor='sheet',
        colour=(128, 128, 128),
        second=(128, 128, 128),
        wear=0.0,
        warmth=0.0,
        exposure=1.0,
        contrast=0.3,
        light=1.6,
        toes='up',
        **changes,
    )


# One shoe


@settings(max_examples=60, deadline=None)
@given(
    what=st.sampled_from(EVERY),
    seed=seeds,
    kids=st.booleans(),
    side=st.sampled_from(['left', 'right']),
    view=st.sampled_from(['side', 'top']),
    size=st.integers(16, 90),
)
def test_any_shoe_of_any_seed_is_a_picture(what, seed, kids, side, view, size):
    closure, kind = what
    shoe = shoe_identity(new(seed), closure, kids, kinds=(kind,))
    hall = scene(new(seed))
    image = draw_shoe(shoe, hall, new(seed), side, view, size)
    assert (image.shape, image.dtype) == ((size, size, 3), np.uint8)
    assert image.std() > 2
    assert (shoe.closure, shoe.kids) == (closure, kids)
    assert shoe.kind == kind
    assert (draw_shoe(shoe, hall, new(seed), side, view, size) == image).all()


@settings(max_examples=60, deadline=None)
@given(seed=seeds, kids=st.booleans())
def test_identities_and_scenes_keep_their_promises(seed, kids):
    s, hall = shoe_identity(new(seed), kids=kids), scene(new(seed))
    assert s.kind in KINDS_OF[s.closure]
    assert s.pattern in PATTERNS
    assert 0 <= s.toe <= 1
    assert 2 <= s.rows <= 4
    assert 0 <= s.trim < 8
    assert 0 <= s.heel <= 0.3
    assert s.sole_height > 0
    for colour in (
        s.main,
        s.accent,
        s.sole,
        s.lining,
        s.fastening,
        s.metal,
        hall.colour,
        hall.second,
    ):
        assert len(colour) == 3
        assert all(isinstance(c, int) and 0 <= c <= 255 for c in colour)
    assert hall.floor in FLOORS
    assert 0 <= hall.wear <= 1
    assert hall.toes in ('up', 'down')
    assert 0 < hall.light < np.pi
    assert (
        not kids or (s.heel == 0 and s.kind not in ('pump', 'oxford', 'loafer')) and s.width > 1.1
    )
    assert hash(s) == hash(pickle.loads(pickle.dumps(s)))
    assert hash(hall) == hash(dataclasses.replace(hall))


@pytest.mark.parametrize('view', ['side', 'top'])
@few
@given(seed=seeds)
def test_the_size_changes_nothing_but_the_size(view, seed):
    """A picture is nearer to itself at half the size than to another photo of the same shoe,
    and leaves the pose as it was."""
    shoe, hall = shoe_identity(new(seed)), quiet(seed)
    small, large, other = (
        draw_shoe(shoe, hall, new(s), 'left', view, n).astype(float)
        for s, n in ((seed, 48), (seed, 96), (seed + 1, 48))
    )
    assert np.abs(small - halved(large)).mean() < np.abs(small - other).mean()


class Still:
    "A generator for a hand that does not shake."

    def normal(self, loc=0, scale=1, size=None):
        return 0.0 if size is None else np.zeros(size)


def posed(shoe, view, side, toes='up', polygons=slice(None)):
    "The corners of a shoe's drawing, in an upright pose around (0, 0)."
    pen = shoes._sketch(shoe, view)
    return shoes.ShoePose(
        Still(), np.concatenate(pen.polygons[polygons]), (0.9, 0.0, 1.0, 0.0), view, side, toes
    )


@settings(max_examples=60, deadline=None)
@given(seed=seeds, view=st.sampled_from(['side', 'top']))
def test_left_and_right_are_mirror_images(seed, view):
    shoe = shoe_identity(new(seed))
    pen = shoes._sketch(shoe, view)
    left, right = (
        shoe_pen.rasterise(pen, p.points * 100 + p.shift(100, 128, 128), 128, 128)[0]
        for p in (posed(shoe, view, side) for side in ('left', 'right'))
    )
    assert 2 * np.abs(left - right[:, ::-1]).mean() < np.abs(left - right).mean()


@pytest.mark.parametrize('closure,kind', EVERY)
def test_a_right_foot_bends_inwards(closure, kind):
    """Seen from above with the toes up, the tip of a right sole lies left of its middle and
    that of a left sole right of it; toes down, the other way round."""
    for seed in range(3):
        shoe = shoe_identity(new(seed), closure, kinds=(kind,))
        for side, toes, sign in (
            ('right', 'up', -1),
            ('left', 'up', 1),
            ('right', 'down', 1),
            ('left', 'down', -1),
        ):
            sole = posed(shoe, 'top', side, toes, slice(1)).points
            tip = sole[sole[:, 1].argmin() if toes == 'up' else sole[:, 1].argmax()]
            assert sign * (tip[0] - (sole[:, 0].min() + sole[:, 0].max()) / 2) > 0.01


def test_from_the_side_a_shoe_points_to_its_own_side():
    for closure, kind in EVERY:
        shoe = shoe_identity(new(1), closure, kinds=(kind,))
        points = np.concatenate(shoe_closures_beside.sketch_beside(shoe).polygons)
        for side, sign in (('left', -1), ('right', 1)):
            toe = posed(shoe, 'side', side).points[points[:, 0].argmin()]
            assert np.sign(toe[0]) == sign  # the toe, which is at the least x of the sketch


@pytest.mark.parametrize('view', ['side', 'top'])
def test_every_closure_changes_the_drawing(view):
    "The same shoe with another closure is another picture, at 32 pixels too."
    for kind in SHOE_KINDS:
        closures = [c for c in CLOSURES if kind in KINDS_OF[c]]
        base = shoe_identity(new(5), closures[0], kinds=(kind,))
        drawn = [
            draw_shoe(
                dataclasses.replace(base, closure=c, fastening=(240, 236, 226), main=(40, 54, 98)),
                quiet(),
                new(3),
                'right',
                view,
                32,
            ).astype(float)
            for c in closures
        ]
        for i, a in enumerate(drawn):
            for b in drawn[:i]:
                assert np.abs(a - b).max() > 40


def test_the_pattern_moves_with_the_shoe_and_plain_has_none():
    base = dataclasses.replace(
        shoe_identity(new(2), 'lace_up', kinds=('sneaker',)),
        main=(200, 200, 200),
        accent=(20, 20, 20),
        gloss=0.05,
    )
    plain, *printed = (
        draw_shoe(dataclasses.replace(base, pattern=p), quiet(), new(3), 'left', 'top', 96).astype(
            float
        )
        for p in PATTERNS
    )
    for image in printed:
        assert np.abs(image - plain).max() > 60
        assert (image[:, :8] == plain[:, :8]).all()


def test_light_comes_from_the_lamp():
    """A lamp at the right brightens the right flank of a shoe, a lamp at the left the left one,
    and the shadow falls on the other side."""
    shoe = dataclasses.replace(
        shoe_identity(new(2), 'slip_on', kinds=('loafer',)),
        gloss=0.0,
        main=(150, 150, 150),
        pattern='plain',
        trim=0,
    )
    from_right, from_left = (
        draw_shoe(
            shoe, dataclasses.replace(quiet(), light=a, contrast=1.0), new(3), 'left', 'top', 128
        )
        .astype(float)
        .mean(2)
        for a in (0.1, 3.04)
    )
    brighter = from_right - from_left
    pose = brighter[40:90]
    columns = np.flatnonzero(np.abs(pose).mean(0) > 3)
    middle = (columns.min() + columns.max()) // 2
    assert np.abs(pose).max() > 20
    edge_left = pose[:, columns.min() : middle].min()
    edge_right = pose[:, middle : columns.max()].max()
    assert edge_left < -10 and edge_right > 10


@pytest.mark.parametrize(
    'bad,says',
    [
        (dict(side='both'), "unknown side 'both'"),
        (dict(view='front'), "unknown view 'front'"),
        (dict(size=15), 'at least 16 pixels, got 15'),
        (dict(size=64.0), 'whole number'),
        (dict(size=True), 'got True'),
        (dict(rng=0), 'default_rng'),
        (dict(identity='shoe'), 'as shoe_identity'),
        (dict(scene=None), 'as scene'),
        (
            dict(identity=dataclasses.replace(shoe_identity(new(0), 'zip'), kind='clog')),
            "'clog' is no kind of shoe with the closure zip; those that have it: boot",
        ),
        (
            dict(identity=dataclasses.replace(shoe_identity(new(0), 'zip'), closure='button')),
            "unknown closure 'button'",
        ),
        (
            dict(identity=dataclasses.replace(shoe_identity(new(0), 'zip'), pattern='plaid')),
            "unknown pattern 'plaid'",
        ),
        (dict(scene=dataclasses.replace(scene(new(0)), floor='lawn')), "unknown floor 'lawn'"),
    ],
)
def test_what_is_not_allowed_is_named(bad, says):
    good = dict(
        identity=shoe_identity(new(0)), scene=scene(new(0)), rng=new(0), view='top', size=32
    )
    with pytest.raises(ValueError) as e:
        draw_shoe(**good | bad)
    assert says in str(e.value)
    if 'side' not in bad:
        with pytest.raises(ValueError):
            draw_pair_photo(**good | bad)


def test_identities_that_cannot_be():
    for call, says in (
        (lambda: shoe_identity(new(0), 'velcro'), 'allowed: back_strap, buckle'),
        (lambda: shoe_identity(new(0), 'zip', kinds=('oxford',)), 'those that have it: boot'),
        (lambda: shoe_identity(new(0), kinds=('slipper',)), "unknown kind of shoe 'slipper'"),
        (lambda: shoe_identity(new(0), taste=('gold',)), "unknown colour 'gold'"),
    ):
        with pytest.raises(ValueError, match=says):
            call()


def test_taste_and_kinds_are_kept():
    for seed in range(30):
        s = shoe_identity(new(seed), taste=('red',), kinds=('boot', 'sneaker', 'clog', 'ballerina'))
        assert np.abs(np.subtract(s.main, SHOE_COLOURS['red'])).max() < 45
        assert s.kind in (
            'boot',
            'sneaker',
            'clog',
            'ballerina',
        )


# Pairs in one photo


@few
@given(seed=seeds, view=st.sampled_from(['side', 'top']), size=st.integers(32, 90))
def test_the_cut_separates_the_two_shoes(seed, view, size):
    shoe, hall = shoe_identity(new(seed)), quiet(seed)
    image, cut = draw_pair_photo(shoe, hall, new(seed), view, size)
    assert image.shape == (size, size, 3)
    assert 0.35 < cut < 0.65
    assert abs(cut * size - round(cut * size)) < 1e-9
    covered = []
    spy = shoes.draw_sprite

    def note(*args):
        covered.append(spy(*args)[1][..., 0])
        return spy(*args)

    shoes.draw_sprite = note
    try:
        draw_pair_photo(shoe, hall, new(seed), view, size)
    finally:
        shoes.draw_sprite = spy
    first, second = covered
    assert first.shape[1] == round(cut * size)
    assert second.shape[1] == size - first.shape[1]
    assert first.max() == second.max() == 1
    assert first[:, -1].mean() < 0.35
    assert second[:, 0].mean() < 0.35


def test_whoever_faces_the_wearer_sees_the_left_shoe_on_the_right():
    shoe = shoe_identity(new(4), 'buckle', kinds=('loafer',))
    sides = []
    spy = shoes.ShoePose

    class Note(spy):
        def __init__(self, rng, points, camera, view, side, toes):
            sides.append(side)
            super().__init__(rng, points, camera, view, side, toes)

    shoes.ShoePose = Note
    try:
        for toes in ('up', 'down'):
            draw_pair_photo(shoe, dataclasses.replace(quiet(), toes=toes), new(0), 'top', 32)
    finally:
        shoes.ShoePose = spy
    assert sides == ['left', 'right', 'right', 'left']


# Closures


@few
@given(n=st.integers(6, 700), seed=seeds)
def test_closures_have_the_real_proportions(n, seed):
    items = ClosureDrawer(n, seed).items
    assert len(items) == n == items.id.nunique()
    assert set(items.closure) == set(CLOSURES)
    assert (items.source == 'synthetic').all()
    assert (items.closure == np.array(CLOSURES)[items.label]).all()
    assert items.label.dtype == np.int64
    assert set(items['view']) <= {'side', 'top'}
    assert set(items.shoes) <= {1, 2}
    counts = items.closure.value_counts()
    for c, real in closure_drawer._COUNTS.items():
        assert abs(counts[c] - n * real / 422) < 6


def test_a_data_set_is_drawn_in_any_order_and_at_any_size():
    d = ClosureDrawer(30, 3, 40)
    everything = np.asarray(d)
    assert everything.shape == d.shape == (30, 40, 40, 3)
    assert everything.dtype == d.dtype == np.uint8
    assert d.ndim == 4
    assert len(d) == 30
    assert (d[7] == everything[7]).all()
    assert (d[-1] == everything[29]).all()
    assert (d[[9, 2]] == everything[[9, 2]]).all()
    assert (d[5:9] == everything[5:9]).all()
    assert (d[np.arange(30) % 7 == 0] == everything[::7]).all()
    assert d[[]].shape == (0, 40, 40, 3)
    assert d[np.int64(3)].shape == (40, 40, 3)
    assert d.at(20)[7].shape == (20, 20, 3)
    assert d.size == 40
    assert d.at(20).items is d.items
    assert np.asarray(d[:2], dtype=np.float32).dtype == np.float32
    assert 'synthetic' in repr(d)
    images, items = synthetic_closures(30, 3, 40)
    assert (images == everything).all() and items.equals(d.items)
    assert (pickle.loads(pickle.dumps(d))[4] == everything[4]).all()
    assert not (ClosureDrawer(30, 4, 40)[7] == everything[7]).all()
    assert len(np.unique(everything.reshape(30, -1), axis=0)) == 30
    with pytest.raises(IndexError):
        d[30]
    with pytest.raises(ValueError, match='at least 16 pixels'):
        d.at(4)


def test_one_person_has_one_floor():
    d = ClosureDrawer(60, 1, 32)
    seen = {}
    draw = shoes.draw_floor

    def note(sc, *args):
        seen.setdefault(person, set()).add((sc.floor, sc.colour, sc.turn))
        return draw(sc, *args)

    shoes.draw_floor = note
    try:
        for i, person in enumerate(d.items.person):
            d.draw(i)
    finally:
        shoes.draw_floor = draw
    assert all(len(s) == 1 for s in seen.values())
    assert len(set().union(*seen.values())) == d.items.person.nunique() > 5


def test_the_same_photographs_in_another_process():
    "No randomness from the clock, from hashes or from the order of imports."
    code = (
        "import numpy as np, hashlib; from fashion_lab.synthetic import ClosureDrawer, "
        "PairDrawer;"
        "d = ClosureDrawer(20, 5, 32); p = PairDrawer(2, 5, 32);"
        "print(hashlib.sha256(d[:4].tobytes() + p.left[:].tobytes() + "
        "repr(d.items.values.tolist()).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, '-c', code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, 'PYTHONHASHSEED': h},
        ).stdout.strip()
        for h in '1'
    }
    d, p = ClosureDrawer(20, 5, 32), PairDrawer(2, 5, 32)
    digests.add(
        hashlib.sha256(
            d[:4].tobytes() + p.left[:].tobytes() + repr(d.items.values.tolist()).encode()
        ).hexdigest()
    )
    assert len(digests) == 1


# Pairs of photos


def test_pairs_share_their_identity_and_nothing_else():
    d = PairDrawer(6, 2, 48)
    left, right = d.left[:], d.right[:]
    assert left.shape == right.shape == (18, 48, 48, 3)
    assert not any((a == b).all() for a, b in zip(left, right))
    # a shoe per pair, a scene per person
    assert (
        len({d.pair(i)[0] for i in range(18)}) == 18 and len({d.pair(i)[1] for i in range(18)}) == 6
    )
    assert d.items.groupby('person').gender.nunique().max() == 1
    assert set(d.items.gender) == {'m', 'w'}
    assert (d.items.source == 'synthetic').all()
    for i in range(18):
        shoe, hall, view = d.pair(i)
        assert d.items.gender[i] == 'w' or shoe.kind not in ('pump', 'ballerina')
        assert (d.shoe(i, 'left') == left[i]).all()
        assert (d[i][1] == right[i]).all()
        assert view == d.pair(3 * (i // 3))[2]


def test_more_people_change_nothing():
    one, many = PairDrawer(2, 7, 32), PairDrawer(5, 7, 32)
    assert many.items.iloc[:6].equals(one.items)
    assert (one.left[:] == many.left[:6]).all()
    assert (one.right.at(40)[[3]] == many.right.at(40)[[3]]).all()
    left, right, items = synthetic_shoe_pairs(2, 7, 32)
    assert (left == one.left[:]).all()
    assert (right == one.right[:]).all()
    assert items.equals(one.items)
    assert PairDrawer(3, pairs_per_person=1).items.person.tolist() == [0, 1, 2]
    assert len(PairDrawer(2, pairs_per_person=5)) == 10
    assert (pickle.loads(pickle.dumps(one.left))[3] == one.left[3]).all()
    assert (one[[1, 2]][1] == one.right[1:3]).all()


def test_two_shoes_of_a_pair_resemble_each_other():
    """The colours of the middle of the picture are nearer within a pair than between pairs, on
    average."""
    d = PairDrawer(30, 3, 32)
    left, right = (a[:][:, 8:24, 8:24].reshape(90, -1, 3).mean(1) for a in (d.left, d.right))
    other = np.arange(90) // 3 * 3 + (np.arange(90) + 1) % 3
    assert np.abs(left - right).mean() * 1.3 < np.abs(left - right[other]).mean()


@pytest.mark.parametrize(
    'call,says',
    [
        (lambda: ClosureDrawer(5), 'n must be a whole number of at least 6, got 5'),
        (lambda: ClosureDrawer(10.0), 'got 10.0'),
        (lambda: ClosureDrawer(seed=-1), 'seed must'),
        (lambda: PairDrawer(0), 'n_people must'),
        (lambda: PairDrawer(2, pairs_per_person=0), 'pairs_per_person must'),
        (lambda: PairDrawer(2, size=8), 'size must'),
        (lambda: PairDrawer(2).shoe(0, 'inner'), "unknown side 'inner'"),
        (lambda: synthetic_shoe_pairs(True), 'got True'),
        (lambda: synthetic_closures(n='many'), "got 'many'"),
    ],
)
def test_data_sets_that_cannot_be(call, says):
    with pytest.raises(ValueError) as e:
        call()
    assert says in str(e.value)
