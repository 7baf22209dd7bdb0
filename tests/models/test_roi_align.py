# SPDX-License-Identifier: BSD-3-Clause
"""The detector's RoIAlign has torchvision's values, in the dtype and layout of its features."""

import itertools

import pytest
import torch
from torchvision import ops

from dcnv2.models import PoolConfig
from dcnv2.models.layers import make_pool

SCALE = 0.125
# Images, then corners in pixels: inside, smaller than a pixel of the map, over the border, outside.
ROIS = torch.tensor(
    [
        [0, 10.0, 20.0, 90.0, 60.0],
        [1, 33.0, 17.0, 36.0, 21.5],
        [1, -24.0, 50.5, 40.0, 200.0],
        [0, 300.0, 300.0, 420.0, 400.0],
        [1, 60.0, 8.0, 60.0, 8.0],
    ]
)


def _features(dtype=torch.float32):
    torch.manual_seed(0)
    return torch.randn(2, 8, 13, 11).to(dtype).to(memory_format=torch.channels_last)


def _pools(sampling_ratio, aligned):
    config = PoolConfig(kind="align", sampling_ratio=sampling_ratio, aligned=aligned)
    align = ops.RoIAlign((3, 4), SCALE, sampling_ratio, aligned=aligned)
    return make_pool(config, 8, (3, 4), SCALE), align


@pytest.mark.parametrize(
    ("sampling_ratio", "aligned"), list(itertools.product((0, 2), (False, True)))
)
def test_values_and_gradients_are_torchvisions(sampling_ratio, aligned):
    ours, torchvisions = _pools(sampling_ratio, aligned)
    x, y = _features().requires_grad_(), _features().requires_grad_()
    got, want = ours(x, ROIS), torchvisions(y, ROIS)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    grad = torch.randn_like(want)
    got.backward(grad)
    want.backward(grad)
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-5)


def test_half_types_and_layouts_stay():
    pool, _ = _pools(2, False)
    features = _features(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = pool(features, ROIS)
    assert pooled.dtype == torch.bfloat16
    assert pooled.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(pooled.float(), pool(features.float(), ROIS), rtol=2**-8, atol=2**-8)
