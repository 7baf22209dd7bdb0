# SPDX-License-Identifier: BSD-3-Clause
"""dcnv2.replace: other projects' layers go, what a model computes stays."""

import pytest
import torch
import torchvision
from peer_layers import basicsr, dcn_v2, detectron2, mmcv
from torch import nn

import dcnv2
from dcnv2 import compat, ops
from dcnv2 import nn as our_nn
from dcnv2.compat import basicsr as our_basicsr
from dcnv2.compat import dcnv2_pytorch, layers

GEOMETRY = {"stride": (2, 1), "padding": (1, 2), "dilation": (2, 1)}
FULL = ((6, 8, (3, 2)), {**GEOMETRY, "groups": 2, "dg": 3})
UNDILATED = ((6, 8, (3, 2)), {"stride": (2, 1), "padding": (1, 2), "deformable_groups": 3})


def _given(mask):
    """Offsets, and masks if wanted, for an input of 9 x 8 and three deform groups."""
    rows = (9 + 2 - 2 * 2 - 1) // 2 + 1
    offset = torch.randn(2, 36, rows, 11)
    return (offset, torch.rand(2, 18, rows, 11)) if mask else (offset,)


def _both(module, arguments):
    """Outputs, parameters' gradients and parameters before and after."""
    results = []
    for swap in (False, True):
        if swap:
            module = dcnv2.replace(module, report=None)
        module.zero_grad()
        out = module(*arguments)
        out.square().sum().backward()
        named = dict(module.named_parameters())
        results.append((module, out, {n: p.grad.clone() for n, p in named.items()}, named))
    return results


