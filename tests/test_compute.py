"""Counts that three methods agree on, for random layers and for real architectures;
measurements that leave no trace."""

import copy
import importlib
import logging
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

torch = pytest.importorskip('torch')
from torch import nn
from torch.nn import functional as F
from fashion_lab.cost.inputs import make_input
from fashion_lab.cost.passes import one_pass
from fashion_lab.cost.counts import attention_macs, count_params, hand_macs, model_mb
from fashion_lab.cost.macs import count_macs
from fashion_lab.cost.flops import count_flops, cross_check
from fashion_lab.cost.timing import cost, latency, layer_latency
from fashion_lab.cost.layers import layer_table, readable, TABLE_COLUMNS, totals
from fashion_lab.cost.models import input_of, named_model, parse_shape
from fashion_lab.cost import macs as cost_macs

few = settings(max_examples=15, deadline=None)
sizes = st.integers(1, 4)


@few
@given(
    dims=st.integers(1, 3),
    transposed=st.booleans(),
    groups=sizes,
    i=sizes,
    o=sizes,
    k=sizes,
    stride=st.integers(1, 3),
    pad=st.integers(0, 2),
    dilation=st.integers(1, 2),
    size=st.integers(8, 11),
    bias=st.booleans(),
    data=st.data(),
)
def test_any_convolution_is_counted_alike(
    dims, transposed, groups, i, o, k, stride, pad, dilation, size, bias, data
):
    kind = getattr(nn, f"Conv{'Transpose' * transposed}{dims}d")
    conv = kind(
        i * groups,
        o * groups,
        k,
        stride=stride,
        padding=pad,
        dilation=dilation,
        groups=groups,
        bias=bias,
    )
    shape = (i * groups, *[size + d for d in range(dims)])
    t = cross_check(conv, shape)
    assert t.agree.all()
    # independent of all three: differentiate the sum of outputs for weights of one and inputs of
    # one without padding
    if pad == 0:
        with torch.no_grad():
            conv.weight.fill_(1)
            conv.bias is None or conv.bias.fill_(0)
        # each product is 1: the sum counts them
        products = conv(torch.ones(1, *shape)).sum().item()
        assert t.loc['total', 'fvcore_macs'] == products


@few
@given(
    i=st.integers(1, 9),
    o=st.integers(1, 9),
    lead=st.lists(st.integers(1, 4), max_size=3),
    bias=st.booleans(),
)
def test_linear_layers_on_any_number_of_positions(i, o, lead, bias):
    t = cross_check(nn.Linear(i, o, bias=bias), (*lead, i))
    n = 1
    for d in lead:
        n *= d
    assert t.agree.all() and t.loc['total', 'hand_macs'] == n * i * o


@few
@given(
    padding=st.sampled_from(['same', 'valid']),
    mode=st.sampled_from(['zeros', 'reflect']),
    k=st.sampled_from([(3, 3), (1, 5), (2, 4)]),
    groups=st.sampled_from([1, 2, 4]),
)
def test_padding_by_name(
    padding, mode, k, groups
):  # reflected padding pads first and convolves without padding
    assert cross_check(
        nn.Conv2d(4, 8, k, padding=padding, padding_mode=mode, groups=groups), (4, 9, 7)
    ).agree.all()


def test_batch_norm_never_counts():
    # 1x1x28x28 with two convolutions: hand 78,400 MACs, fvcore's own total is 90,944 in evaluation
    # and more in training mode
    m = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 14 * 14, 10),
    )
    plain = nn.Sequential(*[l for l in m if not isinstance(l, nn.BatchNorm2d)])
    by_hand = 8 * 9 * 28 * 28 + 8 * 14 * 14 * 10
    for mode in (True, False):
        assert (
            count_macs(m.train(mode), (1, 28, 28))['total']
            == count_macs(plain, (1, 28, 28))['total']
            == by_hand
        )
        assert count_flops(m, (1, 28, 28))['total'] == 2 * by_hand
    assert count_macs(m, (1, 28, 28))['uncounted'] == dict(batch_norm=1, max_pool2d=1, relu=1)


class Everything(nn.Module):
    def forward(self, x):
        x = F.interpolate(F.gelu(x), scale_factor=2) + F.hardswish(x).sigmoid().mean()
        return (
            F.layer_norm(F.adaptive_avg_pool2d(x.clamp(0, 6) * 2, 4), (4, 4))
            .exp()
            .flatten(1)
            .softmax(1)
        )


