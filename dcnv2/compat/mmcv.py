# SPDX-License-Identifier: BSD-3-Clause
"""mmcv.ops: deformable convolutions, RoI pooling, and their names in mmcv's registry."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from dcnv2.compat.arguments import check_groups, overridable, takes_aliases
from dcnv2.compat.layers import ModulatedDeformConv as ModulatedDeformConv2d
from dcnv2.compat.layers import ModulatedDeformConvPack as ModulatedDeformConv2dPack
from dcnv2.compat.layers import PlainDeformConv as DeformConv2d
from dcnv2.compat.layers import PlainDeformConvPack as DeformConv2dPack
from dcnv2.compat.layers import Size
from dcnv2.nn import DeformRoIPoolPack as _OurPoolPack
from dcnv2.nn.branch_init import ZeroLinear
from dcnv2.ops import checks
from dcnv2.ops import deform_conv2d as _deform_conv2d
from dcnv2.ops import deform_roi_pool as _deform_roi_pool
from dcnv2.ops.arguments import Boxes as Rois
from dcnv2.ops.functional import join_boxes

__all__ = [
    "DeformConv2d",
    "DeformConv2dPack",
    "DeformRoIPool",
    "DeformRoIPoolPack",
    "ModulatedDeformConv2d",
    "ModulatedDeformConv2dPack",
    "ModulatedDeformRoIPoolPack",
    "deform_conv2d",
    "deform_roi_pool",
    "modulated_deform_conv2d",
    "register",
]


@takes_aliases
def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    deform_groups: int = 1,
    bias: bool = False,
    im2col_step: int = 32,
) -> Tensor:
    """Convolve without masks, in mmcv's order; shapes are those of `dcnv2.ops.deform_conv2d`.

    Raises:
        ValueError: a group count does not match the shapes, or `bias` is true.
    """
    if bias:
        raise ValueError("bias must be False; add a bias to the output instead")
    check_groups(input, offset, weight, groups, deform_groups)
    return _deform_conv2d(input, offset, weight, None, stride, padding, dilation)


@takes_aliases
def modulated_deform_conv2d(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """Convolve with masks, in mmcv's order; shapes are those of `dcnv2.ops.deform_conv2d`.

    Raises:
        ValueError: a group count is not that of the shapes.
    """
    check_groups(input, offset, weight, groups, deform_groups)
    return _deform_conv2d(input, offset, weight, bias, stride, padding, dilation, mask)


@overridable
def deform_roi_pool(
    input: Tensor,
    rois: Rois,
    offset: Tensor | None,
    output_size: Size,
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    gamma: float = 0.1,
) -> Tensor:
    """Pool as `dcnv2.ops.deform_roi_pool` does; an empty offset means none, as in mmcv."""
    boxes = join_boxes(rois)
    if offset is not None and offset.numel() == 0 and boxes.shape[0] != 0:
        offset = None
    return _deform_roi_pool(
        input, boxes, offset, None, output_size, spatial_scale, sampling_ratio, gamma
    )


class DeformRoIPool(nn.Module):
    """Deformable RoI pooling with given offsets: forward(input, rois, offset=None)."""

    def __init__(
        self,
        output_size: Size,
        spatial_scale: float = 1.0,
        sampling_ratio: int = 0,
        gamma: float = 0.1,
    ) -> None:
        super().__init__()
        self.output_size = checks.pair("output_size", output_size)
        self.spatial_scale = checks.real("spatial_scale", spatial_scale)
        self.sampling_ratio = checks.whole("sampling_ratio", sampling_ratio)
        self.gamma = checks.real("gamma", gamma)
        options = (self.spatial_scale, self.sampling_ratio, self.gamma)
        checks.check_roi_pool_options(self.output_size, *options)

    def forward(self, input: Tensor, rois: Rois, offset: Tensor | None = None) -> Tensor:
        """Pool [N, C, H, W] to [R, C, ph, pw]."""
        return deform_roi_pool(
            input,
            rois,
            offset,
            self.output_size,
            self.spatial_scale,
            self.sampling_ratio,
            self.gamma,
        )


class DeformRoIPoolPack(_OurPoolPack):
    """`dcnv2.nn.DeformRoIPoolPack` in mmcv's order; its state_dict is mmcv's."""

    def __init__(
        self,
        output_size: Size,
        output_channels: int,
        deform_fc_channels: int = 1024,
        spatial_scale: float = 1.0,
        sampling_ratio: int = 0,
        gamma: float = 0.1,
    ) -> None:
        options = (spatial_scale, sampling_ratio, gamma, deform_fc_channels)
        super().__init__(output_size, output_channels, *options)


class ModulatedDeformRoIPoolPack(DeformRoIPoolPack):
    """Modulated deformable RoI pooling with mmcv's two branches, `offset_fc` and `mask_fc`.

    `dcnv2.nn.ModulatedDeformRoIPoolPack` predicts both from one branch, as the paper does.
    """

    def __init__(
        self,
        output_size: Size,
        output_channels: int,
        deform_fc_channels: int = 1024,
        spatial_scale: float = 1.0,
        sampling_ratio: int = 0,
        gamma: float = 0.1,
    ) -> None:
        options = (deform_fc_channels, spatial_scale, sampling_ratio, gamma)
        super().__init__(output_size, output_channels, *options)
        height, width = self.output_size
        last = ZeroLinear(deform_fc_channels, height * width)
        first = nn.Linear(height * width * output_channels, deform_fc_channels)
        self.mask_fc = nn.Sequential(first, nn.ReLU(), last, nn.Sigmoid())

    def forward(self, input: Tensor, rois: Rois) -> Tensor:
        """Pool [N, C, H, W] to [R, C, ph, pw]."""
        seen = self._pool(input, rois).flatten(1)
        height, width = self.output_size
        offset = self.offset_fc(seen).unflatten(1, (2, height, width))
        mask = self.mask_fc(seen).unflatten(1, (1, height, width))
        return self._pool(input, rois, offset, mask)


def register(registry: Any = None) -> None:
    """Register our layers as `DCN` and `DCNv2` for configurations (`dict(type='DCNv2')`).

    Call it once, before a model is built; MMDetection, MMSegmentation and MMagic then build ours.

    Args:
        registry: where to; by default mmengine's MODELS (mmcv 2) or mmcv's CONV_LAYERS (mmcv 1).

    Raises:
        ModuleNotFoundError: no registry is given, and neither package is installed.
    """
    with suppress(ImportError):  # mmcv is missing, or has no operators
        import_module("mmcv.ops")  # first, because mmcv refuses to register a name twice
    if registry is None:
        try:
            registry = import_module("mmengine.registry").MODELS
        except ModuleNotFoundError:
            registry = import_module("mmcv.cnn").CONV_LAYERS
    registry.register_module(name="DCN", force=True, module=DeformConv2dPack)
    registry.register_module(name="DCNv2", force=True, module=ModulatedDeformConv2dPack)