def _same(module, arguments, kind):
    torch.manual_seed(0)
    (_, out, grads, named), (ours, our_out, our_grads, our_named) = _both(module, arguments)
    assert type(ours) is kind
    torch.testing.assert_close(our_out, out, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(our_grads, grads, rtol=1e-3, atol=1e-3)
    assert list(our_named) == list(named)
    assert all(our_named[name] is value for name, value in named.items())


@pytest.mark.parametrize(
    ("kind", "modulated", "ours"),
    [
        (mmcv.DeformConv2d, False, layers.PlainDeformConv),
        (mmcv.ModulatedDeformConv2d, True, layers.ModulatedDeformConv),
        (basicsr.DeformConv, False, layers.PlainDeformConv),
        (basicsr.ModulatedDeformConv, True, layers.ModulatedDeformConv),
        (detectron2.DeformConv, False, compat.detectron2.DeformConv),
        (detectron2.ModulatedDeformConv, True, compat.detectron2.ModulatedDeformConv),
    ],
)
def test_layers_with_given_offsets(kind, modulated, ours):
    torch.manual_seed(0)
    _same(kind(*FULL[0], **FULL[1]), (torch.randn(2, 6, 9, 8), *_given(modulated)), ours)


@pytest.mark.parametrize(
    ("kind", "ours"),
    [
        (mmcv.DeformConv2dPack, layers.PlainDeformConvPack),
        (mmcv.ModulatedDeformConv2dPack, layers.ModulatedDeformConvPack),
        (basicsr.DeformConvPack, layers.PlainDeformConvPack),
        (basicsr.ModulatedDeformConvPack, layers.ModulatedDeformConvPack),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_layers_that_predict_their_offsets(kind, ours, bias):
    torch.manual_seed(0)
    _same(kind(*FULL[0], **FULL[1], bias=bias), (torch.randn(2, 6, 9, 8),), ours)


def test_a_layer_that_predicts_from_other_features():
    torch.manual_seed(0)
    inputs = (torch.randn(2, 6, 9, 8), torch.randn(2, 6, 9, 8))
    _same(basicsr.DCNv2Pack(*FULL[0], **FULL[1]), inputs, our_basicsr.DCNv2Pack)


def test_layers_of_charlesshang():
    torch.manual_seed(0)
    x = torch.randn(2, 6, 9, 8)
    _same(dcn_v2.DCN(*UNDILATED[0], **UNDILATED[1]), (x,), dcnv2_pytorch.DCN)
    offset, mask = torch.randn(2, 36, 5, 11), torch.rand(2, 18, 5, 11)
    layer = dcn_v2.DCNv2(*UNDILATED[0], **UNDILATED[1])
    _same(layer, (x, offset, mask), layers.ModulatedDeformConv)


def test_torchvisions_layer():
    torch.manual_seed(0)
    layer = torchvision.ops.DeformConv2d(6, 8, (3, 2), groups=2, **GEOMETRY)
    _same(layer, (torch.randn(2, 6, 9, 8), *_given(True)), our_nn.DeformConv2d)


def test_a_replaced_layer_can_keep_torchvisions_float32_under_autocast():
    torch.manual_seed(0)
    layer = torchvision.ops.DeformConv2d(6, 8, (3, 2), groups=2, **GEOMETRY)
    arguments = (torch.randn(2, 6, 9, 8), *_given(True))
    wanted = layer(*arguments).bfloat16()
    wanted.backward(torch.ones_like(wanted))
    grads = {name: p.grad.clone() for name, p in layer.named_parameters()}
    model = dcnv2.replace(layer, report=None)
    model.zero_grad()
    ops.set_autocast_compute_dtype(torch.float32)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            found = model(*arguments)
    finally:
        ops.set_autocast_compute_dtype(None)
    found.backward(torch.ones_like(found))
    torch.testing.assert_close(found, wanted, rtol=2**-7, atol=1e-5)  # a rounding apart
    torch.testing.assert_close({n: p.grad for n, p in model.named_parameters()}, grads)


@pytest.mark.parametrize("modulated", [True, False])
def test_detectron2s_block_keeps_its_own_branch_norm_and_activation(modulated):
    torch.manual_seed(0)
    block = detectron2.DeformBottleneckBlock(6, modulated, groups=2, dg=3).eval()
    nn.init.normal_(block.conv2.norm.running_mean)
    x = torch.randn(2, 6, 7, 9)
    wanted, names = block(x), list(block.state_dict())
    text = []
    assert dcnv2.replace(block, text.append) is block
    torch.testing.assert_close(block(x), wanted, rtol=1e-4, atol=1e-4)
    assert list(block.state_dict()) == names
    assert "conv2: " in text[0]
    assert not block.conv2.norm.training


ROIS = torch.tensor([[1, 1.3, 2.1, 17.2, 11.7], [0, -3, -2, 9, 16], [0, 2.2, 1, 20, 14]])


@pytest.mark.parametrize(
    ("layer", "given", "ours"),
    [
        (mmcv.DeformRoIPool((3, 4), 0.5, 2, 0.2), (3, 2, 3, 4), compat.mmcv.DeformRoIPool),
        (mmcv.DeformRoIPoolPack((3, 4), 8, 16, 0.5, 2, 0.2), (), compat.mmcv.DeformRoIPoolPack),
        (
            mmcv.ModulatedDeformRoIPoolPack((3, 4), 8, 16, 0.5, 0, 0.2),
            (),
            compat.mmcv.ModulatedDeformRoIPoolPack,
        ),
        (
            dcn_v2.DCNv2Pooling(0.5, 3, 2, False, 2, 3, 3, 0.2),
            (3, 2, 3, 3),
            dcnv2_pytorch.DCNv2Pooling,
        ),
        (
            dcn_v2.DCNPooling(0.5, 3, 2, False, 2, 3, 3, 0.2, deform_fc_dim=16),
            (),
            dcnv2_pytorch.DCNPooling,
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_pools(layer, given, ours):
    torch.manual_seed(0)
    model, text = nn.ModuleList([layer.double()]), []
    names = list(model.state_dict())
    operands = [torch.randn(2, 8, 9, 11, dtype=torch.float64), ROIS.double()]
    if given:
        operands.append(torch.randn(given, dtype=torch.float64))
    wanted = layer(*operands)
    dcnv2.replace(model, text.append)
    assert "1 layers swapped" in text[0]
    assert type(model[0]) is ours
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model[0](*operands), wanted)


def test_a_model_with_many_kinds_is_reported_and_shared_layers_stay_shared():
    torch.manual_seed(0)
    shared = mmcv.DeformConv2dPack(6, 6, 3, padding=1)
    model = nn.Sequential(
        shared, nn.Sequential(nn.ReLU(), shared), dcn_v2.DCN(6, 6, 3, 1, 1), nn.Conv2d(6, 2, 1)
    )
    x = torch.randn(2, 6, 7, 9)
    wanted, text = model(x), []
    dcnv2.replace(model, text.append)
    torch.testing.assert_close(model(x), wanted, rtol=1e-4, atol=1e-4)
    assert model[0] is model[1][1]
    assert type(model[3]) is nn.Conv2d
    lines = text[0].split("\n")
    assert lines[0] == "dcnv2.replace: 2 layers swapped"
    assert lines[1].startswith("  0: peer_layers's DeformConv2dPack -> dcnv2's")
    assert lines[2].startswith("  2: peer_layers's DCN -> dcnv2's DCN")
    dcnv2.replace(model, text.append)
    assert text[1] == "dcnv2.replace: 0 layers swapped"


def test_hooks_and_modes_move_along():
    model = nn.Sequential(mmcv.DeformConv2dPack(6, 6, 3, padding=1)).eval()
    seen = []
    model[0].register_forward_hook(lambda module, inputs, out: seen.append(out.shape))
    dcnv2.replace(model, None)
    model(torch.randn(2, 6, 7, 9))
    assert seen == [(2, 6, 7, 9)]
    assert not model[0].training
    assert not model[0].conv_offset.training


class DCNv2(nn.Module):
    """Goes by a known name, but norms and activates, as some detectors' own blocks do."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4, 3, 3))
        self.stride = self.padding = self.dilation = 1
        self.conv_offset_mask = nn.Conv2d(4, 27, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (DCNv2(), "holds bn, conv_offset_mask, weight: not just what its kind does"),
        (mmcv.SecondOrderAlignment(4, 4, 3), "a subclass of ModulatedDeformConv2d"),
        (dcn_v2.DCN(4, 4, 3, 1, 2, 2), "conv_offset_mask does not follow its dilation"),
        (nn.utils.parametrizations.weight_norm(mmcv.DeformConv2d(4, 4, 3)), "a subclass of"),
    ],
)
def test_what_computes_something_else_is_left_alone_and_named(layer, why):
    model, text = nn.Sequential(nn.ReLU(), layer), []
    dcnv2.replace(model, text.append)
    assert model[1] is layer
    assert "0 layers swapped" in text[0]
    assert "left alone:\n  1: " in text[0]
    assert why in text[0]
