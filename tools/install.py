"""Set the project up in .venv: the packages at the versions of constraints.txt, and Fashion-MNIST
where it can be had.

    python3 tools/install.py           do what is missing; takes no time when nothing changed
    python3 tools/install.py --data    the same, and look for Fashion-MNIST again

Runs with the system's Python before anything is installed, hence the standard library only.
"""

import configparser
import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# a change in these means: install again
DECIDE = [
    'settings.ini',
    'setup.py',
    'pyproject.toml',
    'constraints.txt',
    'tools/install.py',
]
DEBIAN_PACKAGE = 'dataset-fashion-mnist'


def say(text):
    print(text, flush=True)


def env_dir(root):
    return root / '.venv'


def interpreter(root):
    return env_dir(root) / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python')


def key(root):
    """What an installation depends on: the deciding files, where the checkout lies, and which
    Python makes the environment."""
    h = hashlib.sha256(repr((str(root), sys.version_info[:2])).encode())
    for name in DECIDE:
        if (root / name).exists():
            h.update(name.encode() + (root / name).read_bytes())
    return h.hexdigest()


def check_python(root, version=None):
    "Stop with a clear sentence when this Python is too old."
    version = tuple(version or sys.version_info[:3])
    cfg = configparser.ConfigParser(delimiters=['='])
    cfg.read(root / 'settings.ini', encoding='utf-8')
    least = cfg['DEFAULT']['min_python']
    if version >= tuple(int(p) for p in least.split('.')):
        return
    sys.exit(
        (
            'fashion_lab needs Python %s or newer, but %s is %s. Name another one, for instance: make '
            'test PYTHON=python%s'
        )
        % (least, sys.executable, '.'.join(map(str, version)), least)
    )


def usable(root):
    "Whether .venv was made here, by this version of Python, and still starts."
    pip = env_dir(root) / 'bin' / 'pip'
    if pip.exists() and str(env_dir(root)) not in pip.read_text(errors='replace').split('\n', 1)[0]:
        return False  # moved or copied
    ask = 'import sys, pip; print(*sys.version_info[:2])'
    try:
        out = subprocess.run([str(interpreter(root)), '-c', ask], capture_output=True, text=True)
    except OSError:
        return False
    return out.stdout.split() == [str(v) for v in sys.version_info[:2]]


def check_own(root):
    """Stop where .venv is a link or a file: to make an environment there would empty what the
    link leads to."""
    env = env_dir(root)
    if env.is_symlink():
        sys.exit(
            (
                '.venv is a link to %s, which may be the environment of another project. Remove the '
                'link, then try again.'
            )
            % os.readlink(env)
        )
    if env.exists() and not env.is_dir():
        sys.exit('.venv is a file, and the environment goes there. Move it away, then try again.')


def install(root):
    "Make .venv, if there is no usable one, and install the project into it."
    if not usable(root):
        say('Making .venv with Python %d.%d' % sys.version_info[:2])
        try:
            venv.create(env_dir(root), with_pip=True, clear=True, symlinks=os.name != 'nt')
        except Exception as e:
            sys.exit(
                (
                    'could not make .venv (%s). On Debian and Ubuntu: apt-get install '
                    'python3-venv, '
                    'then try again.'
                )
                % e
            )
    say('Installing fashion_lab and what it needs (the first time: about 7 GB and a few minutes)')
    command = [
        str(interpreter(root)),
        '-m',
        'pip',
        'install',
        '--disable-pip-version-check',
        '-c',
        'constraints.txt',
        '-e',
        '.[train,dev]',
    ]
    if not sys.stdout.isatty():
        command.insert(4, '-q')
    if subprocess.run(command, cwd=root).returncode:
        sys.exit(
            'the installation failed; what pip said is above. If the network was at fault, the '
            'same command goes on where it stopped.'
        )


LOOK = """
import json
try:
    from fashion_lab.data.cards import card
    from fashion_lab.data.fashion_mnist import find_files
    answer = str(find_files(card('fashion_mnist'), download=%s)), ''
except Exception as e: answer = '', f'{type(e).__name__}: {e}'
print(json.dumps(answer))
"""


def look(root, download=False):
    """(where Fashion-MNIST is or '', why not): asks fashion_lab itself, so that there is one
    order of places to look in."""
    out = subprocess.run(
        [str(interpreter(root)), '-c', LOOK % download], cwd=root, text=True, stdout=subprocess.PIPE
    )
    try:
        where, why = json.loads(out.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        where = ''
        why = f'the look-up ended with code {out.returncode}'
    return where, why


def apt_install(root):
    "'' when Debian's package with the data could be installed, else why not."
    if not Path('/etc/debian_version').exists() or not shutil.which('apt-get'):
        return 'this is not a Debian system'
    if os.geteuid() != 0:
        return f'installing {DEBIAN_PACKAGE} needs root: apt-get install {DEBIAN_PACKAGE}'
    say(f'Installing {DEBIAN_PACKAGE} with apt-get')
    env = dict(os.environ, DEBIAN_FRONTEND='noninteractive')
    for args in (
        ['update', '-qq'],
        ['install', '-y', '-qq', '--no-install-recommends', DEBIAN_PACKAGE],
    ):
        try:
            out = subprocess.run(
                ['apt-get', *args],
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=300,
            )
        except (OSError, subprocess.TimeoutExpired) as e:
            return f'apt-get {args[0]}: {e}'
        if out.returncode and args[0] == 'install':
            return (
                'apt-get install: '
                + ((out.stderr or out.stdout).strip().splitlines() or ['failed'])[-1]
            )
    return ''


def get_data(root):
    """Find Fashion-MNIST, or install it, or download it; otherwise say what could not be done,
    and go on."""
    where, why = look(root)
    if where:
        return where
    if not why.startswith('MissingData'):
        say(f'Fashion-MNIST could not be looked for: {why}')
        return ''
    apt = apt_install(root)
    if not apt:
        where, why = look(root)
    if not where:
        where, why = look(root, download=True)
    if not where:
        say(
            f'Fashion-MNIST is not here. By apt: {apt or "installed, but still not found"}. By '
            f'download: {why}'
        )
        say('Going on without it: what needs the real images says so. To try again: make data')
    return where


def main(root=ROOT, again=False):
    check_python(root)
    check_own(root)
    stamp = env_dir(root) / 'installed.json'
    want = key(root)
    try:
        done = json.loads(stamp.read_text())
    except (OSError, ValueError):
        done = {}
    if done.get('key') != want or not interpreter(root).exists():
        stamp.unlink(missing_ok=True)
        install(root)
        done = dict(key=want)
        stamp.write_text(json.dumps(done))
    if again or 'data' not in done:
        done['data'] = get_data(root)
        stamp.write_text(json.dumps(done))
        if done['data']:
            say(f"Fashion-MNIST: {done['data']}")
    return done


if __name__ == '__main__':
    main(again='--data' in sys.argv[1:])
