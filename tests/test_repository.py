"""The rules of the project that a command can check. Nothing here changes the checkout: what
exports, cleans or runs does so in a copy."""

import ast
import configparser
import csv
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from conftest import NOT_SOURCES, NOTEBOOK_TIMES, ROOT, find_fashion_mnist
from notebook_process import run_notebook
from packaging.requirements import Requirement

sys.path.insert(0, str(ROOT / 'tools'))
import pages  # noqa: E402
import style  # noqa: E402

NOTEBOOKS = sorted(
    p.relative_to(ROOT / 'nbs').as_posix()
    for p in (ROOT / 'nbs').rglob('*.ipynb')
    if not any(part[0] in '._' for part in p.relative_to(ROOT / 'nbs').parts)
)
MODULES = sorted(
    p for p in (ROOT / 'fashion_lab').rglob('*.py') if p.name not in ('__init__.py', '_modidx.py')
)
BIN = Path(sys.executable).parent
each_notebook = pytest.mark.parametrize('notebook', NOTEBOOKS)


def settings(root=ROOT):
    cfg = configparser.ConfigParser(delimiters=['='])
    cfg.read(root / 'settings.ini', encoding='utf-8')
    return cfg['DEFAULT']


def read(notebook):
    return json.loads((ROOT / 'nbs' / notebook).read_text(encoding='utf-8'))


def source(cell):
    return ''.join(cell['source'])


def code_cells(notebook):
    return [c for c in read(notebook)['cells'] if c['cell_type'] == 'code']


def module_of(notebook):
    "`runs` or `labs.fashion_mnist`: what the notebook exports to, or None."
    found = [
        m[1]
        for c in code_cells(notebook)
        if (m := re.search(r'^#\s*\|\s*default_exp\s+(\S+)', source(c), re.M))
    ]
    return found[0] if found else None


def contents(folder, pattern='*'):
    "{path: digest} of the files below `folder`."
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob(pattern))
        if p.is_file() and '__pycache__' not in p.parts and p.name != '.last_checked'
    }


def differences(before, after):
    missing = [f'missing: {k}' for k in before if k not in after]
    new = [f'new: {k}' for k in after if k not in before]
    changed = [f'different: {k}' for k in before if k in after and before[k] != after[k]]
    return missing + new + changed


