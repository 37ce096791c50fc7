"""`fashion_lab compute` as a process: what a model costs, for people and for files; nonsense is
one sentence and an exit code."""

from pathlib import Path

import pandas as pd
import pytest

from shell import shell

ROOT = Path(__file__).parents[1]


def compute(*args, cwd=None):
    return shell('compute', *args, cwd=cwd)


def test_a_table_for_people_and_for_files(tmp_path):
    r = compute(
        'resnet18',
        '--input',
        '3,64,64',
        '--repeats',
        1,
        '--threads',
        1,
        '--csv',
        'a/costs.csv',
        '--html',
        'costs.html',
        cwd=tmp_path,
    )
    assert (r.returncode, r.stderr) == (0, ''), r.stderr
    assert all(
        w in r.stdout
        for w in (
            'layer4.1.conv2',
            '11.69 M parameters',
            'uncounted: nothing',
            '435x435',
            'written: costs.html',
        )
    )
    assert 'nan' not in r.stdout
    t = pd.read_csv(tmp_path / 'a' / 'costs.csv')
    page = (tmp_path / 'costs.html').read_text()
    assert t.params.sum() == 11_689_512
    assert t.flops.sum() == 2 * t.macs.sum()
    assert (t.median_ms >= 0).all()
    assert 'layer4.1.conv2' in page
    assert str(tmp_path) not in page
    # nothing half-written
    assert sorted(p.name for p in tmp_path.rglob('*') if p.is_file()) == [
        'costs.csv',
        'costs.html',
    ]


@pytest.mark.parametrize(
    'args, says',
    [
        (('--input', '1,99999999,99999999'), 'takes 39,999,999.2 GB'),
        (('--input', '1,28,28', '--threads', '99999999999'), 'threads must be at most 1024'),
    ],
)
def test_too_much_is_one_sentence(args, says):
    r = compute('FashionCNN', *args)
    assert r.returncode == 2
    assert says in r.stderr
    assert len(r.stderr.splitlines()) == 1


@pytest.mark.parametrize('text', ['-' * 6000, '(' * 6000, '[' * 90 + ']' * 90, '1e999', '0x'])
def test_values_of_a_grid_are_numbers_or_words_whatever_is_typed(text):
    from fashion_lab.studio.sweep_command import parse_grid

    (value,) = parse_grid([f'lr={text}'])['lr']
    assert value == text or not isinstance(value, str)


def test_a_model_of_ones_own(tmp_path):
    (tmp_path / 'own_net.py').write_text(
        'import torch\nfrom torch import nn\nclass Both(nn.Module):\n    def __init__(self): '
        'super().__init__(); self.a = nn.Linear(4, 3)\n'
        '    def forward(self, x, y): return dict(out=torch.fft.fft(self.a(x) * y).abs())\n'
    )
    r = compute('own_net:Both', '--input', '4,4', '--input', '4,3', '--repeats', 0, cwd=tmp_path)
    assert r.returncode == 0, r.stderr
    assert '_fft_r2c x1' in r.stdout or '_fft_c2c x1' in r.stdout
    assert 'ms in layers' not in r.stdout
    assert '48 MACs = 96 FLOPs' in r.stdout
    assert 'measure it with `footprint`' in r.stdout


def test_an_input_without_places_has_costs_but_no_receptive_field(capsys):
    from fashion_lab.studio.cli import main

    assert main(['compute', 'LogisticBaseline', '--input', '784', '--repeats', '0']) == 0
    out = capsys.readouterr().out
    assert '7.84 k MACs' in out and 'needs an input with places' in out


