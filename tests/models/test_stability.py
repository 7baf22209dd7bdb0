# SPDX-License-Identifier: BSD-3-Clause
"""Training from scratch starts soundly, and offsets that run away are seen and can be bounded."""

import pytest
import torch
from torch import nn
from toys import toy_config, toy_images

from dcnv2.models import BackboneConfig, build_model
from dcnv2.models.offsets import OffsetMonitor
from dcnv2.models.resnet import ResNet
from dcnv2.nn import DeformConv2dPack, ModulatedDeformConv2dPack


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("mask_scale", [1.0, 2.0])
def test_activations_and_gradients_pass_thirteen_deformable_layers(norm, mask_scale):
    torch.manual_seed(0)
    body = ResNet(
        BackboneConfig(convs=("plain", "dcnv2", "dcnv2", "dcnv2"), norm=norm, mask_scale=mask_scale)
    )
    assert sum(isinstance(m, ModulatedDeformConv2dPack) for m in body.modules()) == 13
    x = torch.randn(2, 3, 64, 64)
    maps = body(x)
    for name, value in maps.items():
        assert 0.1 < value.std() < 10, name
        assert (value == 0).float().mean() < 0.9, name
    maps["c5"].square().mean().backward()
    norms = {n: p.grad.norm() / p.norm() for n, p in body.named_parameters() if p.ndim == 4}
    trunk = [v.item() for n, v in norms.items() if ".conv_offset." not in n]
    assert min(trunk) > 1e-4
    assert max(trunk) < 1e2
    offsets = [p.grad for n, p in body.named_parameters() if n.endswith("conv_offset.weight")]
    assert all(grad.isfinite().all() and grad.any() for grad in offsets)


def _plainly(pack, x):
    """The statistics by loops over samples."""
    offset = pack.predict(x)[0]
    height, width = x.shape[-2:]
    kernel_width = pack.kernel_size[1]
    outside = total = 0
    for n, pair, row, column in torch.cartesian_prod(
        *(torch.arange(s) for s in (len(x), offset.shape[1] // 2, *offset.shape[2:]))
    ).tolist():
        tap = pair % (pack.kernel_size[0] * kernel_width)
        y = row * pack.stride[0] - pack.padding[0] + tap // kernel_width * pack.dilation[0]
        z = column * pack.stride[1] - pack.padding[1] + tap % kernel_width * pack.dilation[1]
        y, z = y + offset[n, 2 * pair, row, column], z + offset[n, 2 * pair + 1, row, column]
        outside += not (-1 < y < height and -1 < z < width)
        total += 1
    return offset.abs().mean().item(), offset.abs().max().item(), outside / total


@pytest.mark.parametrize("pack", [DeformConv2dPack, ModulatedDeformConv2dPack])
@pytest.mark.parametrize("max_offset", [None, 1.5])
def test_monitor_counts_what_layers_predict(pack, max_offset):
    torch.manual_seed(0)
    layer = pack(4, 6, (3, 2), (2, 1), (1, 2), (1, 3), deform_groups=2, max_offset=max_offset)
    nn.init.normal_(layer.conv_offset.weight)
    monitor = OffsetMonitor(nn.Sequential(layer))
    x = torch.randn(2, 4, 7, 6)
    layer(x)
    assert monitor.take() == {}
    monitor.watch()
    with torch.no_grad():
        for part in x:
            layer(part[None])
        seen = monitor.take()["0"]
        wanted = _plainly(layer, x)
    assert (seen.mean, seen.largest, seen.outside) == pytest.approx(wanted, rel=1e-5)
    layer(x)
    assert monitor.take() == {}


def test_monitor_comes_off_a_model_again():
    model = build_model(toy_config()).eval()
    monitor = OffsetMonitor(model)
    monitor.watch()
    with torch.no_grad():
        model(toy_images())
    seen = monitor.take()
    assert len(seen) == 6
    assert all(s.mean == s.largest == 0 for s in seen.values())
    monitor.remove()
    monitor.watch()
    with torch.no_grad():
        model(toy_images())
    assert monitor.take() == {}
