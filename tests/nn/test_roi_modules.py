# SPDX-License-Identifier: BSD-3-Clause
"""The deformable RoI poolings as modules."""

import pytest
import torch
from torch import nn

from dcnv2.nn import DeformRoIPoolPack, ModulatedDeformRoIPoolPack
from dcnv2.ops import deform_roi_pool

PACKS = [DeformRoIPoolPack, ModulatedDeformRoIPoolPack]
OPTIONS = {"spatial_scale": 0.5, "sampling_ratio": 2, "gamma": 0.2}
ROIS = torch.tensor([[1, 1.3, 2.1, 17.2, 11.7], [0, -3, -2, 9, 16], [0, 2.2, 1, 20, 14]])


def _make(pack, **options):
    torch.manual_seed(0)
    return pack((3, 4), 5, hidden_channels=16, **(OPTIONS | options))


def _features():
    return torch.randn(2, 5, 9, 11, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("pack", "fields"), [*zip(PACKS, (2, 3), strict=True)])
def test_state_dict_keys_and_shapes(pack, fields):
    state = _make(pack).state_dict()
    sizes = {0: (16, 60), 2: (16, 16), 4: (fields * 12, 16)}
    wanted = {f"offset_fc.{i}.weight": size for i, size in sizes.items()}
    wanted |= {f"offset_fc.{i}.bias": size[:1] for i, size in sizes.items()}
    assert {name: tuple(value.shape) for name, value in state.items()} == wanted


@pytest.mark.parametrize("pack", PACKS)
def test_hidden_layers_start_from_a_narrow_gaussian_and_the_last_at_zero(pack):
    torch.manual_seed(0)
    module = pack(7, 32)
    first, second, last = (module.offset_fc[i] for i in (0, 2, 4))
    for layer in (first, second):
        assert layer.weight.mean().item() == pytest.approx(0, abs=1e-4)
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert (last.weight == 0).all()
    assert all((layer.bias == 0).all() for layer in (first, second, last))


@pytest.mark.parametrize(("pack", "share"), [*zip(PACKS, (1.0, 0.5), strict=True)])
def test_training_starts_at_regular_pooling_or_its_half(pack, share):
    plain = deform_roi_pool(_features(), ROIS, None, None, (3, 4), *OPTIONS.values())
    torch.testing.assert_close(_make(pack)(_features(), ROIS), share * plain)


def test_pack_equals_its_branch_and_its_operator():
    module = _make(ModulatedDeformRoIPoolPack)
    nn.init.normal_(module.offset_fc[4].weight)
    input, options = _features(), ((3, 4), *OPTIONS.values())
    pooled = deform_roi_pool(input, ROIS, None, None, *options)
    fc = module.offset_fc
    hidden = fc[2](fc[0](pooled.flatten(1)).relu()).relu()
    planes = fc[4](hidden).view(3, 3, 3, 4)
    assert (planes[:, :2] < 0).any()  # no ReLU after the last layer: offsets have both signs
    assert (planes[:, :2] > 0).any()
    wanted = deform_roi_pool(input, ROIS, planes[:, :2], planes[:, 2:].sigmoid(), *options)
    torch.testing.assert_close(module(input, ROIS), wanted)


@pytest.mark.parametrize("pack", PACKS)
def test_every_parameter_has_a_gradient_with_frozen_features(pack):
    module = _make(pack)
    nn.init.normal_(module.offset_fc[4].weight, std=0.01)
    module(_features(), ROIS).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert (parameter.grad != 0).any(), name


@pytest.mark.parametrize("pack", PACKS)
def test_adaptive_sampling_and_lists_of_boxes(pack):
    module = _make(pack, sampling_ratio=0)
    boxes = [ROIS[1:, 1:], ROIS[:1, 1:]]
    order = torch.tensor([1, 2, 0])
    torch.testing.assert_close(module(_features(), boxes), module(_features(), ROIS[order]))


@pytest.mark.parametrize("pack", PACKS)
def test_no_boxes_return_no_bins_and_zero_gradients(pack):
    module = _make(pack)
    out = module(_features(), ROIS[:0])
    assert out.shape == (0, 5, 3, 4)
    out.sum().backward()
    assert all((p.grad == 0).all() for p in module.parameters())


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_keeps_the_features_dtype(pack, dtype):
    module = _make(pack)
    input = _features().to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = module(input, ROIS)
    assert out.dtype == dtype
    out.sum().backward()
    assert input.grad.dtype == dtype
    assert all(p.grad.dtype == torch.float32 for p in module.parameters())


@pytest.mark.parametrize("pack", PACKS)
def test_half_modules_accept_float32_boxes(pack):
    out = _make(pack).half()(_features().half(), ROIS)
    assert out.dtype == torch.float16