def run(command, cwd, timeout=300, **env):
    "Run a command in a copy, as on a machine without a user's own nbdev settings."
    env = dict(os.environ, XDG_CONFIG_HOME=str(cwd), **env)
    env.pop('IN_TEST', None)  # under which nbdev_export does nothing
    return subprocess.run(
        [str(c) for c in command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


# Notebooks and package say the same


def test_there_are_notebooks_and_modules():
    assert NOTEBOOKS and MODULES


def test_export_is_in_sync(copy):
    """Exporting into an emptied package gives exactly the modules that are there: none differs,
    is new, or has lost its notebook."""
    before = contents(copy / 'fashion_lab', '*.py')
    for path in (copy / 'fashion_lab').rglob('*.py'):
        if path.name != '__init__.py':
            path.unlink()
    done = run([BIN / 'nbdev_export'], copy)
    assert done.returncode == 0, done.stderr
    assert not differences(before, contents(copy / 'fashion_lab', '*.py')), (
        'run nbdev_export, and delete modules without a notebook'
    )


def test_notebooks_are_clean(copy):
    before = contents(copy / 'nbs')
    done = run([BIN / 'nbdev_clean'], copy)
    assert done.returncode == 0 and 'Warning' not in done.stderr, done.stderr
    assert not differences(before, contents(copy / 'nbs')), 'run nbdev_clean'


def test_readme_is_in_sync():
    assert not pages.stale(), 'run make readme'


def test_readme_opens_with_sentence_picture_table_and_two_commands():
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    opening = re.search(
        r'^# .+?\n\n> [^\n]+\n\n.*?!\[[^\]]+\]\((?P<picture>[^)]+)\).*?^\|.*?\|$.*?^```\w*\n(?P<commands>.*?)^```',
        text,
        re.S | re.M,
    )
    assert opening, (
        'README.md must open with one sentence, a picture with a description, the results table '
        'and a block of commands'
    )
    assert [line.split('#')[0].strip() for line in opening['commands'].splitlines()] == [
        'make lab',
        'make test',
    ]
    assert (ROOT / opening['picture']).exists()
    assert not [
        t
        for t in re.findall(r'\]\(([^)#\s]+)', text)
        if not re.match('[a-z]+:', t) and not (ROOT / t).exists()
    ], 'dead links'


# Every notebook by itself

PATHS = re.compile(
    r'(?<![\w.~<>-])(?:/root|/tmp|/work|/home/[\w.-]+|/Users/[\w.-]+|/var/folders|/private)/\w|\b[A-Z]:\\+Users\b'
)


def absolute_paths(text):
    "Places in `text` that name a folder of somebody's machine, this one's included."
    here = {str(ROOT.parent), str(Path.home()), tempfile.gettempdir()} - {'/'}
    return [m[0] for m in PATHS.finditer(text)] + [
        h for h in here if re.search(r'(?<![\w.~])' + re.escape(h) + r'/\w', text)
    ]


def test_absolute_paths_are_recognised():
    for bad in [
        '/root/x',
        '"/home/ann/data"',
        'in /tmp/a',
        r'C:\\Users\\ann',
        '/Users/ann/x',
        tempfile.gettempdir() + '/x',
    ]:
        assert absolute_paths(bad), bad
    for good in [
        '~/work/x',
        'https://example.org/home/ann/x',
        '/usr/share/datasets/fashion-mnist',
        'data/tmp/x',
        'a/b',
    ]:
        assert not absolute_paths(good), good


def faults(cell):
    "What a recorded output must not hold."
    for out in cell.get('outputs', []):
        data = out.get('data', {})
        text = ''.join(
            ''.join(v)
            for v in [
                out.get('text', ''),
                data.get('text/plain', ''),
                data.get('text/html', ''),
                data.get('text/markdown', ''),
            ]
        )
        if out['output_type'] == 'error':
            yield f"an error: {out.get('ename')}"
        if 'Traceback (most recent call last)' in text:
            yield 'a traceback'
        if any('widget' in mime for mime in data):
            yield 'a widget, which is dead in a page'
        if '<progress' in text or re.search(r'\d+%\|.*\| *\d+/\d+', text):
            yield 'a progress bar'


@each_notebook
def test_notebook_is_presentable(notebook):
    path = ROOT / 'nbs' / notebook
    nb = read(notebook)
    assert path.stat().st_size < 3_000_000, 'shrink its figures'
    assert not absolute_paths(path.read_text(encoding='utf-8'))
    assert not [(c['id'], f) for c in nb['cells'] for f in faults(c)]
    assert 'widgets' not in nb['metadata']
    ids = [c.get('id') for c in nb['cells']]
    assert all(ids) and len(ids) == len(set(ids)), 'cell ids must be there and unique'
    assert re.match(
        r'# .+\n\n> \S[^\n]*$', next(source(c) for c in nb['cells'] if c['cell_type'] == 'markdown')
    ), 'begin with a title and a one-sentence description'


@each_notebook
def test_imports_stand_apart(notebook):
    "A cell with an import holds nothing else, since building the documentation runs such cells."
    for cell in code_cells(notebook):
        text = re.sub(
            r'^[ \t]+[%!]', '    0 #', source(cell), flags=re.M
        )  # in a block, which stays one
        text = re.sub(r'^[%!].*$', '', text, flags=re.M)
        kinds = {isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.parse(text).body}
        assert len(kinds) < 2, f"cell {cell['id']} mixes imports with other code:\n{source(cell)}"


@each_notebook
def test_exported_code_is_shown_at_work(notebook):
    cells = [source(c) for c in code_cells(notebook)]
    exported = [s for s in cells if re.match(r'#\s*\|\s*export', s)]
    assert not [
        s for s in exported if len([line for line in s.splitlines() if line.strip()]) > 60
    ], 'an exported cell has more than 60 lines'
    assert len(exported) < 4 or [s for s in cells if re.search(r'\b(assert|test_\w+\()', s)], (
        'no example asserts anything'
    )


def runnable(notebook, flags):
    "How many code cells nbdev_test executes."
    skipped = set(settings()['tst_flags'].split()) - set(flags.split())
    given = [
        pages.directives(type('Cell', (), dict(cell_type='code', source=source(c))))
        for c in code_cells(notebook)
    ]
    return sum(not (d.keys() & skipped) and d.get('eval') != 'false' for d in given)


@pytest.fixture(scope='session')
def project(tmp_path_factory):
    "A copy of the project in which notebooks run; they leave nothing behind in it."
    copied = tmp_path_factory.mktemp('notebooks') / 'copy'
    shutil.copytree(ROOT, copied, ignore=NOT_SOURCES)
    before = contents(copied)
    yield copied
    assert not differences(before, contents(copied)), 'notebooks left something behind'


@each_notebook
def test_notebook_runs(notebook, project, request):
    flags = 'data' if find_fashion_mnist()[0] else ''
    start = time.perf_counter()
    passed, output = run_notebook(notebook, project, flags, timeout=1800)
    seconds = time.perf_counter() - start
    request.config.stash[NOTEBOOK_TIMES][notebook] = passed, seconds
    assert passed, output[-6000:]
    assert runnable(notebook, flags) or not code_cells(notebook), (
        'not one of its cells was executed'
    )


# The package


def test_versions_agree():
    import fashion_lab

    assert (
        fashion_lab.__version__
        == settings()['version']
        == importlib.metadata.version('fashion_lab')
    ), 'run make test again: it installs anew'


def test_settings_are_explicit():
    s = settings()
    want = dict(
        tst_flags='slow cuda data',
        custom_sidebar='True',
        update_pyproject='False',
        clean_ids='True',
        recursive='True',
        put_version_in_init='True',
        nbs_path='nbs',
        lib_path='fashion_lab',
        doc_path='_docs',
        readme_nb='index.ipynb',
        jupyter_hooks='False',
        clear_all='False',
    )
    assert {k: s.get(k) for k in want} == want
    assert not set(
        'repo lib_name version min_python license user author author_email description branch '
        'git_url doc_host doc_baseurl title '
        'keywords language status audience copyright black_formatting allowed_metadata_keys '
        'allowed_cell_metadata_keys skip_procs procs '
        'exporter strip_libs label_groups conda_user requirements dev_requirements console_scripts'.split()
    ) - set(s)


@pytest.mark.parametrize(
    'module',
    [
        '',
        '.core',
        '.synthetic.facades',
        '.data.registry',
        '.evaluate.bootstrap',
        '.runs.results',
        '.studio.cli',
    ],
)
def test_import_is_light(module):
    """What answers quickly must not load torch; how many seconds it takes is measured in
    benchmarks/."""
    heavy = 'torch torchvision fastai timm seaborn'.split()
    code = f'import sys, fashion_lab{module}; print(*[m for m in {heavy} if m in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ''), (
        f'fashion_lab{module} loads {done.stdout}{done.stderr}'
    )


# A module imports only from packages above its own in this list, or from earlier notebooks of its
# own package.
PACKAGES = (
    'core devices report arrays synthetic data evaluate cost plot models interpret runs train '
    'compress segment pairs '
    'export labs zoo widgets studio'
).split()


def rank(module, notebook):
    "Where a module stands: its package, then its notebook in the package."
    return PACKAGES.index(module.split('.')[0]), notebook


def named_modules(path):
    """Modules that the file imports by string, as in
    `import_module(f'fashion_lab.labs.{name}')`: the text before what is filled in."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if (
            not isinstance(node, ast.Call)
            or getattr(node.func, 'attr', getattr(node.func, 'id', '')) != 'import_module'
        ):
            continue
        first = node.args[0]
        if isinstance(first, ast.JoinedStr):
            first = first.values[0]
        text = getattr(first, 'value', '')
        if isinstance(text, str) and text.startswith('fashion_lab.'):
            yield text.removeprefix('fashion_lab.').rstrip('.')


def own_imports(path):
    """Pairs (module, name) that the file imports from fashion_lab anywhere, also inside of
    functions: ('data.cards', 'Card')."""
    package = ['fashion_lab', *path.relative_to(ROOT / 'fashion_lab').parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith('fashion_lab.'):
                    yield alias.name.removeprefix('fashion_lab.'), ''
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            stem = '.'.join(base + (node.module.split('.') if node.module else []))
            if stem.split('.')[0] != 'fashion_lab':
                continue
            stem = stem.removeprefix('fashion_lab').removeprefix('.')
            for alias in node.names:
                yield stem, alias.name


def module_name(path):
    return '.'.join(path.relative_to(ROOT / 'fashion_lab').with_suffix('').parts)


@pytest.fixture(scope='module')
def ranks():
    return {m: rank(m, n) for n in NOTEBOOKS if (m := module_of(n))}


def test_imports_only_look_up_the_list(ranks):
    wrong = []
    for path in MODULES:
        me = module_name(path)
        assert me in ranks, f'{me} has no notebook'
        for module, name in own_imports(path):
            target = f'{module}.{name}'.strip('.')
            if target not in ranks:
                target = module
            # a package's own `__init__.py` may lend names, but modules name the module that defines
            # them
            if module and target not in ranks:
                wrong.append(f'{me} imports {name} from the package {module}')
            if target in ranks and ranks[target] >= ranks[me]:
                wrong.append(f'{me} imports {target}')
        for target in named_modules(path):
            last = max(
                r for m, r in ranks.items() if m == target or m.startswith(target + '.') and m != me
            )
            if last >= ranks[me]:
                wrong.append(f'{me} imports {target} by its name')
    assert not wrong


def test_no_former_name_is_left_in_the_results():
    from fashion_lab.runs.former_names import names

    for file in sorted((ROOT / 'results').glob('*.csv')):
        with open(file, newline='', encoding='utf-8') as f:
            rows = list(csv.DictReader(f))
        if 'variant' not in rows[0]:
            continue
        for kind in ('variant', 'protocol', 'split', 'metric'):
            left = {row[kind] for row in rows if row[kind] in names(row['lab'], kind)}
            assert not left, f'{file.name} still has the {kind} {left}'


def test_no_former_name_is_left_in_the_pages():
    from fashion_lab.runs.former_names import RENAMED

    former = {name for kinds in RENAMED.values() for changed in kinds.values() for name in changed}
    # names of one word are words of the language, too
    coined = re.compile(
        '|'.join(
            rf'(?<![\w-]){re.escape(n)}(?![\w-])' for n in sorted(former) if re.search('[-_]', n)
        )
    )
    texts = {
        n: '\n'.join(map(source, read(n)['cells'])) for n in NOTEBOOKS if 'former_names' not in n
    }
    texts |= {
        name: (ROOT / name).read_text(encoding='utf-8') for name in ('README.md', 'CONTRIBUTING.md')
    }
    left = {name: found[0] for name, text in texts.items() if (found := coined.search(text))}
    assert not left


def test_no_module_uses_private_names_of_another():
    assert not [
        f'{module_name(path)}: {module}.{name}'
        for path in MODULES
        for module, name in own_imports(path)
        if name.startswith('_') and name != '__version__'
    ]


@pytest.mark.parametrize(
    'package', [p.parent.name for p in sorted((ROOT / 'fashion_lab').glob('*/__init__.py'))]
)
def test_packages_lend_names_that_exist(package):
    "Every name that a package lends is there, and importing the package loads none of its modules."
    code = (
        f'import sys, fashion_lab.{package} as p; before = [m for m in sys.modules if '
        'm.startswith(p.__name__ + ".")]; '
        'print(len(p.__all__), before, [n for n in p.__all__ if not hasattr(p, n)], '
        'set(p.__all__) - set(dir(p)))'
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    number, rest = done.stdout.split(' ', 1)
    assert rest.strip() == '[] [] set()' and int(number) <= 15


def names(requirements):
    return {re.sub(r'[-_.]+', '-', Requirement(r).name).lower() for r in requirements}


def pins():
    return dict(
        line.split('==')
        for line in (ROOT / 'constraints.txt').read_text().splitlines()
        if line and line[0] != '#'
    )


def imported_packages(node):
    if isinstance(node, ast.Import):
        return {alias.name.split('.')[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and not node.level:
        return {node.module.split('.')[0]}
    return set()


USER_EXTRAS = ('search', 'compute', 'scale', 'weights')


def test_tests_have_all_extras():
    "Whoever develops has what the extras for users bring."
    s = settings()
    dev = names(s['dev_requirements'].split())
    for kind in USER_EXTRAS:
        assert names(s[f'{kind}_requirements'].split()) <= dev, kind


def test_imports_are_required():
    """Everything that a module imports from elsewhere is among the requirements; what a
    function imports when it is called may also be in an extra for users."""
    providers = importlib.metadata.packages_distributions()
    missing = {}
    s = settings()
    need = names(s['requirements'].split() + s['train_requirements'].split())
    extra = need | names(r for kind in USER_EXTRAS for r in s[f'{kind}_requirements'].split())
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding='utf-8'))
        inside = {
            id(n)
            for f in ast.walk(tree)
            if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef))
            for n in ast.walk(f)
        }
        for node in ast.walk(tree):
            for top in imported_packages(node) - set(sys.stdlib_module_names) - {'fashion_lab'}:
                if not names(providers.get(top, [top])) & (extra if id(node) in inside else need):
                    missing.setdefault(top, path.name)
    assert not missing


def test_constraints_pin_what_is_required():
    lines = [
        line
        for line in (ROOT / 'constraints.txt').read_text().splitlines()
        if line and line[0] != '#'
    ]
    assert not [
        line for line in lines if not re.fullmatch(r'[\w.-]+==[\w.!+]+', line) or '+' in line
    ], 'name==version only, as PyPI has it'
    pinned = {re.sub(r'[-_.]+', '-', k).lower(): v for k, v in pins().items()}
    for r in map(
        Requirement,
        [
            r
            for kind in ('', 'train_', 'dev_', *(f'{extra}_' for extra in USER_EXTRAS))
            for r in settings()[f'{kind}requirements'].split()
        ],
    ):
        assert (name := re.sub(r'[-_.]+', '-', r.name).lower()) in pinned, f'{r.name} is not pinned'
        assert r.specifier.contains(pinned[name], prereleases=True), (
            f'{r} does not allow the pinned {pinned[name]}'
        )


@pytest.mark.skipif(
    Path(sys.prefix) != ROOT / '.venv', reason='not the environment that make sets up'
)
def test_tested_versions_are_the_pinned_ones():
    installed = {d.name: d.version for d in importlib.metadata.distributions()}
    assert not {
        k: (v, installed[k]) for k, v in pins().items() if k in installed and installed[k] != v
    }, 'make setup after removing .venv/installed.json'


def test_commands_exist():
    scripts = [s.split('=') for s in settings()['console_scripts'].split()]
    assert scripts
    for name, target in scripts:
        module, function = target.split(':')
        code = f'from {module} import {function}; assert callable({function})'
        done = subprocess.run(
            [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, f'{name}: {done.stderr[-500:]}'


@pytest.fixture(scope='module')
def dist(tmp_path_factory):
    "The folder with the source archive, and with the wheel that is built from it."
    copy = tmp_path_factory.mktemp('package') / 'copy'
    shutil.copytree(ROOT, copy, ignore=NOT_SOURCES)
    done = run(
        [sys.executable, '-m', 'build', '--no-isolation', '--outdir', copy / 'dist', copy], copy
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return copy / 'dist'


def test_package_builds_whole(dist):
    """The source archive builds a wheel that holds every module, the package data, the licence
    and both kinds of entry points, and no tests or notebooks."""
    with zipfile.ZipFile(next(dist.glob('*.whl'))) as z:
        inside = z.namelist()
        info = next(n for n in inside if n.endswith('entry_points.txt'))
        points = z.read(info).decode()
        about = z.read(next(n for n in inside if n.endswith('METADATA'))).decode()
        index = z.read('fashion_lab/_modidx.py')
    kept = {
        p.relative_to(ROOT).as_posix()
        for p in (ROOT / 'fashion_lab').rglob('*')
        if p.is_file() and '__pycache__' not in p.parts
    }
    kept |= {f'fashion_lab/package_data/results/{p.name}' for p in (ROOT / 'results').glob('*.csv')}
    assert not kept - set(inside), 'MANIFEST.in or setup.py leaves something out'
    assert not [
        n for n in inside if n.split('/')[0] not in ('fashion_lab',) and '.dist-info/' not in n
    ]
    assert 'fashion_lab.studio.cli:main' in points.replace(' ', '')
    assert 'fashion_lab._modidx:d' in points
    assert len(index) < 1000, 'the index is for checkouts'
    links = re.findall(r'\]\(([^)\s]+)\)', about)
    assert len(links) > 10 and all(re.match(r'https?://|#', link) for link in links), links
    assert any(n.endswith('LICENSE') for n in inside)
    assert f"Requires-Python: >={settings()['min_python']}" in about
    with tarfile.open(next(dist.glob('*.tar.gz'))) as t:
        files = {n.split('/', 1)[-1] for n in t.getnames()}
    assert {'settings.ini', 'constraints.txt', 'LICENSE', 'README.md'} <= files and not [
        n for n in files if n.startswith('tests')
    ], 'tests need the checkout'


def test_wheel_works_alone(dist, tmp_path):
    """The wheel in an environment of its own, far from the checkout; what it requires is lent
    by this one."""
    home = tmp_path / 'clean'
    venv.create(home, with_pip=False, symlinks=os.name != 'nt')
    python = home / ('Scripts' if os.name == 'nt' else 'bin') / 'python'
    alone = dict(PYTHONPATH='', PYTHONNOUSERSITE='1', FASHION_LAB_DATA='')
    done = run(
        [
            sys.executable,
            '-m',
            'pip',
            '--disable-pip-version-check',
            '--python',
            python,
            'install',
            '-q',
            '--no-deps',
            '--no-index',
            next(dist.glob('*.whl')),
        ],
        tmp_path,
        **alone,
    )
    assert done.returncode == 0, done.stderr
    site = next(home.rglob('site-packages'))
    # a path alone: an editable installation there stays asleep
    (site / 'lent.pth').write_text(sysconfig.get_path('purelib') + '\n')
    code = (
        "import fashion_lab, importlib.resources as r; from fashion_lab.data.clothing import "
        "shoe_annotations; "
        "print(fashion_lab.__file__, len(shoe_annotations()), sorted(p.name for p in "
        "(r.files('fashion_lab')/'package_data').iterdir()))"
    )
    done = run([python, '-c', code], tmp_path, **alone)
    assert done.returncode == 0 and str(site) in done.stdout, done.stdout + done.stderr[-2000:]
    assert all(p.name in done.stdout for p in (ROOT / 'fashion_lab' / 'package_data').iterdir())
    code = (
        "from fashion_lab.runs.results import recorded; from fashion_lab.studio.results import "
        "recorded_labs; "
        "print(len(recorded('closures')), sorted(recorded_labs()))"
    )
    done = run([python, '-c', code], tmp_path, **alone)
    assert done.returncode == 0 and 'fashion_mnist' in done.stdout, (
        'published results are part of a wheel' + done.stderr[-2000:]
    )
    done = run([python.parent / 'fashion_lab', 'list'], tmp_path, **alone)
    assert (
        done.returncode == 0
        and 'fashion_mnist' in done.stdout
        and settings()['version'] in done.stdout
    ), done.stdout + done.stderr[-2000:]


def ruff(*arguments):
    command = [sys.executable, '-m', 'ruff', *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_code_has_no_obvious_mistakes():
    "Notebooks included: pyproject.toml has the rules."
    checked = ('fashion_lab', 'nbs', 'tests', 'tools', 'benchmarks', 'setup.py')
    done = ruff('check', '--no-cache', '--output-format', 'concise', *checked)
    assert done.returncode == 0, done.stdout + done.stderr


def test_code_around_the_package_is_laid_out_by_ruff():
    done = ruff('format', '--no-cache', '--check', 'tests', 'tools', 'benchmarks', 'setup.py')
    assert done.returncode == 0, (
        'ruff format tests tools benchmarks setup.py\n' + done.stdout + done.stderr
    )


def test_code_is_read_once():
    "Lines of exported code are short and hold one action; CONTRIBUTING tells the figures."
    figures = style.Figures()
    for path in MODULES:
        figures.add(path)
    assert not figures.offenders, 'python tools/style.py --list'
    row = figures.row()
    assert float(row['semicolons per 1000']) <= 3
    assert float(row['nodes per line']) <= 7.5
    assert float(row['dense per 1000']) <= 1


def test_figures_of_an_unknown_package_are_refused(capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['style.py', 'fashion_lab/data'])
    with pytest.raises(SystemExit):
        style.main()
    assert "unknown package 'fashion_lab/data'; allowed: arrays, " in capsys.readouterr().err


@pytest.mark.parametrize(
    'path',
    [
        p.relative_to(ROOT).as_posix()
        for p in [
            ROOT / 'README.md',
            ROOT / 'CONTRIBUTING.md',
            *MODULES,
            *(ROOT / 'results').glob('*.csv'),
        ]
    ],
)
def test_no_absolute_path(path):
    assert not absolute_paths((ROOT / path).read_text(encoding='utf-8'))


# Workflows


@pytest.fixture(scope='module')
def flows():
    return {
        p.stem: yaml.safe_load(p.read_text())
        for p in (ROOT / '.github' / 'workflows').glob('*.yaml')
    }


def test_workflows_run_what_a_maintainer_runs(flows):
    said = {
        k: [s.get('run', '') for job in f['jobs'].values() for s in job['steps']]
        for k, f in flows.items()
    }
    assert any(s.startswith('make test') for s in said['test'])
    assert any(s.startswith('make docs') for s in said['docs'])
    pythons = flows['test']['jobs']['test']['strategy']['matrix']['python']
    assert pythons == settings()['pythons'].split()
    assert pythons[0] == settings()['min_python']
    assert 'make' in (ROOT / '.ci' / 'run').read_text()
    assert os.access(ROOT / '.ci' / 'run', os.X_OK)
    targets = set(re.findall(r'^([a-z]+):', (ROOT / 'Makefile').read_text(), re.M))
    assert {
        s.split()[1] for steps in said.values() for s in steps if s.startswith('make ')
    } <= targets


def test_workflows_may_do_no_more_than_they_need(flows):
    """Reading is the rule; only the jobs that publish may do so, and by a token of their own
    instead of a password."""
    assert set(flows) == {'test', 'docs', 'release'}
    for name, flow in flows.items():
        assert flow['permissions'] == {'contents': 'read'}, name
        for job, spec in flow['jobs'].items():
            assert spec['timeout-minutes'] <= 60, f'{name}: {job}'
            assert not [s for s in spec['steps'] if 'secrets.' in json.dumps(s)], f'{name}: {job}'
    allowed = {
        (n, j): j_['permissions']
        for n, f in flows.items()
        for j, j_ in f['jobs'].items()
        if 'permissions' in j_
    }
    assert allowed == {
        ('docs', 'deploy'): {'pages': 'write', 'id-token': 'write'},
        ('release', 'publish'): {'id-token': 'write'},
    }
    assert flows['docs']['jobs']['deploy']['if'] == "github.event_name != 'pull_request'"


@pytest.mark.skipif(
    not shutil.which('actionlint'), reason='actionlint is not installed; the test workflow runs it'
)
def test_workflows_pass_actionlint():
    done = subprocess.run(['actionlint', '-no-color'], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_sidebar_shows_every_notebook():
    shown = [p for _, paths in pages.sidebar(ROOT / 'nbs', NOTEBOOKS) for p in paths]
    assert sorted(shown) == NOTEBOOKS
