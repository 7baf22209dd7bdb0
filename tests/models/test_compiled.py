# SPDX-License-Identifier: BSD-3-Clause
"""Compilation, memory layout and half precision of the detector."""

import pytest
import torch
from torch import nn
from toys import total, toy_config, toy_images, toy_targets

from dcnv2.models import BackboneConfig, build_model
from dcnv2.models.backbone import build_backbone
from dcnv2.models.layers import make_norm

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shallow")]


@pytest.mark.parametrize("form", [{"arch": "small"}, {"arch": "resnet50", "topology": "c5"}])
def test_backbone_compiles_without_a_break(form):
    torch.manual_seed(0)
    backbone = build_model(toy_config(**form)).backbone
    compiled = torch.compile(backbone, fullgraph=True, backend="aot_eager")
    x = torch.rand(2, 3, 32, 48)
    wanted, got = backbone(x), compiled(x)
    for level in wanted:
        torch.testing.assert_close(got[level], wanted[level])
    sum(value.sum() for value in got.values()).backward()
    assert not [name for name, p in backbone.named_parameters() if p.grad is None]


@pytest.mark.parametrize("pool", ["align", "dpool", "mdpool", "mdpsroi"])
def test_heads_compile_without_a_break(pool):
    torch.manual_seed(0)
    config = toy_config()
    config.box.pool.kind = config.mask.pool.kind = pool
    heads = build_model(config).roi_heads
    features = {"c5": torch.rand(2, 16, 8, 8)}
    boxes = [torch.tensor([[2.0, 3, 40, 50], [10, 5, 60, 60]]), torch.tensor([[5.0, 5, 30, 20]])]
    for branch in (heads.box_features, heads.mask_logits):
        compiled = torch.compile(branch, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(features, boxes), branch(features, boxes))
        torch._dynamo.reset()


