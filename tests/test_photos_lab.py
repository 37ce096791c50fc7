"""The lab for photos of one's own: folders, tables with words of their own, a split that the user
made; every photo is evaluated, and every mistake that users make gets a sentence."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fashion_lab.data.cards import DataError, MissingData
from fashion_lab.data.clothing import load_own_photos
from fashion_lab.labs import closures
from fashion_lab.labs import clothing
from fashion_lab.labs import photos
from fashion_lab.labs import segmentation
from fashion_lab.labs.cross_validation import Config, photos_of
from fashion_lab.runs.run import all_runs
from fashion_lab.studio import cli

KINDS = ('Dress', 'Pants', 'Shoes')
PER_KIND = 12


@pytest.fixture(scope='module')
def garments(tmp_path_factory):
    "kind -> files of drawn garments, none like another."
    folder = tmp_path_factory.mktemp('garments')
    drawn = load_own_photos(source='synthetic', n=300, size=48)
    files = {}
    for kind in KINDS:
        rows = np.flatnonzero(drawn.labels == drawn.classes.index(kind))[:PER_KIND]
        files[kind] = [folder / f'{kind}-{k}.png' for k in range(len(rows))]
        for file, row in zip(files[kind], rows):
            Image.fromarray(drawn.images(48)[[row]][0]).save(file)
    assert all(len(f) == PER_KIND for f in files.values())
    return files


@pytest.fixture
def folders(garments, tmp_path):
    "A folder per class."
    for kind, files in garments.items():
        (tmp_path / 'wardrobe' / kind).mkdir(parents=True)
        for file in files:
            shutil.copy(file, tmp_path / 'wardrobe' / kind)
    return tmp_path / 'wardrobe'


def part_of(k):
    return 'test' if k < 3 else 'val' if k < 5 else 'train'


@pytest.fixture
def parts(garments, tmp_path):
    "Folders train, val and test with folders of classes."
    for kind, files in garments.items():
        for k, file in enumerate(files):
            (tmp_path / 'shop' / part_of(k) / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, tmp_path / 'shop' / part_of(k) / kind)
    return tmp_path / 'shop'


@pytest.fixture
def table(garments, tmp_path):
    "A table with semicolons and column names of its own; its photos lie elsewhere, without ending."
    home = tmp_path / 'sheet'
    (home / 'pictures').mkdir(parents=True)
    rows = []
    for kind, files in garments.items():
        for k, file in enumerate(files):
            shutil.copy(file, home / 'pictures')
            rows.append(
                dict(category=kind, person=f'p{k % 6}', filename=file.stem, part=part_of(k))
            )
    pd.DataFrame(rows).to_csv(home / 'stock.csv', sep=';', index=False)
    return home / 'stock.csv'


def run(*args):
    return cli.main(
        ['run', *map(str, args), '--profile', 'smoke', '--device', 'cpu', '--threads', '1']
    )


def smoke(source, root, lab=photos, **options):
    cfg = lab.configs('smoke', source=str(source), device='cpu', **options)[0]
    return lab.run(cfg, root, show=False)


def test_a_folder_gives_its_name_to_everything(folders, tmp_path, capsys):
    assert run('photos', '--source', folders, '--out', tmp_path / 'runs') == 0
    out = capsys.readouterr().out
    assert 'wardrobe@' in out and 'does not say who took the photos' in out
    (made,) = all_runs(tmp_path / 'runs', 'photos')
    assert made.data.startswith('wardrobe@')
    page = (tmp_path / 'runs' / 'photos').glob('report-*wardrobe*/index.html')
    assert 'wardrobe' in next(page).read_text()


def test_all_photos_are_evaluated(folders, tmp_path):
    "Not only the published set's number of photos or folds."
    for lab in (photos, clothing, closures):
        for cfg in lab.configs('quick', source=str(folders)):
            assert (cfg.take, cfg.limit, cfg.protocol) == (None, None, 'grouped-folds')
    cfg = photos.configs('smoke', source=str(folders), take=3, device='cpu')[0]
    made = photos.run(cfg, tmp_path / 'runs', show=False)
    assert made.metrics['n']['test'] == len(KINDS) * PER_KIND


@pytest.mark.parametrize('lab', (photos, clothing, closures))
def test_the_part_that_the_user_held_out_is_the_one_that_is_scored(parts, tmp_path, lab):
    made = smoke(parts, tmp_path / 'runs', lab)
    assert made.config['protocol'] == 'own-split'
    assert made.metrics['n'] == dict(test=9, valid=6)
    assert {i.split('/')[0] for i in made.predictions('test').ids} == {'test'}
    assert {i.split('/')[0] for i in made.predictions('valid').ids} == {'val'}


def test_without_a_test_part_the_validation_part_is_scored(parts, tmp_path):
    shutil.rmtree(parts / 'test')
    made = smoke(parts, tmp_path / 'runs')
    assert made.metrics['n'] == dict(test=6)
    assert 'those of valid are scored' in ' '.join(made.extra['warnings'])


def test_a_table_with_words_of_its_own(table, tmp_path, capsys):
    assert run('photos', '--source', table, '--split', 'part', '--out', tmp_path / 'runs') == 0
    assert "the columns label='category', group='person' are used" in capsys.readouterr().out
    (made,) = all_runs(tmp_path / 'runs', 'photos')
    assert made.metrics['n'] == dict(test=9, valid=6)
    assert made.predictions('test').classes == list(KINDS)
    named = photos.configs('smoke', source=table, label='part', image='filename', split='folds')[0]
    assert photos_of(named).classes == ['test', 'train', 'val']
    assert named.protocol == 'grouped-folds'


def test_a_split_may_be_ignored_on_purpose(parts):
    protocols = {
        mode: photos.configs(source=parts, split=mode)[0].protocol
        for mode in ('own', 'folds', 'holdout')
    }
    assert protocols == dict(own='own-split', folds='grouped-folds', holdout='hold-out')


def test_contributors_on_both_sides_are_said(table, tmp_path):
    made = smoke(table, tmp_path / 'runs', split='part')
    assert 'contributors have photos in training and among' in ' '.join(made.extra['warnings'])


def test_a_folder_of_the_hub(garments, tmp_path):
    "metadata.csv in each split folder, as the Hugging Face hub keeps images."
    for part, rows in dict(train=range(3, 12), test=range(3)).items():
        (tmp_path / 'hub' / part).mkdir(parents=True)
        listed = []
        for kind, files in garments.items():
            for k in rows:
                shutil.copy(files[k], tmp_path / 'hub' / part)
                listed.append(dict(file_name=files[k].name, label=kind))
        pd.DataFrame(listed).to_csv(tmp_path / 'hub' / part / 'metadata.csv', index=False)
    made = smoke(tmp_path / 'hub', tmp_path / 'runs')
    assert made.metrics['n'] == dict(test=9)
    assert made.data.startswith('hub@')


def test_parquet(table, tmp_path):
    pytest.importorskip('pyarrow')
    frame = pd.read_csv(table, sep=';')
    frame.to_parquet(table.with_suffix('.parquet'))
    cfg = photos.configs('smoke', source=table.with_suffix('.parquet'), label='category')[0]
    assert len(photos_of(cfg)) == len(frame)


def test_parquet_without_its_library_says_which(table, monkeypatch):
    def missing(path):
        raise ImportError('no engine')

    monkeypatch.setattr(pd, 'read_parquet', missing)
    table.with_suffix('.parquet').write_bytes(b'PAR1')
    with pytest.raises(DataError, match='needs pyarrow: pip install pyarrow'):
        photos_of(Config(data='photos', data_path=str(table.with_suffix('.parquet'))))


def test_settings_of_the_recipe_from_the_command_line(folders, tmp_path):
    cfg = photos.configs(
        source=folders, size=96, fit='pad', backbone='efficientnet_lite1', variants='last-stages'
    )[0]
    assert (cfg.recipe.size, cfg.fit, cfg.recipe.backbone) == (96, 'pad', 'efficientnet_lite1')
    assert cfg.recipe.weights == 'packaged'
    with pytest.raises(ValueError, match='leave epochs out, or choose a variant'):
        photos.configs(source=folders, epochs=3)
    squeezed = photos_of(photos.configs('smoke', source=folders, fit='squash')[0])
    assert squeezed.fit == 'squash'


MISTAKES = {  # what: (source, options, words of the sentence, the lab)
    'a flat folder': ('flat', [], 'a folder per class, or give a CSV'),
    'a path that is not there': ('nowhere', [], 'there is no folder or table at|is empty|allowed'),
    'a folder of text files': ('notes', [], 'put photos into class folders, or give a CSV'),
    'an empty table': ('nothing', [], 'has columns, but no items'),
    'a column that is not there': (
        'table',
        ['--label', 'colour'],
        "lacks the column 'colour'; it has",
    ),
    'columns of a folder': ('folders', ['--label', 'kind'], 'its folders are the classes'),
    'no column of classes': ('files', [], '--label'),
    'several labels': ('labels', [], 'this lab learns one class per photo'),
    'a column per class': ('classes', [], 'a column of 0 and 1 per class'),
    'photos that are not there': ('moved', [], 'none of|does not exist'),
    'photos that are broken': ('broken', [], 'broken|cannot be read|not an image'),
    'one class': ('single', [], 'class'),
    'a split that is not there': ('folders', ['--split', 'own'], 'brings no split of its own'),
    'a split that says nothing': (
        'table',
        ['--split', 'category'],
        'allowed are train, valid, test',
    ),
    'two ways to split': (
        'parts',
        ['--split', 'own', '--protocol', 'random-folds'],
        'give one of them',
    ),
    'an unknown variant': ('folders', ['--variants', 'logregg'], 'logreg'),
    'an unknown backbone': ('folders', ['--backbone', 'resnet51'], 'resnet50'),
    'an odd fit': ('folders', ['--fit', 'stretch'], 'allowed: crop, pad, squash'),
    'no pixels': ('folders', ['--size', '0'], 'size'),
    'epochs of what has none': (
        'folders',
        ['--epochs', '3', '--variants', 'logreg'],
        'leave epochs out',
    ),
    'photos without masks': ('folders', [], 'no photo in .* has a mask', 'segmentation'),
    'photos that are no pairs': ('folders', [], 'clothing dataset|left', 'shoe_pairs'),
}


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('what', MISTAKES)
def test_mistakes_that_users_make_get_a_sentence(what, folders, parts, table, tmp_path, capsys):
    kind, options, said, *lab = MISTAKES[what]
    places = dict(folders=folders, parts=parts, table=table)
    (tmp_path / 'flat').mkdir()
    for file in (folders / 'Dress').iterdir():
        shutil.copy(file, tmp_path / 'flat')
    (tmp_path / 'notes').mkdir()
    (tmp_path / 'notes' / 'a.txt').write_text('a photo')
    for name in ('Dress', 'Pants'):
        (tmp_path / 'broken' / name).mkdir(parents=True)
        (tmp_path / 'broken' / name / 'a.jpg').write_bytes(b'no photo')
    shutil.copytree(folders / 'Dress', tmp_path / 'single' / 'Dress')
    frame = pd.read_csv(table, sep=';')
    made = dict(
        labels=frame.assign(category=['Dress|Pants', 'Dress', 'Pants'] * 12),
        classes=frame[['filename']].assign(red=[0, 1] * 18, blue=[1, 0] * 18),
        files=frame[['filename']],
        moved=frame.assign(filename=[f'gone{k}.jpg' for k in range(36)]),
        nothing=frame.iloc[:0],
    )
    for name, rows in made.items():
        rows.to_csv(table.parent / f'{name}.csv', index=False)
        places[name] = table.parent / f'{name}.csv'
    source = places.get(kind, tmp_path / kind)
    lab = lab[0] if lab else 'photos'
    assert run(lab, '--source', source, '--out', tmp_path / 'runs', *options) in (2, 3)
    err = capsys.readouterr().err
    assert 'Traceback' not in err
    assert re.search(said, err), err


def test_columns_are_about_photos_of_ones_own(capsys):
    assert run('clothing', '--label', 'kind') == 2
    assert 'give their folder or table' in capsys.readouterr().err
    assert run('shoe_pairs', '--label', 'kind') == 2
    assert 'the lab shoe_pairs has no --label' in capsys.readouterr().err


def test_without_photos_the_lab_says_what_to_give(tmp_path):
    with pytest.raises(MissingData, match='Give a folder with a folder per class, or a table'):
        photos.prepare(photos.configs('full')[0])


def test_data_says_what_run_will_do(parts, folders, table, capsys):
    for place, said in (
        (parts, 'train 21, valid 6, test 9 photos'),
        (folders, '5 folds of single photos'),
        (table, '5 folds by sender_id'),
    ):
        assert cli.main(['data', 'photos', '--source', str(place)]) == 0
        assert said in capsys.readouterr().out


@pytest.fixture
def pretrained():
    "The weights of the usual backbone; a test that asks for them is skipped where there are none."
    from fashion_lab.models.weights import packaged_file

    try:
        packaged_file('efficientnet_lite0')
    except FileNotFoundError:
        pytest.skip('the weights of efficientnet_lite0 are not on this machine')


def test_the_network_that_answers_was_trained_on_all_photos(parts, tmp_path, capsys, pretrained):
    args = ['photos', '--source', str(parts), '--size', '64', '--out', str(tmp_path / 'runs')]
    assert cli.main(['run', *args, '--threads', '1', '--device', 'cpu']) == 0
    out = capsys.readouterr().out
    assert 'trained on all 36 photos' in out and 'on 9 held-out photos (own-split)' in out
    (final,) = all_runs(tmp_path / 'runs', 'photos_final')
    (evaluated,) = all_runs(tmp_path / 'runs', 'photos')
    assert photos.chosen_run(tmp_path / 'runs') == final
    assert final.extra['evaluation']['metrics'] == evaluated.metrics['test']
    assert final.extra['trained_on'] == 36
    # the threshold of the evaluated network, and a feature space of its own
    spaces = [r.extra['answers']['features'] for r in (evaluated, final)]
    assert spaces[0]['threshold'] == spaces[1]['threshold']
    assert not [k for k, v in final.metrics.items() if isinstance(v, dict) and k != 'n']
    photo = next((parts / 'test' / 'Dress').iterdir())
    assert cli.main(['predict', 'photos', str(photo), '--out', str(tmp_path / 'runs')]) == 0
    assert f'evaluated as {evaluated.name}' in capsys.readouterr().out
    folder = tmp_path / 'exported'
    assert cli.main(['export', 'photos', '--out', args[-1], '--folder', str(folder)]) == 0
    facts = json.loads((folder / 'photos.json').read_text())
    assert facts['evaluation']['run'] == evaluated.name and facts['lab'] == 'photos'


def test_smoke_tests_and_drawings_train_no_final_network(folders, tmp_path):
    made = smoke(folders, tmp_path / 'runs')
    assert photos.lab.final([made], tmp_path / 'runs') is None


def test_a_finished_run_is_evaluated_on_labelled_photos(folders, parts, table, tmp_path, capsys):
    made = smoke(folders, tmp_path / 'runs')
    (parts / 'train' / 'Dress').rename(parts / 'train' / 'robe')
    shutil.rmtree(parts / 'val')
    shutil.rmtree(parts / 'test')

    def evaluate(source, *options):
        code = cli.main(['evaluate', str(made.path), '--source', str(source), *options])
        said = capsys.readouterr()
        return code, said.out + said.err

    code, said = evaluate(parts / 'train')
    assert code == 2 and "does not know 'robe'; it knows Dress, Pants, Shoes" in said
    code, said = evaluate(parts / 'train', '--classes', 'robe=Dress')
    assert code == 0, said
    assert 'robe as Dress' in said and '21 of the 21 photos are those that the run was made' in said
    page = next((tmp_path / 'runs' / 'photos').glob('evaluate-*/index.html'))
    assert 'balanced_accuracy' in page.read_text() and (page.parent / 'confusion.png').exists()
    code, said = evaluate(table, '--label', 'category')
    assert code == 0 and '36 items of stock@' in said
    assert evaluate(tmp_path / 'nowhere')[0] in (2, 3)


def test_runs_are_listed_shown_removed_and_made_again(folders, tmp_path, capsys):
    out = ['--out', str(tmp_path / 'runs')]
    args = ('photos', '--source', folders, '--variants', 'logreg', *out)
    assert run(*args) == 0 and run(*args) == 0
    assert len(all_runs(tmp_path / 'runs', 'photos')) == 1
    assert run(*args, '--force') == 0
    first, second = all_runs(tmp_path / 'runs', 'photos')
    assert first.digest == second.digest
    assert cli.main(['runs', *out]) == 0
    assert second.name in capsys.readouterr().out
    assert cli.main(['runs', 'show', second.name, *out]) == 0
    assert 'variant: logreg' in capsys.readouterr().out
    assert cli.main(['runs', 'remove', first.name, second.name, *out]) == 1
    assert cli.main(['runs', 'remove', first.name, second.name, '--yes', *out]) == 0
    assert all_runs(tmp_path / 'runs', 'photos') == []


def test_a_search_ends_with_the_command_that_runs_what_it_found(
    parts, tmp_path, capsys, pretrained
):
    options = ['--size', '64', '--device', 'cpu']
    storage = [
        '--storage',
        str(tmp_path / 'studies.db'),
        '--trials',
        '2',
        '--space',
        'head_c=.01,.1',
    ]
    assert cli.main(['search', 'photos', '--source', str(parts), *options, *storage]) == 0
    said = capsys.readouterr().out.strip().splitlines()[-1]
    assert said.startswith(
        f'fashion_lab run photos --source {parts} --variants logreg --set head_c='
    )
    cfg = photos.configs(source=parts, variants='logreg', head_c=0.1)[0]
    assert (cfg.recipe.head_c, cfg.variant) == (0.1, 'logreg head_c=0.1')


def test_labs_without_a_search_say_so(capsys):
    assert cli.main(['search', 'shoe_pairs']) == 2
    assert 'has no search' in capsys.readouterr().err


def rimmed(folder, n=12):
    "Photos with masks of two classes; a rim of 255 around the object is neither."
    for sub in ('images', 'masks'):
        (folder / sub).mkdir(parents=True)
    for k in range(n):
        # one colour each: photos of like colours count as one house
        colours = np.full((40, 40, 3), (20 * k, 240 - 20 * k, 40 * (k % 6)), np.uint8)
        Image.fromarray(colours).save(folder / 'images' / f'{k}.png')
        mask = np.zeros((40, 40), np.uint8)
        mask[6:30, 6:30] = 255
        mask[10:26, 10:26] = 1
        Image.fromarray(mask).save(folder / 'masks' / f'{k}.png')
    return folder


@pytest.mark.parametrize('ignore', (None, 255))
def test_pixels_of_no_class_count_nowhere(tmp_path, ignore):
    options = {} if ignore is None else dict(ignore_index=ignore)
    source = rimmed(tmp_path / 'rims')
    cfg = segmentation.configs('smoke', 1, 'unet', source=str(source), device='cpu', **options)[0]
    made = segmentation.run(cfg, tmp_path / 'runs', show=False)
    counted = segmentation.evaluated_on(made).confusion
    shares = [c.sum() / cfg.size**2 for c in counted]
    assert len(made.extra['classes']) == (3 if ignore is None else 2)
    assert all(s == 1 for s in shares) if ignore is None else max(shares) < 0.9
    assert segmentation.report(made).is_file()


def test_ignore_index_is_about_masks_of_ones_own(capsys):
    assert run('segmentation', '--ignore-index', '255') == 2
    assert 'ignore_index is for masks of your own' in capsys.readouterr().err
    assert run('photos', '--ignore-index', '255') == 2
    assert 'has no --ignore-index' in capsys.readouterr().err
