"""The data lab: drawn photos throughout; nothing here needs a data set."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from fashion_lab.data.registry import open_set
from fashion_lab.labs import data_facts
from fashion_lab.widgets.data import browse


@pytest.fixture(scope='module')
def lab():
    from fashion_lab.labs import data_prep

    return data_prep


@pytest.fixture(scope='module')
def done(lab, tmp_path_factory):
    "(folder of runs, the smoke profile's sweep on drawn clothing)"
    from fashion_lab.runs.sweeps import sweep

    root = tmp_path_factory.mktemp('runs')
    return root, sweep(lab.run, lab.configs('smoke', data='clothing'), lab.LAB, root)


def test_smoke_profile_is_done_once_and_says_synthetic(lab, done):
    from fashion_lab.runs.sweeps import sweep

    root, first = done
    assert (len(first.runs), len(first.failures), first.skipped) == (3, 0, 0)
    again = sweep(lab.run, lab.configs('smoke', data='clothing'), lab.LAB, root)
    assert again.skipped == 3
    assert [r.name for r in again.runs] == [r.name for r in first.runs]
    assert set(first.table().source) == {'synthetic'}
    assert set(lab.comparison(first.runs).source) == {'synthetic'}


def test_a_stopped_run_leaves_nothing_finished_and_starts_again(lab, tmp_path, monkeypatch):
    from fashion_lab.runs.run import find_run

    cfg = lab.configs('smoke', data='clothing', variants='grouped-folds')[0]
    with monkeypatch.context() as m:

        def pull(*args):
            raise KeyboardInterrupt

        m.setattr(lab, 'measure', pull)
        with pytest.raises(KeyboardInterrupt):
            lab.run(cfg, tmp_path)
    assert find_run(lab.LAB, cfg, tmp_path) is None
    run = lab.run(cfg, tmp_path)
    assert find_run(lab.LAB, cfg, tmp_path) == run
    assert run.info['attempts'] == 2


def test_same_configuration_same_predictions(lab, done, tmp_path):
    cfg = lab.Config(**done[1].runs[0].config)
    again = lab.run(cfg, tmp_path).predictions('test')
    assert np.allclose(again.probs, done[1].runs[0].predictions('test').probs, atol=1e-4)


def test_every_photo_is_predicted_once_by_a_model_that_has_not_seen_it(lab):
    "The labels of one fold are turned round; what is predicted for that fold does not notice."
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 8)).astype(np.float32)
    y = np.arange(120) % 3
    fold = rng.permutation(120) % 4
    probs, rows = lab.out_of_fold(x, y, fold, 3)
    other = np.where(fold == 2, (y + 1) % 3, y)
    changed, _ = lab.out_of_fold(x, other, fold, 3)
    assert np.allclose(probs[fold == 2], changed[fold == 2], atol=1e-6)
    assert not np.allclose(probs[fold != 2], changed[fold != 2], atol=1e-6)
    assert sum(r['test'] for r in rows) == 120
    assert all(r['train'] + r['test'] == 120 for r in rows)


def test_a_class_that_is_missing_from_the_training_folds_gets_no_probability(lab):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 4)).astype(np.float32)
    fold = np.arange(40) % 2
    y = np.where(fold == 0, 2, np.arange(40) // 2 % 2)  # class 2 stands in fold 0 only
    y[::4] = 0
    probs, _ = lab.out_of_fold(x, y, fold, 3)
    assert np.allclose(probs.sum(1), 1, atol=1e-5)
    assert (probs[fold == 0, 2] == 0).all()
    assert (probs[fold == 1, 2] > 0).all()


def test_folds_by_sender_share_no_sender_and_the_others_do(lab):
    shown = {}
    for cfg in lab.configs('smoke', data='clothing'):
        s = lab.photos_of(cfg)
        fold, _ = lab.assign_folds(s, cfg)
        assert set(fold) == set(range(cfg.folds))
        sides = pd.Series(fold).groupby(lab.contributors(s)).nunique()
        shown[cfg.variant] = int((sides > 1).sum()), lab.leakage(lab.contributors(s), fold)
    assert shown['grouped-folds'] == (0, 0)
    assert all(n > 5 and share > 0.5 for v, (n, share) in shown.items() if v != 'grouped-folds')


def test_the_control_has_blocks_as_large_as_the_senders(lab):
    cfg = next(c for c in lab.configs('smoke', data='clothing') if c.variant == 'shuffled-groups')
    s = lab.photos_of(cfg)
    who = np.random.default_rng(cfg.seed).permutation(lab.contributors(s))
    fold, _ = lab.assign_folds(s, cfg)
    assert pd.Series(fold).groupby(who).nunique().max() == 1  # the blocks stay together
    assert sorted(pd.Series(who).value_counts()) == sorted(
        pd.Series(lab.contributors(s)).value_counts()
    )


def test_a_planted_leak_is_found_and_an_independent_sender_is_none(lab):
    """Features that name the sender, senders that mostly have one class: random folds flatter,
    and folds by sender tell the truth."""
    from fashion_lab.data.folds import group_folds

    rng = np.random.default_rng(1)
    who = np.repeat(np.arange(30), 8)
    y = np.where(
        rng.random(240) < 0.9, np.repeat(rng.permutation(30) % 3, 8), rng.integers(3, size=240)
    )
    x = (rng.normal(size=(30, 40))[who] + 0.1 * rng.normal(size=(240, 40))).astype(np.float32)
    items = pd.DataFrame(dict(label=y))
    acc = {
        name: (
            lab.out_of_fold(x, y, group_folds(items, 5, g, 'label', 0), 3)[0].argmax(1) == y
        ).mean()
        for name, g in (('random', None), ('sender', who))
    }
    assert acc['random'] > 0.8 and acc['sender'] < 0.55


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=25), st.integers(1, 200))
def test_a_limit_keeps_whole_senders(sizes, limit):
    from fashion_lab.data.selection import whole_contributors

    who = np.repeat(np.arange(len(sizes)), sizes)
    kept = whole_contributors(who, limit)
    assert len(kept) <= limit and list(kept) == sorted(kept)
    left = np.bincount(who[kept], minlength=len(sizes))
    assert all(n in (0, k) for n, k in zip(left, sizes))
    # nobody who fits is left out
    assert not any(n == 0 and len(kept) + k <= limit for n, k in zip(left, sizes))


def test_report_has_a_page_with_tables_and_figures_that_say_synthetic(lab, done, tmp_path):
    page = lab.report(done[1].runs, tmp_path / 'report')
    text = page.read_text()
    assert page.name == 'index.html' and '(synthetic)' in text
    files = list(page.parent.glob('*.png'))
    assert len(files) >= 8
    assert all(f.name.endswith('-synthetic.png') and f'src="{f.name}"' in text for f in files)
    assert len(pd.read_csv(page.parent / 'comparison.csv')) == 3
    assert len(pd.read_csv(page.parent / 'significance.csv')) == 2
    # a single variant has no comparison
    assert lab.report(done[1].runs[:1], tmp_path / 'one').is_file()


def test_one_seed_has_no_spread_and_two_have(lab, done, tmp_path):
    from fashion_lab.runs.results import table

    assert set(lab.significance(done[1].runs).over) == {'senders'}
    both = ['grouped-folds', 'random-folds']
    more = [r for r in done[1].runs if r.variant in both] + [
        lab.run(c, tmp_path) for c in lab.configs('smoke', 2, both, data='clothing') if c.seed == 1
    ]
    told = lab.significance(more)
    assert set(told.over) == {'senders', 'seeds'}
    assert np.isclose(*told.difference)
    assert set(lab.significance(table(more)).over) == {'seeds'}


@pytest.mark.parametrize(
    'make, says',
    [
        (
            lambda lab: lab.configs('smoke', variants='groupd-folds'),
            "Did you mean 'grouped-folds'?",
        ),
        (lambda lab: lab.configs('smoke', data='facades'), 'unknown data'),
        (lambda lab: lab.configs('smoke', source='dreamt'), 'unknown source'),
        (lambda lab: lab.configs('tiny'), 'unknown profile'),
        (lambda lab: lab.configs('smoke', protocol='fast'), 'unknown protocol'),
        (lambda lab: lab.configs('smoke', seeds=1.5), 'whole number'),
        (lambda lab: lab.Config(folds=1), 'at least 2'),
        (lambda lab: lab.Config(C=0), 'above 0'),
        (lambda lab: open_set('shoes'), 'unknown data set'),
        (lambda lab: lab.plot_leak([]), 'run `fashion_lab run data_prep` first'),
        (lambda lab: browse('nothing', 'synthetic', runs=[]), 'unknown data set'),
    ],
)
def test_a_mistake_is_one_sentence(lab, make, says):
    with pytest.raises(ValueError) as e:
        make(lab)
    assert says in str(e.value) and '\n' not in str(e.value)


def test_missing_photos_are_missing_and_never_drawn_instead(lab, tmp_path, monkeypatch):
    from fashion_lab.data.cards import MissingData
    from fashion_lab.data.registry import at_hand

    monkeypatch.setenv('FASHION_LAB_DATA', str(tmp_path))
    monkeypatch.setenv('FASHION_LAB_CACHE', str(tmp_path / 'cache'))
    assert not at_hand('clothing', tmp_path / 'nowhere')
    with pytest.raises(MissingData):
        open_set('clothing', path=tmp_path / 'nowhere')
    assert data_facts.overview(['clothing'], path=tmp_path / 'nowhere').source.tolist() == [
        'not at hand'
    ]
    assert {c.source for c in lab.configs('quick', data_path=str(tmp_path / 'nowhere'))} == {
        'synthetic'
    }
    # asked for: an error later, not a drawing
    assert {
        c.source for c in lab.configs('quick', source='real', data_path=str(tmp_path / 'nowhere'))
    } == {'real'}


def test_photos_of_nobody_cannot_be_dealt_by_sender(lab):
    from dataclasses import replace
    from fashion_lab.data.cards import DataError

    s = lab.photos_of(lab.configs('smoke', data='clothing')[0])
    with pytest.raises(DataError, match='column sender_id'):
        lab.contributors(replace(s, items=s.items.drop(columns='sender_id'), group=None))


def test_copies_on_both_sides_of_a_split_are_found(lab):
    from fashion_lab.data.image_table import ImageTable

    s = open_set('fashion_mnist', 'synthetic', n=300)
    images = s.images.copy()
    images[-1] = images[0]
    images[5] = images[4]
    t = data_facts.copies(ImageTable(s.items, images, s.classes, s.name, s.source))
    pairs = set(zip(t.a, t.b, t.straddles))
    assert (s.ids[0], s.ids[-1], True) in pairs
    assert (
        s.ids[4],
        s.ids[5],
        s.items.split[4] != s.items.split[5],
    ) in pairs


def test_browser_buttons_change_the_picture(lab, done):
    look = browse('clothing', 'synthetic', runs=done[1].runs, rows=2, columns=4)
    first = look.image.value
    assert first[:8] == b'\x89PNG\r\n\x1a\n'
    assert look.back.disabled
    assert not look.on.disabled
    look.on.click()
    second = look.image.value
    assert second != first and look.number == 1
    look.back.click()
    assert look.image.value == first
    look.class_box.value = 'Hat'
    assert look.number == 0
    assert set(look.set.labels[look.rows()]) == {look.set.classes.index('Hat')}
    look.class_box.value = 'all'
    look.wrong_box.value = True
    p = look.predictions
    assert len(look.rows()) == (~p.correct).sum()
    assert look.image.value != first
    look.name_box.value = 'facades'  # another set: its first page, and no run knows it
    assert look.set.name == 'facades'
    assert look.wrong_box.disabled
    assert not look.wrong_box.value
    assert look.image.value[:4] == b'\x89PNG'


def test_browser_says_when_a_set_is_not_there(lab, tmp_path, monkeypatch):
    look = browse('clothing', 'synthetic', runs=[], rows=1, columns=3)
    look.source, look.path = 'real', tmp_path / 'nowhere'
    look.name_box.value = 'facades'
    assert 'nowhere' in look.note.value and look.image.value == b''
    look.on.click()  # nothing to turn: no error


def test_a_page_shows_a_figure_where_nobody_can_press_a_button(lab, monkeypatch):
    look = browse('facades', 'synthetic', runs=[], rows=1, columns=4)
    monkeypatch.setattr('fashion_lab.widgets.base.is_interactive', lambda: False)
    assert set(look._repr_mimebundle_()) == {'image/jpeg', 'text/plain'}
    monkeypatch.setattr('fashion_lab.widgets.base.is_interactive', lambda: True)
    assert any('widget' in kind for kind in look._repr_mimebundle_())


def test_seeds_that_all_say_the_same_are_no_spread():
    from fashion_lab.runs.results import COLUMNS
    from fashion_lab.labs.leak_tables import significance

    rows = [
        dict(
            data='clothing',
            source='real',
            protocol='pixels',
            variant=v,
            seed=seed,
            split='test',
            metric='weighted_f1',
            value=value,
            n=100,
        )
        for v, value in (('grouped-folds', 0.5), ('random-folds', 0.6))
        for seed in range(3)
    ]
    told = significance(pd.DataFrame(rows, columns=COLUMNS))
    assert told.verdict.tolist() == ['no spread']
