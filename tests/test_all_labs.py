"""All labs in one call: synthetic data for what is missing, an error does not stop the rest, a stopped call continues.

Everything is drawn and tiny."""

import pytest

from fashion_lab.data.cards import MissingData
from fashion_lab.runs.provenance import environment
from fashion_lab.runs.run import all_runs
from fashion_lab.studio.all_labs import profile_configs, run_all_labs, run_lab
from fashion_lab.studio import all_labs
from shell import shell

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture
def nothing_found(monkeypatch, tmp_path):
    for k in ('FASHION_LAB_DATA',):
        monkeypatch.delenv(k, raising=False)
    monkeypatch.setenv('FASHION_LAB_CACHE', str(tmp_path / 'cache'))


class Stub:
    "A lab whose runs take no time."

    LAB = 'closures'

    def __init__(self, runs, broken=()):
        self.made, self.broken, self.runs = [], broken, runs

    def configs(self, profile='quick', source='real', **changes):
        return [dict(variant=v, source=source) for v in self.runs]

    def prepare(self, cfg):
        if cfg['source'] == 'real':
            raise MissingData('photos were not found\nlooked everywhere')

    def run(self, cfg, root=None):
        from fashion_lab.runs.draft import start_run

        if cfg['variant'] in self.broken:
            raise self.broken[cfg['variant']]
        self.made.append(cfg['variant'])
        with start_run(self.LAB, cfg, root) as draft:
            some = dict(value=0.5, low=0.4, high=0.6)
            return draft.finish(
                dict(n=dict(test=10), test=dict(accuracy=some)), environment=environment()
            )

    def report(self, runs):
        page = runs[0].path.parent / 'report' / 'index.html'
        page.parent.mkdir(exist_ok=True)
        page.write_text('<h1>stub</h1><p>body</p></html>')
        return page


@pytest.fixture
def lab(monkeypatch, request):
    stub = Stub(['a', 'b', 'c'], getattr(request, 'param', {}))
    monkeypatch.setattr(all_labs, 'lab_module', lambda name: stub)
    return stub


def test_synthetic_data_takes_the_place_of_missing_data(lab, tmp_path):
    result = run_lab('closures', root=tmp_path)
    assert not result.failed
    assert {r.config['source'] for r in result.runs} == {'synthetic'}
    assert result.note == 'synthetic data, for the real was not found (photos were not found)'


def test_real_data_that_was_asked_for_is_not_replaced(lab, tmp_path):
    result = run_lab('closures', root=tmp_path, source='real')
    assert result.failed and result.note == 'photos were not found' and not result.runs
    with pytest.raises(MissingData):
        profile_configs('closures', source='real')


@pytest.mark.parametrize('lab', [dict(b=ValueError('b is broken'))], indirect=True)
def test_a_run_that_fails_stops_neither_its_lab_nor_the_others(lab, tmp_path):
    lines = []
    t = run_all_labs(labs=['closures', 'clothing'], root=tmp_path, each=lines.append)
    assert t.failed == ['closures', 'clothing']
    assert [len(s.runs) for s in t.results] == [2, 2]
    assert 'b is broken' in t.table.note[0]
    assert len(lines) == 2 and t.page.exists()


@pytest.mark.parametrize('lab', [dict(c=KeyboardInterrupt())], indirect=True)
def test_ctrl_c_keeps_what_is_finished_and_the_same_call_goes_on(lab, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_all_labs(labs=['closures'], root=tmp_path)
    assert lab.made == ['a', 'b'] and len(all_runs(tmp_path, 'closures')) == 2
    lab.broken = {}
    t = run_all_labs(labs=['closures'], root=tmp_path)
    assert lab.made == ['a', 'b', 'c']
    assert t.results[0].before == 2
    assert not t.failed
    assert '<p>body</p>' in t.page.read_text()


def test_the_command_without_any_data(tmp_path, nothing_found):
    chosen = '--profile smoke --labs closures,compute_costs --device cpu --threads 1'.split()
    out = shell('run-all', *chosen, '--out', tmp_path / 'runs')
    assert out.returncode == 0, out.stderr
    assert 'closures: ' in out.stdout
    assert 'compute_costs: ' in out.stdout
    assert 'report:' in out.stdout
    assert '\r' not in out.stderr
    page = (tmp_path / 'runs' / 'all-labs-smoke' / 'index.html').read_text()
    assert 'data:image/png;base64,' in page and str(tmp_path) not in page
    wrong = shell('run-all', '--labs', 'shoes', '--out', tmp_path)
    assert wrong.returncode == 2 and 'shoe_pairs' in wrong.stderr
