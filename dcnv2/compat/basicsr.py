# SPDX-License-Identifier: BSD-3-Clause
"""BasicSR, EDVR and chengdazhi's Deformable-Convolution-V2-PyTorch: one argument order."""

from __future__ import annotations

from torch import Tensor

from dcnv2.compat.arguments import check_groups, takes_aliases
from dcnv2.compat.layers import ModulatedDeformConv, ModulatedDeformConvPack, Size
from dcnv2.compat.layers import PlainDeformConv as DeformConv
from dcnv2.compat.layers import PlainDeformConvPack as DeformConvPack
from dcnv2.ops import deform_conv2d

__all__ = [
    "DCNv2Pack",
    "DeformConv",
    "DeformConvPack",
    "ModulatedDeformConv",
    "ModulatedDeformConvPack",
    "deform_conv",
    "modulated_deform_conv",
]


@takes_aliases
def deform_conv(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    deformable_groups: int = 1,
    im2col_step: int = 64,
) -> Tensor:
    """Convolve without masks, in this argument order; shapes: `dcnv2.ops.deform_conv2d`.

    Raises:
        ValueError: a group count is not that of the shapes.
    """
    check_groups(input, offset, weight, groups, deformable_groups)
    return deform_conv2d(input, offset, weight, None, stride, padding, dilation)


@takes_aliases
def modulated_deform_conv(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    deformable_groups: int = 1,
) -> Tensor:
    """Convolve with masks, in this argument order; shapes: `dcnv2.ops.deform_conv2d`.

    Raises:
        ValueError: a group count is not that of the shapes.
    """
    check_groups(input, offset, weight, groups, deformable_groups)
    return deform_conv2d(input, offset, weight, bias, stride, padding, dilation, mask)


class DCNv2Pack(ModulatedDeformConvPack):
    """A modulated deformable convolution that predicts offsets and masks from other features.

    forward(x, feat): `x` [N, C, H, W] is convolved with the offsets and masks that `conv_offset`
    predicts from `feat`, of the same shape. state_dict: as `dcnv2.nn.ModulatedDeformConv2dPack`.
    """

    def forward(self, x: Tensor, feat: Tensor) -> Tensor:  # type: ignore[override]
        """Convolve [N, C, H, W] to [N, O, Ho, Wo]."""
        offset, mask = self.predict(feat)
        return self._deform(x, offset, mask)
