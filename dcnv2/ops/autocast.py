# SPDX-License-Identifier: BSD-3-Clause
"""Casts under autocast: values to its dtype or the one set here, coordinates never to a half type.

A half type is too coarse for coordinates (at 512 pixels float16 has steps of half a pixel), so
offsets, masks and boxes keep their dtype if a kernel accepts it together with that of the values,
and become float32 otherwise. Autograd records the casts, so each gradient has its operand's dtype.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

_Operand = TypeVar("_Operand", Tensor, Tensor | None)

# Shared by all threads: a checkpoint is recomputed in a thread of autograd. Dynamo guards on it.
_compute_dtype: torch.dtype | None = None


def set_autocast_compute_dtype(dtype: torch.dtype | None) -> None:
    """Set the dtype in which deformable convolutions compute under autocast.

    The default is autocast's own dtype: it is fast, and parameters and their gradients are rounded
    to the half type, as in every convolution of PyTorch. With torch.float32 none of them is
    rounded: values are cast to float32, the result still has autocast's dtype, each gradient has
    its operand's, and float64 is not cast. This takes the time of a float32 convolution, and memory
    for the float32 copy of a half input, which is kept for the backward. PyTorch's setting for
    matrix products decides on TF32 as usual. RoI poolings cast no values under autocast, so the
    setting does not concern them.

    The setting is shared by all threads and models of the process and is read when a convolution
    runs: a backward uses the setting of its forward, a compiled function recompiles after a change,
    and an exported one keeps the setting of its export. A checkpoint repeats its forward in the
    backward, so set it once, before training: after a change in between `torch.utils.checkpoint`
    raises, or with use_reentrant=True does not notice.

    Args:
        dtype: torch.float32, or None for autocast's own.

    Raises:
        ValueError: dtype is neither.
    """
    global _compute_dtype
    if dtype not in (None, torch.float32):
        raise ValueError(f"dtype must be torch.float32 or None, got {dtype}")
    _compute_dtype = dtype


def get_autocast_compute_dtype() -> torch.dtype | None:
    """Return what `set_autocast_compute_dtype` set: torch.float32, or None for autocast's own."""
    return _compute_dtype


def is_enabled(input: Tensor) -> bool:
    """Return whether autocast is enabled on input's device; False for what is not a tensor."""
    if not isinstance(input, Tensor):
        return False
    device = input.device.type
    return device != "meta" and torch.is_autocast_enabled(device)


def conv_dtype(input: Tensor, weight: Tensor, bias: Tensor | None) -> torch.dtype:
    """Return the dtype of a convolution's result: autocast's, or float64 if a value has that."""
    if any(isinstance(t, Tensor) and t.dtype == torch.float64 for t in (input, weight, bias)):
        return torch.float64  # autocast does not cast float64
    return torch.get_autocast_dtype(input.device.type)


def cast_conv(
    input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Cast input, weight and bias to the compute dtype, and coordinates to one that fits it."""
    dtype = conv_dtype(input, weight, bias)
    if dtype != torch.float64:
        dtype = _compute_dtype or dtype
    input, weight, bias = _cast(input, dtype), _cast(weight, dtype), _cast(bias, dtype)
    return input, _cast_coordinates(offset, input), weight, bias, _cast_coordinates(mask, input)


def cast_coordinates(
    input: Tensor, rois: Tensor, offset: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Cast boxes, offsets and masks to float32, or float64 if input is, unless their dtype fits."""
    return (
        _cast_coordinates(rois, input),
        _cast_coordinates(offset, input),
        _cast_coordinates(mask, input),
    )


def _cast_coordinates(tensor: _Operand, input: Tensor) -> _Operand:
    wide = torch.float64 if input.dtype == torch.float64 else torch.float32
    if isinstance(tensor, Tensor) and tensor.dtype in (input.dtype, wide):
        return tensor
    return _cast(tensor, wide)


def _cast(tensor: _Operand, dtype: torch.dtype) -> _Operand:
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        return tensor
    return tensor.to(dtype)