def test_training_compiles_backbone_and_heads_without_a_break():
    """`train.compile`, in one graph a part; numbers of RoIs change from step to step."""
    torch.manual_seed(0)
    config = toy_config()
    config.mimic.enabled, config.mimic.crop_size = True, 32
    model = build_model(config)
    images = toy_images()

    def losses(targets):
        torch.manual_seed(0)
        return total(model(images, targets))

    batches = [toy_targets(images), toy_targets(images, ()), toy_targets(images, ((5, 7, 30, 40),))]
    wanted = [losses(targets) for targets in batches]
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    for part in model.dense_parts():
        part.compile(backend=count, fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        losses(batches[0]).backward()
    for targets, value in zip(batches, wanted, strict=True):
        torch.testing.assert_close(losses(targets), value)
    assert len(graphs) >= len(model.dense_parts())
    torch._dynamo.reset()


@pytest.mark.parametrize("pool", ["align", "mdpool"])
def test_pyramid_pooling_compiles_without_a_break(pool):
    """How many RoIs a level gets is known from the data alone: the compiler has to be allowed that,
    and the operators take such a number."""
    torch.manual_seed(0)
    config = toy_config(pool, arch="resnet50", topology="fpn", norm="frozen")
    pooler = build_model(config).roi_heads.box_roi_pool
    levels = (("c2", 16), ("c3", 8), ("c4", 4), ("c5", 2))
    features = {name: torch.rand(2, 32, side, side + 1) for name, side in levels}
    boxes = [torch.tensor([[2.0, 3, 40, 50], [0, 0, 400, 300]]), torch.tensor([[5.0, 5, 30, 20]])]
    wanted = pooler(features, boxes)
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        compiled = torch.compile(pooler, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(features, boxes), wanted)
    torch._dynamo.reset()


def test_channels_last_gives_the_same_losses():
    images = toy_images()

    def losses(layout):
        torch.manual_seed(0)
        model = build_model(toy_config()).to(memory_format=layout)
        torch.manual_seed(1)
        return model(images, toy_targets(images))

    first, second = losses(torch.contiguous_format), losses(torch.channels_last)
    for name, loss in first.items():
        torch.testing.assert_close(second[name], loss, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool", ["align", "mdpool"])
def test_bfloat16_autocast_trains_and_predicts(pool):
    torch.manual_seed(0)
    model = build_model(toy_config(pool))
    images = toy_images()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(images, toy_targets(images))
    total(losses).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all(), name
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        outputs = model.eval()(images)
    assert all(output["boxes"].dtype == torch.float32 for output in outputs)
    assert all(output["scores"].dtype == torch.float32 for output in outputs)


@pytest.mark.parametrize("topology", ["c5", "fpn"])
@pytest.mark.parametrize("conv", ["plain", "dcnv1", "dcnv2"])
def test_maps_stay_bfloat16_and_channels_last_through_the_backbone(conv, topology):
    """A layer that answers in another dtype or layout makes the next one copy its input."""
    torch.manual_seed(0)
    config = BackboneConfig(convs=("plain", conv, conv, conv), topology=topology, channels=32)
    backbone = build_backbone(config).to(memory_format=torch.channels_last)
    strayed = []

    def look(name):
        def hook(_, __, out):
            # Offsets are float32 for the operator's sake.
            if isinstance(out, torch.Tensor) and "conv_offset" not in name:
                straight = out.is_contiguous(memory_format=torch.channels_last)
                if out.dtype != torch.bfloat16 or not straight:
                    strayed.append((name, out.dtype, out.stride()))

        return hook

    for name, module in backbone.named_modules():
        module.register_forward_hook(look(name))
    x = torch.rand(2, 3, 64, 96).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        maps = backbone(x)
    assert len(maps) == (2 if topology == "c5" else 5)
    assert not strayed


def test_frozen_norm_in_bfloat16_is_its_float32_self_rounded():
    torch.manual_seed(0)
    norm = make_norm("frozen", 6)
    for buffer in norm.buffers():
        buffer.uniform_(0.5, 1.5)
    x = torch.randn(2, 6, 5, 7).bfloat16()
    wanted, got = norm(x.float()), norm(x)
    assert got.dtype == torch.bfloat16
    # Scale or shift, then the result: two roundings to eight bits, half a unit each.
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias - norm.running_mean * scale
    size = (x.float() * scale.view(-1, 1, 1)).abs() + shift.abs().view(-1, 1, 1)
    assert ((got.float() - wanted).abs() <= 1.01 * 2 * 2**-8 * size).all()


def test_anchors_and_deltas_are_float32_under_autocast():
    """In bfloat16 neighbours at 1000 pixels would be four apart."""
    model = build_model(toy_config())
    seen = {}
    model.rpn.anchor_generator.register_forward_hook(lambda _, __, out: seen.update(anchors=out))
    model.rpn.head.register_forward_hook(lambda _, __, out: seen.update(deltas=out[1]))
    model.roi_heads.box_predictor.register_forward_hook(lambda _, __, out: seen.update(box=out))
    images = toy_images()
    with torch.autocast("cpu", torch.bfloat16):
        model(images, toy_targets(images))
    for tensors in seen.values():
        assert all(tensor.dtype == torch.float32 for tensor in tensors)


def test_norms_are_what_they_say():
    kinds = {name: type(make_norm(name, 64)) for name in ("group", "batch", "sync")}
    assert kinds == {"group": nn.GroupNorm, "batch": nn.BatchNorm2d, "sync": nn.SyncBatchNorm}
    assert make_norm("group", 64).num_groups == 32
    with pytest.raises(ValueError, match="norm: wanted one of group, frozen, batch, sync"):
        make_norm("layer", 64)
    body = build_backbone(BackboneConfig(norm="sync", freeze_at=1, topology="fpn")).body
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in (body.bn1,))
    assert isinstance(body.layer1[0].bn1, nn.SyncBatchNorm)


@pytest.mark.parametrize("stride_in_1x1", [False, True])
def test_stride_sits_where_it_is_configured(stride_in_1x1):
    body = build_backbone(BackboneConfig(stride_in_1x1=stride_in_1x1, topology="fpn")).body
    first = body.layer2[0]
    strides = (first.conv1.stride[0], first.conv2.stride[0])
    assert strides == ((2, 1) if stride_in_1x1 else (1, 2))
