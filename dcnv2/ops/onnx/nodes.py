# SPDX-License-Identifier: BSD-3-Clause
"""Our operators as ONNX nodes, the same for both exporters.

`build` makes a node by its operator's name, `build.Add(x, y)`, with `constant`, `sizes`, `dtype`,
`absent`, `items`, `typed` and `opset` besides. Values are those of `dcnv2.ops`; the notes say which
shapes they have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

OPSET = 19  # the first with DeformConv, and the one that all nodes here are written for
BFLOAT16_OPSET = 22  # the first in which DeformConv takes bfloat16
FLOAT, DOUBLE, INT64 = 1, 11, 7  # of ONNX's TensorProto.DataType
CODES = {"FLOAT": FLOAT, "FLOAT16": 10, "BFLOAT16": 16, "DOUBLE": DOUBLE}
_DTYPES = {"FLOAT": torch.float32, "FLOAT16": torch.float16, "DOUBLE": torch.float64}


def _check_opset(build: Any) -> None:
    """Raise before an exporter writes nodes that the asked opset does not have.

    The exporter of torch.export builds for opset 18 at least and then converts the model, so the
    opset that it reports is not always the asked one.
    """
    if build.opset < OPSET:
        raise ValueError(f"opset_version must be {OPSET} or later: DeformConv is new in it")


def _known(name: str, size: int | None) -> int:
    if size is None:
        raise ValueError(f"{name} must be known at export; use an example of that shape")
    return size


def deform_conv(
    build: Any,
    input: Any,
    offset: Any,
    weight: Any,
    bias: Any,
    mask: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Any:
    """DeformConv in the widest dtype of its operands: offsets may be float32 for a half input.

    Raises:
        ValueError: the opset does not have the operator, or not in this dtype.
    """
    _check_opset(build)
    out_channels, group_channels, height, width = (
        _known("the weight's shape", size) for size in build.sizes(weight)
    )
    channels = _known("the number of input's channels", build.sizes(input)[1])
    places = _known("the number of offset's channels", build.sizes(offset)[1])
    own, wide = build.dtype(input), build.dtype(offset)
    mixed = own != wide or (not build.absent(mask) and build.dtype(mask) != own)
    if own == "BFLOAT16" and not mixed and build.opset < BFLOAT16_OPSET:
        raise ValueError(
            f"opset_version must be {BFLOAT16_OPSET} or later for convolutions in bfloat16, "
            f"got {build.opset}; or export the model in float32"
        )
    if build.absent(bias) and not build.absent(mask) and own in _DTYPES:
        # An omitted bias is an empty name before the mask's, which TensorRT's parser rejects.
        bias = build.constant(torch.zeros(out_channels, dtype=_DTYPES[own]))
    operands = [input, weight, offset, bias, mask]
    if mixed:
        operands = [t if build.absent(t) else build.Cast(t, to=FLOAT) for t in operands]
    out = build.DeformConv(
        *operands,
        dilations=list(dilation),
        group=channels // group_channels,
        kernel_shape=[height, width],
        offset_group=places // (2 * height * width),
        pads=[*padding, *padding],
        strides=list(stride),
    )
    out = build.Cast(out, to=CODES[own]) if mixed else out
    return build.typed(out, input, [None, out_channels, None, None])


class _Numbers:
    """Arithmetic in the dtype of coordinates: double for double, else float."""

    def __init__(self, build: Any, input: Any) -> None:
        self.build = build
        self.code = DOUBLE if build.dtype(input) == "DOUBLE" else FLOAT
        self.dtype = torch.float64 if self.code == DOUBLE else torch.float32

    def value(self, numbers: Any) -> Any:
        """A constant."""
        return self.build.constant(torch.as_tensor(numbers, dtype=self.dtype))

    def whole(self, numbers: Any) -> Any:
        """An int64 constant."""
        return self.build.constant(torch.as_tensor(numbers, dtype=torch.int64))

    def cast(self, value: Any) -> Any:
        """A value cast to this dtype."""
        return self.build.Cast(value, to=self.code)

    def index(self, value: Any) -> Any:
        """A value cast to int64."""
        return self.build.Cast(value, to=INT64)

    def scale(self, value: Any, factor: float) -> Any:
        """A value times a number."""
        return self.build.Mul(value, self.value(factor))

    def size(self, value: Any, axis: int) -> Any:
        """A size, as int64."""
        return self.build.Gather(self.build.Shape(value), self.whole(axis), axis=0)

    def take(self, value: Any, axis: int, index: int) -> Any:
        """The slice of a value at one index, without that axis."""
        return self.build.Gather(value, self.whole(index), axis=axis)

    def any(self, *conditions: Any) -> Any:
        """Where any of the conditions holds."""
        found = conditions[0]
        for condition in conditions[1:]:
            found = self.build.Or(found, condition)
        return found

    def round(self, value: Any) -> Any:
        """Round halves away from zero, as in C."""
        build = self.build
        return build.Mul(
            build.Sign(value), build.Floor(build.Add(build.Abs(value), self.value(0.5)))
        )


def _boxes(numbers: _Numbers, input: Any, rois: Any) -> tuple[Any, list[Any]]:
    """Image [R, 1, 1, 1, 1] as a whole number, and x1, y1, x2, y2 alike: NaN for what is no box."""
    build = numbers.build
    rois = build.Unsqueeze(numbers.cast(rois), numbers.whole([2, 3, 4, 5]))  # [R, 5, 1, 1, 1, 1]
    image, *corners = (numbers.take(rois, 1, index) for index in range(5))
    zero = numbers.value(0.0)
    images = numbers.cast(numbers.size(input, 0))
    outside = numbers.any(
        build.Less(image, zero), build.Not(build.Less(image, images))
    )  # comparisons with NaN are false
    for corner in corners:  # a non-finite value minus itself is not zero
        outside = build.Or(outside, build.Not(build.Equal(build.Sub(corner, corner), zero)))
    image = numbers.index(build.Where(outside, zero, image))
    return image, [build.Where(outside, numbers.value(float("nan")), c) for c in corners]


def _read(
    numbers: _Numbers,
    table: Any,  # rows of channels [N*K*cells*H*W, C/K/cells]
    sizes: tuple[Any, Any],  # H, W, as whole numbers
    first: Any,  # whole number of the map that a bin reads, to broadcast with the places
    y: Any,  # [R, K, ph, pw, S], as all that follow: may have 1 where it does not change
    x: Any,
    outside: Any,  # samples that count as zero or are skipped
    count: Any,  # number of averaged samples, broadcastable
) -> Any:
    """The means of bilinear samples [R, K, ph, pw, C/K/cells], clamped to the map."""
    build = numbers.build
    zero, one = numbers.value(0.0), numbers.value(1.0)
    lows, highs, shares = [], [], []
    for coordinate, size in ((y, sizes[0]), (x, sizes[1])):
        last = build.Sub(numbers.cast(size), one)
        inside = build.Where(build.Less(coordinate, zero), zero, coordinate)
        inside = build.Where(build.Greater(inside, last), last, inside)
        low = build.Floor(inside)
        shares.append(build.Sub(inside, low))
        safe = build.Where(build.Equal(low, low), low, zero)  # NaN must not become an index
        lows.append(numbers.index(safe))
        highs.append(numbers.index(build.Min(build.Add(safe, one), last)))
    total = None
    for row, bottom in ((lows[0], False), (highs[0], True)):
        for column, right in ((lows[1], False), (highs[1], True)):
            down = shares[0] if bottom else build.Sub(one, shares[0])
            across = shares[1] if right else build.Sub(one, shares[1])
            weight = build.Div(build.Where(outside, zero, build.Mul(down, across)), count)
            index = build.Add(build.Mul(build.Add(build.Mul(first, sizes[0]), row), sizes[1]),
                              column)  # fmt: skip
            values = build.Gather(table, index, axis=0)  # [R, K, ph, pw, S, C]
            part = build.MatMul(build.Unsqueeze(weight, numbers.whole([-2])), values)
            total = part if total is None else build.Add(total, part)
    return build.Squeeze(total, numbers.whole([-2]))


def _finish(
    numbers: _Numbers,
    bins: Any,
    input: Any,
    mask: Any,
    out_channels: int,
    output_size: Sequence[int],
) -> Any:
    """Bins [R, K, ph, pw, C] to the output [R, K*C, ph, pw]."""
    build = numbers.build
    bins = build.Transpose(bins, perm=[0, 1, 4, 2, 3])
    if not build.absent(mask):
        bins = build.Mul(bins, build.Unsqueeze(numbers.cast(mask), numbers.whole([1])))
    rois, classes, channels, height, width = (
        build.Unsqueeze(numbers.size(bins, axis), numbers.whole([0])) for axis in range(5)
    )  # explicit sizes: -1 is ambiguous if R is 0
    shape = build.Concat(rois, build.Mul(classes, channels), height, width, axis=0)
    out = build.Cast(build.Reshape(bins, shape), to=CODES[build.dtype(input)])
    return build.typed(out, input, [None, out_channels, *output_size])


def _samples(numbers: _Numbers, side: int, shift: float) -> tuple[Any, Any]:
    """Positions of samples in a bin, as fractions of it: along y and x, [side * side] each."""
    steps = (torch.arange(side, dtype=torch.float64) + shift) / side
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return numbers.value(y.flatten()), numbers.value(x.flatten())


def _spread(
    numbers: _Numbers,
    start: Any,  # [R, 1, 1, 1, 1]
    length: Any,  # of the box
    bins: int,
    axis: int,  # of [R, K, ph, pw, S] that counts the bins
    samples: Any,  # [S], shares of a bin
    shift: Any,  # [R, K, ph, pw], shares of the box, or None
) -> Any:
    """Coordinates of all samples along one axis."""
    build = numbers.build
    size = [1, 1, 1, 1, 1]
    size[axis] = bins
    bin_length = build.Div(length, numbers.value(float(bins)))
    number = numbers.value(torch.arange(bins).view(size))
    place = build.Add(start, build.Mul(build.Add(number, samples), bin_length))
    if shift is None:
        return place
    return build.Add(place, build.Mul(build.Unsqueeze(shift, numbers.whole([4])), length))


def deform_roi_pool(
    build: Any,
    input: Any,
    rois: Any,
    offset: Any,
    mask: Any,
    output_size: Sequence[int],
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> Any:
    """Deformable RoI pooling on RoIAlign's samples.

    Raises:
        ValueError: sampling_ratio is 0: how many samples a bin takes would depend on the boxes; or
            the opset is below 19.
    """
    _check_opset(build)
    if sampling_ratio < 1:
        raise ValueError(
            "ONNX export needs a fixed sampling_ratio, such as 2; 0 depends on the boxes"
        )
    numbers = _Numbers(build, input)
    image, corners = _boxes(numbers, input, rois)
    x1, y1, x2, y2 = (
        build.Sub(numbers.scale(corner, spatial_scale), numbers.value(0.5)) for corner in corners
    )
    height, width = build.Sub(y2, y1), build.Sub(x2, x1)
    shift_x = shift_y = None
    if not build.absent(offset):  # [R, 2, ph, pw] to [R, 1, ph, pw] each
        shifts = numbers.scale(numbers.cast(offset), gamma)
        shift_x, shift_y = (build.Gather(shifts, numbers.whole([i]), axis=1) for i in (0, 1))
    along_y, along_x = _samples(numbers, sampling_ratio, 0.5)
    y = _spread(numbers, y1, height, output_size[0], 2, along_y, shift_y)
    x = _spread(numbers, x1, width, output_size[1], 3, along_x, shift_x)
    rows, columns = numbers.size(input, 2), numbers.size(input, 3)
    least = numbers.value(-1.0)
    outside = numbers.any(
        build.Less(y, least),
        build.Greater(y, numbers.cast(rows)),
        build.Less(x, least),
        build.Greater(x, numbers.cast(columns)),
    )
    channels = _known("the number of input's channels", build.sizes(input)[1])
    table = build.Reshape(
        build.Transpose(numbers.cast(input), perm=[0, 2, 3, 1]), numbers.whole([-1, channels])
    )
    count = numbers.value(float(sampling_ratio**2))
    bins = _read(numbers, table, (rows, columns), image, y, x, outside, count)
    return _finish(numbers, bins, input, mask, channels, output_size)


def deform_psroi_pool(
    build: Any,
    input: Any,
    rois: Any,
    offset: Any,
    mask: Any,
    output_size: int,
    spatial_scale: float,
    group_size: int,
    part_size: int,
    sample_per_part: int,
    trans_std: float,
) -> Any:
    """Deformable position-sensitive RoI pooling, as in the code of the papers' authors.

    Raises:
        ValueError: the opset is below 19.
    """
    _check_opset(build)
    numbers = _Numbers(build, input)
    bins, half = output_size, numbers.value(0.5)
    image, corners = _boxes(numbers, input, rois)
    x1, y1 = (build.Sub(numbers.scale(numbers.round(c), spatial_scale), half) for c in corners[:2])
    ends = [build.Add(numbers.round(c), numbers.value(1.0)) for c in corners[2:]]
    width, height = (
        build.Max(build.Sub(build.Sub(numbers.scale(end, spatial_scale), half), start), least)
        for end, start, least in zip(ends, (x1, y1), [numbers.value(0.1)] * 2, strict=True)
    )
    cell_of = torch.arange(bins) * group_size // bins
    classes, shift_x, shift_y = 1, None, None
    if not build.absent(offset):  # [R, 2*K, part, part] to [R, K, P, P] each
        classes = _known("the number of offset's channels", build.sizes(offset)[1]) // 2
        shifts = numbers.scale(numbers.cast(offset), trans_std)
        part = numbers.whole(torch.arange(bins) * part_size // bins)
        shifts = build.Gather(build.Gather(shifts, part, axis=2), part, axis=3)
        shift_x, shift_y = (
            build.Gather(shifts, numbers.whole(torch.arange(classes) * 2 + i), axis=1)
            for i in (0, 1)
        )
    along_y, along_x = _samples(numbers, sample_per_part, 0.0)
    y = _spread(numbers, y1, height, bins, 2, along_y, shift_y)
    x = _spread(numbers, x1, width, bins, 3, along_x, shift_x)
    rows, columns = numbers.size(input, 2), numbers.size(input, 3)
    least = numbers.value(-0.5)
    outside = numbers.any(
        build.Less(y, least),
        build.Greater(y, build.Sub(numbers.cast(rows), half)),
        build.Less(x, least),
        build.Greater(x, build.Sub(numbers.cast(columns), half)),
    )
    inside = numbers.cast(build.Not(outside))
    count = build.ReduceSum(inside, numbers.whole([4]), keepdims=1)
    count = build.Max(count, numbers.value(1.0))

    cells = group_size * group_size
    channels = _known("the number of input's channels", build.sizes(input)[1])
    width_of_row = channels // (classes * cells)
    shape = build.Concat(
        numbers.whole([-1, classes, width_of_row, cells]),
        *(build.Unsqueeze(size, numbers.whole([0])) for size in (rows, columns)),
        axis=0,
    )
    maps = build.Transpose(build.Reshape(numbers.cast(input), shape), perm=[0, 1, 3, 4, 5, 2])
    table = build.Reshape(maps, numbers.whole([-1, width_of_row]))
    cell = (cell_of[:, None] * group_size + cell_of).view(1, 1, bins, bins, 1)
    lane = torch.arange(classes).view(1, -1, 1, 1, 1) * cells + cell
    first = build.Add(build.Mul(image, numbers.whole(classes * cells)), numbers.whole(lane))
    found = _read(numbers, table, (rows, columns), first, y, x, outside, count)
    return _finish(numbers, found, input, mask, channels // cells, (bins, bins))
