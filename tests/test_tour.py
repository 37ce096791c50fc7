"""A tour of the labs: what is missing is drawn, what fails does not stop the rest, what is
stopped goes on. Everything is drawn and tiny."""

import pytest

from fashion_lab.data.cards import MissingData
from fashion_lab.runs.provenance import environment
from fashion_lab.runs.run import all_runs
from fashion_lab.studio.all_labs import planned, tour, visit
from fashion_lab.studio import all_labs as rooms
from shell import shell

pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture
def nothing_found(monkeypatch, tmp_path):
    for k in ('FASHION_LAB_DATA',):
        monkeypatch.delenv(k, raising=False)
    monkeypatch.setenv('FASHION_LAB_CACHE', str(tmp_path / 'cache'))


class Stub:
    "A lab that does as it is told."

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
    monkeypatch.setattr(rooms, 'lab_module', lambda name: stub)
    return stub


def test_missing_data_is_drawn_and_said(lab, tmp_path):
    stop = visit('closures', root=tmp_path)
    assert not stop.failed
    assert {r.config['source'] for r in stop.runs} == {'synthetic'}
    assert stop.note == 'drawn data, for the real was not found (photos were not found)'


def test_real_data_that_was_asked_for_is_not_replaced(lab, tmp_path):
    stop = visit('closures', root=tmp_path, source='real')
    assert stop.failed
    assert stop.note == 'photos were not found'
    assert not stop.runs
    with pytest.raises(MissingData):
        planned('closures', source='real')


@pytest.mark.parametrize('lab', [dict(b=ValueError('b is broken'))], indirect=True)
def test_a_run_that_fails_stops_neither_its_lab_nor_the_others(lab, tmp_path):
    said = []
    t = tour(labs=['closures', 'clothing'], root=tmp_path, say=said.append)
    assert t.failed == ['closures', 'clothing']
    assert [len(s.runs) for s in t.stops] == [2, 2]
    assert 'b is broken' in t.table.note[0]
    assert len(said) == 2 and t.page.exists()


@pytest.mark.parametrize('lab', [dict(c=KeyboardInterrupt())], indirect=True)
def test_ctrl_c_keeps_what_is_finished_and_the_same_call_goes_on(lab, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        tour(labs=['closures'], root=tmp_path)
    assert lab.made == ['a', 'b']
    assert len(all_runs(tmp_path, 'closures')) == 2
    lab.broken = {}
    t = tour(labs=['closures'], root=tmp_path)
    assert lab.made == ['a', 'b', 'c']
    assert t.stops[0].before == 2
    assert not t.failed
    assert '<p>body</p>' in t.page.read_text()


def test_the_command_without_any_data(tmp_path, nothing_found):
    out = shell(
        'tour',
        '--profile',
        'smoke',
        '--labs',
        'closures,compute_costs',
        '--device',
        'cpu',
        '--threads',
        1,
        '--out',
        tmp_path / 'runs',
    )
    assert out.returncode == 0, out.stderr
    assert 'closures: ' in out.stdout
    assert 'compute_costs: ' in out.stdout
    assert 'report:' in out.stdout
    assert '\r' not in out.stderr
    page = (tmp_path / 'runs' / 'tour-smoke' / 'index.html').read_text()
    assert 'data:image/png;base64,' in page and str(tmp_path) not in page
    wrong = shell('tour', '--labs', 'shoes', '--out', tmp_path)
    assert wrong.returncode == 2 and 'shoe_pairs' in wrong.stderr