def test_nothing_that_computes_is_dropped_silently():
    for counted, resize in (
        (count_macs(Everything(), (2, 8, 8)), 'upsample'),
        (count_flops(Everything(), (2, 8, 8)), '_unsafe_index'),
    ):
        names = ' '.join(counted['uncounted'])
        assert counted['total'] == 0
        for op in [
            resize,
            *'gelu add hardswish sigmoid mean layer_norm avg_pool clamp mul exp softmax'.split(),
        ]:
            assert op in names, (op, names)


# a new fvcore may bring new opinions
def test_whatever_fvcore_weighs_by_itself_is_a_product_or_is_noted():
    flop_count = importlib.import_module('fvcore.nn.flop_count')
    products = {'aten::' + o for o in 'addmm bmm _convolution einsum matmul mm linear'.split()}
    assert set(flop_count._DEFAULT_SUPPORTED_OPS) - products <= {
        'aten::' + o for o in cost_macs._NOTED
    }


# --- structure
class Shared(nn.Module):
    "One layer under two parents and called three times."

    def __init__(self):
        super().__init__()
        conv = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.a, self.b, self.own = (
            nn.Sequential(conv, nn.ReLU()),
            nn.Sequential(nn.Identity(), conv),
            nn.Conv2d(2, 2, 1),
        )

    def forward(self, x):
        return self.own(self.a(self.b(self.a(x))))


def test_a_shared_layer_counts_once_in_parameters_and_every_time_in_macs():
    m = Shared()
    conv = 2 * 2 * 9 * 64
    own = 2 * 2 * 64
    assert count_params(m) == 36 + 6
    t = cross_check(m, (2, 8, 8))
    assert t.agree.all()
    assert t.loc['a.0', 'fvcore_macs'] == 3 * conv
    assert t.loc['total', 'fvcore_macs'] == 3 * conv + own
    for counted, f in ((count_macs, 1), (count_flops, 2)):
        assert counted(m, (2, 8, 8))['by_layer'] == {'a.0': f * 3 * conv, 'own': f * own}
    l = layer_table(m, (2, 8, 8))
    assert l.params.sum() == 42
    assert l.macs.sum() == 3 * conv + own
    assert l.flops.sum() == 2 * (3 * conv + own)
    assert l.set_index('layer').calls['a.0'] == 3


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head, self.aux = nn.Linear(6, 4), nn.Linear(8, 2), nn.Linear(99, 1)

    def forward(self, left, right):
        return self.head(torch.cat([self.body(left), self.body(input=right)], -1))


def test_several_inputs_and_layers_that_are_not_called():
    m = Siamese()
    shapes = ((6,), (6,))
    assert cross_check(m, shapes).agree.all()
    assert count_macs(m, shapes)['total'] == 2 * 24 + 16
    # the model itself copies: it joins two rows of numbers
    l = layer_table(m, shapes).set_index('layer')
    assert l.params.sum() == count_params(m)
    assert l.calls.to_dict() == {'(model)': 1, 'body': 2, 'head': 1, 'aux': 0}
    assert l.index[-1] == 'aux'
    assert l.output['head'] == (2,)


class Free(nn.Module):
    "Products and parameters outside of layers."

    def __init__(self):
        super().__init__()
        self.w, self.inner = nn.Parameter(torch.randn(6, 3)), nn.Sequential(nn.Linear(3, 3))

    def forward(self, x):
        return torch.einsum('bi,ij->bj', self.inner(x @ self.w), torch.ones(3, 5))


def test_products_outside_of_layers_are_found():
    m = Free()
    total = 6 * 3 + 9 + 15
    assert count_macs(m, (6,))['by_layer'] == {'': 33, 'inner.0': 9}
    assert count_flops(m, (6,))['by_layer'] == {'': 66, 'inner.0': 18}
    l = layer_table(m, (6,)).set_index('layer')
    assert l.macs.sum() == total
    assert l.params.to_dict() == {'inner.0': 12, '(model)': 18}


@pytest.mark.parametrize('train', [True, False])
def test_attention_is_counted_in_full(train):
    n, d = 5, 8
    m = nn.TransformerEncoderLayer(d, 2, 16, batch_first=True).train(train)
    products = 3 * n * d * d + 2 * n * n * d + n * d * d + 2 * n * d * 16
    assert count_macs(m, (n, d))['total'] == products
    assert count_flops(m, (n, d))['total'] == 2 * products
    assert torch.backends.mha.get_fastpath_enabled()


