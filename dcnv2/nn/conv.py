# SPDX-License-Identifier: BSD-3-Clause
"""Deformable convolutions as modules; weight and bias have the shapes of nn.Conv2d."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import has_torch_function

from dcnv2.nn.branch_init import ZeroConv2d
from dcnv2.ops import checks, deform_conv2d
from dcnv2.ops.arguments import Pair, is_scripting


class DeformConv2d(nn.Module):
    """A deformable convolution that receives its offsets with each input.

    The signature, the initial weights and the state_dict (`weight`, `bias`) are torchvision's.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: taps: one number, or (kh, kw).
        stride: step between outputs: one number, or (y, x).
        padding: zeros around the input: one number, or (y, x).
        dilation: step between taps: one number, or (y, x).
        groups: groups of the convolution; deform groups follow from the offset's shape.
        bias: whether there is a bias.

    Raises:
        TypeError: an option is not a whole number.
        ValueError: an option is outside its limits, or groups does not divide the channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        in_channels = checks.whole("in_channels", in_channels)
        out_channels = checks.whole("out_channels", out_channels)
        groups = checks.whole("groups", groups)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels < 1 or groups < 1 or channels % groups != 0:
                raise ValueError(
                    f"{name} must be positive and divisible by groups = {groups}, got {channels}"
                )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = checks.pair("kernel_size", kernel_size)
        self.stride = checks.pair("stride", stride)
        self.padding = checks.pair("padding", padding)
        self.dilation = checks.pair("dilation", dilation)
        checks.limited("kernel_size", *self.kernel_size, limits_of="weight")
        checks.check_conv_options(self.stride, self.padding, self.dilation)
        self.groups = groups
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, *self.kernel_size)
        )
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise weight and bias as nn.Conv2d does."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """Convolve; operands and errors are those of `dcnv2.ops.deform_conv2d`.

        Args:
            input: [N, C, H, W].
            offset: [N, 2*G*kh*kw, Ho, Wo].
            mask: [N, G*kh*kw, Ho, Wo].

        Returns:
            [N, O, Ho, Wo].
        """
        return self._deform(input, offset, mask)

    def _deform(self, input: Tensor, offset: Tensor, mask: Tensor | None) -> Tensor:
        """Convolve; TorchScript knows no super(), so subclasses call this."""
        return deform_conv2d(
            input,
            offset,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            mask,
        )

    def extra_repr(self) -> str:
        """Return the arguments that repr() shows."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"groups={self.groups}, bias={self.bias is not None}"
        )


def check_deform_groups(deform_groups: int, in_channels: int) -> int:
    """Return the number of deform groups.

    Raises:
        TypeError: it is not a whole number.
        ValueError: it does not divide the channels.
    """
    deform_groups = checks.whole("deform_groups", deform_groups)
    if deform_groups < 1 or in_channels % deform_groups != 0:
        raise ValueError(
            f"deform_groups must divide in_channels = {in_channels}, got {deform_groups}"
        )
    return deform_groups


def check_batch(input: Tensor) -> None:
    """Check that an input is [N, C, H, W], before a branch takes [C, H, W] for a batch.

    Raises:
        TypeError: it is no tensor.
        ValueError: it has another number of dimensions.
    """
    if is_scripting():
        if input.dim() != 4:
            raise ValueError(f"input must be [N, C, H, W], got {input.shape}")
    elif not has_torch_function((input,)):  # torch.fx's proxies have no shape
        checks.check_rank("input", input, 4, "[N, C, H, W]")


