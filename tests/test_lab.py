"""The Fashion-MNIST lab and the command as processes: killed, interrupted, resumed, given
nonsense. Synthetic garments throughout."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shell import shell

DRIVER = """
import signal, sys

signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # a parent that ignores Ctrl-C (nohup, a background job) hands that down
from fashion_lab.labs import fashion_mnist as lab

cfg = lab.Config(
    variant='FashionCNN',
    profile='smoke',
    source='synthetic',
    limit=2000,
    epochs=4,
    average=0.9,
    device='cpu',
)
run = lab.run(cfg, sys.argv[1])
print(run.path)
"""
ENV = dict(os.environ, OMP_NUM_THREADS='1', FASHION_LAB_PROGRESS='0')


def start(root):
    return subprocess.Popen(
        [sys.executable, '-c', DRIVER, str(root)],
        env=ENV,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(root):
    from fashion_lab.runs.run import Run

    p = start(root)
    out, err = p.communicate(timeout=300)
    assert p.returncode == 0, err
    return Run(out.strip().splitlines()[-1])


def same_weights(a, b):
    "Whether two state dicts hold the same tensors, bit for bit."
    import torch

    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    return finish(tmp_path_factory.mktemp('whole'))


@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGINT], ids=['kill -9', 'Ctrl-C'])
def test_a_stopped_run_resumes_to_the_same_weights(tmp_path, undisturbed, how):
    from fashion_lab.runs.run import all_runs
    from fashion_lab.labs.fashion_mnist_variants import LAB

    p = start(tmp_path)
    deadline = time.time() + 240
    while not list(tmp_path.glob('*/.unfinished/*/checkpoint.pt')):
        assert p.poll() is None and time.time() < deadline, p.communicate()
        time.sleep(0.02)
    p.send_signal(how)
    p.communicate(timeout=180)
    assert p.returncode != 0
    assert all_runs(tmp_path, LAB) == []  # never looks finished
    resumed = finish(tmp_path)
    assert resumed.info['attempts'] == 2
    assert same_weights(resumed.weights(), undisturbed.weights())
    assert resumed.history.drop(columns='seconds').equals(
        undisturbed.history.drop(columns='seconds')
    )
    assert not list(tmp_path.glob('*/.unfinished/*/checkpoint.pt'))  # nothing left behind


def test_smoke_from_the_shell_prints_where_the_report_is_and_shows_no_bar(tmp_path):
    r = shell(
        'run',
        'fashion_mnist',
        '--profile',
        'smoke',
        '--source',
        'synthetic',
        '--device',
        'cpu',
        '--out',
        tmp_path,
    )
    assert r.returncode == 0, r.stderr
    page = Path(
        next(l for l in r.stdout.splitlines() if l.startswith('report:')).split(maxsplit=1)[1]
    )
    assert page.is_file() and 'synthetic' in page.read_text()
    assert '%|' not in r.stderr  # a log holds no progress bar
    assert len(list(page.parent.glob('*.png'))) >= 8


@pytest.mark.parametrize(
    'args, code, says',
    [
        (['run', 'nolab'], 2, 'unknown lab'),
        (['run', 'fashion_mnist', '--profile', 'huge'], 2, 'unknown profile'),
        (['run', 'fashion_mnist', '--variants', 'ResNet'], 2, 'unknown variant'),
        (
            [
                'run',
                'fashion_mnist',
                '--profile',
                'smoke',
                '--source',
                'synthetic',
                '--device',
                'abacus',
            ],
            2,
            'device',
        ),
        (
            [
                'run',
                'fashion_mnist',
                '--threads',
                '0',
                '--profile',
                'smoke',
                '--source',
                'synthetic',
            ],
            2,
            'at least 1',
        ),
        (['data', 'fashion_mnits', '--find'], 2, 'fashion_mnist'),
        (['data', 'fashion_mnist', '--find', '--source', 'no/such/folder'], 3, 'no/such/folder'),
        (['predict', 'fashion_mnist', 'photo.jpg', '--out', 'nothing-here'], 3, 'make lab'),
        (['report', 'fashion_mnist', '--out', 'nothing-here'], 3, 'no finished run'),
    ],
)
def test_a_mistake_is_one_sentence_and_an_exit_code(tmp_path, monkeypatch, args, code, says):
    monkeypatch.chdir(tmp_path)
    r = shell(*args)
    assert r.returncode == code, (r.stdout, r.stderr)
    assert says in r.stderr and 'Traceback' not in r.stderr
    # nothing half-written
    assert not [p for p in tmp_path.rglob('*') if p.is_file() and not p.name.endswith('.lock')]


def test_more_classes_than_logits(tmp_path):
    from fashion_lab.labs.fashion_mnist_variants import Config
    from fashion_lab.labs.fashion_mnist import run

    with pytest.raises(ValueError, match='5 logits, but the labels go up to 9'):
        run(
            Config(
                model='LogisticBaseline',
                options=(('classes', 5),),
                source='synthetic',
                limit=300,
                epochs=1,
                device='cpu',
            ),
            tmp_path,
        )


def test_corrupt_weights_are_named(undisturbed, tmp_path):
    import shutil
    from fashion_lab.runs.config import RunError
    from fashion_lab.runs.run import Run

    copy = tmp_path / undisturbed.name
    shutil.copytree(undisturbed.path, copy)
    f = copy / 'weights.safetensors'
    f.write_bytes(f.read_bytes()[:100])
    with pytest.raises(RunError, match='weights.safetensors'):
        Run(copy).weights()


def test_photos_of_every_kind_are_answered_and_a_text_file_is_reported(undisturbed, tmp_path):
    import numpy as np
    from PIL import Image
    from fashion_lab.labs.fashion_mnist import predict

    rng = np.random.default_rng(0)
    base = Image.fromarray(rng.integers(0, 60, (120, 90, 3), dtype=np.uint8))
    base.paste((250, 250, 250), (20, 30, 70, 110))
    files = []
    for mode, name in [
        ('RGB', 'a.jpg'),
        ('L', 'b.png'),
        ('RGBA', 'c.png'),
        ('P', 'd.png'),
        ('CMYK', 'e.jpg'),
        ('1', 'f.png'),
    ]:
        base.convert(mode).save(tmp_path / name)
        files.append(tmp_path / name)
    Image.fromarray((np.asarray(base.convert('L')).astype(np.uint16) * 257)).save(
        tmp_path / 'g.png'
    )
    files.append(tmp_path / 'g.png')
    base.save(tmp_path / 'h.gif', save_all=True, append_images=[base])
    files.append(tmp_path / 'h.gif')
    turned = base.getexif()
    turned[274] = 6
    base.save(tmp_path / 'i.jpg', exif=turned)
    files.append(tmp_path / 'i.jpg')
    (tmp_path / 'j.jpg').write_text('a letter')
    files.append(tmp_path / 'j.jpg')
    answers = predict(files, undisturbed)
    assert (answers.error[:-1] == '').all()
    assert answers.probability[:-1].between(0.1, 1).all()
    assert 'j.jpg' in answers.error.iloc[-1]
    assert answers.answer.iloc[-1] == ''
