# SPDX-License-Identifier: BSD-3-Clause
"""Resetting every module, as initialisation after the meta device does, keeps the zero start."""

import pytest
import torch
from torch import nn

import dcnv2
from dcnv2 import compat
from dcnv2 import nn as our_nn

POOLS = (
    our_nn.DeformRoIPoolPack,
    our_nn.ModulatedDeformRoIPoolPack,
    our_nn.DeformPSRoIPoolPack,
    our_nn.ModulatedDeformPSRoIPoolPack,
)


def _layers():
    yield "v1", lambda: our_nn.DeformConv2dPack(4, 6, 3, padding=1), "conv_offset"
    yield "v2", lambda: our_nn.ModulatedDeformConv2dPack(4, 6, 3, padding=1), "conv_offset"
    for pool in POOLS:
        yield pool.__name__, lambda pool=pool: pool(3, 4, hidden_channels=5), "offset_fc.4"
        if "PS" not in pool.__name__:
            shallow = lambda pool=pool: pool(3, 4, hidden_channels=0)  # noqa: E731
            yield f"{pool.__name__} without hidden layers", shallow, "offset_fc.0"
    theirs = compat.dcnv2_pytorch
    yield "CharlesShang", lambda: theirs.DCN(4, 6, 3, 1, 1), "conv_offset_mask"
    pool = lambda: theirs.DCNPooling(1.0, 3, 4, False, deform_fc_dim=5)  # noqa: E731
    yield "CharlesShang's pool", pool, "offset_mask_fc.4"
    mmcv = compat.mmcv.ModulatedDeformRoIPoolPack
    yield "mmcv's pool", lambda: mmcv(3, 4, deform_fc_channels=5), "mask_fc.2"
    basicsr = compat.basicsr.ModulatedDeformConvPack
    yield "BasicSR", lambda: basicsr(4, 6, 3, padding=1), "conv_offset"
    chosen = lambda: dcnv2.deformable(  # noqa: E731
        nn.Sequential(nn.Conv2d(4, 6, 3, padding=1)), "0", report=lambda text: None
    )
    yield "made deformable", chosen, "0.conv_offset"


LAYERS = [pytest.param(make, branch, id=name) for name, make, branch in _layers()]


def _reset(model):
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()


def _zeros(model):
    """Names of the parameters that are zero."""
    return {name for name, parameter in model.named_parameters() if not parameter.any()}


@pytest.mark.parametrize(("make", "branch"), LAYERS)
def test_the_branch_starts_at_zero_after_every_module_is_reset(make, branch):
    model = make()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    _reset(model)
    values = model.get_submodule(branch).state_dict()
    assert set(values) == {"weight", "bias"}
    assert not any(value.any() for value in values.values())
    assert _zeros(model) == _zeros(make()), "the other parameters start as in a new layer"


@pytest.mark.parametrize(("make", "branch"), LAYERS)
def test_a_layer_made_on_the_meta_device_starts_as_usual(make, branch):
    usual = make()
    with torch.device("meta"):
        model = make()
    model.to_empty(device="cpu")
    _reset(model)
    assert _zeros(model) == _zeros(usual)
    assert not model.get_submodule(branch).weight.any()


def test_hidden_layers_are_small_after_a_reset():
    pool = our_nn.DeformRoIPoolPack(7, 16, hidden_channels=256)
    nn.init.constant_(pool.offset_fc[0].weight, 9.0)
    _reset(pool)
    assert pool.offset_fc[0].weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not pool.offset_fc[0].bias.any()


def test_a_seed_draws_the_same_weights_with_and_without_a_branch():
    torch.manual_seed(0)
    nn.Conv2d(4, 27, 3)
    wanted = nn.Linear(3, 3).weight
    torch.manual_seed(0)
    our_nn.ModulatedDeformConv2dPack(4, 6, 3)
    torch.manual_seed(0)
    our_nn.branch_init.ZeroConv2d(4, 27, 3)
    assert torch.equal(nn.Linear(3, 3).weight, wanted)
