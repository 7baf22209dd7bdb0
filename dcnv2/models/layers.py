# SPDX-License-Identifier: BSD-3-Clause
"""The layers that a config chooses between: 3x3 convolutions, norms, RoI pooling."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import ops

from dcnv2.models.config import BackboneConfig, ConvKind, NormKind, PoolConfig
from dcnv2.nn import (
    DeformConv2dPack,
    DeformPSRoIPoolPack,
    DeformRoIPoolPack,
    ModulatedDeformConv2dPack,
    ModulatedDeformPSRoIPoolPack,
    ModulatedDeformRoIPoolPack,
)


class FrozenBatchNorm2d(ops.FrozenBatchNorm2d):
    """torchvision's, whose maps stay in bfloat16 or float16 where they come so.

    torchvision's float32 statistics turn the map behind every convolution back into float32 under
    autocast, which doubles what the backbone reads, writes and keeps.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same, in dtype and layout too; a half type rounds scale and shift."""
        if x.dtype not in (torch.bfloat16, torch.float16):
            return super().forward(x)
        scale, shift = (value.to(x.dtype).view(1, -1, 1, 1) for value in self.scale_shift())
        return torch.addcmul(shift, x, scale)

    def scale_shift(self) -> tuple[Tensor, Tensor]:
        """The norm as a factor and a summand for each channel, [C] each, in the buffers' dtype."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "group": partial(nn.GroupNorm, 32),
    "frozen": FrozenBatchNorm2d,
    "batch": nn.BatchNorm2d,
    "sync": nn.SyncBatchNorm,
}
CENTRED_POOLS = {"dpool": DeformRoIPoolPack, "mdpool": ModulatedDeformRoIPoolPack}
AUTHORS_POOLS = {"dpsroi": DeformPSRoIPoolPack, "mdpsroi": ModulatedDeformPSRoIPoolPack}


def conv3x3(
    config: BackboneConfig,
    kind: ConvKind,
    in_channels: int,
    out_channels: int,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> nn.Module:
    """A 3x3 convolution without bias that keeps the size (up to `stride`).

    All kinds hold the kernel as `weight` [out, in / groups, 3, 3], so plain weights load into any.
    """
    shape = (in_channels, out_channels, 3, stride, dilation, dilation, groups)
    deform: dict[str, Any] = {
        "deform_groups": config.deform_groups,
        "max_offset": config.max_offset,
    }
    conv: nn.Conv2d | DeformConv2dPack | ModulatedDeformConv2dPack
    if kind == "plain":
        conv = nn.Conv2d(*shape, bias=False)
    elif kind == "dcnv1":
        conv = DeformConv2dPack(*shape, bias=False, **deform)
    elif kind == "dcnv2":
        deform["mask_scale"] = config.mask_scale
        conv = ModulatedDeformConv2dPack(*shape, bias=False, **deform)
    else:
        raise ValueError(f"conv kind: wanted plain, dcnv1 or dcnv2, got {kind!r}")
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def make_norm(kind: NormKind, channels: int) -> nn.Module:
    """The norm layer of that kind over `channels` channels."""
    if kind not in NORMS:
        raise ValueError(f"norm: wanted one of {', '.join(NORMS)}, got {kind!r}")
    return NORMS[kind](channels)


def norm_layer(kind: NormKind | None) -> Callable[[int], nn.Module] | None:
    """`make_norm` in the form that torchvision's parts take; None for none."""
    return None if kind is None else lambda channels: make_norm(kind, channels)


def make_pool(config: PoolConfig, channels: int, output_size: int, scale: float) -> nn.Module:
    """Deformable pooling from `(features [N, C, H, W], rois [R, 5])` to [R, C, size, size]."""
    common: dict[str, Any] = {"spatial_scale": scale, "hidden_channels": config.hidden_channels}
    if config.kind in CENTRED_POOLS:
        return CENTRED_POOLS[config.kind](
            output_size,
            channels,
            sampling_ratio=config.sampling_ratio,
            gamma=config.gamma,
            **common,
        )
    if config.kind not in AUTHORS_POOLS:
        kinds = ", ".join(["align", *CENTRED_POOLS, *AUTHORS_POOLS])
        raise ValueError(f"pool kind: wanted one of {kinds}, got {config.kind!r}")
    if config.sampling_ratio < 1:
        raise ValueError(f"sampling_ratio of {config.kind}: wanted 1 or more, got 0")
    return AUTHORS_POOLS[config.kind](
        output_size,
        channels,
        sample_per_part=config.sampling_ratio,
        trans_std=config.gamma,
        **common,
    )
