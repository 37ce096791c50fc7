"""Explorers answer without a browser: a control is set, and the note, the table and the picture are
looked at.

Their use is shown in the notebooks."""

import types

import numpy as np
import pandas as pd
import pytest
from torch import nn

import fashion_lab.widgets as widgets
from fashion_lab.runs.run import Run
from fashion_lab.widgets import base as ex
from fashion_lab.widgets import confusion, rates as rate_widgets


def test_all_explorers_are_offered_and_each_says_what_it_is():
    names = set(
        'browse compare_runs open_confusion explore_rates explore_costs explore_field '
        'explore_overlay '
        'match_pair open_segments try_photo'.split()
    )
    assert names <= set(widgets.__all__)
    assert all(getattr(widgets, name).__doc__ for name in names)


# One look


class Bar(ex.Explorer):
    "Refuses a negative height; anything else it draws."

    def __init__(self, title='a bar'):
        import ipywidgets as w

        self.height, self.colour, self.drawn = w.FloatText(1), w.Text('red'), 0
        super().__init__([self.height, self.colour], title)
        self.watch(self.height, self.colour)

    def figure(self):
        from matplotlib.figure import Figure

        if self.height.value < 0:
            raise ValueError(f'<b>{self.height.value}</b> is below 0')
        if self.height.value > 99:
            raise FileNotFoundError('no paint')
        self.drawn += 1
        fig = Figure(figsize=(2, 1 + self.height.value / 10))
        fig.add_subplot().bar([0], [self.height.value], color=self.colour.value)
        return fig


@pytest.mark.parametrize(
    'height, said', [(-1, '&lt;b&gt;-1.0&lt;/b&gt; is below 0'), (100, 'no paint')]
)
def test_what_goes_wrong_is_said_and_the_picture_stays(height, said):
    bar = Bar()
    last = bar.image.value
    bar.height.value = height
    assert said in bar.note.value and bar.image.value == last
    bar.height.value = 2
    assert bar.image.value != last


def test_a_mistake_of_the_programme_is_not_hidden():
    bar = Bar()
    bar.figure = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        bar.redraw()


def test_many_changes_at_once_draw_once_even_after_an_error():
    bar = Bar()
    bar.drawn = 0
    with bar.at_once():
        bar.height.value, bar.colour.value = 5, 'blue'
    assert bar.drawn == 1
    with pytest.raises(KeyError):
        with bar.at_once():
            bar.height.value = 6
            raise KeyError
    bar.height.value = 7
    assert bar.drawn == 2 and not bar.held


def test_the_picture_is_twice_as_fine_as_it_is_shown():
    bar = Bar()
    width, _ = ex.png_size(bar.image.value)
    assert bar.image.layout.width == f'{width // 2 + 16}px'
    assert abs(width - 2 * ex.png_size(bar.still()['image/png'])[0]) < 4
    with pytest.raises(ValueError, match='no PNG'):
        ex.png_size(b'')


def test_a_page_shows_the_figure_and_a_person_the_widget(monkeypatch):
    bar = Bar('<i>x</i>')
    monkeypatch.setattr(ex, 'is_interactive', lambda: False)
    assert set(bar._repr_mimebundle_()) == {'image/png', 'text/plain'}
    monkeypatch.setattr(ex, 'is_interactive', lambda: True)
    assert 'application/vnd.jupyter.widget-view+json' in str(bar._repr_mimebundle_())
    assert '&lt;i&gt;x' in bar.widget.children[0].value
    assert '<i>' not in bar.widget.children[0].value


def test_every_explorer_has_the_look_and_nothing_from_another_host():
    for made in (
        widgets.explore_field(),
        widgets.explore_costs('SmallCNN'),
        widgets.explore_rates(curve()),
    ):
        assert 'fl-explorer' in made.widget._dom_classes
        assert 'fl-picture' in made.image._dom_classes
    assert 'http' not in ex.LOOK
    assert 'url(' not in ex.LOOK
    assert '@import' not in ex.LOOK


# A confusion matrix


@pytest.fixture
def matrix(smoke):
    run = next((smoke('fashion_mnist')[0] / 'fashion_mnist').glob('LogisticBaseline-*'))
    return widgets.open_confusion(Run(run))


def test_the_matrix_of_buttons_is_not_drawn_a_second_time(matrix):
    assert matrix.image.value == b''
    assert matrix.image.layout.display == 'none'
    assert 'click a cell' in matrix.note.value
    assert matrix.counts.sum() == len(matrix.predictions)
    assert matrix.close.disabled
    cell = max((c for c in matrix.buttons if c[0] != c[1]), key=lambda c: matrix.counts[c])
    matrix.buttons[cell].click()
    assert matrix.image.value
    assert matrix.image.layout.display is None
    assert not matrix.close.disabled
    assert len(matrix.examples()) == matrix.counts[cell]
    assert f': {matrix.counts[cell]}' in matrix.note.value
    matrix.close.click()
    assert matrix.image.value == b'' and matrix.close.disabled


def test_a_page_without_a_kernel_shows_the_matrix(matrix):
    assert matrix.still()['image/png'].startswith(b'\x89PNG')


def test_pictures_that_the_run_did_not_use_are_refused(matrix):
    unknown = types.SimpleNamespace(ids=np.array(['elsewhere/1.png']))
    other = types.SimpleNamespace(config=matrix.run.config, predictions=lambda split: unknown)
    with pytest.raises(ValueError, match="of the run's pictures are not in this set"):
        confusion.pictures_of_run(other)


