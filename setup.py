"""Reads everything it can from settings.ini, so that a version, a description or a requirement
is written down once."""

import re
import shutil
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
cfg = ConfigParser(delimiters=['='])
cfg.read(here / 'settings.ini', encoding='utf-8')
s = cfg['DEFAULT']

licences = {'apache2': 'Apache-2.0'}
statuses = [
    '',
    '1 - Planning',
    '2 - Pre-Alpha',
    '3 - Alpha',
    '4 - Beta',
    '5 - Production/Stable',
    '6 - Mature',
    '7 - Inactive',
]
extras = {
    k.removesuffix('_requirements'): v.split()
    for k, v in s.items()
    if k.endswith('_requirements') and k not in ('pip_requirements', 'conda_requirements')
}


def description():
    "README.md with absolute links and pictures, as package indexes need them."
    if not (here / 'README.md').exists():
        return s['description']

    def absolute(m):
        picture, text, target = m.groups()
        if re.match(r'[a-z]+:|#', target):
            return m[0]
        kind = 'raw' if picture else 'blob'
        return f"{picture}[{text}]({s['git_url']}/{kind}/{s['branch']}/{target})"

    text = (here / 'README.md').read_text(encoding='utf-8')
    return re.sub(r'(!?)\[([^\]]*)\]\(([^)\s]+)\)', absolute, text)


class BuildWithResults(build_py):
    """A wheel carries the published results, so that notebooks show them without a checkout, and
    nbdev's index without its entries: they lead from a checkout's notebooks to its pages."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        index = Path(self.build_lib) / s['lib_path'] / '_modidx.py'
        index.write_text('d = dict(settings={}, syms={})\n', encoding='utf-8')
        place = Path(self.build_lib) / s['lib_path'] / 'package_data' / 'results'
        place.mkdir(parents=True, exist_ok=True)
        for file in (here / 'results').glob('*.csv'):
            shutil.copy(file, place)


setup(
    cmdclass={'build_py': BuildWithResults},
    name=s['lib_name'],
    version=s['version'],
    description=s['description'],
    keywords=s['keywords'],
    long_description=description(),
    long_description_content_type='text/markdown',
    author=s['author'],
    author_email=s['author_email'],
    url=s['git_url'],
    license=licences[s['license']],
    license_files=['LICENSE'],
    classifiers=[
        f"Development Status :: {statuses[int(s['status'])]}",
        f"Intended Audience :: {s['audience']}",
        f"Natural Language :: {s['language']}",
        *(f'Programming Language :: Python :: {version}' for version in s['pythons'].split()),
    ],
    packages=find_packages(include=[s['lib_path'], s['lib_path'] + '.*']),
    include_package_data=True,
    python_requires='>=' + s['min_python'],
    install_requires=s['requirements'].split() + s['pip_requirements'].split(),
    extras_require=extras,
    entry_points={
        'console_scripts': s['console_scripts'].split(),
        'nbdev': [f"{s['lib_path']}={s['lib_path']}._modidx:d"],
    },
    zip_safe=False,
)