@pytest.mark.parametrize(
    'args, says',
    [
        (['resnet81'], 'Did you mean'),
        (
            ['FashionCNN', '--input', '3,28,28'],
            "in the layer '0.0.0' (Conv2d), which was given (1, 3, 28, 28)",
        ),
        (['FashionCNN', '--input', '1,20,28'], "'4' (Linear)"),
        (['resnet18', '--input', '3,-8,8'], 'such as 3,224,224'),
        (['resnet18', '--input', '3;8;8'], 'such as 3,224,224'),
        (['no.where:net'], 'cannot be imported'),
        (['torch.nn:Linear'], 'cannot be called without arguments'),
        (['FashionCNN', '--input', '1,28,28', '--repeats', '-1'], 'repeats must be a whole number'),
        (['FashionCNN', '--input', '1,28,28', '--threads', '0'], 'at least 1'),
        (['FashionCNN', '--input', '1,28,28', '--input', '3,3'], 'positional'),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, monkeypatch, capsys, args, says):
    from fashion_lab.studio.cli import main

    monkeypatch.chdir(tmp_path)
    code = main(['compute', *args, '--csv', 'x.csv'])
    err = capsys.readouterr().err
    assert code == 2 and says in err and len(err.strip().splitlines()) == 1, err
    assert not list(tmp_path.rglob('*.csv'))


def test_under_torchrun_whole_runs_are_refused(tmp_path, monkeypatch, capsys):
    "Two processes that each make the same run would wait for each other's lock."
    from fashion_lab.studio.cli import main

    monkeypatch.setenv('WORLD_SIZE', '2')
    assert (
        main(
            [
                'run',
                'fashion_mnist',
                '--profile',
                'smoke',
                '--source',
                'synthetic',
                '--out',
                str(tmp_path),
            ]
        )
        == 2
    )
    assert 'call it without torchrun' in capsys.readouterr().err
    assert not list(tmp_path.rglob('run.json'))


@pytest.mark.parametrize(
    'value', [0.75, dict(value=0.75, low=0.7, high=0.8)], ids=['alone', 'with an interval']
)
def test_the_table_of_a_sweep_reads_what_labs_write(value):
    from types import SimpleNamespace as Some
    from fashion_lab.studio.sweep_command import sweep_table

    runs = [
        Some(
            config=dict(variant='a', lr=k),
            metrics=dict(valid=dict(accuracy=value), test=dict(accuracy=0.1)),
        )
        for k in (1, 1, 2)
    ]
    t = sweep_table(Some(), runs, ['lr'])
    assert t.columns.tolist() == ['variant', 'lr', 'runs', 'valid accuracy', 'sd']
    assert t.runs.tolist() == [2, 1]
    assert t['valid accuracy'].tolist() == [0.75, 0.75]


def test_a_setting_that_is_a_name_of_the_table_anyway():
    from types import SimpleNamespace as Some
    from fashion_lab.studio.sweep_command import sweep_table

    runs = [
        Some(config=dict(variant=v, seed=s), metrics=dict(valid=dict(accuracy=0.5)))
        for v in 'ab'
        for s in (0, 1)
    ]
    t = sweep_table(Some(), runs, ['variant', 'seed'])
    assert t.columns.tolist() == ['variant', 'seed', 'runs', 'valid accuracy', 'sd']
    assert len(t) == 4


def test_without_a_command_it_explains_itself(capsys):
    from fashion_lab.studio.cli import main

    assert main([]) == 2
    out = capsys.readouterr().out
    assert 'exit codes:' in out and 'fashion_lab run-all' in out


def test_all_labs_are_also_run_by_the_name_of_earlier_versions():
    from fashion_lab.studio.cli import parser

    new, old = (parser().parse_args([name, '--profile', 'smoke']) for name in ('run-all', 'tour'))
    assert new.f is old.f and new.profile == old.profile


def test_every_command_has_one_sentence_of_help():
    from fashion_lab.studio.cli import commands, first_sentence

    texts = [first_sentence(command) for command, _ in commands().values()]
    assert all(t and t[0].islower() and t[-1] != '.' and '\n' not in t for t in texts)


def test_what_fails_is_said_without_the_place_in_the_code(tmp_path):
    "And each line of a sweep names the settings that it stands for."
    r = shell(
        'sweep',
        'fashion_mnist',
        '--profile',
        'smoke',
        '--source',
        'synthetic',
        '--variants',
        'LogisticBaseline',
        '--device',
        'cpu',
        '--threads',
        1,
        '--out',
        tmp_path,
        '--grid',
        'epochs=0,1',
        'limit=300',
    )
    assert r.returncode == 1
    assert 'LogisticBaseline seed 0, epochs 1, limit 300: finished' in r.stdout
    assert r.stderr.strip() == (
        'fashion_lab: LogisticBaseline seed 0 failed: epochs must be a whole number of at '
        'least 1, got 0'
    )


def test_a_report_of_runs_that_do_not_belong_together(tmp_path, monkeypatch, capsys):
    from types import SimpleNamespace as Some
    from fashion_lab.studio import cli

    runs = [Some(config=dict(source='real', profile=p)) for p in ('quick', 'smoke')]
    monkeypatch.setattr('fashion_lab.runs.run.all_runs', lambda root, lab: runs)
    assert cli.main(['report', 'fashion_mnist', '--out', str(tmp_path)]) == 2
    assert 'choose with --profile quick or smoke' in capsys.readouterr().err


def test_whoever_reads_may_stop_reading():
    import subprocess
    import sys

    code = (
        'import sys; from fashion_lab.studio import cli; cli.cmd_list = lambda args: '
        '[print("line") for _ in range(200_000)] and 0; sys.exit(cli.main(["list"]))'
    )
    p = subprocess.Popen(
        [sys.executable, '-c', code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert p.stdout.readline() == 'line\n'
    p.stdout.close()
    assert (p.stderr.read(), p.wait(60)) == ('', 0)


def pictures(folder, *names):
    from PIL import Image

    for k, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new(
            'L' if 'mask' in name else 'RGB',
            (32, 32),
            k % 2 if 'mask' in name else (9 * k, 99, 200),
        ).save(folder / name)
    return str(folder)


def test_data_reads_a_folder_as_the_lab_does(tmp_path, monkeypatch, capsys):
    "Photos and masks are segmented, though they are no facades in a published layout."
    from fashion_lab.studio.cli import main

    monkeypatch.setenv('FASHION_LAB_CACHE', str(tmp_path / 'cache'))
    own = pictures(
        tmp_path / 'streets', *[f'{part}/{k}.png' for k in range(8) for part in ('images', 'masks')]
    )
    assert main(['data', 'facades', '--source', own]) == 0
    assert 'streets (real masks): ' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['fashion_mnist', 'clothing', 'closures', 'facades', 'shoe_pairs'])
def test_data_that_is_nowhere_is_an_error(tmp_path, monkeypatch, capsys, name):
    from fashion_lab.studio.cli import main

    for variable in ('FASHION_LAB_DATA', 'FASHION_LAB_CACHE'):
        monkeypatch.setenv(variable, str(tmp_path))
    if name == 'fashion_mnist':
        from fashion_lab.data import cards as data_cards
        from dataclasses import replace

        monkeypatch.setitem(data_cards.CARDS, name, replace(data_cards.CARDS[name], system=()))
    assert main(['data', name]) == 3
    out, err = capsys.readouterr()
    assert f'(`{name}`)' in out
    assert out.endswith('Not on this machine.\n')
    assert 'was not found in any of the places looked at' in err


def test_data_says_that_one_class_is_too_few(tmp_path, monkeypatch, capsys):
    from fashion_lab.studio.cli import main

    monkeypatch.setenv('FASHION_LAB_CACHE', str(tmp_path / 'cache'))
    own = pictures(tmp_path / 'mine', *[f'zip/{k}.png' for k in range(8)])
    assert main(['data', 'closures', '--source', own]) == 0
    assert (
        "mine has one class only, 'zip'; a classifier needs two at least" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    'lab,option,name,today',
    [
        ('closures', '--protocol', 'sender-folds', 'grouped-folds'),
        ('shoe_pairs', '--protocol', 'persons', 'grouped-split'),
        ('clothing', '--variants', 'linear-probe,tail', 'last-stages'),
    ],
)
def test_a_former_name_is_answered_with_todays(lab, option, name, today, capsys):
    from fashion_lab.studio.cli import main

    assert main(['run', lab, option, name]) == 2
    err = capsys.readouterr().err
    assert f'is called {today!r} now' in err and 'Did you mean' not in err
