# SPDX-License-Identifier: BSD-3-Clause
"""The detector's RoIAlign has torchvision's values, in the dtype and layout of its features."""

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign

from dcnv2.models import PoolConfig
from dcnv2.models.roi_heads import RoIPooler

SIZE = (104, 88)
# Boxes of two images: of every level, smaller than a pixel of a map, over the border, outside.
BOXES = [
    torch.tensor([[10.0, 20, 90, 60], [30, 30, 42, 40], [0, 0, 1000, 900]]),
    torch.tensor(
        [[33.0, 17, 36, 21.5], [-24, 50.5, 400, 200], [300, 300, 420, 400], [60, 8, 60, 8]]
    ),
]


class _Pyramid:
    roi_levels, out_channels = ("c3", "c4", "c5"), 8

    def __init__(self):
        self.strides = {"c3": 8, "c4": 16, "c5": 32}


def _features(dtype=torch.float32):
    torch.manual_seed(0)
    maps = {}
    for name, stride in _Pyramid().strides.items():
        x = torch.randn(2, 8, -(-SIZE[0] // stride), -(-SIZE[1] // stride))
        maps[name] = x.to(dtype).to(memory_format=torch.channels_last).requires_grad_()
    return maps


def _pooler(sampling_ratio, aligned):
    config = PoolConfig(kind="align", sampling_ratio=sampling_ratio, aligned=aligned)
    return RoIPooler(_Pyramid(), config, 3)


@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_values_and_gradients_are_torchvisions(sampling_ratio):
    ours = _pooler(sampling_ratio, aligned=False)
    theirs = MultiScaleRoIAlign([*_Pyramid().strides], 3, sampling_ratio)
    x, y = _features(), _features()
    got, want = ours(x, BOXES), theirs(y, BOXES, [(96, 88), SIZE])
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    grad = torch.randn_like(want)
    got.backward(grad)
    want.backward(grad)
    for level, features in x.items():
        torch.testing.assert_close(features.grad, y[level].grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("aligned", [False, True])
def test_half_types_and_layouts_stay(aligned):
    pooler, features = _pooler(2, aligned), _features(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = pooler(features, BOXES)
    assert pooled.dtype == torch.bfloat16
    assert pooled.is_contiguous(memory_format=torch.channels_last)
    wide = {level: x.float() for level, x in features.items()}
    torch.testing.assert_close(pooled.float(), pooler(wide, BOXES), rtol=2**-8, atol=2**-8)
