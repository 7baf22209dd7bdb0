# SPDX-License-Identifier: BSD-3-Clause
"""detectron2.layers: `DeformConv` and `ModulatedDeformConv`, with a norm and an activation."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from dcnv2.compat import layers
from dcnv2.compat.arguments import takes_aliases
from dcnv2.compat.basicsr import deform_conv, modulated_deform_conv
from dcnv2.compat.layers import Size

__all__ = ["DeformConv", "ModulatedDeformConv", "deform_conv", "modulated_deform_conv"]

Activation = Callable[[Tensor], Tensor] | None


class _Finish(nn.Module):
    def _finish(self, x: Tensor) -> Tensor:
        """Apply `norm` and `activation`, where given."""
        if self.norm is not None:
            x = self.norm(x)  # type: ignore[operator]
        if self.activation is not None:
            x = self.activation(x)  # type: ignore[operator]
        return x


class DeformConv(_Finish, layers.PlainDeformConv):
    """A deformable convolution (v1), then `norm` and `activation` if given; `bias` must be False.

    state_dict: `weight`, `norm.*`.
    """

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
        deformable_groups: int = 1,
        bias: bool = False,
        norm: nn.Module | None = None,
        activation: Activation = None,
    ) -> None:
        groups_and_bias = (groups, deformable_groups, bias)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, *groups_and_bias
        )
        self.norm = norm
        self.activation = activation

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:  # type: ignore[override]
        """Convolve [N, C, H, W] by offsets [N, 2*G*kh*kw, Ho, Wo], norm and activate."""
        return self._finish(self.convolve(x, offset, None))


class ModulatedDeformConv(_Finish, layers.ModulatedDeformConv):
    """A modulated deformable convolution, then `norm` and `activation` if given.

    state_dict: `weight`, `bias`, `norm.*`.
    """

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
        deformable_groups: int = 1,
        bias: bool = True,
        norm: nn.Module | None = None,
        activation: Activation = None,
    ) -> None:
        groups_and_bias = (groups, deformable_groups, bias)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, *groups_and_bias
        )
        self.norm = norm
        self.activation = activation

    def forward(  # type: ignore[override]
        self, x: Tensor, offset: Tensor, mask: Tensor
    ) -> Tensor:
        """Convolve [N, C, H, W] by offsets and masks [N, G*kh*kw, Ho, Wo], norm and activate."""
        return self._finish(self.convolve(x, offset, mask))
