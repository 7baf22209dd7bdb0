# SPDX-License-Identifier: BSD-3-Clause
"""FLOPs of the operators for torch.utils.flop_counter.FlopCounterMode, registered on import.

A convolution counts as PyTorch counts conv2d of the same shape: two operations for each product of
a sample with the kernel, in the backward once for the gradients of the samples and once for that of
the kernel. What PyTorch leaves out (bias, arithmetic on single elements) is left out here too:
the bilinear samples, the mask. A RoI pooling, which has no other work, counts its samples, four
products each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import conv_flop_count, register_flop_formula

from . import schema  # noqa: F401 - defines the operators

Shape = Sequence[int]


@register_flop_formula(torch.ops.dcnv2.deform_conv2d)
def _conv(input: Shape, offset: Shape, weight: Shape, *_: Any, out_shape: Shape, **__: Any) -> int:
    return conv_flop_count(list(input), list(weight), list(out_shape))


@register_flop_formula(torch.ops.dcnv2.deform_conv2d_backward)
def _conv_backward(
    grad_output: Shape, input: Shape, offset: Shape, weight: Shape, *options: Any, **_: Any
) -> int:
    needs_input, needs_offset, needs_weight, _bias, needs_mask = options[-1]
    products = bool(needs_input or needs_offset or needs_mask) + bool(needs_weight)
    return products * conv_flop_count(list(input), list(weight), list(grad_output))


def _register_pool(name: str, side_of: int, passes: Callable[[Sequence[bool]], int]) -> None:
    """Register a pool's formulas.

    Args:
        name: the operator.
        side_of: the index of the samples per axis among its arguments.
        passes: how often a backward visits all samples, by the gradients that it returns.
    """

    def products(arguments: Sequence[Any], out: Shape) -> int:
        side = arguments[side_of] or 2  # adaptive: depends on the boxes, so count 2 x 2
        return 2 * 4 * side**2 * prod(out)

    @register_flop_formula(getattr(torch.ops.dcnv2, name))
    def _(*arguments: Any, out_shape: Shape, **_: Any) -> int:
        return products(arguments, out_shape)

    @register_flop_formula(getattr(torch.ops.dcnv2, name + "_backward"))
    def _(grad_output: Shape, *arguments: Any, **_: Any) -> int:
        return passes(arguments[-1]) * products(arguments, grad_output)


def _deform_passes(needs: Sequence[bool]) -> int:
    needs_input, needs_offset, needs_mask = needs
    return bool(needs_input) + bool(needs_offset or needs_mask)


_register_pool("deform_roi_pool", 6, _deform_passes)
_register_pool("deform_psroi_pool", 8, _deform_passes)
_register_pool("multiscale_roi_align", 5, any)