# --- real architectures
def test_fashion_cnn_as_published():
    def block(i, o):
        return [nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU()]

    m = nn.Sequential(
        *block(1, 32),
        nn.MaxPool2d(2),
        *block(32, 64),
        nn.MaxPool2d(2),
        *block(64, 128),
        nn.Flatten(),
        nn.Linear(6272, 256),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Linear(256, 10),
    )
    assert cost(m, (1, 28, 28)) == dict(
        params=1_701_578,
        macs=9_059_328,
        flops=18_118_656,
        size_mb=pytest.approx((4 * 1_701_578 + 4 * 448 + 24) / 1e6),
    )


def test_resnet18():
    models = pytest.importorskip('torchvision.models')
    m = models.resnet18()
    t = cross_check(m, (3, 224, 224))
    assert t.agree.all()
    assert count_params(m) == 11_689_512
    assert t.loc['total', 'hand_macs'] == 1_814_073_344


@pytest.mark.parametrize('name', ['tf_efficientnet_lite0', 'convnext_atto'])
def test_timm_models(name):
    m = pytest.importorskip('timm').create_model(name)
    assert cross_check(m, (3, 64, 64)).agree.all()
    if name == 'tf_efficientnet_lite0':
        assert count_params(m) == 4_652_008


@pytest.mark.parametrize(
    'name, gmacs', [('resnet50', 4.09), ('convnext_tiny', 4.46), ('tf_efficientnet_lite0', 0.39)]
)
def test_published_macs(name, gmacs):
    m = pytest.importorskip('timm').create_model(name)
    t = layer_table(m, (3, 224, 224))
    assert round(t.macs.sum() / 1e9, 2) == gmacs
    assert t.macs.sum() == sum(hand_macs(m, (3, 224, 224)).values())
    assert t.params.sum() == count_params(m)
    assert not t.attrs['uncounted']
    assert (t.multiplies >= t.macs).all()
    assert (t.adds >= t.macs).all()


@pytest.mark.parametrize('name', ['FashionCNN', 'AlternativeCNN', 'SmallCNN', 'LogisticBaseline'])
def test_the_labs_networks(name):
    from fashion_lab.labs.fashion_mnist_variants import MODELS

    m = MODELS[name]()
    t, check = layer_table(m, (1, 28, 28)), cross_check(m, (1, 28, 28))
    assert check.agree.all()
    assert t.macs.sum() == check.loc['total', 'hand_macs'] == cost(m, (1, 28, 28))['macs']
    assert not t.attrs['uncounted']


def test_the_backbones_of_the_models_room():
    from fashion_lab.models.cards import BACKBONES
    from fashion_lab.models.backbones import backbone

    for name in BACKBONES:
        m = backbone(name, weights='none')
        t, hand = layer_table(m, (3, 96, 96)), hand_macs(m, (3, 96, 96))
        assert (
            {r.layer: r.macs for r in t.itertuples() if r.macs} == hand
            and t.params.sum() == count_params(m)
            and not t.attrs['uncounted']
        ), name


@pytest.mark.parametrize(
    'name', ['vit_tiny_patch16_224', 'swin_tiny_patch4_window7_224', 'mobilenetv3_large_100']
)
def test_attention_windows_and_gates_of_timm(name):
    m = pytest.importorskip('timm').create_model(name, num_classes=3)
    t = layer_table(m, (3, 224, 224))
    assert (
        t.macs.sum()
        == count_macs(m, (3, 224, 224))['total']
        == count_flops(m, (3, 224, 224))['total'] // 2
    )
    assert not t.attrs['uncounted']
    if name.startswith('vit'):
        assert t.macs.sum() - sum(hand_macs(m, (3, 224, 224)).values()) == 12 * attention_macs(
            197, 192
        )


# --- the table of layers
class Residual(nn.Module):
    def __init__(self, c, groups, dilation):
        super().__init__()
        self.conv, self.norm = (
            nn.Conv2d(c, c, 3, padding=dilation, dilation=dilation, groups=groups),
            nn.BatchNorm2d(c),
        )

    def forward(self, x):
        return x + F.relu(self.norm(self.conv(x)))


