# SPDX-License-Identifier: BSD-3-Clause
"""What autocast casts: values to its dtype, and places never to a half type.

A half type has too few digits for a coordinate (at 512 pixels float16 steps by half a pixel), so
offsets, masks and boxes keep their dtype where a kernel takes it beside the values', else become
float32. The casts are recorded, so gradients come back in each operand's own dtype.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

_Operand = TypeVar("_Operand", Tensor, Tensor | None)


def is_enabled(input: Tensor) -> bool:
    """Return whether autocast is on where `input` lives (anything else is left to the checks)."""
    if not isinstance(input, Tensor) or input.device.type == "meta":
        return False
    return torch.is_autocast_enabled(input.device.type)


def cast_conv(
    input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Cast input, weight and bias to autocast's dtype, or float64 if one of them is."""
    dtype = torch.get_autocast_dtype(input.device.type)
    if any(isinstance(t, Tensor) and t.dtype == torch.float64 for t in (input, weight, bias)):
        dtype = torch.float64  # autocast leaves float64 alone
    input, weight, bias = _cast(input, dtype), _cast(weight, dtype), _cast(bias, dtype)
    return input, _place(offset, input), weight, bias, _place(mask, input)


def cast_places(
    input: Tensor, rois: Tensor, offset: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Cast boxes, offsets and masks to float32 (float64 beside float64) unless they fit as is."""
    return _place(rois, input), _place(offset, input), _place(mask, input)


def _place(tensor: _Operand, input: Tensor) -> _Operand:
    wide = torch.float64 if input.dtype == torch.float64 else torch.float32
    if isinstance(tensor, Tensor) and tensor.dtype in (input.dtype, wide):
        return tensor
    return _cast(tensor, wide)


def _cast(tensor: _Operand, dtype: torch.dtype) -> _Operand:
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        return tensor
    return tensor.to(dtype)
