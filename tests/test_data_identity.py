"""A result answers for the data that it was made with: other folders, changed folders and the
published sets are never taken for one another."""

import json
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from fashion_lab.data.cards import DataError, MissingData
from fashion_lab.data.masks import load_masked
from fashion_lab.data.registry import load_photos
from fashion_lab.runs.config import config_digest
from fashion_lab.runs.run import all_runs, find_run
from fashion_lab.runs.results import publish, read_results, report_folder
from fashion_lab.labs.registry import lab_module, LABS
from fashion_lab.studio import cli
from fashion_lab.data import folders as data_folders
from fashion_lab.data import digests as data_digests
from fashion_lab.data import identity as data_identity
from fashion_lab.labs import closures
from fashion_lab.labs import cross_validation as photo_folds
from fashion_lab.labs import photo_base as photo_lab
from fashion_lab.labs import segmentation
from fashion_lab.labs import shoe_pairs

# Of each lab's first configuration on the published data, as they were when results were recorded
RECORDED_DIGESTS = {
    'data_prep/quick': '64fac364089e',
    'data_prep/full': '32bb60a743e2',
    'shoe_pairs/quick': '2ff0934110c9',
    'shoe_pairs/full': '23f66d2cc4ab',
    'fashion_mnist/quick': '196c65708db7',
    'fashion_mnist/full': '4647f69d6555',
    'photos/quick': '2e2935119eb6',
    'photos/full': '3ec8a8e75850',
    'clothing/quick': '9cac37135e84',
    'clothing/full': '8a02a73cf0c0',
    'closures/quick': 'a90458353bac',
    'closures/full': 'd6223c04b9f3',
    'segmentation/quick': 'cd997767c372',
    'segmentation/full': 'ecaa5ea9ac80',
    'compute_costs/quick': '2fccc0db3137',
    'compute_costs/full': '52288dda00c3',
    'compression/quick': '98074d43cfce',
    'compression/full': 'f3180fdc787e',
}
SHOES = dict(boots=(120, 60, 10), sandals=(200, 40, 40))
TOPS = dict(dresses=(20, 60, 200), hats=(40, 240, 40))


def save_picture(path, colour, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 30, (40, 30, 3))
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(path)


def folder_of_photos(folder, colours, n=8):
    "class/0.png and so on: a folder of photos of one's own."
    for k, (name, colour) in enumerate(colours.items()):
        for i in range(n):
            save_picture(folder / name / f'{i}.png', colour, 100 * k + i)
    return folder


def course_photos(folder, students=4):
    "The course layout of shoe pairs, three pairs a student."
    seed = iter(range(10_000))
    for part in ('train', 'test_m', 'test_w'):
        for s in range(1, students + 1):
            for pair in range(1, 4):
                for side in ('left', 'right'):
                    gender = part[-1] if part != 'train' else 'w'
                    save_picture(
                        folder / part / f'u{s:03d}_{pair}_{side}_{gender}.jpg',
                        (40 * pair, 60 * s, 90),
                        next(seed),
                    )
    return folder


def masked_photos(folder, n=12):
    "images/ and masks/ with two classes."
    for i in range(n):
        save_picture(folder / 'images' / f'{i}.png', (20 * i, 240 - 20 * i, 40 * (i % 6)), i)
        mask = np.zeros((40, 30), np.uint8)
        mask[i : i + 20] = 1
        (folder / 'masks').mkdir(exist_ok=True)
        Image.fromarray(mask).save(folder / 'masks' / f'{i}.png')
    return folder


def run_command(*args):
    return cli.main(
        ['run', *map(str, args), '--profile', 'smoke', '--device', 'cpu', '--threads', '1']
    )


@pytest.mark.parametrize('name', LABS)
def test_configurations_on_published_data_have_the_digests_of_the_recorded_runs(name):
    for profile in ('quick', 'full'):
        configs = lab_module(name).configs(profile, source='real')
        assert RECORDED_DIGESTS[f'{name}/{profile}'] in {config_digest(c, name) for c in configs}


@pytest.mark.parametrize('name', data_digests.PUBLISHED_ITEMS)
def test_published_sets_are_recognised(name):
    try:
        s = load_photos(name, size=None, download=False)
    except MissingData:
        pytest.skip(f'{name} is not on this machine')
    if 'CMP base layout' in ' '.join(s.notes):
        pytest.skip('the facades here are those of the base set')
    assert s.published and s.data_id() == ''