@few
@given(
    blocks=st.lists(
        st.tuples(st.sampled_from([1, 2, 4]), st.integers(1, 2)), min_size=1, max_size=5
    ),
    size=st.integers(5, 9),
    stride=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_the_table_agrees_with_every_counter_and_with_formulas_by_hand(blocks, size, stride, seed):
    m = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=stride, padding=1),
        *[Residual(4, g, d) for g, d in blocks],
        nn.ConvTranspose2d(4, 4, 2, stride=2),
        nn.LayerNorm(2 * (-(-size // stride))),
        nn.AdaptiveAvgPool2d(1),
    )
    t = layer_table(m, (1, size, size)).set_index('layer')
    assert (
        {k: v for k, v in t.macs.items() if v}
        == hand_macs(m, (1, size, size))
        == count_macs(m, (1, size, size))['by_layer']
    )
    values = 4 * (-(-size // stride)) ** 2
    big = 16 * (-(-size // stride)) ** 2
    for i, _ in enumerate(blocks, 1):
        # residual add and ReLU
        assert t.loc[str(i), ['multiplies', 'adds', 'others']].tolist() == [
            0,
            values,
            values,
        ]
        assert t.loc[f'{i}.norm', ['multiplies', 'adds', 'others']].tolist() == [values, values, 0]
        assert t.loc[f'{i}.norm', 'moved_bytes'] == 4 * (2 * values + 4 * 4)
        assert t.loc[f'{i}.norm', 'weight_bytes'] == 4 * 16 + 8
    rows = big // (2 * (-(-size // stride)))
    assert t.loc[str(len(blocks) + 2), ['multiplies', 'adds', 'others']].tolist() == [
        3 * big,
        4 * big - rows,
        3 * rows,
    ]
    assert t.loc[str(len(blocks) + 3), ['multiplies', 'adds', 'others']].tolist() == [0, big - 4, 4]
    s = totals(t.reset_index())
    assert s['flops'] == 2 * s['macs']
    assert s['operations'] == s['multiplies'] + s['adds'] + s['others']
    assert s['params'] == count_params(m)


@few
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    out=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_windows_of_adaptive_pooling_are_counted_one_by_one(size, out):
    pool = nn.AdaptiveAvgPool2d(out)
    jacobian = torch.autograd.functional.jacobian(lambda x: pool(x), torch.rand(1, 1, *size))
    t = layer_table(pool, (1, *size)).iloc[0]
    assert t.adds == (jacobian != 0).sum() - out[0] * out[1]
    assert t.others == out[0] * out[1]


@pytest.mark.parametrize(
    'layer, shape, want',
    [
        (nn.MaxPool2d(3, 2, 1), (2, 8, 8), (0, 0, 2 * 16 * 8)),
        (nn.MaxPool1d(4), (2, 8), (0, 0, 4 * 3)),
        (nn.AvgPool2d(2), (2, 8, 8), (0, 32 * 3, 32)),
        (nn.AdaptiveMaxPool2d(1), (2, 4, 4), (0, 0, 30)),
        (nn.ReLU6(), (5,), (0, 0, 10)),
        (nn.Hardswish(), (5,), (10, 5, 10)),
        (nn.SiLU(), (5,), (5, 5, 10)),
        (nn.GELU(), (5,), (15, 5, 5)),
        (nn.Sigmoid(), (5,), (0, 5, 10)),
        (nn.Softmax(-1), (3, 5), (0, 27, 42)),
        (nn.LogSoftmax(-1), (3, 5), (0, 42, 30)),
        (nn.GroupNorm(2, 4), (4, 3, 3), (3 * 36, 4 * 36 - 2, 6)),
        (nn.InstanceNorm2d(4), (4, 3, 3), (2 * 36, 3 * 36 - 4, 12)),
        (nn.Upsample(scale_factor=2), (1, 3, 3), (0, 0, 0)),
        (nn.Dropout(), (5,), (0, 0, 0)),
        (nn.Flatten(), (2, 3, 3), (0, 0, 0)),
        (nn.Linear(3, 2), (3,), (6, 6, 0)),
    ],
)
def test_formulas(layer, shape, want):
    t = layer_table(layer, shape).iloc[0]
    assert (t.multiplies, t.adds, t.others) == want and t.uncounted == ''


class Answers(nn.Module):
    "Tuples and dicts, in and out."

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, x, mask):
        h = self.body(x) * mask
        return dict(features=h, answers=(self.head(h), h.argmax(-1)))


@pytest.mark.parametrize(
    'shapes',
    [((4,), (3,)), [(4,), (3,)], dict(mask=(3,), x=(4,)), (torch.rand(4), torch.ones(3))],
    ids=['tuple', 'list', 'dict', 'tensors'],
)
def test_several_inputs_and_outputs_in_tuples_and_dicts(shapes):
    t = layer_table(Answers(), shapes).set_index('layer')
    assert t.loc['(model)', 'output'] == dict(features=(3,), answers=((2,), ()))
    assert t.loc['(model)', 'input'] == ((4,), (3,))
    assert (
        t.macs.sum()
        == 4 * 3 + 3 * 2
        == sum(hand_macs(Answers(), shapes).values())
        == count_flops(Answers(), shapes)['total'] // 2
        == count_macs(Answers(), shapes)['total']
    )
    assert latency(Answers(), shapes, repeats=1, batch=3)['batch'] == 3
    assert len(layer_latency(Answers(), shapes, repeats=1, warmup=0)) == 3


@pytest.mark.parametrize(
    'wrong, says',
    [
        (dict(y=(4,)), "takes no input 'y'; it takes: x, mask"),
        (dict(mask=(3,)), "give the shape of 'x' too"),
        ((4,), 'missing 1 required positional argument'),
        (((5,), (3,)), r"in the layer 'body' \(Linear\), which was given \(1, 5\)"),
        (((4,), (7,)), 'could not run Answers'),
    ],
)
def test_wrong_inputs_are_named(wrong, says):
    m = Answers().train()
    with pytest.raises(ValueError, match=says):
        layer_table(m, wrong)
    assert m.training
    assert m.body.training
    assert not any(x._forward_hooks or x._forward_pre_hooks for x in m.modules())


def test_the_layer_that_does_not_fit_is_named():
    from fashion_lab.models.fashion_mnist import SmallCNN

    m = pytest.importorskip('torchvision.models').resnet18()
    for model, shape, place in (
        (m, (1, 64, 64), r"'conv1' \(Conv2d\), which was given \(1, 1, 64, 64\)"),
        (SmallCNN(), (1, 30, 28), r"'7' \(Linear\)"),
        (nn.Sequential(nn.Flatten(), nn.BatchNorm2d(3)), (3, 2, 2), r"'1' \(BatchNorm2d\)"),
    ):
        for f in (layer_table, hand_macs, cost, layer_latency):
            with pytest.raises(ValueError, match=place):
                f(model, shape)


def test_an_error_inside_the_block_that_is_not_the_models_passes():
    with pytest.raises(ValueError, match='^mine$'), one_pass(nn.Identity(), (3,)):
        raise ValueError('mine')


class Sorted(nn.Module):
    def forward(self, x):
        return torch.linalg.svdvals(x.sort(-1).values)


def test_what_has_no_formula_is_listed_by_layer_and_operation():
    t = layer_table(nn.Sequential(nn.Linear(4, 4), Sorted(), nn.Linear(3, 3)), (3, 4))
    assert t.attrs['uncounted'] == {'1': {'_linalg_svd': 1, 'sort': 1}}
    assert totals(t)['uncounted'] == {'_linalg_svd': 1, 'sort': 1}
    assert t.set_index('layer').uncounted.to_dict() == {
        '0': '',
        '1': '_linalg_svd x1, sort x1',
        '2': '',
    }
    rnn = layer_table(nn.LSTM(3, 4, batch_first=True), (5, 3))
    assert rnn.macs.sum() == 0 and 'rnn' in str(rnn.attrs['uncounted'])


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.cheap, self.dear = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 64), nn.Linear(64, 4))

    def forward(self, x):
        return self.dear(x) if x.sum() > 0 else self.cheap(x)


class Loop(nn.Module):
    def forward(self, x):
        for _ in range(int(x.abs().sum() * 7) % 5 + 1):
            x = x + 1
        return x


class Looks(nn.Module):
    "Looks at a value, but goes the same way whatever it is."

    def forward(self, x):
        return x + 1 if x.sum() > 0 else x - 1


def test_looking_at_a_value_is_no_crime():
    assert layer_table(Looks(), (4,)).adds.sum() == 4 + 3


@pytest.mark.parametrize('model', [Gate(), nn.Sequential(nn.Linear(4, 4), Gate()), Loop()])
def test_data_dependent_control_flow_is_refused_by_name(model):
    with pytest.raises(
        ValueError, match='another way for another input .data-dependent control flow.'
    ):
        layer_table(model, (4,))
    assert layer_table(model, torch.ones(4)).calls.sum() > 0


def test_every_column_is_there_and_readable():
    t = layer_table(Residual(4, 2, 1), (4, 6, 6), repeats=2, warmup=0)
    assert list(t.columns) == TABLE_COLUMNS + ['median_ms', 'p10_ms', 'p90_ms', 'time_share']
    assert t.attrs['conditions']['repeats'] == 2
    assert set(readable(t).map(type).stack()) == {str}


class Slow(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s

    def forward(self, x):
        time.sleep(self.s)
        return x


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Slow(0.004)

    def forward(self, x):
        time.sleep(0.012)
        return self.inner(self.inner(x))


def test_a_layers_time_is_its_own():
    t = layer_latency(Outer(), (3,), repeats=3, warmup=1)
    assert 12 <= t.median_ms['(model)']
    assert 8 <= t.median_ms['inner']
    assert t.time_share.sum() == pytest.approx(1)
    assert (t.p10_ms <= t.median_ms).all()
    assert (t.median_ms <= t.p90_ms).all()


@pytest.mark.parametrize(
    'bad',
    [dict(repeats=0), dict(warmup=-1), dict(batch=2.0), dict(dtype='int8'), dict(device='tpu')],
)
def test_layer_latency_refuses(bad):
    with pytest.raises(ValueError):
        layer_latency(nn.Linear(2, 2), (2,), **bad)


# --- models by name
def test_models_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'my_nets_xyz.py').write_text(
        'from torch import nn\ndef tiny(): return nn.Linear(3, 2)\nready = nn.Linear(4, 2)\n'
        'number = 3\n'
    )
    before = list(sys.path)
    assert named_model('my_nets_xyz:tiny').in_features == 3
    assert named_model('my_nets_xyz:ready').in_features == 4
    assert sys.path == before
    m = named_model('mobilenet_v2')
    assert type(m).__module__.startswith('torchvision')
    assert not m.training
    assert input_of(m) == (3, 224, 224)
    assert input_of(named_model('tf_efficientnet_lite2')) == (3, 260, 260)
    assert named_model('a', known=dict(a=lambda: nn.Identity())) is not None
    for wrong, says in (
        ('my_nets_xyz:tinny', "Did you mean 'tiny'"),
        ('my_nets_xyz:number', 'cannot be called'),
        ('nothing_here:f', 'cannot be imported'),
        (':f', 'cannot be imported'),
        ('builtins:dict', 'gave dict, not'),
        ('resnet5O', "Did you mean 'resnet50'"),
        ('', 'unknown model'),
        ('../x', 'unknown model'),
    ):
        with pytest.raises(ValueError, match=says):
            named_model(wrong)


@few
@given(st.lists(st.integers(1, 999), min_size=1, max_size=4))
def test_shapes_are_read_as_they_are_written(shape):
    assert (
        parse_shape(','.join(map(str, shape)))
        == parse_shape(' x '.join(map(str, shape)))
        == tuple(shape)
    )


# --- no trace, no noise
def test_counting_leaves_no_trace():
    m = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(4 * 36, 2)
    ).train()
    m[1].eval()
    before = copy.deepcopy(m.state_dict())
    modes = [x.training for x in m.modules()]
    rng = torch.get_rng_state()
    for f in (hand_macs, count_macs, count_flops, cross_check, layer_table, cost):
        f(m, (1, 8, 8))
    latency(m, (1, 8, 8), repeats=2, warmup=0)
    assert [x.training for x in m.modules()] == modes
    assert torch.equal(rng, torch.get_rng_state())
    assert all(torch.equal(before[k], v) for k, v in m.state_dict().items())
    assert not any(x._forward_hooks or x._forward_pre_hooks for x in m.modules())
    assert all(p.grad is None for p in m.parameters())


@pytest.mark.parametrize('f', [hand_macs, count_macs, count_flops, layer_table, latency])
def test_a_wrong_shape_is_explained_and_leaves_no_trace(f):
    m = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2)).train()
    with pytest.raises(
        ValueError,
        match=(
            r'could not run Sequential on an input of shape \(1, 1, 9, 9\) \(batch '
            r'first\).*check input_shape'
        ),
    ):
        f(m, (1, 9, 9))
    assert m.training
    assert m[0].training
    assert not any(x._forward_hooks or x._forward_pre_hooks for x in m.modules())


