# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of where a convolution samples: axes, taps, borders, corners, slopes."""
# ruff: noqa: N801 (a mutant's name is its text)

from dataclasses import replace

import torch

from suites.mutants.backend import Mutant, collector
from suites.tolerance.naive_conv import NaiveConv

GEOMETRY: list[Mutant] = []
planted = collector("deform_conv2d", GEOMETRY)


def _in_pass(purpose: str, **change):
    """A convolution one of whose passes mistakes sizes: (size = the size that it takes for it)."""

    class Mistaken(NaiveConv):
        def pass_sizes(self, sizes, asked):
            if asked != purpose:
                return sizes
            taken = {size: getattr(sizes, other) for size, other in change.items()}
            return replace(sizes, **taken)

    return Mistaken


_SEEN = "CharlesShang/DCNv2, chengdazhi: col2im called with pad_h, pad_h"
for _purpose in ("forward", "grad_input", "grad_offset", "grad_weight"):
    for _size in ("pad", "stride", "dilation"):
        _name = f"{_purpose}: {_size}_h used for {_size}_w"
        planted(_name, _SEEN)(_in_pass(_purpose, **{f"{_size}_w": f"{_size}_h"}))
planted("forward: stride swapped")(_in_pass("forward", stride_h="stride_w", stride_w="stride_h"))
planted("forward: height and width swapped in the border test", "unsky caffe")(
    _in_pass("forward", height="width", width="height")
)
planted("grad_offset: kernel_h used for kernel_w")(_in_pass("grad_offset", kernel_w="kernel_h"))


@planted("offset read as (x, y)")
class _(NaiveConv):
    def split_offset(self, offset, sizes):
        return super().split_offset(offset, sizes)[::-1]


@planted("offset read as all y, then all x", "4uiiurz1, Ascend")
class _(NaiveConv):
    def split_offset(self, offset, sizes):
        shape = (sizes.batch, sizes.deform_groups, 2, sizes.taps, sizes.places)
        shift = offset.reshape(shape)
        return shift[:, :, 0], shift[:, :, 1]


@planted("kernel flipped")
class _(NaiveConv):
    def tap_place(self, tap, sizes):
        row, col = super().tap_place(tap, sizes)
        return sizes.kernel_h - 1 - row, sizes.kernel_w - 1 - col


@planted("taps in column order")
class _(NaiveConv):
    def tap_place(self, tap, sizes):
        return tap % sizes.kernel_h, tap // sizes.kernel_h


@planted("row times height as the pixel's index", "unsky caffe")
class _(NaiveConv):
    def pixel(self, row, col, sizes):
        index = row * sizes.height + col
        return index.clamp(max=sizes.height * sizes.width - 1)


@planted("zero outside [0, H-1], no ring", "DCNv1's operator")
class _(NaiveConv):
    def inside(self, y, x, sizes):
        return (y >= 0) & (y <= sizes.height - 1) & (x >= 0) & (x <= sizes.width - 1)


@planted("zero before 0, the ring only at the far end")
class _(NaiveConv):
    def inside(self, y, x, sizes):
        return (y >= 0) & (y < sizes.height) & (x >= 0) & (x < sizes.width)


@planted("clamped to the edge outside", "tvm#7397")
class _(NaiveConv):
    def points(self, offset, sizes):
        y, x = super().points(offset, sizes)
        return y.clamp(0, sizes.height - 1), x.clamp(0, sizes.width - 1)


@planted("last row and column never read")
class _(NaiveConv):
    def on_map(self, row, col, sizes):
        return super().on_map(row, col, sizes) & (row < sizes.height - 1) & (col < sizes.width - 1)


@planted("no slope at -1", "mmcv")
class _(NaiveConv):
    def inside(self, y, x, sizes):
        return super().inside(y, x, sizes) & (y > -1) & (x > -1)


@planted("coordinates truncated toward zero")
class _(NaiveConv):
    def base(self, place):
        return place.trunc()


@planted("coordinates rounded to the nearest pixel")
class _(NaiveConv):
    def base(self, place):
        return place.round()


@planted("left-sided slopes at pixels")
class _(NaiveConv):
    def base(self, place):
        return place.ceil() - 1


@planted("coordinates in half", "torchvision and mmcv with float16")
class _(NaiveConv):
    def moved(self, base, shift):
        return super().moved(base.half(), shift.half()).to(shift.dtype)


@planted("coordinates in bfloat16")
class _(NaiveConv):
    def moved(self, base, shift):
        return super().moved(base.bfloat16(), shift.bfloat16()).to(shift.dtype)


@planted("offset in half, its place in float32", "casting the offset under autocast")
class _(NaiveConv):
    def moved(self, base, shift):
        return super().moved(base, shift.half().to(shift.dtype))


@planted("NaN offset hidden as zero", "mmcv's guard")
class _(NaiveConv):
    def points(self, offset, sizes):
        return super().points(offset.nan_to_num(nan=-1e6), sizes)


@planted("NaN offset reaches a pixel", "torchvision's guard")
class _(NaiveConv):
    def inside(self, y, x, sizes):
        return ~((y < -1) | (y >= sizes.height) | (x < -1) | (x >= sizes.width))

    def on_map(self, row, col, sizes):
        nan = row.isnan() | col.isnan()
        return super().on_map(row, col, sizes) | nan

    def pixel(self, row, col, sizes):
        return super().pixel(row, col, sizes).nan_to_num(nan=0.0)


@planted("infinite offset gives NaN", "torchvision's offset gradient on a CPU")
class _(NaiveConv):
    def corners(self, y, x, sizes):
        far = y.isinf() | x.isinf()
        corners = super().corners(y, x, sizes)
        for corner in corners:
            corner.weight = corner.weight.masked_fill(far, float("nan"))
        return corners


@planted("out-of-range offset wraps round as an int32")
class _(NaiveConv):
    def points(self, offset, sizes):
        y, x = super().points(offset, sizes)
        return self._wrapped(y), self._wrapped(x)

    @staticmethod
    def _wrapped(place):
        whole = place.floor()
        wrapped = torch.remainder(whole + 2.0**31, 2.0**32) - 2.0**31
        return torch.where(whole.abs() > 2.0**30, wrapped + (place - whole), place)


@planted("interpolation weights of x and y exchanged")
class _(NaiveConv):
    def corners(self, y, x, sizes):
        corners = super().corners(y, x, sizes)
        corners[1].weight, corners[2].weight = corners[2].weight, corners[1].weight
        return corners


@planted("sign of the slope along x")
class _(NaiveConv):
    def corners(self, y, x, sizes):
        corners = super().corners(y, x, sizes)
        for corner in corners:
            corner.slope_x = -corner.slope_x
        return corners


@planted("slope without the other axis's weight")
class _(NaiveConv):
    def corners(self, y, x, sizes):
        corners = super().corners(y, x, sizes)
        for corner in corners:
            corner.slope_y = corner.slope_y.sign() * 0.5
        return corners


@planted("slope zero where a corner is off the map")
class _(NaiveConv):
    def corners(self, y, x, sizes):
        corners = super().corners(y, x, sizes)
        whole = torch.stack([corner.on_map for corner in corners]).all(0)
        for corner in corners:
            corner.slope_y, corner.slope_x = corner.slope_y * whole, corner.slope_x * whole
        return corners


@planted("an output pixel's place taken by rows of the height")
class _(NaiveConv):
    def points(self, offset, sizes):
        return super().points(offset, replace(sizes, out_w=sizes.out_h, out_h=sizes.out_w))
