# SPDX-License-Identifier: BSD-3-Clause
"""Layers shared by several projects, each of which adds its own names and defaults."""

from __future__ import annotations

from torch import Tensor, nn

from dcnv2.compat.arguments import check_groups, takes_aliases
from dcnv2.nn import DeformConv2d, DeformConv2dPack, ModulatedDeformConv2dPack
from dcnv2.nn.conv import check_deform_groups
from dcnv2.ops.arguments import Pair

Size = Pair


class _ZeroBias(DeformConv2d):
    """A deformable convolution whose bias starts at zero, as in all of the projects."""

    def reset_parameters(self) -> None:
        """Initialise the weight as nn.Conv2d does, and the bias with zero."""
        super().reset_parameters()
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class _FixedGroups(_ZeroBias):
    """A deformable convolution whose number of deform groups is part of the layer."""

    @takes_aliases
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias
        )
        self.deform_groups = check_deform_groups(deform_groups, self.in_channels)

    @property
    def deformable_groups(self) -> int:
        """Return deform_groups."""
        return self.deform_groups

    def convolve(self, input: Tensor, offset: Tensor, mask: Tensor | None) -> Tensor:
        """Convolve with the layer's number of deform groups."""
        check_groups(input, offset, self.weight, self.groups, self.deform_groups)
        return self._deform(input, offset, mask)

    def extra_repr(self) -> str:
        """Return the arguments that repr() shows."""
        return f"{super().extra_repr()}, deform_groups={self.deform_groups}"


class PlainDeformConv(_FixedGroups):
    """A deformable convolution (v1): forward(input, offset), no bias by default."""

    @takes_aliases
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool = False,
        im2col_step: int = 32,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            deform_groups,
            bias,
        )

    def forward(self, input: Tensor, offset: Tensor) -> Tensor:  # type: ignore[override]
        """Convolve [N, C, H, W] by offsets [N, 2*G*kh*kw, Ho, Wo] to [N, O, Ho, Wo]."""
        return self.convolve(input, offset, None)


class ModulatedDeformConv(_FixedGroups):
    """A modulated deformable convolution (v2): forward(input, offset, mask)."""

    def forward(  # type: ignore[override]
        self, input: Tensor, offset: Tensor, mask: Tensor
    ) -> Tensor:
        """Convolve [N, C, H, W] by offsets and masks [N, G*kh*kw, Ho, Wo] to [N, O, Ho, Wo]."""
        return self.convolve(input, offset, mask)


class PlainDeformConvPack(DeformConv2dPack):
    """`dcnv2.nn.DeformConv2dPack` without a bias by default."""

    @takes_aliases
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool = False,
        im2col_step: int = 32,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            deform_groups,
            bias,
        )


class ModulatedDeformConvPack(_ZeroBias, ModulatedDeformConv2dPack):
    """`dcnv2.nn.ModulatedDeformConv2dPack` whose bias starts at zero."""

    @takes_aliases
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            deform_groups,
            bias,
        )
