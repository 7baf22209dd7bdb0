# SPDX-License-Identifier: BSD-3-Clause
"""Recorded kernels: when they are used, and that detections stay what they are."""

import copy
from itertools import chain

import pytest
import torch
from rerun import Rerun
from torch import nn
from toys import toy_config, toy_images

from dcnv2.models import build_model
from dcnv2.models.graphs import EAGER_RUNS, MOST_RECORDINGS, OperandBuffers, RecordingCache
from dcnv2.models.offsets import OffsetMonitor


def _cache(model=None):
    return RecordingCache(nn.Linear(2, 2) if model is None else model, Rerun)


def _found(cache, key, times=1):
    """What a cache finds for a key that comes some times more."""
    return [cache.find(key, lambda recording: recording) for _ in range(times)]


def test_a_size_is_recorded_when_it_has_come_often():
    cache = _cache()
    *eager, recorded, again = _found(cache, "a", EAGER_RUNS + 2)
    assert eager == [None] * EAGER_RUNS
    assert recorded is again is not None
    assert _found(cache, "b") == [None]


def test_the_recording_not_used_for_longest_goes_first():
    cache = _cache()
    first = [_found(cache, key, EAGER_RUNS + 1)[-1] for key in range(MOST_RECORDINGS)]
    _found(cache, 0)
    _found(cache, "one more", EAGER_RUNS + 1)
    assert _found(cache, 0) == first[:1]
    assert _found(cache, 1)[0] is not first[1]


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.eval(),
        lambda model: model.weight.requires_grad_(False),
        lambda model: setattr(model, "weight", nn.Parameter(model.weight.clone())),
    ],
    ids=["mode", "frozen", "moved"],
)
def test_a_changed_model_is_recorded_anew(change):
    model = nn.Linear(2, 2)
    cache = _cache(model)
    old = _found(cache, "a", EAGER_RUNS + 1)[-1]
    change(model)
    assert _found(cache, "a")[0] is not old


def test_values_of_weights_may_change():
    model = nn.Linear(2, 2)
    cache = _cache(model)
    old = _found(cache, "a", EAGER_RUNS + 1)[-1]
    with torch.no_grad():
        model.weight.add_(1)
    assert _found(cache, "a") == [old]


def test_hooks_are_called():
    """A recording would not call them."""
    model = nn.Linear(2, 2)
    cache = _cache(model)
    _found(cache, "a", EAGER_RUNS + 1)
    handle = model.register_forward_hook(lambda *_: None)
    assert _found(cache, "a") == [None]
    handle.remove()
    assert _found(cache, "a") != [None]


def test_watched_offsets_have_recordings_of_their_own():
    model = build_model(toy_config())
    monitor, cache = OffsetMonitor(model), _cache(model)
    plain = _found(cache, "a", EAGER_RUNS + 1)[-1]
    monitor.watch()
    assert _found(cache, "a") == [None]
    assert _found(cache, "a", EAGER_RUNS)[-1] is not plain
    monitor.take()
    assert _found(cache, "a") == [plain]


def test_operands_of_all_sizes_share_memory():
    buffers = OperandBuffers()
    large, small = torch.rand(3, 4), torch.rand(5)
    kept = buffers.copy("x", large)
    assert torch.equal(kept, large)
    other = buffers.copy("x", small)
    assert torch.equal(other, small)
    assert other.data_ptr() == kept.data_ptr()
    assert buffers.copy("x", torch.rand(99)).data_ptr() != kept.data_ptr()
    assert buffers.copy("x", small.double()).dtype == torch.float64


FAMILIES = [("small", "c5", "mdpool"), ("resnet50", "fpn", "align"), ("resnet50", "c4", "align")]


@pytest.mark.parametrize(("arch", "topology", "pool"), FAMILIES)
@torch.no_grad()
def test_padded_detections_are_the_detections(shallow, arch, topology, pool):
    config = toy_config(pool, arch=arch, topology=topology)
    config.box.score_threshold = 0.0
    model = build_model(config).eval()
    batch, _ = model.transform(toy_images())
    expected = model._detect(batch)
    found = model._padded_detections(batch).split()
    for one, other in zip(expected, found, strict=True):
        assert len(one["boxes"]) > 0
        assert one.keys() == other.keys()
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_more_candidates_than_room_are_not_cut_off():
    config = toy_config()
    config.box.score_threshold = 0.0
    model = build_model(config).eval()
    batch, _ = model.transform(toy_images())
    model.roi_heads.room = 2
    assert model._padded_detections(batch).split() is None


@torch.no_grad()
def test_recorded_detections_are_those_of_each_batch():
    config = toy_config()
    config.box.score_threshold = 0.0
    model = build_model(config).eval()
    batches = [model.transform(toy_images(seed))[0] for seed in range(EAGER_RUNS + 3)]
    expected = [model._padded_detections(batch).split() for batch in batches]
    model._recordings = RecordingCache(model, Rerun)
    got = [model._padded_detections(batch).split() for batch in batches]
    for one, other in zip(chain(*expected), chain(*got), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(got[-1][0]["boxes"], got[-2][0]["boxes"])
    (recorded,) = model._recordings._kept.values()
    assert recorded._recording.runs == 3


def test_a_copy_of_a_detector_has_no_recordings():
    model = build_model(toy_config()).eval()
    model._recordings = RecordingCache(model, Rerun)
    assert copy.deepcopy(model)._recordings is None
    assert model._recordings is not None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.no_grad()
def test_room_grows_until_the_candidates_fit():
    config = toy_config()
    config.box.score_threshold = 0.0
    model = build_model(config).cuda().eval()
    images = [x.cuda() for x in toy_images()]
    expected = model(images)
    model.roi_heads.room = 2
    for _ in range(6):
        for one, other in zip(expected, model(images), strict=True):
            assert all(torch.equal(one[name], other[name]) for name in ("boxes", "labels"))
    assert 2 < model.roi_heads.room <= 128


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("arch", "topology", "pool"), FAMILIES)
@torch.no_grad()
def test_recorded_detections_equal_eager_ones_on_a_gpu(arch, topology, pool):
    config = toy_config(pool, arch=arch, topology=topology)
    config.box.score_threshold = 0.0
    model = build_model(config).cuda().eval()
    batches = [[x.cuda() for x in toy_images(seed)] for seed in range(EAGER_RUNS + 3)]
    with torch.autocast("cuda", torch.bfloat16):
        expected = [model(batch) for batch in batches]
        model.record_detections()
        got = [model(batch) for batch in batches]
    assert len(model._recordings._kept) == 1
    for one, other in zip(chain(*expected), chain(*got), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
