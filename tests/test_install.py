"""Setting up: idempotent, and a clear sentence for whatever is missing. Nothing is installed
here: the commands are replaced."""

import importlib.util
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import ROOT

spec = importlib.util.spec_from_file_location('install', ROOT / 'tools' / 'install.py')
install = importlib.util.module_from_spec(spec)
spec.loader.exec_module(install)


@pytest.fixture
def project(tmp_path):
    "A project with the files that decide about an installation."
    for name in install.DECIDE:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


@pytest.fixture
def installed(project, monkeypatch):
    "The project with an environment that looks finished, and a list of what `main` did."
    install.interpreter(project).parent.mkdir(parents=True)
    install.interpreter(project).touch()
    did = []
    monkeypatch.setattr(install, 'install', lambda root: did.append('install'))
    monkeypatch.setattr(install, 'get_data', lambda root: did.append('data') or 'somewhere')
    install.main(project)
    return project, did


def test_second_time_does_nothing(installed):
    project, did = installed
    install.main(project)
    assert did == ['install', 'data']


def test_a_linked_environment_is_not_emptied(project, tmp_path_factory, monkeypatch):
    other = tmp_path_factory.mktemp('other')
    (other / 'precious').touch()
    install.env_dir(project).symlink_to(other)
    monkeypatch.setattr(
        install.subprocess, 'run', lambda *args, **kwargs: pytest.fail('something was started')
    )
    with pytest.raises(SystemExit, match='is a link to .*Remove the link'):
        install.main(project)
    assert [f.name for f in other.iterdir()] == ['precious']


def test_a_file_in_the_place_of_the_environment(project):
    install.env_dir(project).touch()
    with pytest.raises(SystemExit, match='.venv is a file'):
        install.main(project)


@pytest.mark.parametrize('name', install.DECIDE)
def test_installs_again_when_a_deciding_file_changes(installed, name):
    project, did = installed
    (project / name).write_text((project / name).read_text() + '\n# changed\n')
    install.main(project)
    assert did == ['install', 'data'] * 2


def test_installs_again_when_python_or_folder_changes(project, tmp_path_factory, monkeypatch):
    before = install.key(project)
    monkeypatch.setattr(sys, 'version_info', (3, 99, 0))
    assert install.key(project) != before
    monkeypatch.undo()
    assert install.key(project) == before != install.key(tmp_path_factory.mktemp('elsewhere'))


def test_installs_again_when_interrupted(installed, monkeypatch):
    project, did = installed
    (project / 'constraints.txt').write_text('numpy==1\n')

    def broken(root):
        raise SystemExit('no network')

    monkeypatch.setattr(install, 'install', broken)
    with pytest.raises(SystemExit):
        install.main(project)
    monkeypatch.setattr(install, 'install', lambda root: did.append('repaired'))
    install.main(project)
    assert 'repaired' in did


def test_looks_for_data_again_on_request(installed):
    project, did = installed
    install.main(project, again=True)
    assert did == ['install', 'data', 'data']


def test_old_python_is_refused(project):
    install.check_python(project, (3, 11, 0))
    with pytest.raises(
        SystemExit, match=r'needs Python 3.11 or newer, but .* is 3.9.2.*PYTHON=python3.11'
    ):
        install.check_python(project, (3, 9, 2))


def test_a_moved_or_missing_environment_is_not_usable(project):
    assert not install.usable(project)
    (project / '.venv' / 'bin').mkdir(parents=True)
    install.interpreter(project).symlink_to(sys.executable)
    (project / '.venv' / 'bin' / 'pip').write_text('#!/elsewhere/.venv/bin/python\n')
    assert not install.usable(project)


def test_failed_pip_is_said(project, monkeypatch):
    monkeypatch.setattr(install, 'usable', lambda root: True)
    monkeypatch.setattr(subprocess, 'run', lambda *a, **k: SimpleNamespace(returncode=1))
    with pytest.raises(SystemExit, match='installation failed'):
        install.install(project)


def answers(monkeypatch, *found, apt=''):
    """Let the look-ups and apt answer as given, one after another; returns the list of what was
    asked."""
    asked, found = [], list(found)
    monkeypatch.setattr(
        install,
        'look',
        lambda root, download=False: (
            asked.append('download' if download else 'look') or found.pop(0)
        ),
    )
    monkeypatch.setattr(install, 'apt_install', lambda root: asked.append('apt') or apt)
    return asked


def test_data_that_is_there_needs_neither_apt_nor_network(project, monkeypatch):
    asked = answers(monkeypatch, ('data', ''))
    assert (install.get_data(project), asked) == ('data', ['look'])


def test_data_by_apt(project, monkeypatch):
    asked = answers(monkeypatch, ('', 'MissingData: not found'), ('data', ''))
    assert (install.get_data(project), asked) == ('data', ['look', 'apt', 'look'])


def test_data_by_download_where_apt_cannot(project, monkeypatch):
    asked = answers(
        monkeypatch, ('', 'MissingData: not found'), ('data', ''), apt='this is not a Debian system'
    )
    assert (install.get_data(project), asked) == ('data', ['look', 'apt', 'download'])


def test_no_data_is_said_and_set_up_goes_on(project, monkeypatch, capsys):
    answers(
        monkeypatch,
        ('', 'MissingData: not found'),
        ('', 'no network'),
        apt='installing dataset-fashion-mnist needs root',
    )
    assert install.get_data(project) == ''
    said = capsys.readouterr().out
    assert 'needs root' in said
    assert 'no network' in said
    assert 'make data' in said


def test_no_apt_because_of_a_broken_look_up(project, monkeypatch, capsys):
    asked = answers(monkeypatch, ('', 'ModuleNotFoundError: no module'))
    assert install.get_data(project) == ''
    assert asked == ['look']
    assert 'no module' in capsys.readouterr().out


def test_apt_needs_debian_and_root(project, monkeypatch):
    monkeypatch.setattr(install.shutil, 'which', lambda name: None)
    assert 'not a Debian system' in install.apt_install(project)
    monkeypatch.setattr(install.Path, 'exists', lambda self: True)
    monkeypatch.setattr(install.shutil, 'which', lambda name: name)
    monkeypatch.setattr(install.os, 'geteuid', lambda: 1000)
    assert 'needs root' in install.apt_install(project)


@pytest.mark.parametrize(
    'result, says',
    [
        (SimpleNamespace(returncode=0), ''),
        (
            SimpleNamespace(returncode=100, stderr='E: Unable to locate package', stdout=''),
            'Unable',
        ),
    ],
)
def test_apt_updates_once_then_installs(project, monkeypatch, result, says):
    calls = []
    monkeypatch.setattr(install.Path, 'exists', lambda self: True)
    monkeypatch.setattr(install.shutil, 'which', lambda name: name)
    monkeypatch.setattr(install.os, 'geteuid', lambda: 0)
    monkeypatch.setattr(subprocess, 'run', lambda command, **k: calls.append(command[1]) or result)
    assert says in install.apt_install(project)
    assert calls == ['update', 'install']


def test_look_reports_why(project):
    "Asked of a real interpreter that cannot import fashion_lab."
    (project / '.venv' / 'bin').mkdir(parents=True)
    install.interpreter(project).write_text('#!/bin/sh\nexec %s -S "$@"\n' % sys.executable)
    install.interpreter(project).chmod(0o755)
    where, why = install.look(project)
    assert where == '' and 'No module named' in why


def test_stamp_is_json(installed):
    project, _ = installed
    assert json.loads((project / '.venv' / 'installed.json').read_text())['data'] == 'somewhere'