@pytest.mark.parametrize('shape', [(1, 0, 8), (1.0, 8, 8), ('1', 8), ((1, 8), (-1,))])
def test_shapes_that_are_none(shape):
    with pytest.raises(ValueError, match='the shape of one input without the batch'):
        make_input(nn.Identity(), shape)


def test_counting_is_silent_and_importing_compute_is_cheap(capfd):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        cross_check(
            nn.Sequential(Everything(), nn.Unflatten(1, (2, 4, 4)), nn.Conv2d(2, 2, 1)), (2, 8, 8)
        )
    assert capfd.readouterr() == ('', '')
    code = """
import sys, torch
from torch import nn
from fashion_lab.cost.flops import *
from fashion_lab.cost.layers import layer_table

assert 'fvcore' not in sys.modules
layer_table(
    nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.MaxPool2d(2), nn.Softmax(1)), (1, 8, 8)
)
"""
    p = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert (p.returncode, p.stdout, p.stderr) == (0, '', '')


def test_fvcore_keeps_its_voice_elsewhere():
    count_macs(nn.Linear(2, 2), (2,))
    assert logging.getLogger('fvcore').level == logging.NOTSET


def test_half_precision_models_can_be_counted():
    assert count_macs(nn.Linear(3, 2).bfloat16(), (3,))['total'] == 6
    assert count_flops(nn.Linear(3, 2).bfloat16(), (3,))['total'] == 12


