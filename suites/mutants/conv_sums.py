# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of how a convolution adds up: precision, accumulation, chunks, launches, order."""

import torch

from suites.mutants.backend import mutants_of
from suites.tolerance.naive_conv import NaiveConv

SUMS, mutant = mutants_of(NaiveConv, "deform_conv2d")


# ---- precision


def _note_dtype(step, name, tensor):
    if name == "input":
        step.__self__.operand_dtype = tensor.dtype
    return step(name, tensor)


def _low(step, values):
    """Values rounded to the operands' dtype, if that is a half type."""
    dtype = step.__self__.operand_dtype
    return values if dtype.itemsize > 2 else values.to(dtype).to(values.dtype)


def _scatter_in_half(step, values, index, pixels):
    total = 0.0
    for some, at in zip(values.split(16, -1), index.split(16, -1), strict=True):
        total = _low(step, total + step(some, at, pixels))
    return total if values.shape[-1] else step(values, index, pixels)


def _product_in_half(step, columns, weight, sizes):
    conv, out = step.__self__, 0.0
    columns, kernel = conv.grouped(columns, sizes), conv.kernel(weight, sizes)
    for tap in range(sizes.taps):
        share = torch.einsum("ngcp,goc->ngop", columns[..., tap, :], kernel[..., tap])
        out = _low(step, out + share)
    return out


def _grad_weight_in_half(step, *operands):
    whole = step(*operands)
    share, total = _low(step, whole / 16), torch.zeros_like(whole)
    for _ in range(16):
        total = _low(step, total + share)
    return total


def _weights_in_half(step, *operands):
    corners = step(*operands)
    for corner in corners:
        corner.weight = _low(step, corner.weight)
    return corners


def _tf32(step, values):
    if values.dtype != torch.float32:
        return values
    bits = values.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


def _larger_slopes(step, *operands):
    slopes, values = step(*operands)
    return 1.01 * slopes, values


# fmt: off
mutant("grad_input summed in half precision", "Paddle#46975",
       received=_note_dtype, scatter=_scatter_in_half)
mutant("output summed in half precision, tap by tap",
       received=_note_dtype, product=_product_in_half)
mutant("grad_weight summed in half precision, image by image",
       received=_note_dtype, grad_weight=_grad_weight_in_half)
mutant("interpolation weights in half precision",
       received=_note_dtype, located=_weights_in_half)
mutant("TF32 products of float32 operands",
       narrowed=_tf32)
mutant("columns in bfloat16 whatever the dtype",
       narrowed=lambda step, values: values.bfloat16().to(values.dtype))
mutant("output 1 % too large",
       forward=lambda step, *operands, **named: 1.01 * step(*operands, **named))
mutant("grad_offset 1 % too large",
       grad_points=_larger_slopes)
# fmt: on

# ---- accumulation


def _last_image(step, grad, *operands):
    whole = step(grad, *operands)
    if len(grad) < 2:
        return whole
    return whole - step(torch.cat((grad[:-1], torch.zeros_like(grad[-1:]))), *operands)


def _overwrite(step, values, index, pixels):
    return values.new_zeros(*values.shape[:-1], pixels).scatter(-1, index, values)


def _three_corners(step, offset, sizes, purpose):
    corners = step(offset, sizes, purpose)
    return corners[:3] if purpose == "grad_input" else corners


# fmt: off
mutant("grad_weight overwritten by the next image's", "mxnet#6911",
       grad_weight=_last_image)
mutant("grad_weight averaged over the batch",
       grad_weight=lambda step, grad, *operands: step(grad, *operands) / max(len(grad), 1))
mutant("grad_input overwritten where samples meet",
       scatter=_overwrite)
mutant("grad_input without the fourth corner",
       located=_three_corners)
mutant("grad_input without the taps after the eighth",
       grad_input=lambda step, columns, *operands: step(
           columns * (torch.arange(columns.shape[3])[:, None] < 8), *operands))
# fmt: on

# ---- chunks and launches


def _zero_after(count, dim):
    """Set the entries along a dimension of a result to zero, from entry `count(size)` on."""

    def replaced(step, *operands, **named):
        out = step(*operands, **named)
        size = out.shape[dim]
        kept = min(count(size), size)
        out.narrow(dim, kept, size - kept).zero_()
        return out

    return replaced


def _whole(chunk):
    """The entries in whole chunks; all of them, if they are fewer than a chunk."""
    return lambda size: size // chunk * chunk or size


def _capped_grid(step, input, *operands, sizes, **named):
    out = step(input, *operands, sizes=sizes, **named)
    reached = 65535 // max(sizes.channels * sizes.taps, 1)
    keep = torch.arange(sizes.batch * sizes.places) < reached
    return out * keep.view(sizes.batch, 1, sizes.out_h, sizes.out_w)


def _product_order(step, *operands, **named):
    out = step(*operands, **named)
    return out.transpose(0, 1).reshape(out.shape)


# fmt: off
mutant("images after whole chunks of 32 not computed", "im2col_step",
       forward=_zero_after(_whole(32), 0))
mutant("images of a chunk left in the product's order", "mmcv#559, TF-addons#1129",
       forward=_product_order)
mutant("first image's offsets used for the whole batch",
       split_offset=lambda step, *operands: tuple(s[:1].expand_as(s) for s in step(*operands)))
mutant("first image's mask used for the whole batch",
       split_mask=lambda step, mask, sizes: step(mask, sizes)[:1].expand(len(mask), -1, -1, -1))
mutant("samples after the 65535th not computed", "CDZ#13: a capped grid",
       forward=_capped_grid)
mutant("channels after whole vectors of 8 not sampled",
       sampled=_zero_after(_whole(8), 2))
mutant("output channels after the 32nd not computed",
       forward=_zero_after(lambda size: 32, 1))
# fmt: on

# ---- order


def _random_order(step, values, index, pixels):
    order = torch.randperm(index.shape[-1])
    return step(values[..., order], index[..., order], pixels)


def _part_per_thread(step, grad, *operands):
    total, threads = 0.0, torch.get_num_threads()
    for part in range(threads):
        total = total + step(grad * (torch.arange(grad.shape[-1]) % threads == part), *operands)
    return total


# fmt: off
mutant("sums in another order on every run", "torchvision's atomics",
       scatter=_random_order)
mutant("one partial sum per thread",
       grad_weight=_part_per_thread)
# fmt: on
