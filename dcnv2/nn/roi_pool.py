# SPDX-License-Identifier: BSD-3-Clause
"""Deformable RoI pooling modules that predict their own offsets, for both pooling operators."""

from __future__ import annotations

import math

from torch import Tensor, nn

from dcnv2.nn.branch_init import HiddenLinear, ZeroLinear
from dcnv2.ops import checks, deform_psroi_pool, deform_roi_pool
from dcnv2.ops.arguments import Boxes, Pair


def _positive(name: str, value: int) -> int:
    value = checks.whole(name, value)
    if value < 1:
        raise ValueError(f"{name} must be positive, got {value}")
    return value


class _Pack(nn.Module):
    """Pool, predict offsets from the pooled features with fully connected layers, pool again."""

    _fields = 2  # predicted values per bin
    __constants__ = ("_fields",)  # for TorchScript

    def __init__(
        self,
        output_size: Pair,
        pooled_channels: int,
        hidden_channels: int,
    ):
        super().__init__()
        self.output_size = checks.pair("output_size", output_size)
        checks.limited("output_size", *self.output_size)
        hidden_channels = checks.whole("hidden_channels", hidden_channels)
        if hidden_channels < 0:
            raise ValueError(f"hidden_channels must not be negative, got {hidden_channels}")
        bins = math.prod(self.output_size)
        inputs, layers = bins * pooled_channels, []
        if hidden_channels:
            for width in (inputs, hidden_channels):
                layers += [HiddenLinear(width, hidden_channels), nn.ReLU()]
        last = ZeroLinear(hidden_channels or inputs, self._fields * bins)
        self.offset_fc = nn.Sequential(*layers, last)

    def _pool(
        self,
        input: Tensor,
        rois: Boxes,
        offset: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        raise NotImplementedError

    def forward(self, input: Tensor, rois: Boxes) -> Tensor:
        """Pool [N, C, H, W] to [R, O, ph, pw]; `rois` is as in `dcnv2.ops.deform_roi_pool`."""
        predicted = self.offset_fc(self._pool(input, rois).flatten(1))
        size = (self._fields, self.output_size[0], self.output_size[1])
        predicted = predicted.unflatten(1, size)
        offset, logits = predicted[:, :2], predicted[:, 2:]
        return self._pool(input, rois, offset, logits.sigmoid() if self._fields == 3 else None)


class _RoIPack(_Pack):
    """The branch over `deform_roi_pool`."""

    def __init__(
        self,
        output_size: Pair,
        channels: int,
        spatial_scale: float = 1.0,
        sampling_ratio: int = 0,
        gamma: float = 0.1,
        hidden_channels: int = 1024,
    ):
        channels = _positive("channels", channels)
        super().__init__(output_size, channels, hidden_channels)
        self.channels = channels
        self.spatial_scale = checks.real("spatial_scale", spatial_scale)
        self.sampling_ratio = checks.whole("sampling_ratio", sampling_ratio)
        self.gamma = checks.real("gamma", gamma)
        options = (self.spatial_scale, self.sampling_ratio, self.gamma)
        checks.check_roi_pool_options(self.output_size, *options)

    def _pool(
        self,
        input: Tensor,
        rois: Boxes,
        offset: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        return deform_roi_pool(
            input,
            rois,
            offset,
            mask,
            self.output_size,
            self.spatial_scale,
            self.sampling_ratio,
            self.gamma,
        )

    def extra_repr(self) -> str:
        """Return the arguments that repr() shows."""
        return (
            f"output_size={self.output_size}, channels={self.channels}, "
            f"spatial_scale={self.spatial_scale}, sampling_ratio={self.sampling_ratio}, "
            f"gamma={self.gamma}"
        )


class DeformRoIPoolPack(_RoIPack):
    """Deformable RoI pooling that predicts its offsets from regularly pooled features.

    The branch is that of arXiv 1811.11168, section 3.2: two hidden layers, initialised from
    N(0, 0.01^2), and a last layer that starts at zero, so training starts at regular RoI pooling.

    Args:
        output_size: number of bins per axis: one number, or (ph, pw).
        channels: C of the features.
        spatial_scale: pixels of the features per pixel of the image.
        sampling_ratio: samples per bin and axis; 0 uses one per pixel of the bin.
        gamma: scale of the offsets, which are in units of gamma times the box's size.
        hidden_channels: width of the two hidden layers; 0 omits them, as in DCNv1.

    state_dict: `offset_fc.{0,2,4}.{weight,bias}`, or only `offset_fc.0`; the last one predicts
    [2, ph, pw], x first.
    """


class ModulatedDeformRoIPoolPack(_RoIPack):
    """Modulated deformable RoI pooling that predicts offsets and masks from pooled features.

    Args: as `DeformRoIPoolPack`. Offsets start at 0 and the mask, a sigmoid, at a half.

    state_dict: as `DeformRoIPoolPack`; the last layer predicts [3, ph, pw]: offsets along x and
    y, and logits of the mask.
    """

    _fields = 3


class _PSRoIPack(_Pack):
    """The branch over `deform_psroi_pool`."""

    def __init__(
        self,
        output_size: int,
        channels: int,
        spatial_scale: float = 1.0,
        group_size: int = 1,
        sample_per_part: int = 4,
        trans_std: float = 0.1,
        hidden_channels: int = 1024,
    ):
        side, width = checks.pair("output_size", output_size)
        if side != width:
            raise ValueError(f"output_size must be square, got {side} x {width}")
        spatial_scale = checks.real("spatial_scale", spatial_scale)
        group_size = checks.whole("group_size", group_size)
        sample_per_part = checks.whole("sample_per_part", sample_per_part)
        trans_std = checks.real("trans_std", trans_std)
        options = (spatial_scale, group_size, side, sample_per_part, trans_std)
        checks.check_psroi_pool_options(side, *options)
        channels = _positive("channels", channels)
        if channels % group_size**2 != 0:
            raise ValueError(
                f"channels must be divisible by group_size^2 = {group_size**2}, got {channels}"
            )
        super().__init__(side, channels // group_size**2, hidden_channels)
        self.channels = channels
        self.spatial_scale = spatial_scale
        self.group_size = group_size
        self.sample_per_part = sample_per_part
        self.trans_std = trans_std

    def _pool(
        self,
        input: Tensor,
        rois: Boxes,
        offset: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        return deform_psroi_pool(
            input,
            rois,
            offset,
            mask,
            self.output_size,
            self.spatial_scale,
            self.group_size,
            sample_per_part=self.sample_per_part,
            trans_std=self.trans_std,
        )

    def extra_repr(self) -> str:
        """Return the arguments that repr() shows."""
        return (
            f"output_size={self.output_size}, channels={self.channels}, "
            f"spatial_scale={self.spatial_scale}, group_size={self.group_size}, "
            f"sample_per_part={self.sample_per_part}, trans_std={self.trans_std}"
        )


class DeformPSRoIPoolPack(_PSRoIPack):
    """`DeformRoIPoolPack` for the pooling of the papers' authors, `deform_psroi_pool`.

    Args:
        output_size: P, number of bins per axis.
        channels: C of the features.
        spatial_scale: pixels of the features per pixel of the image.
        group_size: number of cells per axis with separate channels.
        sample_per_part: samples per bin and axis.
        trans_std: scale of the offsets, which are in units of trans_std times the box's size.
        hidden_channels: width of the two hidden layers; 0 omits them.

    state_dict: as `DeformRoIPoolPack`.
    """


class ModulatedDeformPSRoIPoolPack(_PSRoIPack):
    """`ModulatedDeformRoIPoolPack` for the pooling of the papers' authors.

    Args: as `DeformPSRoIPoolPack`. state_dict: as `ModulatedDeformRoIPoolPack`.
    """

    _fields = 3