# --- size and time
def test_size_is_that_of_the_saved_file(tmp_path):
    from fashion_lab.runs.draft import save_weights

    m = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Linear(300, 300))
    save_weights(m.state_dict(), tmp_path / 'w.safetensors')
    # names and shapes
    assert 0 <= (tmp_path / 'w.safetensors').stat().st_size / 1e6 - model_mb(m) < 0.002


class Sleeper(nn.Module):
    "The first calls take longer."

    def __init__(self):
        super().__init__()
        self.w, self.seen = nn.Parameter(torch.zeros(1)), []

    def forward(self, x):
        self.seen.append(
            (len(x), torch.get_num_threads(), x.dtype, torch.is_grad_enabled(), self.training)
        )
        time.sleep(0.08 if len(self.seen) <= 3 else 0.004)
        return x


def test_latency_waits_for_the_warm_up_and_records_its_conditions():
    m, before = Sleeper(), torch.get_num_threads()
    t = latency(m, (3,), batch=7, repeats=9, warmup=2, n_threads=1, dtype='float64')
    assert 4 <= t['p10_ms'] <= t['median_ms'] <= t['p90_ms']
    assert t['median_ms'] < 60
    assert t['batch'] == 7
    assert t['repeats'] == 9
    assert t['warmup'] == 2
    assert t['threads'] == 1
    assert t['dtype'] == 'float64'
    assert t['device'] == 'cpu'
    assert t['device_name']
    assert t['per_second'] == pytest.approx(7e3 / t['median_ms'])
    assert m.seen == [] and torch.get_num_threads() == before  # a copy was measured


