# SPDX-License-Identifier: BSD-3-Clause
"""The layers that a config chooses between: 3x3 convolutions, norms, RoI pooling."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn
from torchvision.ops import FrozenBatchNorm2d, RoIAlign

from dcnv2.models.config import ConvKind, NormKind, PoolConfig
from dcnv2.nn import (
    DeformConv2dPack,
    DeformRoIPoolPack,
    ModulatedDeformConv2dPack,
    ModulatedDeformRoIPoolPack,
)

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "group": partial(nn.GroupNorm, 32),
    "frozen": FrozenBatchNorm2d,
    "batch": nn.BatchNorm2d,
    "sync": nn.SyncBatchNorm,
}


def conv3x3(
    kind: ConvKind,
    in_channels: int,
    out_channels: int,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    deform_groups: int = 1,
    mask_scale: float = 1.0,
) -> nn.Module:
    """A 3x3 convolution without bias that keeps the size (up to `stride`).

    All kinds hold the kernel as `weight` [out, in / groups, 3, 3], so plain weights load into any.
    """
    geometry = {"stride": stride, "padding": dilation, "dilation": dilation, "groups": groups}
    if kind == "plain":
        conv = nn.Conv2d(in_channels, out_channels, 3, bias=False, **geometry)
    elif kind == "dcnv1":
        conv = DeformConv2dPack(
            in_channels, out_channels, 3, bias=False, deform_groups=deform_groups, **geometry
        )
    elif kind == "dcnv2":
        conv = ModulatedDeformConv2dPack(
            in_channels,
            out_channels,
            3,
            bias=False,
            deform_groups=deform_groups,
            mask_scale=mask_scale,
            **geometry,
        )
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
    """A module from `(features [N, C, H, W], rois [R, 5])` to [R, C, output_size, output_size]."""
    if config.kind == "align":
        return RoIAlign(output_size, scale, config.sampling_ratio, aligned=config.aligned)
    packs = {"dpool": DeformRoIPoolPack, "mdpool": ModulatedDeformRoIPoolPack}
    if config.kind not in packs:
        raise ValueError(f"pool kind: wanted align, dpool or mdpool, got {config.kind!r}")
    return packs[config.kind](
        output_size,
        channels,
        spatial_scale=scale,
        sampling_ratio=config.sampling_ratio,
        gamma=config.gamma,
        hidden_channels=config.hidden_channels,
    )
