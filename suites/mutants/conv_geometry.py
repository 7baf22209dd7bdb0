# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of where a convolution samples: axes, taps, borders, corners, slopes."""

from dataclasses import replace

import torch

from suites.mutants.backend import mutants_of
from suites.tolerance.naive_conv import NaiveConv

GEOMETRY, mutant = mutants_of(NaiveConv, "deform_conv2d")
WIDE_IMAGES, wide_mutant = mutants_of(NaiveConv, "deform_conv2d")  # detected there only


def _mistake(purpose, **change):
    """A pass that takes one size for another: `size=` the size that it uses in its place."""

    def pass_sizes(step, sizes, asked):
        taken = {size: getattr(sizes, other) for size, other in change.items()}
        return replace(sizes, **taken) if asked == purpose else sizes

    return pass_sizes


def _by_axis(change):
    """A change of a coordinate along either axis: `change(place, size of the map)`."""

    def points(step, offset, sizes):
        y, x = step(offset, sizes)
        return change(y, sizes.height), change(x, sizes.width)

    return points


def _wrapped(place, _):
    whole = place.floor()
    wrapped = torch.remainder(whole + 2.0**31, 2.0**32) - 2.0**31
    return torch.where(whole.abs() > 2.0**30, wrapped + (place - whole), place)


def _all_y_first(step, offset, sizes):
    shape = (sizes.batch, sizes.deform_groups, 2, sizes.taps, sizes.places)
    return offset.reshape(shape).unbind(2)


def _in_dtype(dtype):
    return lambda step, base, shift: (base.to(dtype) + shift.to(dtype)).double()


def _each_corner(change):
    """Corners after a change of each: `change(corner, all corners, y, x)`."""

    def corners(step, y, x, sizes):
        found = step(y, x, sizes)
        for corner in found:
            change(corner, found, y, x)
        return found

    return corners


def _exchange_axes(corner, corners, y, x):
    if corner is corners[1]:
        corner.weight, corners[2].weight = corners[2].weight, corner.weight


def _nan_where_infinite(corner, corners, y, x):
    corner.weight = corner.weight.masked_fill(y.isinf() | x.isinf(), float("nan"))


def _flip_slope(corner, corners, y, x):
    corner.slope_x = -corner.slope_x


def _unweighted_slope(corner, corners, y, x):
    corner.slope_y = corner.slope_y.sign() * 0.5


def _no_slope_at_the_edge(corner, corners, y, x):
    whole = torch.stack([other.on_map for other in corners]).all(0)
    corner.slope_y, corner.slope_x = corner.slope_y * whole, corner.slope_x * whole


_SEEN = "CharlesShang/DCNv2, chengdazhi: col2im called with pad_h, pad_h"
for _pass in ("forward", "grad_input", "grad_offset", "grad_weight"):
    for _size in ("pad", "stride", "dilation"):
        mutant(f"{_pass}: {_size}_h used for {_size}_w", _SEEN,
               pass_sizes=_mistake(_pass, **{f"{_size}_w": f"{_size}_h"}))  # fmt: skip

# fmt: off
mutant("forward: stride_h and stride_w swapped",
       pass_sizes=_mistake("forward", stride_h="stride_w", stride_w="stride_h"))
mutant("forward: height and width swapped in the border test", "unsky caffe",
       pass_sizes=_mistake("forward", height="width", width="height"))
mutant("grad_offset: kernel_h used for kernel_w",
       pass_sizes=_mistake("grad_offset", kernel_w="kernel_h"))
mutant("out_h and out_w swapped in an output pixel's row and column",
       points=lambda step, offset, sizes: step(
           offset, replace(sizes, out_w=sizes.out_h, out_h=sizes.out_w)))

mutant("offset read as (x, y)",
       split_offset=lambda step, offset, sizes: step(offset, sizes)[::-1])
mutant("offset read as all y, then all x", "4uiiurz1, Ascend",
       split_offset=_all_y_first)
mutant("kernel flipped",
       tap_place=lambda step, tap, sizes: step(sizes.taps - 1 - tap, sizes))
mutant("taps in column order",
       tap_place=lambda step, tap, sizes: (tap % sizes.kernel_h, tap // sizes.kernel_h))
mutant("pixel index is row * height + column", "unsky caffe",
       pixel=lambda step, row, col, sizes: (row * sizes.height + col).clamp(
           max=sizes.height * sizes.width - 1))

mutant("zero outside [0, H-1]: no interpolation across any border", "DCNv1's operator",
       inside=lambda step, y, x, sizes: (y >= 0) & (y <= sizes.height - 1)
       & (x >= 0) & (x <= sizes.width - 1))
mutant("zero before 0: interpolation only across the bottom and right borders",
       inside=lambda step, y, x, sizes: step(y, x, sizes) & (y >= 0) & (x >= 0))
mutant("coordinates clamped to the edge", "tvm#7397",
       points=_by_axis(lambda place, size: place.clamp(0, size - 1)))
mutant("last row and column never read",
       on_map=lambda step, row, col, sizes: step(row, col, sizes)
       & (row < sizes.height - 1) & (col < sizes.width - 1))
mutant("no slope at -1", "mmcv",
       inside=lambda step, y, x, sizes: step(y, x, sizes) & (y > -1) & (x > -1))

mutant("coordinates truncated toward zero",
       base=lambda step, place: place.trunc())
mutant("coordinates rounded to the nearest pixel",
       base=lambda step, place: place.round())
mutant("left-sided slopes at pixels",
       base=lambda step, place: place.ceil() - 1)
mutant("coordinates in float16", "torchvision and mmcv with float16",
       moved=_in_dtype(torch.float16))
mutant("coordinates in bfloat16",
       moved=_in_dtype(torch.bfloat16))
mutant("offset rounded to float16, coordinate in float32", "casting the offset under autocast",
       moved=lambda step, base, shift: step(base, shift.half().to(shift.dtype)))

mutant("NaN offset samples zero", "mmcv's guard",
       points=lambda step, offset, sizes: step(offset.nan_to_num(nan=-1e6), sizes))
mutant("NaN offset reads a pixel", "torchvision's guard",
       inside=lambda step, y, x, sizes: ~(
           (y < -1) | (y >= sizes.height) | (x < -1) | (x >= sizes.width)),
       on_map=lambda step, row, col, sizes: step(row, col, sizes) | row.isnan() | col.isnan(),
       pixel=lambda step, row, col, sizes: step(row, col, sizes).nan_to_num(nan=0.0))
mutant("infinite offset gives NaN", "torchvision's offset gradient on a CPU",
       corners=_each_corner(_nan_where_infinite))
mutant("out-of-range offset wraps round as an int32",
       points=_by_axis(_wrapped))

mutant("interpolation weights of x and y exchanged",
       corners=_each_corner(_exchange_axes))
mutant("wrong sign of the slope along x",
       corners=_each_corner(_flip_slope))
mutant("slope without the other axis's weight",
       corners=_each_corner(_unweighted_slope))
mutant("slope zero where a corner is off the map",
       corners=_each_corner(_no_slope_at_the_edge))

wide_mutant("coordinates in float32", "every implementation that adds the offset to the position",
            moved=_in_dtype(torch.float32))
# fmt: on