# Learning rates


def curve(n=121, begin=2.3, fall=1.5, rise=4.0):
    lr = np.geomspace(1e-6, 1, n)
    at = np.log10(lr)
    return pd.DataFrame(
        dict(
            lr=lr,
            loss=begin - fall / (1 + np.exp(-4 * (at + 3))) + rise * np.maximum(0, at + 1) ** 2,
        )
    )


def test_zones_are_in_order_and_scale_with_nothing():
    zones = rate_widgets.rate_zones(curve())
    assert list(zones) == sorted(zones)
    assert zones == rate_widgets.rate_zones(curve().assign(loss=lambda t: 7 * t.loss))
    assert zones == rate_widgets.rate_zones(curve().assign(lr=lambda t: t.lr / 3))


@pytest.mark.parametrize(
    'rate, said',
    [
        (1e-6, 'too small'),
        (1e-3, 'in the falling part'),
        (2e-2, 'at the bottom'),
        (1.0, 'too large'),
    ],
)
def test_a_rate_is_put_into_words(rate, said):
    rates = widgets.explore_rates(curve(), rate=rate)
    assert f'is {said}' in rates.note.value
    assert (
        f'peak of one_cycle it begins at {rates.test.table.lr[rates.rate.value] / 25:.1e}'
        in rates.note.value
    )
    assert ('begins to rise' in rates.note.value) == (said != 'too large')


def test_the_buttons_lead_to_the_marks():
    rates = widgets.explore_rates(curve(), rate=1e-6)
    low = rates.test.table.lr[rates.test.table.loss.idxmin()]
    for name, want in (
        ('steepest', 1e-3),
        ('a tenth of the lowest', low / 10),
        ('suggestion', rates.test.suggestion),
    ):
        before = rates.image.value
        rates.jumps[name].click()
        assert rates.test.table.lr[rates.rate.value] == pytest.approx(want, rel=0.2)
        assert rates.image.value != before


def test_several_curves_are_one_box():
    rates = widgets.explore_rates(dict(head=curve(), stages=curve(60, fall=0.4)), rate=1e-2)
    first = rates.image.value
    rates.which.value = 'stages'
    assert len(rates.rate.options) == 60
    assert rates.image.value != first
    assert rates.rate.value == rates.nearest(rates.test.suggestion)
    assert (
        rates.which.layout.display != 'none' == widgets.explore_rates(curve()).which.layout.display
    )


@pytest.mark.parametrize(
    'bad, said',
    [
        (dict(), 'no range test'),
        ([1, 2], 'columns lr and loss, got list'),
        (pd.DataFrame(dict(lr=[1.0])), 'columns lr and loss'),
        (curve(10), 'at least 20'),
        (curve().assign(lr=1.0), 'at least 20 different'),
        (curve().assign(loss=np.nan), 'at least 20'),
        (curve().assign(lr=lambda t: t.lr - 0.5), 'above 0'),
    ],
)
def test_what_is_no_range_test_is_refused(bad, said):
    with pytest.raises(ValueError, match=said):
        widgets.explore_rates(bad)


def test_a_curve_that_never_falls_is_said():
    rates = widgets.explore_rates(curve(fall=0.0, rise=1.0))
    assert 'does not fall' in rates.note.value and rates.image.value == b''


# Costs and fields


def test_a_layer_is_picked_by_box_and_by_button():
    costs = widgets.explore_costs('SmallCNN')
    names = list(costs.layer.options)
    for layer in names:
        costs.layer.value = layer
        assert f'<td>{layer}</td>' in costs.note.value
    costs.after.click()
    assert costs.layer.value == names[-1], 'at the end it stays'
    costs.go(-99)
    assert costs.layer.value == names[0]
    for measure in ('params', 'activations'):
        costs.measure.value = measure
        costs.costliest.click()
        assert costs.layer.value == costs.costs().layer[costs.costs()[measure].idxmax()]
    seen = costs.image.value
    costs.net.value = 'AlternativeCNN'
    assert costs.image.value != seen
    assert costs.layer.value in set(costs.costs().layer)


def test_ones_own_network_is_explored_too():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(196, 2))
    costs = widgets.explore_costs(net, shape=(3, 16, 16))
    assert list(costs.net.options) == ['Sequential']
    assert set(costs.layer.options) == {'0', '1', '2', '3'}
    assert costs.figure().axes
    with pytest.raises(ValueError, match=r'shape=\(channels'):
        widgets.explore_costs(nn.ReLU())


class Sorts(nn.Module):
    "Takes the ten largest values, wherever they are: what it sees cannot be followed."

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        return self.conv(x).flatten(1).sort(1)[0][:, :10]


def test_a_network_that_cannot_be_followed_has_costs_and_no_field():
    costs = widgets.explore_costs(Sorts(), shape=(1, 8, 8))
    assert 'conv' in costs.layer.options
    assert 'the layer has no places' in str(
        [t.get_text() for a in costs.figure().axes for t in a.texts]
    )


def test_the_field_on_the_shoe_is_as_large_as_the_cone():
    field = widgets.explore_field(kernel=3, depth=2)
    for knob, value, size in (
        ('depth', 4, 9),
        ('dilation', 2, 17),
        ('stride', 2, 61),
        ('kernel', 7, 181),
    ):
        field.knobs[knob].value = value
        assert field.field()[0] == size
        assert f'{size} x {size} pixels' in field.note.value
        square = field.figure().axes[1].patches[-1]
        assert square.get_width() == square.get_height() == min(size, 96)
