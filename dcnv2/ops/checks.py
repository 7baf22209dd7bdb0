# SPDX-License-Identifier: BSD-3-Clause
"""Checks of the operators' arguments. An error names the argument, what it must be and what it is.

The checks read shapes, dtypes and devices only, so they work on real, fake and traced tensors and
never block the host. The exceptions are the batch index and the level of RoIs on a CPU.
csrc/checks.h repeats them for direct calls of torch.ops.dcnv2.*, with the same limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from operator import index

import torch
from torch import Tensor

from .arguments import Pair
from .operand_limits import LIMITS

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_MOST_ELEMENTS = (2**63 - 1) // 8
_HALF = (torch.float16, torch.bfloat16)

# What the checks read of the operands of convolutions that passed: a net repeats the same ones, and
# a look-up takes a third of the time of the checks.
_passed: set[tuple[object, ...]] = set()
_MOST_PASSED = 4096


def pair(name: str, value: Pair) -> tuple[int, int]:
    """Return an option that may be given as one whole number or two, of any library.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(value, (int, torch.SymInt)):
        return value, value
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return whole(name, value[0]), whole(name, value[1])
    try:
        number = index(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        pass
    else:
        return number, number
    try:
        if len(value) == 2 and not isinstance(value, dict):  # such as an array
            return index(value[0]), index(value[1])
    except (TypeError, ValueError, LookupError):
        pass
    raise TypeError(f"{name} must be one whole number or two (y, x), got {value!r}")


def whole(name: str, value: int) -> int:
    """Return an option that must be a whole number, of any library.

    Raises:
        TypeError: it is not.
    """
    if isinstance(value, (int, torch.SymInt)):
        return value
    try:
        return index(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None


def real(name: str, value: float) -> float:
    """Return an option that must be a number, as a float.

    Raises:
        TypeError: it is not.
    """
    try:
        if not isinstance(value, (str, bytes)):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise TypeError(f"{name} must be a number, got {value!r}")


def limited(name: str, *values: float, limits_of: str = "") -> None:
    """Check that an option is within its limits, those of operand_limits.

    Raises:
        ValueError: it is not.
    """
    least, most = LIMITS[limits_of or name]
    for value in values:
        if not least <= value <= most:  # NaN too
            raise ValueError(
                f"{name} must be between {_number(least)} and {_number(most)}, "
                f"got {_numbers(values)}"
            )


def check_conv_options(
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> None:
    """Raise ValueError if an option of deform_conv2d is outside its limits."""
    limited("stride", *stride)
    limited("padding", *padding)
    limited("dilation", *dilation)


def check_roi_pool_options(
    output_size: Sequence[int], spatial_scale: float, sampling_ratio: int, gamma: float
) -> None:
    """Raise ValueError if an option of deform_roi_pool is outside its limits."""
    limited("output_size", *output_size)
    limited("spatial_scale", spatial_scale)
    limited("sampling_ratio", sampling_ratio)
    limited("gamma", gamma)


def check_psroi_pool_options(
    output_size: int,
    spatial_scale: float,
    group_size: int,
    part_size: int,
    sample_per_part: int,
    trans_std: float,
) -> None:
    """Raise ValueError if an option of deform_psroi_pool is outside its limits."""
    limited("output_size", output_size)
    limited("spatial_scale", spatial_scale)
    limited("group_size", group_size)
    limited("part_size", part_size)
    limited("sample_per_part", sample_per_part)
    limited("trans_std", trans_std)


def output_size(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> tuple[int, int]:
    """Return the output height and width of a convolution (floor rule)."""
    height, width = (
        (size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
        for i in (0, 1)
    )
    return height, width


def check_deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> None:
    """Raise if the operands of deform_conv2d do not fit together.

    Raises:
        TypeError: an operand is not a tensor, or its dtype does not fit.
        ValueError: a rank, shape, device or number does not fit.
    """
    operands, geometry = (input, offset, weight, bias, mask), (stride, padding, dilation)
    signature: tuple[object, ...] | None = None
    # Compiling would guard on what has passed; tracing has tensors for sizes.
    if not torch.compiler.is_compiling() and torch._C._get_tracing_state() is None:
        try:
            facts = ((t.shape, t.dtype, t.device) if t is not None else None for t in operands)
            signature = (*facts, *geometry)
            if signature in _passed:
                return
        except (AttributeError, TypeError):  # no tensor; a symbolic size or a list, not hashable
            signature = None
    _check_deform_conv2d(*operands, *geometry)
    if signature is not None:
        if len(_passed) >= _MOST_PASSED:
            _passed.clear()
        _passed.add(signature)


def _check_deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> None:
    check_rank("input", input, 4, "[N, C, H, W]")
    check_rank("offset", offset, 4, "[N, 2*G*kh*kw, Ho, Wo]")
    check_rank("weight", weight, 4, "[O, C/groups, kh, kw]")
    _check_floating(input)
    check_dtype("weight", weight, input)
    _check_float_dtype("offset", offset, input)
    check_device(input, offset=offset, weight=weight)
    check_conv_options(stride, padding, dilation)
    _check_sides("input", input.shape[2:])
    _check_sides("weight", weight.shape)

    batch, channels, height, width = input.shape
    out_channels, group_channels, kh, kw = weight.shape
    if channels < 1:
        raise ValueError(f"input must have at least one channel, got {shape(input)}")
    if kh < 1 or kw < 1:
        raise ValueError(f"weight must have a kernel of at least 1 x 1, got {shape(weight)}")
    if group_channels < 1 or channels % group_channels != 0:
        raise ValueError(
            f"weight must have C/groups channels (dim 1) that divide input's C = {channels}, "
            f"got {group_channels} in {shape(weight)}"
        )
    groups = channels // group_channels
    if out_channels % groups != 0 or out_channels < groups:
        raise ValueError(
            f"weight must have output channels (dim 0) divisible by groups = C / weight.shape[1] "
            f"= {channels} / {group_channels} = {groups}, got {out_channels}"
        )
    out_height, out_width = output_size((height, width), (kh, kw), stride, padding, dilation)
    if out_height < 1 or out_width < 1:
        raise ValueError(
            f"input of {height} x {width} is too small for kernel {kh} x {kw}, stride "
            f"{_numbers(stride)}, padding {_numbers(padding)}, dilation {_numbers(dilation)}: "
            f"the output would be {out_height} x {out_width}"
        )
    taps = kh * kw
    deform_groups = offset.shape[1] // (2 * taps)
    if deform_groups < 1 or offset.shape[1] != deform_groups * 2 * taps:
        raise ValueError(
            f"offset must have 2*G*kh*kw = G*{2 * taps} channels (dim 1) for a whole number G of "
            f"deform groups, got {offset.shape[1]}"
        )
    if channels % deform_groups != 0:
        raise ValueError(
            f"offset has {offset.shape[1]} channels, so G = {deform_groups} deform groups, "
            f"which must divide input's C = {channels}"
        )
    check_shape("offset", offset, (batch, deform_groups * 2 * taps, out_height, out_width),
                 "[N, 2*G*kh*kw, Ho, Wo]")  # fmt: skip
    if mask is not None:
        check_rank("mask", mask, 4, "[N, G*kh*kw, Ho, Wo]")
        _check_float_dtype("mask", mask, input)
        check_device(input, mask=mask)
        check_shape("mask", mask, (batch, deform_groups * taps, out_height, out_width),
                     "[N, G*kh*kw, Ho, Wo]")  # fmt: skip
    if bias is not None:
        check_rank("bias", bias, 1, "[O]")
        check_dtype("bias", bias, input)
        check_device(input, bias=bias)
        check_shape("bias", bias, (out_channels,), "[O]")


def check_deform_roi_pool(
    input: Tensor,
    rois: Tensor,
    offset: Tensor | None,
    mask: Tensor | None,
    output_size: Sequence[int],
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Raise if the operands of deform_roi_pool do not fit together (see check_deform_conv2d)."""
    check_roi_pool_options(output_size, spatial_scale, sampling_ratio, gamma)
    check_rois(input, rois)
    check_elements("output_size", (rois.shape[0], input.shape[1], *output_size))
    size = (rois.shape[0], 2, output_size[0], output_size[1])
    if offset is not None:
        _check_roi_operand("offset", offset, input, size, "[R, 2, ph, pw]")
    if mask is not None:
        size = (rois.shape[0], 1, output_size[0], output_size[1])
        _check_roi_operand("mask", mask, input, size, "[R, 1, ph, pw]")


def check_deform_psroi_pool(
    input: Tensor,
    rois: Tensor,
    offset: Tensor | None,
    mask: Tensor | None,
    output_size: int,
    spatial_scale: float,
    group_size: int,
    part_size: int,
    sample_per_part: int,
    trans_std: float,
) -> None:
    """Raise if the operands of deform_psroi_pool do not fit together (see check_deform_conv2d)."""
    options = (output_size, spatial_scale, group_size, part_size, sample_per_part, trans_std)
    check_psroi_pool_options(*options)
    check_rois(input, rois)
    channels, cells = input.shape[1], group_size * group_size
    check_elements("output_size", (rois.shape[0], channels, output_size, output_size))
    if channels < cells or channels % cells != 0:
        raise ValueError(
            f"input must have channels (dim 1) divisible by group_size^2 = {cells}, got {channels}"
        )
    if offset is not None:
        check_rank("offset", offset, 4, "[R, 2*classes, part, part]")
        classes = offset.shape[1] // 2
        out_channels = channels // cells
        if classes < 1 or offset.shape[1] % 2 != 0 or out_channels % classes != 0:
            raise ValueError(
                f"offset must have 2*classes channels (dim 1), where classes divides the "
                f"C / group_size^2 = {out_channels} output channels, got {offset.shape[1]}"
            )
        size = (rois.shape[0], 2 * classes, part_size, part_size)
        _check_roi_operand("offset", offset, input, size, "[R, 2*classes, part, part]")
    if mask is not None:
        size = (rois.shape[0], 1, output_size, output_size)
        _check_roi_operand("mask", mask, input, size, "[R, 1, P, P]")


def check_table(rois: Tensor) -> None:
    """Check that RoIs are [R, 5].

    Raises:
        TypeError: they are no tensor.
        ValueError: they have another shape.
    """
    check_rank("rois", rois, 2, "[R, 5] of (batch index, x1, y1, x2, y2)")
    if rois.shape[1] != 5:
        raise ValueError(
            f"rois must have 5 columns (batch index, x1, y1, x2, y2), got {shape(rois)}"
        )


def whole_tensor(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor of whole numbers as int64.

    Raises:
        TypeError: it is no tensor, or of another kind of numbers.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor of whole numbers, got {type(tensor).__name__}")
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} must hold whole numbers, got {tensor.dtype}")
    return tensor.long()


def check_rois(input: Tensor, rois: Tensor, name: str = "input") -> None:
    check_rank(name, input, 4, "[N, C, H, W]")
    check_table(rois)
    _check_floating(input, name)
    _check_float_dtype("rois", rois, input)
    check_device(input, rois=rois)
    _check_sides("input", input.shape[2:])
    if input.shape[1] < 1 or input.shape[2] < 1 or input.shape[3] < 1:
        raise ValueError(f"{name} must have at least one channel and pixel, got {shape(input)}")
    if input.shape[0] == 0 and rois.shape[0] != 0:
        raise ValueError(f"rois must be empty where {name} has no image, got {shape(rois)}")


def check_batch_index(input: Tensor, rois: Tensor) -> None:
    """Raise if the batch index of a RoI is out of range; on a CPU only, to not block the host.

    On other devices, and in a compiled graph, such a RoI yields NaN (see `dcnv2.ops.portable`).

    Raises:
        ValueError: a batch index is outside [0, N).
    """
    if not may_read(rois) or rois.shape[0] == 0:
        return
    index = rois.detach()[:, 0]
    least, most = (float(value) for value in index.aminmax())
    if not (least >= 0 and most < input.shape[0]):
        wrong = ~((index >= 0) & (index < input.shape[0]))
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"rois must have batch indices (column 0) in [0, {input.shape[0]}), "
            f"got {float(index[row])} in row {row}"
        )


def may_read(tensor: Tensor) -> bool:
    """Return whether a tensor has values that can be read without blocking the host."""
    plain = type(tensor) in (Tensor, torch.nn.Parameter)  # fake and wrapped tensors have no values
    if tensor.device.type != "cpu" or not plain or torch.compiler.is_compiling():
        return False
    # make_fx, which torch.func.linearize calls, cannot trace the check
    return torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is None


def _check_roi_operand(
    name: str, tensor: Tensor, input: Tensor, size: tuple[int, ...], formula: str
) -> None:
    check_rank(name, tensor, 4, formula)
    _check_float_dtype(name, tensor, input)
    check_shape(name, tensor, size, formula)
    check_device(input, **{name: tensor})


# ---- one property each


def shape(tensor: Tensor) -> str:
    """Write a tensor's shape, for a message."""
    return "[" + ", ".join(str(size) for size in tensor.shape) + "]"


def check_rank(name: str, tensor: Tensor, rank: int, formula: str) -> None:
    """Check that an operand is a tensor of some number of dimensions.

    Raises:
        TypeError: it is no tensor.
        ValueError: it has another number of dimensions.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor {formula}, got {type(tensor).__name__}")
    if tensor.dim() != rank:
        raise ValueError(
            f"{name} must have {rank} dimension{'s' * (rank > 1)} {formula}, got {shape(tensor)}"
        )


def check_shape(name: str, tensor: Tensor, size: tuple[int, ...], formula: str) -> None:
    if tensor.shape != size:
        wanted = ", ".join(str(s) for s in size)
        raise ValueError(f"{name} must be {formula} = [{wanted}], got {shape(tensor)}")


def _check_floating(input: Tensor, name: str = "input") -> None:
    if input.dtype not in DTYPES:
        raise TypeError(f"{name} must be float32, float64, float16 or bfloat16, got {input.dtype}")


def check_dtype(name: str, tensor: Tensor, input: Tensor) -> None:
    if tensor.dtype != input.dtype:
        raise TypeError(f"{name} must have input's dtype {input.dtype}, got {tensor.dtype}")


def _check_float_dtype(name: str, tensor: Tensor, input: Tensor) -> None:
    """Check an operand that may be float32 if the input is half precision."""
    if tensor.dtype == input.dtype:
        return
    if input.dtype in _HALF and tensor.dtype == torch.float32:
        return
    also = " or float32" if input.dtype in _HALF else ""
    raise TypeError(f"{name} must have input's dtype {input.dtype}{also}, got {tensor.dtype}")


def check_device(input: Tensor, **tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.device != input.device:
            raise ValueError(
                f"{name} must be on input's device {input.device}, got {tensor.device}"
            )


def _check_sides(name: str, sizes: Sequence[int]) -> None:
    """Check that sizes fit 32 bits.

    Tracing leaves this out: a guard on a symbolic size would bound the sizes of the traced program.
    """
    if torch.compiler.is_compiling():
        return
    most = LIMITS[name][1]
    for size in sizes:
        if type(size) is int and size > most:
            raise ValueError(f"{name} must have sizes of at most {most}, got {list(sizes)}")


def check_elements(name: str, size: Sequence[int]) -> None:
    """Check that a result's bytes can be counted in 64 bits, so that allocating it can be tried."""
    if torch.compiler.is_compiling() or any(type(length) is not int for length in size):
        return
    if prod(size) > _MOST_ELEMENTS:
        raise ValueError(
            f"{name} must give a result of at most {_MOST_ELEMENTS} elements, got {list(size)}"
        )


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _numbers(values: Sequence[float]) -> str:
    return " x ".join(str(value) for value in values)
