"""Recorded results beside published figures: what counts, what is passed over, and that the
pages show the files as they are now."""

import json
import re
import types

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from fashion_lab.runs.results import COLUMNS
from fashion_lab.studio import results as sb


def rows(lab='mugs', metric='accuracy', splits=('test',), values=(0.9, 0.92), **columns):
    base = dict.fromkeys(COLUMNS, '') | dict(
        lab=lab,
        variant='net',
        data='d',
        source='real',
        protocol='p',
        profile='full',
        n=10,
        params=5,
        macs=1e6,
        train_s=2.0,
        infer_ms=1.0,
        device='cpu',
        threads=1,
        torch='2',
        python='3',
        commit='abc',
        date='2026-01-01',
        command='run <it>',
    )
    return pd.DataFrame(
        [
            base
            | dict(seed=s, split=p, metric=metric, value=v, ci_low=v - 0.1, ci_high=v + 0.1)
            | columns
            for s, v in enumerate(values)
            for p in splits
        ]
    )[COLUMNS]


NOTHING = sb.published(types.SimpleNamespace())


def test_files_of_other_kinds_and_drawn_data_are_passed_over(tmp_path):
    rows().to_csv(tmp_path / 'mugs.csv', index=False)
    rows('hats', source='synthetic').to_csv(tmp_path / 'hats-synthetic.csv', index=False)
    rows('mugs', values=[0.5], variant='other').to_csv(tmp_path / 'mugs-quick.csv', index=False)
    (tmp_path / 'benchmarks.csv').write_text('benchmark,ours\nx,1\n')
    found = sb.recorded_labs(tmp_path)
    assert list(found) == ['mugs']
    assert sorted(set(found['mugs'].variant)) == ['net', 'other']
    assert sb.recorded_labs(tmp_path / 'nowhere') == {}


def test_every_lab_keeps_its_published_figures_as_expected():
    for lab in sb.recorded_labs(ROOT / 'results'):
        said = sb.published(lab)
        assert ((said.published > 0) & (said.published <= 1)).all(), lab
        assert set(said.split) <= {'test', 'valid'} | {
            s for s in said.split if s.startswith('test_')
        }
    assert (
        dict(sb.published('fashion_mnist').set_index('variant').published)['FashionCNN'] == 0.9271
    )


def test_scores_are_means_with_spread_and_interval():
    said = pd.DataFrame([('net', 'test_m', 'accuracy', 0.8, '')], columns=NOTHING.columns)
    t = sb.score_table(rows(splits=('valid', 'test_m', 'test_f')), said)
    assert t.split.tolist() == ['test_f', 'test_m'] and (t.runs == 2).all()
    assert np.allclose(
        t[['score', 'sd', 'low', 'high']], [[0.91, np.std([0.9, 0.92], ddof=1), 0.8, 1.0]] * 2
    )
    assert np.isnan(t.published[0])
    assert t.published[1] == 0.8


def test_protocols_data_and_profiles_are_never_mixed():
    t = sb.score_table(
        pd.concat(
            [
                rows(values=[0.9]),
                rows(values=[0.5], protocol='q'),
                rows(values=[0.4], data='e'),
                rows(values=[0.3], profile='quick'),
            ]
        ),
        NOTHING,
    )
    assert sorted(t.score) == [0.3, 0.4, 0.5, 0.9]
    assert t.runs.tolist() == [1] * 4
    assert t.sd.isna().all()


def test_the_published_metric_stands_for_a_lab():
    both = pd.concat([rows(), rows(metric='weighted_f1', values=[0.7])])
    said = pd.DataFrame([('net', 'test', 'weighted_f1', 0.6, '')], columns=NOTHING.columns)
    assert (sb.headline(both, said), sb.headline(both, NOTHING)) == ('weighted_f1', 'accuracy')
    with pytest.raises(ValueError, match='only taste'):
        sb.headline(rows(metric='taste'), NOTHING)


def test_commands_are_escaped_and_commits_linked():
    shown = sb.show_origins(
        sb.origin_table(rows(commit='abc+changes')), 'https://example.org'
    ).to_html()
    assert 'run &lt;it&gt;' in shown
    assert '<it>' not in shown
    assert 'href' not in shown
    assert (
        'https://example.org/commit/abc"'
        in sb.show_origins(sb.origin_table(rows()), 'https://example.org').to_html()
    )


def test_the_results_page_shows_the_files_as_they_are():
    text = (ROOT / 'nbs' / 'results' / 'results.ipynb').read_text(encoding='utf-8')
    shown = {
        lab: int(n)
        for n, lab in re.findall(
            r'(\d+) recorded rows in `results/(\w+)\.csv`',
            ' '.join(str(o) for c in json.loads(text)['cells'] for o in c.get('outputs', [])),
        )
    }
    assert shown == {lab: len(t) for lab, t in sb.recorded_labs(ROOT / 'results').items()}, (
        'run nbs/results/results.ipynb and audit.ipynb again, and save them with outputs'
    )
