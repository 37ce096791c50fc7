"""Shoe pairs: that nothing but the shoes says whether two belong together, and what people's
folders look like. All photos here are drawn (synthetic) and tiny."""

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from fashion_lab.data.cards import DataError, MissingData
from fashion_lab.data.course import course_name, course_split
from fashion_lab.data.locate import ARCHIVES
from fashion_lab.data.clothing import shoe_annotations
from fashion_lab.data.pair_items import make_pairs, NEGATIVES
from fashion_lab.data.pairs import cut_boxes, load_shoe_pairs, read_course

pytestmark = pytest.mark.filterwarnings('ignore:the groups do not allow', 'ignore:.*too few for')


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    monkeypatch.delenv('FASHION_LAB_DATA', raising=False)
    monkeypatch.setenv('FASHION_LAB_CACHE', str(tmp_path / 'cache'))
    for name in list(ARCHIVES):
        monkeypatch.delitem(ARCHIVES, name)


# Right and wrong

OWNERS = st.lists(st.integers(0, 8), min_size=4, max_size=60)


def cupboard(owners, seed=0, splits=2):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        dict(
            pair=[f'q{k:03d}' for k in rng.permutation(len(owners))],
            person=owners,
            split=[f's{o % splits}' for o in owners],
            turn=np.where(rng.random(len(owners)) < 0.8, 'v', 'h'),
            image_left=[f'L{k}' for k in range(len(owners))],
            image_right=[f'R{k}' for k in range(len(owners))],
            box_right=[(k, k) for k in range(len(owners))],
            floor=list(rng.random((len(owners), 3))),
        )
    )


@settings(max_examples=50, deadline=None)
@given(OWNERS, st.integers(0, 50), st.sampled_from(NEGATIVES), st.booleans(), st.booleans())
def test_pairs_are_balanced_and_nothing_else_tells(owners, seed, negatives, match, near):
    shoes = cupboard(owners, seed)
    args = negatives, seed, ('turn',) if match else (), 'floor' if near else ''
    try:
        items = make_pairs(shoes, *args)
    except DataError as e:
        assert 'has a partner' in str(e)
        assert negatives != 'both' or shoes.groupby(['split', *args[2]]).person.nunique().max() == 1
        return
    at = shoes.set_index('pair')
    assert items.id.is_unique
    assert (items.groupby('split').same.mean() == 0.5).all()
    assert set(items.label) == {0, 1}
    assert (items.same == (items.label == 1)).all()
    for r in items.itertuples():
        mine, other = at.loc[r.pair], at.loc[r.pair_right]
        assert r.image_left == mine.image_left
        assert r.image_right == other.image_right
        assert r.box_right == other.box_right
        assert mine.split == other.split == r.split
        assert (r.pair == r.pair_right) == r.same
        assert not match or mine.turn == other.turn
        if r.same:
            assert r.negative == ''
        else:
            assert r.negative == ('same_person' if mine.person == other.person else 'easy')
    if negatives != 'both':  # every image as often right as wrong, and every person, too
        assert (items.groupby('image_left').same.mean() == 0.5).all()
        assert items[~items.same].image_right.is_unique
    if negatives == 'same_person':
        assert (items.groupby('image_right').same.agg(['sum', 'size']) == [1, 2]).all(axis=None)
        assert (items.groupby('person').same.mean() == 0.5).all()
    if negatives == 'easy':
        assert 'same_person' not in set(items.negative)
    assert make_pairs(shoes.sample(frac=1, random_state=seed), *args).equals(items)


def test_near_pairs_share_their_floor():
    rng = np.random.default_rng(0)
    tone = rng.permutation(np.repeat([0.0, 1.0], 20))
    shoes = cupboard([1] * 40).assign(
        floor=[np.array([t, t]) + rng.normal(0, 0.01, 2) for t in tone]
    )
    at = shoes.assign(tone=tone).set_index('pair').tone

    def across(near):
        items = make_pairs(shoes, near=near)
        wrong = items[~items.same]
        return int((at[wrong.pair].to_numpy() != at[wrong.pair_right].to_numpy()).sum())

    # a ring crosses between two floors there and back, no more
    assert across('floor') == 2 and across('') > 10


