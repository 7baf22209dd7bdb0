# SPDX-License-Identifier: BSD-3-Clause
"""Options of the packs that the paper lacks: soft bounds, no hidden layers, the authors' pools."""

import pytest
import torch
from torch import nn

from dcnv2.nn import (
    DeformConv2dPack,
    DeformPSRoIPoolPack,
    DeformRoIPoolPack,
    ModulatedDeformConv2dPack,
    ModulatedDeformPSRoIPoolPack,
)
from dcnv2.ops import deform_psroi_pool

ROIS = torch.tensor([[1, 1.3, 2.1, 17.2, 11.7], [0, -3, -2, 9, 16], [0, 2.2, 1, 20, 14]])


@pytest.mark.parametrize("pack", [DeformConv2dPack, ModulatedDeformConv2dPack])
def test_max_offset_bounds_large_offsets_and_keeps_small_ones(pack):
    torch.manual_seed(0)
    free, bound = pack(4, 6, 3), pack(4, 6, 3, max_offset=2.0)
    nn.init.normal_(free.conv_offset.weight, std=3.0)
    bound.load_state_dict(free.state_dict())
    x = torch.randn(2, 4, 7, 9)
    raw, limited = free.predict(x)[0], bound.predict(x)[0]
    assert raw.abs().max() > 2
    assert limited.abs().max() <= 2
    assert torch.equal(raw.sign(), limited.sign())
    small = raw.abs() < 0.1
    assert small.any()
    torch.testing.assert_close(limited[small], raw[small], rtol=1e-3, atol=0)


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf")])
def test_an_invalid_max_offset_is_an_error(limit):
    with pytest.raises(ValueError, match="max_offset must be positive and finite"):
        DeformConv2dPack(4, 6, 3, max_offset=limit)


def test_without_hidden_layers_the_branch_is_one_zero_layer():
    module = DeformRoIPoolPack(7, 256, hidden_channels=0)
    assert {name: tuple(p.shape) for name, p in module.named_parameters()} == {
        "offset_fc.0.weight": (98, 7 * 7 * 256),  # 1.23 M weights, as in DCNv1
        "offset_fc.0.bias": (98,),
    }
    assert not any(p.any() for p in module.parameters())


@pytest.mark.parametrize(
    ("pack", "share"), [(DeformPSRoIPoolPack, 1.0), (ModulatedDeformPSRoIPoolPack, 0.5)]
)
def test_authors_pooling_starts_at_regular_pooling_and_has_gradients(pack, share):
    torch.manual_seed(0)
    options = {"spatial_scale": 0.5, "group_size": 2, "sample_per_part": 3, "trans_std": 0.2}
    module = pack(3, 8, hidden_channels=16, **options)
    x = torch.randn(2, 8, 9, 11)
    plain = deform_psroi_pool(x, ROIS, None, None, 3, 0.5, 2, None, 3, 0.2)
    assert plain.shape == (3, 2, 3, 3)
    torch.testing.assert_close(module(x, ROIS), share * plain)
    nn.init.normal_(module.offset_fc[-1].weight, std=100.0)  # hidden values are small at first
    assert (module(x, ROIS) - share * plain).abs().max() > 0.01
    module(x, ROIS).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())


def test_authors_pooling_checks_channels_against_groups():
    with pytest.raises(ValueError, match=r"divisible by group_size\^2 = 9, got 8"):
        DeformPSRoIPoolPack(3, 8, group_size=3)
