"""Numbers in prose: every percentage in the text of notebooks and of README.md stands in
results/, in the list of published figures, or in the list below of settings that nobody
measured."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from fashion_lab.runs.results import COLUMNS, LATER_COLUMNS
from fashion_lab.studio.results import recorded_labs, score_table, stated_figures

# file -> what its text sets, supposes or explains; levels of tests and intervals stand under ''
SETTINGS = {
    '': ['95', '5'],
    'chapters/02_shoe_pairs': ['25'],  # of the pairs are the test's
    'data/11_duplicates': ['3'],  # of every edge are cropped
    'data/27_pairs': ['45', '55', '100'],  # where a photo is cut
    'data/31_augment': ['2', '20'],  # of the area are erased
    'evaluate/03_classification': ['90'],  # a probability, to explain calibration
    'evaluate/06_coverage': ['80', '34', '39'],  # of the simulation: accuracy, largest shares
    'labs/03_fashion_mnist': ['94'],  # the target
    'labs/05_closures': ['80'],  # of the question
    'plot/01_classification': ['80', '93', '70'],  # to explain two figures
    'results/audit': ['80'],  # power of a test
    'tutorials/05_glossary': ['80'],  # a confidence, to explain calibration
}
NUMBER = r'\d+(?:\.\d+)?'
PERCENT = re.compile(
    rf'(?<![\w.])({NUMBER})(?:\s*(?:to|and|or|-|–)\s*({NUMBER}))?\s*(?:%|percent\b)'
)


def percentages(text):
    "The numbers of a text that are percentages, as they are written."
    found = PERCENT.findall(re.sub(r'```.*?```', '', text, flags=re.S))
    return [number for pair in found for number in pair if number]


def texts():
    "File -> its prose: the Markdown of a notebook, the lines of README.md."
    for path in sorted((ROOT / 'nbs').rglob('*.ipynb')):
        cells = json.loads(path.read_text(encoding='utf-8'))['cells']
        prose = [''.join(c['source']) for c in cells if c['cell_type'] == 'markdown']
        name = path.relative_to(ROOT / 'nbs').with_suffix('').as_posix()
        yield name, '\n'.join(prose)
    yield 'README', (ROOT / 'README.md').read_text(encoding='utf-8')


def is_rounding(written, values):
    "Whether a number is one of these shares in percent, rounded as it is written."
    digits = len(written.partition('.')[2])
    return bool(np.isclose(np.round(100 * values, digits), float(written), atol=1e-9).any())


@pytest.fixture(scope='module')
def recorded():
    """lab -> the scores of its results page (means and ends of intervals, of the lab's first
    metric). Among all thousands of recorded values nearly every number would be found."""
    tables = {lab: score_table(t) for lab, t in recorded_labs(ROOT / 'results').items()}
    return {lab: t[['score', 'low', 'high']].to_numpy().ravel() for lab, t in tables.items()}


def unfounded(name, text, recorded):
    "The percentages of a text that stand nowhere. Whole numbers are found too easily to count."
    allowed = SETTINGS[''] + SETTINGS.get(name, [])
    lab = re.sub(r'.*/\d*[a-z]?_', '', name)
    labs = [lab] if lab in recorded else list(recorded)
    measured = np.concatenate([recorded[lab] for lab in labs])
    published = stated_figures().stated.to_numpy()
    wrong = []
    for number in percentages(text):
        found = '.' in number and is_rounding(number, measured)
        if number not in allowed and not found and not is_rounding(number, published):
            wrong.append(number)
    return wrong


def test_percentages_in_prose_are_recorded_published_or_settings(recorded):
    wrong = {name: unfounded(name, text, recorded) for name, text in texts()}
    wrong = {name: numbers for name, numbers in wrong.items() if numbers}
    assert not wrong, 'compute these in a cell, or say it without a number'


def test_no_setting_is_listed_that_no_text_has():
    found = {name: percentages(text) for name, text in texts()}
    for name, numbers in SETTINGS.items():
        if name:
            assert set(numbers) <= set(found[name]), name


@pytest.mark.parametrize(
    'text, numbers',
    [
        ('it scores 93.71 % here', ['93.71']),
        ('between 2 and 20 % of it', ['2', '20']),
        ('80 to 81 %, or 7 percent', ['80', '81', '7']),
        ('```\n# 99.9 %\n```', []),
        ('version 2.15.0 on 3 threads', []),
    ],
)
def test_percentages_are_read(text, numbers):
    assert percentages(text) == numbers


def test_an_invented_percentage_is_named(recorded):
    text = 'a score of 84.46 % and 37 %, against the 84.45 % of others, at a level of 95 %'
    assert unfounded('labs/05_closures', text, recorded) == ['84.46', '37']
    best = recorded['closures'][0]
    assert unfounded('labs/05_closures', f'we have {100 * best:.2f} %', recorded) == []
    assert unfounded('labs/02_shoe_pairs', f'we have {100 * best:.2f} %', recorded) != []
    tried = [f'{n / 100:.2f}' for n in range(6000, 9900, 7)]
    text = ', '.join(f'{n} %' for n in tried)
    assert len(unfounded('labs/05_closures', text, recorded)) > 0.9 * len(tried)


def cells_of(line):
    return [c.strip() for c in line.strip().strip('|').split('|')]


def test_the_scores_of_the_readme_are_those_of_the_results():
    "Means, standard deviations, intervals and test examples of its first table, cell by cell."
    labs = recorded_labs(ROOT / 'results')
    lines = (ROOT / 'README.md').read_text(encoding='utf-8').splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith('| Question |'))
    table = [cells_of(line) for line in lines[start + 2 :]]
    table = table[: next(i for i, row in enumerate(table) if len(row) < 6)]
    assert len(table) == 7
    for link, score, n, interval, measured, _ in table:
        lab = re.search(r'chapters/\d+_(\w+)\.ipynb', link)[1]
        metric, variant, seeds = measured.split(', ')
        t = score_table(labs[lab], metric=metric.lower().replace(' ', '_'))
        t = t[(t.variant == variant) & (t.split == 'test') & (t.profile == 'full')]
        written = [
            (
                f'{100 * r.score:.1f}' + (f' ± {100 * r.sd:.1f}' if r.runs > 1 else ''),
                f'{r.n:,}',
                f'{100 * r.low:.1f} to {100 * r.high:.1f} ({r.interval})',
                str(r.runs),
            )
            for r in t.itertuples()
        ]
        assert (score, n, interval, seeds.split()[0]) in written, link


def test_published_figures_are_complete_and_those_of_the_labs():
    "Each with network, data and protocol; what a lab's module keeps is in the list."
    from fashion_lab.labs import closures, clothing, fashion_mnist, segmentation, shoe_pairs

    t = stated_figures()
    assert t[['network', 'data', 'protocol']].notna().all(axis=None)
    assert t.stated.between(0, 1).all() and not t.duplicated().any()
    named = t.set_index(['lab', 'variant', 'metric', 'split']).stated.groupby(level=[0, 1, 2, 3])
    kept = named.agg(set).to_dict()
    for v, share in fashion_mnist.PUBLISHED_ACCURACY.items():
        assert share in kept['fashion_mnist', v, 'accuracy', 'test']
    for v, share in clothing.PUBLISHED_F1.items():
        assert share in kept['clothing', v, 'weighted_f1', 'test']
    for v, share in closures.PUBLISHED_ACCURACY.items():
        assert share in kept['closures', v, 'accuracy', 'test']
    for v, by_split in shoe_pairs.PUBLISHED.items():
        for split, share in by_split.items():
            assert share in kept['shoe_pairs', v, 'accuracy', split]
    for c, share in segmentation.PUBLISHED.items():
        metric = 'mean_ap' if c == 'mean' else f'ap_{c}'
        assert share in kept['segmentation', 'plain', metric, 'test']


def test_results_files_name_how_an_interval_was_made_or_lack_the_column():
    kinds = {'', 'bootstrap', 'jackknife', 'noise draws'}
    for path in sorted((ROOT / 'results').glob('*.csv')):
        t = pd.read_csv(path, dtype=str, keep_default_na=False)
        if set(COLUMNS) - set(LATER_COLUMNS) <= set(t) and 'interval' in t:
            assert set(t.interval) <= kinds, path.name
            assert (t.ci_low[t.interval != ''] != '').all(), path.name
