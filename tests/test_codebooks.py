"""Shared weights: k-means that is a minimum, codes that come back bit for bit, files whose size
is what was counted."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from fashion_lab.compress.weight_sharing import (
    cluster,
    decode,
    encode,
    huffman_lengths,
    load_shared,
    save_shared,
    share_weights,
    with_shared,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=200), st.integers(1, 16))
def test_every_value_goes_to_its_nearest(values, k):
    book, codes = cluster(values, k)
    v = np.asarray(values, np.float32)
    assert len(book) == k
    assert (np.diff(book) >= 0).all()
    assert codes.max(initial=0) < k
    assert np.allclose(np.abs(v - book[codes]), np.abs(v[:, None] - book[None]).min(1), atol=1e-3)


def test_means_of_clusters_are_the_book():
    v = np.random.default_rng(0).normal(size=3000)
    book, codes = cluster(v, 8, steps=1000)
    # the two conditions of a minimum: nearest value, and mean
    assert np.allclose(book, [v[codes == i].mean() for i in range(8)], atol=1e-4)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=64))
def test_code_is_shortest_and_without_prefixes(counts):
    lengths = huffman_lengths(counts)
    used = [int(n) for n, c in zip(lengths, counts) if c]
    assert all((c > 0) == (n > 0) for n, c in zip(lengths, counts))
    if len(used) > 1:
        assert math.isclose(sum(2.0**-n for n in used), 1.0)  # Kraft, with equality
        p = np.array([c for c in counts if c], float) / sum(counts)
        mean = (p * np.array(used)).sum()
        assert -(p * np.log2(p)).sum() - 1e-9 <= mean < 1 - (p * np.log2(p)).sum()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 15), max_size=300))
def test_codes_come_back(codes):
    codes = np.array(codes, np.uint8)
    lengths = huffman_lengths(np.bincount(codes, minlength=16))
    stream = encode(codes, lengths)
    assert np.array_equal(decode(stream, lengths, len(codes)), codes)
    assert len(stream) == math.ceil(lengths[codes].sum(dtype=int) / 8)


def test_a_very_skewed_code():
    counts = [2**i for i in range(40)]  # a code of 39 bits
    lengths = huffman_lengths(counts)
    assert lengths.max() == 39
    codes = np.array([0, 39, 1, 38, 0], np.uint8)
    assert np.array_equal(decode(encode(codes, lengths), lengths, 5), codes)


@pytest.mark.parametrize('bits', [1, 3, 4, 8])
def test_files_hold_the_network(tmp_path, bits):
    torch.manual_seed(bits)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(800, 300), nn.Linear(300, 5)
    ).eval()
    for m in (net[0], net[3], net[4]):
        nn.init.normal_(m.weight)  # as after training: many small weights, few large ones
    # as training leaves it
    net[0].weight.data = net[0].weight.data.to(memory_format=torch.channels_last)
    shared = share_weights(net, bits)
    want = with_shared(net, shared).state_dict()
    n = sum(len(s) for s in shared.values())
    size = {
        c: save_shared(net, shared, tmp_path / f'{c}.safetensors', c) for c in ('fixed', 'huffman')
    }
    for c in size:
        assert all(
            torch.equal(v, want[k]) for k, v in load_shared(tmp_path / f'{c}.safetensors').items()
        )
    assert n * bits / 8 <= size['fixed'] < n * bits / 8 + 9000
    if bits > 2:
        assert size['huffman'] < size['fixed']


def test_a_damaged_file_is_noticed(tmp_path):
    net = nn.Linear(40, 40)
    shared = share_weights(net, 4)
    save_shared(net, shared, tmp_path / 'a.safetensors')
    t = load_file(tmp_path / 'a.safetensors')
    t['weight|codes'] = t['weight|codes'][:20].clone()
    save_file(t, tmp_path / 'b.safetensors')
    with pytest.raises(ValueError, match='it is damaged'):
        load_shared(tmp_path / 'b.safetensors')