def test_another_folder_a_changed_folder_and_the_first_one_again(tmp_path, capsys):
    "What a stranger did: two folders of the same name, one after the other, then a photo more."
    shoes = folder_of_photos(tmp_path / 'a' / 'mine', SHOES)
    tops = folder_of_photos(tmp_path / 'b' / 'mine', TOPS)
    runs = tmp_path / 'runs'
    for own in (shoes, tops, shoes):
        assert (
            run_command('closures', '--source', own, '--variants', 'linear-probe', '--out', runs)
            == 0
        )
    assert '1 of them before' in capsys.readouterr().out
    first, second = all_runs(runs, 'closures')
    assert first.data_id != second.data_id
    assert {r.data_id.rpartition('@')[0] for r in (first, second)} == {'mine'}
    assert first.predictions('test').classes == ['boots', 'sandals']
    assert second.predictions('test').classes == ['dresses', 'hats']

    save_picture(shoes / 'boots' / 'new.png', SHOES['boots'], 7)
    assert (
        run_command('closures', '--source', shoes, '--variants', 'linear-probe', '--out', runs) == 0
    )
    assert len(all_runs(runs, 'closures')) == 3

    page = (report_folder(second) / 'index.html').read_text()
    assert 'mine' in page and 'Shoe closures' not in page

    assert cli.main(['report', 'closures', '--out', str(runs)]) == 2
    assert 'never mixed' in capsys.readouterr().err
    assert cli.main(['report', 'closures', '--source', str(tops), '--out', str(runs)]) == 0
    assert cli.main(['report', 'closures', '--source', second.data_id, '--out', str(runs)]) == 0
    assert cli.main(['report', 'closures', '--source', 'hers', '--out', str(runs)]) == 2
    with pytest.raises(ValueError, match='never mixed'):
        closures.report([first, second])


def test_results_of_own_photos_stay_out_of_the_published_file(tmp_path):
    # even where the folder is called like the published set
    own = folder_of_photos(tmp_path / 'closures', SHOES)
    assert (
        run_command(
            'closures', '--source', own, '--variants', 'linear-probe', '--out', tmp_path / 'runs'
        )
        == 0
    )
    files = publish(tmp_path / 'runs', tmp_path / 'results', allow_dirty=True)
    assert [f.name for f in files] == [
        f"closures-{all_runs(tmp_path / 'runs')[0].data_id.replace('@', '-')}.csv"
    ]
    assert set(read_results(files[0]).data) == {all_runs(tmp_path / 'runs')[0].data_id}


def test_a_profile_that_takes_a_part_says_so(tmp_path, capsys):
    own = folder_of_photos(tmp_path / 'mine', SHOES)
    assert (
        run_command(
            'closures', '--source', own, '--variants', 'linear-probe', '--out', tmp_path / 'runs'
        )
        == 0
    )
    assert '6 of 16 photos are evaluated: 1 of 3 folds' in capsys.readouterr().out


def test_one_process_notices_that_a_folder_has_changed(tmp_path):
    own = folder_of_photos(tmp_path / 'mine', SHOES)
    cfg = closures.configs('smoke', source='real', data_path=str(own))[0]
    before = photo_folds.photos_of(cfg)
    save_picture(own / 'boots' / 'new.png', SHOES['boots'], 7)
    assert len(photo_folds.photos_of(cfg)) == len(before) + 1
    named = before.data_id()
    with pytest.raises(DataError, match='this configuration is about mine@'):
        photo_folds.photos_of(
            photo_folds.Config(data='closures', data_path=str(own), data_id=named)
        )


def test_a_run_whose_photos_have_changed_shows_no_others(tmp_path):
    own = folder_of_photos(tmp_path / 'mine', SHOES)
    cfg = closures.configs('smoke', source='real', data_path=str(own), device='cpu')[0]
    run = closures.run(cfg, tmp_path / 'runs', show=False)
    assert 'samples' in photo_lab.figures(run)
    shutil.rmtree(own / 'boots')
    folder_of_photos(own, dict(boots=(1, 2, 3)))
    with pytest.raises(DataError, match='mine@'):
        photo_folds.photos_of_run(run)
    assert 'samples' not in photo_lab.figures(run)
    assert 'confusion' in photo_lab.figures(run)
    assert closures.report(run).is_file()


def test_a_run_from_before_data_had_names_answers_for_no_other_folder(tmp_path):
    "Its configuration says where the photos lay and not which they were."
    cfg = closures.configs('smoke', source='synthetic', device='cpu')[0]
    run = closures.run(cfg, tmp_path, show=False)
    assert find_run('closures', cfg, tmp_path) == run
    old = {k: v for k, v in run.config.items() if k != 'data_id'} | dict(data_path='somewhere')
    text = json.dumps(old)
    (run.path / 'config.json').write_text(text)
    info = json.loads((run.path / 'run.json').read_text())
    info['files']['config.json'] = dict(
        bytes=len(text), sha256=__import__('hashlib').sha256(text.encode()).hexdigest()
    )
    (run.path / 'run.json').write_text(json.dumps(info))
    assert find_run('closures', cfg, tmp_path) is None


def test_pairs_of_the_course_have_a_name_of_their_own(tmp_path, capsys):
    course = course_photos(tmp_path / 'course_photos')
    assert (
        run_command(
            'shoe_pairs', '--source', course, '--variants', 'cosine', '--out', tmp_path / 'runs'
        )
        == 0
    )
    run = all_runs(tmp_path / 'runs', 'shoe_pairs')[0]
    assert run.data.startswith('course_photos@')
    assert (
        config_digest(shoe_pairs.configs('smoke', 1, 'cosine', source='real')[0], 'shoe_pairs')
        != run.digest
    )
    assert 'course_photos@' in (report_folder(run) / 'index.html').read_text()