# Cut photos


def clothing(folder, n=40, drop=()):
    """Photos of the annotated ids in the published layout: the left half red, the right half
    blue, on a floor of the sender's."""
    notes = shoe_annotations().query('cut == cut')
    notes = pd.concat(
        [
            notes[notes.sender_id == 204].head(n // 2),
            notes[notes.sender_id == 227].head(n // 4),
            notes[notes.split == 'h'].head(n // 4),
            notes[notes.sender_id == 150],
        ]
    ).drop_duplicates('image')
    (folder / 'images').mkdir(parents=True)
    for k, r in enumerate(notes.itertuples()):
        w, h = (60, 80) if k % 7 else (80, 60)
        a = np.zeros((h, w, 3), np.uint8)
        at = round(r.cut * (w if r.split == 'v' else h))
        if r.split == 'v':
            a[:, :at], a[:, at:] = (200, 0, 0), (0, 0, 200)
        else:
            a[:at], a[at:] = (200, 0, 0), (0, 0, 200)
        Image.fromarray(a).save(folder / 'images' / f'{r.image}.jpg', quality=95, subsampling=0)
    (folder / 'images.csv').write_text(
        'image,sender_id,label,kids\n'
        + ''.join(f'{r.image},{r.sender_id},Shoes,False\n' for r in notes.itertuples())
    )
    return notes


@pytest.mark.parametrize('size', [32, 33])
def test_photos_are_cut_where_they_say(tmp_path, size):
    notes = clothing(tmp_path / 'c')
    s = load_shoe_pairs(tmp_path / 'c', size=size, valid_frac=0.2, test_frac=0.2)
    left, right = s.left(), s.right()
    assert left.shape == right.shape == (len(s), size, size, 3)
    assert s.kind == 'pairs'
    assert s.source == 'real'
    assert set(s.items.turn) == {'v', 'h'}
    for k in range(len(s)):
        white = [(x[k] == 255).all(-1) for x in (left, right)]
        # the border is the same for all: it tells nothing
        assert np.array_equal(*white) and abs(white[0].mean() - 0.5) < 0.06
        inside = ~white[0]
        inside[:, [0, -1]] = inside[[0, -1]] = False
        assert np.median(left[k][inside][:, 0]) > 150
        assert np.median(left[k][inside][:, 2]) < 60
        assert np.median(right[k][inside][:, 2]) > 150
    assert s.items.groupby('person').split.nunique().max() == 1
    assert len(s) == 2 * s.items.same.sum()
    assert 'share one exposure' in s.notes[0]
    assert s.problems.problem.str.contains('annotated but does not exist').sum() == 334 - len(notes)
    again = load_shoe_pairs(tmp_path / 'c', size=size, valid_frac=0.2, test_frac=0.2)
    assert again.items.equals(s.items)
    assert np.array_equal(pickle.loads(pickle.dumps(left))[[3, 1]], left[[3, 1]])
    part = s.part('train')
    assert np.array_equal(part.right()[:3], right[np.flatnonzero(s.items.split == 'train')[:3]])


def test_wrong_pairs_come_from_photos_of_one_shape(tmp_path):
    clothing(tmp_path / 'c')
    items = load_shoe_pairs(tmp_path / 'c', size=16).items
    at = items[items.same].set_index('pair')[['turn', 'shape']]
    wrong = items[~items.same]
    assert (at.loc[wrong.pair].to_numpy() == at.loc[wrong.pair_right].to_numpy()).all()
    assert set(items['shape']) == {'upright', 'wide'}


def test_a_photo_that_cannot_be_read_takes_its_pair_with_it(tmp_path):
    notes = clothing(tmp_path / 'c')
    bad = notes.image.iloc[3]
    file = tmp_path / 'c' / 'images' / f'{bad}.jpg'
    file.write_bytes(file.read_bytes()[:200])
    s = load_shoe_pairs(tmp_path / 'c', size=16)
    assert bad not in set(s.items.pair) | set(s.items.pair_right)
    assert f'images/{bad}.jpg' in set(s.problems.file)
    assert s.left()[:].shape[0] == len(s)


def test_cuts_outside_of_the_photo():
    for cut in (0, 1, -1, 1.5, float('nan')):
        with pytest.raises(ValueError, match=r'cut must lie in \(0, 1\)'):
            cut_boxes('v', cut)


# The course layout


def course(
    folder, students=dict(train=113, test_m=10, test_w=10), name='u{s:03d}_{p}_{side}_{g}.jpg'
):
    for split, n in students.items():
        (folder / split).mkdir(parents=True)
        for s in range(1, n + 1):
            g = split[-1] if split.startswith('test_') else 'mw'[s % 2]
            for p in (1, 2, 3):
                for k, side in enumerate(('left', 'right')):
                    Image.new('RGB', (8, 8), (s, 80 * p, 100 * k)).save(
                        folder / split / name.format(s=s, p=p, side=side, g=g), 'PNG'
                    )
    return folder


def test_the_whole_course(tmp_path):
    "678 + 60 + 60 files, PNG under the name of JPEG."
    s = load_shoe_pairs(course(tmp_path / 'shoes'), size=8)
    assert len(list((tmp_path / 'shoes').rglob('*.jpg'))) == 798
    assert not len(s.problems)
    counts = s.counts()
    assert counts.loc['same'].equals(counts.loc['different'])
    assert counts[['test_m', 'test_w']].to_numpy().tolist() == [[30, 30]] * 2
    assert counts[['train', 'valid']].to_numpy().sum() == 2 * 339
    assert 40 <= counts.valid.same <= 60
    assert s.splits == ['train', 'valid', 'test_m', 'test_w']
    assert s.items.person.nunique() == 133
    assert s.items.groupby('person').split.nunique().max() == 1
    assert set(s.part('test_m').items.gender) == {'m'}
    left, right = s.left()[:], s.right()[:]
    same = (left[:, 4, 4, :2] == right[:, 4, 4, :2]).all(1)
    # wrong: the same person, another pair
    assert (
        np.array_equal(same, s.items.same)
        and (left[:, 4, 4, 0] == right[:, 4, 4, 0]).all()
        and (right[:, 4, 4, 2] == 100).all()
    )
    easy = load_shoe_pairs(tmp_path / 'shoes', negatives='easy', size=8)
    wrong = ~easy.items.same
    assert (easy.left()[:][wrong][:, 4, 4, 0] != easy.right()[:][wrong][:, 4, 4, 0]).all()
    assert len(easy) == len(s)
    assert set(load_shoe_pairs(tmp_path / 'shoes', negatives='both', size=8).items.negative) == {
        '',
        'easy',
        'same_person',
    }


@pytest.mark.parametrize(
    'file,said',
    [
        ('u001_1_left_w.jpg', (1, 1, 'left', 'w')),
        ('U001_1_LEFT_W.JPG', (1, 1, 'left', 'w')),
        ('u001_1_  left_w .png', (1, 1, 'left', 'w')),
        ('u 17_2_right_m.jpeg', (17, 2, 'right', 'm')),
        ('u001-1-left-f.jpg', (1, 1, 'left', 'w')),
        ('u1_1_left_male.jpg', (1, 1, 'left', 'm')),
        ('u001_1_left.jpg', None),
        ('u001_1_middle_w.jpg', None),
        ('001_1_left_w.jpg', None),
        ('u001_1_left_x.jpg', None),
        ('u001_1_left_w', None),
        ('u001_1_left_w (2).jpg', None),
    ],
)
def test_names(file, said):
    assert course_name(file) == said


def test_folders_as_they_are_in_the_wild(tmp_path):
    f = course(tmp_path / 's', dict(train=6, test_m=2, test_w=2))
    t = f / 'train'
    (t / 'u001_1_left_w.jpg').rename(t / 'u001_1_left   _w.JPG')
    (t / 'u002_3_right_m.jpg').rename(t / 'u002_3_right_m.png')
    Image.new('RGBA', (9, 5), (1, 2, 3, 0)).save(t / 'u002_1_left_m.jpg', 'PNG')
    (t / 'u003_2_right_w.jpg').unlink()
    (t / 'u004_1_left_m.jpg').write_text('no image')
    (t / 'notes.txt').write_text('x')
    (t / 'selfie.jpg').write_bytes((t / 'u005_1_left_w.jpg').read_bytes())
    (t / 'u006_1_left_m.jpg').write_bytes(b'')
    (f / 'test_w').rename(f / 'TEST_W')
    (f / 'old').mkdir()
    (f / 'old' / 'u001_1_left_w.jpg').write_bytes((t / 'selfie.jpg').read_bytes())
    s = load_shoe_pairs(f, size=8, valid_frac=0)
    said = s.problems.set_index('file').problem
    assert set(said.index) == {
        'old/u001_1_left_w.jpg',
        'train/u003',
        'train/u004_1_left_m.jpg',
        'train/selfie.jpg',
        'train/u006',
        'train/u006_1_left_m.jpg',
    }
    assert 'lacks 2_right' in said['train/u003']
    assert 'name of another kind' in said['train/selfie.jpg']
    assert 'is empty' in said['train/u006_1_left_m.jpg']
    assert s.items[s.items.split == 'train'].groupby('person').same.sum().to_dict() == {
        'train-u001': 3,
        'train-u002': 3,
        'train-u004': 2,
        'train-u005': 3,
    }
    # transparency is laid on white
    assert (
        s.left()[int(np.flatnonzero(s.items.image_left == 'train/u002_1_left_m.jpg')[0])] == 255
    ).all()


@pytest.mark.parametrize(
    'named',
    [
        lambda s, n: f'data/shoes/{s}/{n}',
        lambda s, n: f"{s.replace('_', '-').title()}/{n}",
        lambda s, n: f"{dict(test_m='test_male', test_w='test_female').get(s, s)}/{n}",
        lambda s, n: f"{s.replace('_', '/')}/{n}",
        lambda s, n: f"{s.split('_')[0]}/{n}",
        lambda s, n: f"{s}/{n.split('_')[0]}/{n}",
        lambda s, n: f"{s}/{n.replace('_', '-').replace('-w.', '-f.')}",
    ],
)
def test_layouts_that_mean_the_same(tmp_path, named):
    """One folder more around it or for each student, other words for men and women, hyphens:
    the same pairs in the same parts."""
    f = course(tmp_path / 's', dict(train=4, test_m=2, test_w=2))
    expected = load_shoe_pairs(f, size=8, valid_frac=0.25)
    for p in sorted(f.rglob('*.jpg')):
        q = tmp_path / 'other' / named(p.parent.name, p.name)
        q.parent.mkdir(parents=True, exist_ok=True)
        p.rename(q)
    (tmp_path / 'other' / '__MACOSX' / 'train').mkdir(parents=True)
    (tmp_path / 'other' / '__MACOSX' / 'train' / '._u001_1_left_w.jpg').write_text('x')
    s = load_shoe_pairs(tmp_path / 'other', size=8, valid_frac=0.25)
    assert s.splits == ['train', 'valid', 'test_m', 'test_w']
    assert not len(s.problems)
    columns = ['id', 'person', 'gender', 'split', 'same']

    def by(t):
        return t[columns].sort_values('id', ignore_index=True)

    pd.testing.assert_frame_equal(by(s.items), by(expected.items))
    assert len(s.left()[:]) == len(s)


def test_a_course_with_a_part_to_choose_by(tmp_path):
    s = load_shoe_pairs(
        course(tmp_path / 's', dict(train=4, validation=2, test_m=1, test_w=1)), size=8
    )
    assert s.items[s.items.same].groupby('split').person.nunique().to_dict() == dict(
        train=4, valid=2, test_m=1, test_w=1
    )


def test_only_folders_of_shoes_are_the_course(tmp_path):
    "Deep below, or other files in folders of those names: it is not found by chance."
    course(tmp_path / 'a' / 'b' / 'c' / 'd', dict(train=1))
    (tmp_path / 'a' / 'train').mkdir()
    (tmp_path / 'a' / 'train' / 'cat.jpg').write_text('x')
    with pytest.raises(MissingData, match='has no folder train, test_m or test_w'):
        load_shoe_pairs(tmp_path / 'a', download=False)
    with pytest.raises(
        MissingData, match='shoes of one part only: give the folder that holds .* here .*d'
    ):
        load_shoe_pairs(tmp_path / 'a' / 'b' / 'c' / 'd' / 'train', download=False)
    assert [
        course_split(p)
        for p in (
            'u001_1_left_w.jpg',
            'train',
            'test/cat.jpg',
            'test/m/cat.jpg',
            'test/u001_1_left_w.jpg',
            'tests/u001_1_left_w.jpg',
        )
    ] == ['', '', '', 'test_m', 'test_w', '']


def test_nothing_usable(tmp_path):
    for p in course(tmp_path / 's', dict(train=3, test_m=1)).rglob('*_2_left_*'):
        p.unlink()
    with pytest.raises(DataError, match='no student in .* is complete: .*lacks 2_left'):
        load_shoe_pairs(tmp_path / 's')
    with pytest.raises(DataError):
        read_course(tmp_path / 's')
    with pytest.raises(MissingData) as e:
        load_shoe_pairs(download=False)
    for part in (
        'Shoe pairs was not found',
        'Clothing dataset was not found',
        'u001_1_left_w.jpg',
        "source='synthetic'",
    ):
        assert part in str(e.value), part
    with pytest.raises(MissingData):
        load_shoe_pairs(tmp_path / 'typo')


def test_own_table(tmp_path):
    course(tmp_path / 's', dict(train=4))
    table = pd.DataFrame(
        [
            dict(
                pair=f'{s}-{p}',
                person=s,
                image_left=f'train/u{s:03d}_{p}_left_{"mw"[s % 2]}.jpg',
                image_right=f'train/u{s:03d}_{p}_right_{"mw"[s % 2]}.jpg',
            )
            for s in range(1, 5)
            for p in (1, 2, 3)
        ]
        + [dict(pair='x', person=9, image_left='a.jpg', image_right='b.jpg')]
    )
    table.to_csv(tmp_path / 's' / 'pairs.csv', index=False)
    s = load_shoe_pairs(tmp_path / 's' / 'pairs.csv', size=8, valid_frac=0.25, test_frac=0.25)
    assert len(s) == 24
    assert set(s.splits) == {'train', 'valid', 'test'}
    assert s.problems.file.tolist() == ['a.jpg']
    assert (s.left()[:][:, 4, 4, 0] == s.right()[:][:, 4, 4, 0]).all()


# Drawn pairs


def test_drawn_pairs():
    s = load_shoe_pairs(source='synthetic', n=20, size=32)
    assert len(s) == 2 * 60
    assert (s.items.groupby('person').same.mean() == 0.5).all()
    assert s.items.groupby('person').split.nunique().max() == 1
    assert (s.items.source == 'synthetic').all()
    assert '**synthetic**' in s.report()
    assert {'train', 'valid', 'test_m', 'test_w'} == set(s.splits)
    assert set(s.part('test_w').items.gender) == {'w'}
    again = load_shoe_pairs(source='synthetic', n=20, size=32)
    assert again.items.equals(s.items)
    assert np.array_equal(s.left()[[3, 50]], again.left()[[3, 50]])
    assert np.array_equal(s.right(48)[7], again.right(48)[7])
    assert s.right(48)[7].shape == (48, 48, 3)
    by = s.items[s.items.same].set_index('pair').index
    one, wrong = np.flatnonzero(s.items.pair == by[0])
    assert s.items.same[one]
    assert np.array_equal(s.left()[one], s.left()[wrong])
    assert not np.array_equal(s.right()[one], s.right()[wrong])
    pickle.loads(pickle.dumps(s.left()))[3]
    assert (load_shoe_pairs(source='synthetic', n=20, size=None).items.id == s.items.id).all()


def own_table(tmp_path, **columns):
    "Six persons with three pairs each, and columns as given."
    for k in range(36):
        save_shoe(tmp_path / f'{k}.png', k)
    rows = [
        dict(
            pair=f'q{k:02d}',
            person=f'p{k // 3}',
            image_left=f'{2 * k}.png',
            image_right=f'{2 * k + 1}.png',
        )
        for k in range(18)
    ]
    return pd.DataFrame(rows).assign(**columns)


def save_shoe(path, k):
    Image.new('RGB', (8, 8), (7 * k, 20, 30)).save(path)


@pytest.mark.parametrize(
    'cells,message',
    [
        (
            ['train'] * 15 + [None] * 3,
            "names no split for 3 of its 18 rows; fill the column 'split'",
        ),
        (['train'] * 15 + [' '] * 3, 'names no split for 3'),
        (
            ['train'] * 15 + ['later'] * 3,
            (
                "names the splits 'later' in its column 'split'; allowed are train, valid, test_m, "
                "test_w, test"
            ),
        ),
    ],
)
def test_pairs_without_a_split_do_not_vanish(tmp_path, monkeypatch, cells, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        load_shoe_pairs(own_table(tmp_path, split=cells), size=8)


def test_splits_and_files_of_a_table_of_pairs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = own_table(
        tmp_path, split=['Train'] * 9 + ['DEV'] * 3 + ['test-w'] * 3 + ['Testing'] * 3
    )
    s = load_shoe_pairs(table, size=8)
    assert s.items.groupby('split').pair.nunique().to_dict() == dict(
        train=9, valid=3, test=3, test_w=3
    )
    assert load_shoe_pairs(table.assign(split=None), size=8).items.pair.nunique() == 18
    table.loc[0, 'image_left'], table.loc[4, 'image_right'], table.loc[8, 'image_right'] = (
        'n' * 300 + '.png',
        None,
        '~nobody_of_this_name/x.png',
    )
    s = load_shoe_pairs(table, size=8)
    assert s.items.pair.nunique() == 15
    assert s.problems.problem.tolist() == [
        'does not exist',
        'names one image only, or none',
        'does not exist',
    ]
    with pytest.raises(DataError, match='names no person for the pairs q03'):
        load_shoe_pairs(table.assign(person=['p0'] * 3 + [None] + ['p1'] * 14), size=8)


def test_students_whose_files_carry_both_tags_are_named(tmp_path):
    f = course(tmp_path / 's', dict(train=5, test_m=2, test_w=2))
    for side in ('left', 'right'):
        (f / 'train' / f'u001_2_{side}_w.jpg').rename(f / 'train' / f'u001_2_{side}_m.jpg')
    (f / 'train' / 'u003_1_right_w.jpg').rename(f / 'train' / 'u003_1_right_m.jpg')
    s = load_shoe_pairs(f, size=8, valid_frac=0)
    assert '1 of 27 pairs are left out' in s.notes[1]
    assert 'must agree in gender, and the pairs of train-u001 do not' in s.notes[1]
    assert s.problems.to_numpy().tolist() == [
        [
            'train/u003_1_right_m.jpg',
            'carries the tag m, and the left shoe of its pair the tag w: the left one counts',
        ]
    ]