class _Pack(DeformConv2d):
    """A deformable convolution with the convolution that predicts its offsets.

    `conv_offset` reads the same input with the same stride, padding and dilation. It starts at
    zero, so training starts at the regular sampling grid. Weights of an nn.Conv2d load with
    strict=False, which leaves `conv_offset` unchanged. Checkpoints may name the branch
    `conv_offset_mask`; for other names see `dcnv2.convert_state_dict`.
    """

    _fields = 2  # predicted values per tap

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool = True,
        max_offset: float | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias
        )
        if max_offset is not None:
            max_offset = checks.real("max_offset", max_offset)
            if not 0 < max_offset < math.inf:
                raise ValueError(f"max_offset must be positive and finite, got {max_offset}")
        self.max_offset = max_offset
        self.deform_groups = check_deform_groups(deform_groups, self.in_channels)
        self.conv_offset = ZeroConv2d(
            self.in_channels,
            self._fields * self.deform_groups * math.prod(self.kernel_size),
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
        )

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any
    ) -> None:
        for name in ("weight", "bias"):
            own, alias = (f"{prefix}{part}.{name}" for part in ("conv_offset", "conv_offset_mask"))
            if alias in state_dict and own not in state_dict:
                state_dict[own] = state_dict.pop(alias)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def limit(self, offset: Tensor) -> Tensor:
        """Return offsets bounded by max_offset; small offsets hardly change."""
        if self.max_offset is None:
            return offset
        return self.max_offset * torch.tanh(offset / self.max_offset)

    def extra_repr(self) -> str:
        """Return the arguments that repr() shows."""
        limit = "" if self.max_offset is None else f", max_offset={self.max_offset}"
        return f"{super().extra_repr()}, deform_groups={self.deform_groups}{limit}"


class DeformConv2dPack(_Pack):
    """A deformable convolution (v1) that predicts its offsets from its input.

    Args: as `DeformConv2d`, and
        deform_groups: G, number of channel groups with separate offsets.
        max_offset: soft bound of the offsets in pixels, max_offset * tanh(offset / max_offset).

    state_dict: `weight`, `bias`, `conv_offset.weight` [2*G*kh*kw, C, kh, kw] in the offsets' order,
    `conv_offset.bias`.
    """

    def predict(self, input: Tensor) -> tuple[Tensor, None]:
        """Return the offsets [N, 2*G*kh*kw, Ho, Wo] for an input, and no mask."""
        check_batch(input)
        return self.limit(self.conv_offset(input)), None

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        """Convolve [N, C, H, W] to [N, O, Ho, Wo]."""
        offset, mask = self.predict(input)
        return self._deform(input, offset, mask)


class ModulatedDeformConv2dPack(_Pack):
    """A modulated deformable convolution (v2) that predicts offsets and masks from its input.

    Args: as `DeformConv2d`, and
        deform_groups: G, number of channel groups with separate offsets and masks.
        mask_scale: the mask is mask_scale * sigmoid. With 1, as in section 3.2 of
            arXiv 1811.11168, the layer starts at half the output of a regular convolution. With 2,
            as in the authors' released code, it starts at the full output, so a trained network is
            converted without a change of its outputs.
        max_offset: as `DeformConv2dPack`.

    state_dict: `weight`, `bias`, `conv_offset.weight` [3*G*kh*kw, C, kh, kw]: first the offsets in
    their order, then G*kh*kw logits of the mask; `conv_offset.bias`.
    """

    _fields = 3

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool = True,
        mask_scale: float = 1.0,
        max_offset: float | None = None,
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
            max_offset,
        )
        self.mask_scale = checks.real("mask_scale", mask_scale)
        if not math.isfinite(self.mask_scale):
            raise ValueError(f"mask_scale must be finite, got {mask_scale}")

    def predict(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """Return offsets [N, 2*G*kh*kw, Ho, Wo] and mask [N, G*kh*kw, Ho, Wo] for an input."""
        check_batch(input)
        taps = self.deform_groups * self.kernel_size[0] * self.kernel_size[1]
        offset, logits = self.conv_offset(input).split([2 * taps, taps], dim=1)
        mask = logits.sigmoid()
        return self.limit(offset), mask if self.mask_scale == 1 else mask * self.mask_scale

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        """Convolve [N, C, H, W] to [N, O, Ho, Wo]."""
        offset, mask = self.predict(input)
        return self._deform(input, offset, mask)

    def extra_repr(self) -> str:
        """Return the arguments that repr() shows."""
        return f"{super().extra_repr()}, mask_scale={self.mask_scale}"