def test_latency_runs_without_gradients_in_evaluation_mode():
    class Probe(nn.Linear):
        def forward(self, x):
            assert not self.training
            assert not torch.is_grad_enabled()
            assert torch.get_num_threads() == 1
            return super().forward(x)

    latency(Probe(2, 2).train(), (2,), repeats=1, n_threads=1)


@pytest.mark.parametrize(
    'bad',
    [
        dict(repeats=0),
        dict(repeats=2.5),
        dict(warmup=-1),
        dict(batch=True),
        dict(dtype='int8'),
        dict(dtype='float23'),
        dict(device='tpu'),
        dict(n_threads=0),
    ],
)
def test_latency_refuses(bad):
    with pytest.raises(ValueError):
        latency(nn.Linear(2, 2), (2,), **bad)


def test_a_network_of_two_inputs_given_one_shape_says_how_to_give_both():
    class Two(nn.Module):
        def forward(self, left, right, scale=1):
            return left + right * scale

    with pytest.raises(
        ValueError,
        match=r'takes 2 inputs \(left, right\), so give 2 shapes .*--input once for each',
    ):
        cost(Two(), (3, 4, 4))
    assert cost(Two(), ((3, 4, 4), (3, 4, 4)))['params'] == 0
    with pytest.raises(ValueError) as e:
        cost(nn.Conv2d(3, 4, 1), (1, 4, 4))
    assert str(e.value).endswith('check input_shape')
