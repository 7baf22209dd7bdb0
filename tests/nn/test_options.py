# SPDX-License-Identifier: BSD-3-Clause
"""Options of layers: integers of any library, and values that the forward would refuse."""

import inspect

import numpy as np
import pytest
import torch
from public_layers import OFFSET, ROIS, WEIGHT, X, layers

from dcnv2.compat import dcnv2_pytorch, detectron2, mmcv
from dcnv2.nn import (
    DeformConv2d,
    DeformPSRoIPoolPack,
    DeformRoIPoolPack,
    ModulatedDeformConv2dPack,
    ModulatedDeformPSRoIPoolPack,
)
from dcnv2.ops import deform_conv2d, deform_roi_pool

NAN, INF = float("nan"), float("inf")
LAYERS = {name: (layer, operands) for name, layer, operands in layers()}
CONV, POOL = (4, 6, 3), (3, 4)


@pytest.mark.parametrize(
    "one",
    [
        np.int64(1), np.uint8(1), np.array(1), np.array([1, 1]), [np.int32(1), 1],
        torch.tensor(1), torch.tensor([1, 1]), (torch.tensor(1), 1), torch.Size([1, 1]),
    ],
    ids=repr,
)  # fmt: skip
def test_options_may_be_integers_of_any_library(one):
    wanted = deform_conv2d(X, OFFSET, WEIGHT, None, 1, 1, 1)
    out = deform_conv2d(X, OFFSET, WEIGHT, None, one, one, one)
    torch.testing.assert_close(out, wanted, rtol=0, atol=0)


@pytest.mark.parametrize(
    "other",
    [1.0, np.float32(1), torch.tensor(1.0), "1", "11", None, [1], [1, 1, 1], {1, 2}, {0: 1, 1: 1}],
    ids=repr,
)
def test_anything_else_is_refused(other):
    with pytest.raises(TypeError, match=r"stride must be one whole number or two \(y, x\), got"):
        deform_conv2d(X, OFFSET, WEIGHT, None, other, 1, 1)


def test_layers_and_pools_take_numbers_of_numpy():
    two, three = np.int64(2), np.int64(3)
    layer = ModulatedDeformConv2dPack(
        np.int64(4), np.int64(6), three, padding=np.int8(1), groups=two, deform_groups=two,
        mask_scale=np.float32(2), max_offset=np.float64(3),
    )  # fmt: skip
    assert layer(X).shape == (2, 6, 9, 8)
    pool = ModulatedDeformPSRoIPoolPack(
        three, np.int64(4), np.float32(1), two, two, np.float64(0.1), np.int64(8)
    )
    assert pool(X, ROIS).shape == (2, 1, 3, 3)
    out = deform_roi_pool(X, ROIS, None, None, three, np.float32(1), two, torch.tensor(0.1))
    assert out.shape == (2, 4, 3, 3)


def _cases():
    far = 2**31
    limits = {
        "stride": (0, -1, far, 2**64, (1, 0)),
        "padding": (-1, far),
        "dilation": (0, far),
        "kernel_size": (0, far, (3, 0)),
    }
    for name, values in limits.items():
        for value in values:
            yield ModulatedDeformConv2dPack, CONV, {name: value}, f"{name} must be between"
    for name in ("stride", "padding", "dilation", "kernel_size"):
        for value in (1.5, "same"):
            yield DeformConv2d, CONV, {name: value}, f"{name} must be one whole number"
    for name in ("in_channels", "out_channels", "groups"):
        yield DeformConv2d, CONV, {name: 4.0}, f"{name} must be a whole number"
    for value in (0, -1, NAN, INF):
        yield ModulatedDeformConv2dPack, CONV, {"max_offset": value}, "max_offset must be positive"
    yield ModulatedDeformConv2dPack, CONV, {"max_offset": "3"}, "max_offset must be a number"
    for value in (NAN, INF):
        yield ModulatedDeformConv2dPack, CONV, {"mask_scale": value}, "mask_scale must be finite"
    for kind in (ModulatedDeformConv2dPack, mmcv.DeformConv2d, detectron2.ModulatedDeformConv):
        own = "deformable_groups" if kind is detectron2.ModulatedDeformConv else "deform_groups"
        for value in (0, 3):
            yield kind, CONV, {own: value}, "deform_groups must divide in_channels = 4"
        yield kind, CONV, {own: 1.0}, "deform_groups must be a whole number"
    for kind in (DeformRoIPoolPack, mmcv.DeformRoIPoolPack, mmcv.DeformRoIPool):
        size = POOL if kind is not mmcv.DeformRoIPool else (3,)
        yield kind, size, {"output_size": (3, 0)}, "output_size must be between"
        yield kind, size, {"spatial_scale": 0}, "spatial_scale must be between"
        yield kind, size, {"spatial_scale": "1"}, "spatial_scale must be a number"
        yield kind, size, {"sampling_ratio": 65537}, "sampling_ratio must be between"
        yield kind, size, {"sampling_ratio": 1.5}, "sampling_ratio must be a whole number"
        yield kind, size, {"gamma": NAN}, "gamma must be between"
    yield DeformRoIPoolPack, POOL, {"channels": 0}, "channels must be positive"
    yield DeformRoIPoolPack, POOL, {"hidden_channels": -1}, "hidden_channels must not be negative"
    for name, value in (
        ("output_size", 2**21),
        ("group_size", 0),
        ("sample_per_part", 0),
        ("trans_std", INF),
        ("spatial_scale", -1),
    ):
        wrong = "part_size" if value == 2**21 else name
        yield DeformPSRoIPoolPack, POOL, {name: value}, f"{wrong} must be between"
    yield DeformPSRoIPoolPack, POOL, {"output_size": (3, 2)}, "output_size must be square"
    authors = (0.5, 3, 4, False)
    for kind in (dcnv2_pytorch.DCNv2Pooling, dcnv2_pytorch.DCNPooling):
        yield kind, authors, {"pooled_size": 0}, "pooled_size must be between"
        yield kind, authors, {"part_size": 0}, "part_size must be between"
        yield kind, authors, {"output_dim": 0}, "output_dim must be positive"
        yield kind, authors, {"trans_std": NAN}, "trans_std must be between"


@pytest.mark.parametrize(("kind", "arguments", "wrong", "message"), [*_cases()])
def test_a_constructor_refuses_what_the_forward_refuses(kind, arguments, wrong, message):
    named = dict(zip(inspect.signature(kind).parameters, arguments, strict=False)) | wrong
    with pytest.raises((TypeError, ValueError), match=message):
        kind(**named)


@pytest.mark.parametrize(("layer", "operands"), LAYERS.values(), ids=LAYERS)
def test_an_unbatched_input_is_named(layer, operands):
    for wrong, error in ((operands[0][0], ValueError), (operands[0].numpy(), TypeError)):
        with pytest.raises(error, match=r"^input must (have 4 dimensions|be a tensor) "):
            layer(wrong, *operands[1:])


def test_a_result_too_large_to_count_is_refused():
    with pytest.raises(ValueError, match="output_size must give a result of at most"):
        deform_roi_pool(X, ROIS, output_size=2**31 - 1)