def test_masks_that_were_painted_over_are_other_data(tmp_path):
    own = masked_photos(tmp_path / 'streets')
    cfg = segmentation.configs('smoke', 1, 'unet', source='real', data_path=str(own), device='cpu')[
        0
    ]
    run = segmentation.run(cfg, tmp_path / 'runs', show=False)
    assert run.data.startswith('streets@')
    mask = own / 'masks' / '0.png'
    Image.fromarray(1 - np.array(Image.open(mask))).save(mask)
    assert config_digest(cfg, 'segmentation') != run.digest
    again = segmentation.run(cfg, tmp_path / 'runs', show=False)
    assert again.data_id != run.data_id


def age(folder):
    "Wait until changes of a folder are old enough for their time to tell them apart."
    newest = max(p.stat().st_ctime for p in [folder, *folder.rglob('*')])
    time.sleep(max(0, newest + 2.1 - time.time()))


def test_a_change_behind_a_link_is_noticed(tmp_path):
    "The published layout whose photos lie elsewhere: a folder that is a link is not walked."
    own = tmp_path / 'clothing'
    own.mkdir()
    folder_of_photos(tmp_path / 'elsewhere', dict(images=(9, 90, 200)))
    (own / 'images').symlink_to(tmp_path / 'elsewhere' / 'images')
    rows = [f'{i},{i % 4},{kind},False' for i, kind in enumerate(['Hat', 'Dress'] * 4)]
    (own / 'images.csv').write_text('\n'.join(['image,sender_id,label,kids', *rows]) + '\n')
    age(own.parent)
    before = data_identity.data_id_of('clothing', own)
    assert data_identity.data_id_of('clothing', own) == before
    save_picture(tmp_path / 'elsewhere' / 'images' / '0.png', (200, 1, 1), 99)
    assert data_identity.data_id_of('clothing', own) != before


def test_what_a_table_says_of_contributors_is_part_of_the_data(tmp_path):
    "Folds go by sender_id also where two people, too few for splits, sent all photos."
    folder_of_photos(tmp_path, SHOES)

    def identified(senders):
        rows = [f'{kind}/{i}.png,{kind},{senders[i]}' for kind in SHOES for i in range(8)]
        (tmp_path / 't.csv').write_text('\n'.join(['file,label,sender_id', *rows]) + '\n')
        return data_identity.data_id_of('closures', tmp_path / 't.csv')

    assert identified('aaaabbbb') != identified('abababab')
    before = identified('aaaabbbb')
    (tmp_path / 'notes.txt').write_text('a file beside the table')
    assert identified('aaaabbbb') == before
    shutil.copytree(tmp_path, tmp_path.parent / 'moved')
    assert data_identity.data_id_of('closures', tmp_path.parent / 'moved' / 't.csv') == before


def test_numbers_of_masks_that_mean_something_else_are_other_data(tmp_path):
    own = masked_photos(tmp_path / 'streets')

    def identified(text):
        (own / 'classes.csv').write_text(text)
        return data_identity.data_id_of('own', own, load_masked)

    assert identified('name,value\nwall,0\nsky,1\n') != identified('name,value\nwall,1\nsky,0\n')


def test_a_file_that_cannot_be_read_stops_nothing_and_is_noticed(tmp_path):
    """A file may vanish between listing and reading: the others go on, under a name that stands
    for no whole set."""
    own = folder_of_photos(tmp_path / 'mine', SHOES)
    photos = data_folders.load_folder(own, size=None)
    whole = photos.data_id()
    (own / 'boots' / '3.png').unlink()
    without = data_folders.load_folder(own, size=None).data_id()
    assert len({whole, without, photos.data_id()}) == 3


class FakeRun:
    "What `shown_run` looks at."

    def __init__(self, variant, score, seed=0, protocol='grouped-folds', n=100):
        self.variant = variant
        self.config = dict(protocol=protocol, seed=seed)
        self.metrics = dict(test=dict(weighted_f1=dict(value=score)), n=dict(test=n))


def test_held_out_scores_choose_no_network():
    lucky = FakeRun('last-stages', 0.99)
    flagship = FakeRun('logreg-448', 0.5)
    other_seed = FakeRun('logreg-448', 0.9, seed=1)
    assert photo_lab.shown_run([lucky, other_seed, flagship], 'logreg-448') is flagship
    assert (
        photo_lab.shown_run(
            [FakeRun('logreg-448', 0.9, protocol='random-folds'), lucky], 'logreg-448'
        )
        is lucky
    )
    few = FakeRun('logreg-448', 0.9, n=10)
    assert photo_lab.shown_run([few, lucky], 'logreg-448') is lucky


def test_without_validation_pairs_test_pairs_choose_no_network():
    def run(variant, test, seed=0):
        r = FakeRun(variant, 0, seed)
        r.metrics = dict(test=dict(macro_auc=dict(value=test)))
        return r

    chosen = run('siamese', 0.6)
    assert shoe_pairs.best_run([run('CNN', 0.99), chosen, run('siamese', 0.98, 1)]) is chosen
