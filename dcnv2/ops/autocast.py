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
    """Set in which dtype deformable convolutions compute under autocast.

    By default it is autocast's own: fast, and parameters and their gradients are rounded to the
    half type, as in every convolution of PyTorch. torch.float32 rounds none of them. Values are
    then cast to float32, and what autocast changes stays as it was: the result comes in autocast's
    dtype, each gradient in its operand's, and float64 is left alone. It costs the time of a float32
    convolution, and memory for the float32 copy of a half input, kept for the backward. PyTorch's
    setting for matrix products allows TF32 as ever. RoI poolings cast no values under autocast, so
    it says nothing of them.

    The setting holds for the whole process, every thread and every model in it, and is read when
    a convolution runs: a backward follows its forward, a compiled function is compiled anew where
    the setting changed, an exported one keeps what it was exported with. A checkpoint runs its
    forward again in the backward, so set it once, before training: a change in between is an error
    of `torch.utils.checkpoint`, or with use_reentrant=True goes unnoticed.

    Args:
        dtype: torch.float32, or None for autocast's own.

    Raises:
        ValueError: it is something else.
    """
    global _compute_dtype
    if dtype not in (None, torch.float32):
        raise ValueError(f"dtype must be torch.float32 or None, got {dtype}")
    _compute_dtype = dtype


def get_autocast_compute_dtype() -> torch.dtype | None:
    """Return what `set_autocast_compute_dtype` set: torch.float32, or None for autocast's own."""
    return _compute_dtype


def is_enabled(input: Tensor) -> bool:
    """Return whether autocast is on where `input` lives (anything else is left to the checks)."""
    if not isinstance(input, Tensor) or input.device.type == "meta":
        return False
    return torch.is_autocast_enabled(input.device.type)


def conv_dtype(input: Tensor, weight: Tensor, bias: Tensor | None) -> torch.dtype:
    """Return the dtype of a convolution's result: autocast's, or float64 if a value has that."""
    if any(isinstance(t, Tensor) and t.dtype == torch.float64 for t in (input, weight, bias)):
        return torch.float64  # autocast leaves float64 alone
    return torch.get_autocast_dtype(input.device.type)


def cast_conv(
    input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Cast input, weight and bias to the dtype to compute in, and places to what fits it."""
    dtype = conv_dtype(input, weight, bias)
    if dtype != torch.float64:
        dtype = _compute_dtype or dtype
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
