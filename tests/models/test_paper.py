# SPDX-License-Identifier: BSD-3-Clause
"""What the paper states of its detector, and faults of earlier implementations as tests."""

import pytest
import torch
from torch import nn
from toys import toy_config, toy_images

from dcnv2.models import (
    BackboneConfig,
    BoxHeadConfig,
    MaskHeadConfig,
    ModelConfig,
    PoolConfig,
    build_model,
)
from dcnv2.models.backbone import build_backbone
from dcnv2.nn import ModulatedDeformConv2dPack


def _paper_model(conv, pool):
    """R50-C5 with deformable conv3 to conv5, on the meta device: shapes without memory."""
    config = ModelConfig(
        backbone=BackboneConfig(convs=("plain", conv, conv, conv)),
        box=BoxHeadConfig(pool=PoolConfig(kind=pool)),
        mask=MaskHeadConfig(pool=PoolConfig(kind=pool)),
    )
    with torch.device("meta"):
        return build_model(config)


def _count(module, suffix=""):
    return sum(p.numel() for name, p in module.named_parameters() if name.endswith(suffix))


@pytest.mark.parametrize(("conv", "weights"), [("dcnv1", 580_608), ("dcnv2", 870_912)])
def test_offset_convolutions_cost_what_the_paper_says(conv, weights):
    body = _paper_model(conv, "align").backbone.body
    assert _count(body, "conv_offset.weight") == weights
    assert sum(name.endswith("conv_offset") for name, _ in body.named_modules()) == 13


def test_pooling_branches_cost_what_the_paper_says():
    heads = _paper_model("dcnv2", "mdpool").roi_heads
    assert _count(heads.box_roi_pool) / 1e6 == pytest.approx(14.05, abs=0.01)
    assert _count(heads.mask_roi_pool) / 1e6 == pytest.approx(53.03, abs=0.01)


def test_dcnv1_pooling_branch_is_a_single_layer():
    config = ModelConfig(box=BoxHeadConfig(pool=PoolConfig(kind="dpool", hidden_channels=0)))
    with torch.device("meta"):
        pool = build_model(config).roi_heads.box_roi_pool
    assert _count(pool) == 7 * 7 * 256 * 98 + 98  # 1.23 M


def test_conv4_and_conv5_share_stride_16():
    backbone = build_backbone(BackboneConfig())
    with torch.no_grad():
        maps = backbone(torch.rand(1, 3, 64, 96))
    assert maps["c4"].shape == (1, 1024, 4, 6)
    assert maps["c5"].shape == (1, 256, 4, 6)
    assert (maps["c5"] >= 0).all()
    conv5 = [block.conv2 for block in backbone.body.layer4]
    assert all(conv.stride == (1, 1) and conv.dilation == (2, 2) for conv in conv5)


def test_pyramid_keeps_stride_32_in_conv5():
    backbone = build_backbone(BackboneConfig(topology="fpn", channels=32))
    with torch.no_grad():
        maps = backbone(torch.rand(1, 3, 64, 64))
    assert [m.shape[-1] for m in maps.values()] == [16, 8, 4, 2, 1]


@pytest.mark.slow
def test_rpn_reads_conv4_and_heads_read_conv5():
    model = build_model(toy_config(arch="resnet50"))
    seen = {}
    model.rpn.head.register_forward_pre_hook(lambda _, args: seen.update(rpn=args[0]))
    model.roi_heads.box_roi_pool.pools[0].register_forward_pre_hook(
        lambda _, args: seen.update(roi=args[0])
    )
    with torch.no_grad():
        model.eval()(toy_images())
    assert [m.shape[1] for m in seen["rpn"]] == [1024]
    assert seen["roi"].shape[1] == 32


@pytest.mark.parametrize("mask_scale", [1.0, 2.0])
def test_offsets_start_at_zero_and_modulation_at_a_half_or_one(mask_scale):
    torch.manual_seed(0)
    model = build_model(toy_config(mask_scale=mask_scale))
    packs = [m for m in model.modules() if isinstance(m, ModulatedDeformConv2dPack)]
    assert packs
    for pack in packs:
        x = torch.rand(1, pack.conv_offset.in_channels, 6, 5)
        out = pack(x)
        plain = nn.functional.conv2d(x, pack.weight, None, pack.stride, pack.padding)
        torch.testing.assert_close(out, 0.5 * mask_scale * plain)


def test_box_head_has_a_relu_after_each_fc():
    head = build_model(toy_config()).roi_heads.box_head
    x = torch.rand(4, 16, 7, 7)
    hidden = torch.relu(head.fc6(x.flatten(1)))
    torch.testing.assert_close(head(x), torch.relu(head.fc7(hidden)))


@pytest.mark.parametrize("pool", ["dpool", "mdpool"])
def test_predicted_pooling_offsets_take_both_signs(pool):
    torch.manual_seed(0)
    model = build_model(toy_config(pool))
    linear = [m for m in model.roi_heads.box_roi_pool.modules() if isinstance(m, nn.Linear)]
    nn.init.normal_(linear[-1].weight)
    signs = []
    for module in (linear[-1],):
        module.register_forward_hook(lambda _, __, out: signs.append(out))
    rois = [torch.tensor([[2.0, 3, 40, 50], [10, 5, 60, 60]])]
    model.roi_heads.box_roi_pool({"c5": torch.rand(1, 16, 8, 8)}, rois)
    assert (signs[0] > 0).any()
    assert (signs[0] < 0).any()


def test_offsets_learn_though_the_features_are_frozen():
    torch.manual_seed(0)
    model = build_model(toy_config())
    pool = model.roi_heads.box_roi_pool
    features = {"c5": torch.rand(1, 16, 8, 8)}
    pool(features, [torch.tensor([[2.0, 3, 40, 50]])]).square().sum().backward()
    assert all(p.grad is not None for p in pool.parameters())
    assert any(p.grad.abs().sum() > 0 for p in pool.parameters())


def test_no_weights_are_kept_twice():
    state = build_model(toy_config()).state_dict()
    pointers = [value.data_ptr() for value in state.values() if value.numel()]
    assert len(set(pointers)) == len(pointers)
