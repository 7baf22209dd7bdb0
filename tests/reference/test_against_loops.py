# SPDX-License-Identifier: BSD-3-Clause
"""The reference against its loop-by-loop counterpart: values, and one-sided slopes."""

import numpy as np
import pytest
import torch

import reference
from reference import loops

CONVS = {
    "plain": {"sizes": (2, 2, 3, 4), "kernel": (1, 1)},
    "rectangular": {"sizes": (1, 2, 4, 5), "kernel": (3, 2), "padding": (1, 0)},
    "asymmetric": {
        "sizes": (2, 4, 5, 3),
        "kernel": (2, 3),
        "stride": (2, 1),
        "padding": (0, 2),
        "dilation": (1, 2),
    },
    "groups": {"sizes": (1, 6, 3, 2), "kernel": (2, 1), "groups": 2, "deform_groups": 3},
    "no mask": {"sizes": (1, 2, 3, 3), "kernel": (2, 2), "mask": False},
    "non-finite": {"sizes": (1, 2, 3, 3), "kernel": (2, 2), "nonfinite": True},
}


def _conv(
    sizes,
    kernel,
    stride=(1, 1),
    padding=(0, 0),
    dilation=(1, 1),
    groups=1,
    deform_groups=1,
    mask=True,
    nonfinite=False,
):
    rng = np.random.default_rng(7)
    batch, channels, height, width = sizes
    taps = kernel[0] * kernel[1]
    out_h = (height + 2 * padding[0] - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    out_w = (width + 2 * padding[1] - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
    operands = {
        "input": rng.normal(size=sizes),
        "offset": rng.normal(size=(batch, deform_groups * taps * 2, out_h, out_w), scale=1.5),
        "weight": rng.normal(size=(3 * groups, channels // groups, *kernel)),
        "bias": rng.normal(size=3 * groups),
    }
    if mask:
        operands["mask"] = rng.random((batch, deform_groups * taps, out_h, out_w))
    if nonfinite:
        operands["offset"].flat[[1, 6, 12, 20]] = [np.nan, np.inf, -np.inf, 1e20]
    return operands, {"stride": stride, "padding": padding, "dilation": dilation}


@pytest.mark.parametrize("case", CONVS)
def test_deform_conv2d_equals_loops(case):
    operands, options = _conv(**CONVS[case])
    want = loops.deform_conv2d(**operands, **options)
    tensors = {name: torch.from_numpy(array) for name, array in operands.items()}
    got = reference.deform_conv2d(**tensors, **options)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-12)


ROIS = np.array(
    [
        [0, 1, 2, 9, 13],
        [1, -4, 3, 6, 30],
        [0, 5, 5, 5, 5],
        [1, 8, 8, 3, 2],
        [0, 2.5, 0.5, 7.5, 4.5],
        [1, 50, 60, 70, 80],
        [1, -2.5, -0.5, 1.5, 2.5],
    ]
)


def _pool_operands(bins, channels, parts=None, classes=1, nonfinite=()):
    rng = np.random.default_rng(11)
    parts = parts or bins
    offset = rng.normal(size=(len(ROIS), 2 * classes, *parts))
    offset.flat[: len(nonfinite)] = nonfinite
    return {
        "input": rng.normal(size=(2, channels, 5, 6)),
        "rois": ROIS,
        "offset": offset,
        "mask": rng.random((len(ROIS), 1, *bins)),
    }


@pytest.mark.parametrize("sampling_ratio", [0, 1, 3])
@pytest.mark.parametrize("given", [(), ("offset",), ("mask",), ("offset", "mask")])
def test_deform_roi_pool_equals_loops(sampling_ratio, given):
    operands = _pool_operands((3, 2), 2)
    operands = {k: v for k, v in operands.items() if k in ("input", "rois", *given)}
    options = {"output_size": (3, 2), "spatial_scale": 0.5, "sampling_ratio": sampling_ratio}
    want = loops.deform_roi_pool(**operands, **options)
    tensors = {name: torch.from_numpy(array) for name, array in operands.items()}
    got = reference.deform_roi_pool(**tensors, **options)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("bins", "group_size", "part_size", "classes", "samples"),
    [(2, 1, None, 1, 4), (3, 2, 2, 2, 1), (4, 3, 3, 1, 2), (2, 2, 5, 2, 3)],
)
def test_deform_psroi_pool_equals_loops(bins, group_size, part_size, classes, samples):
    parts = part_size or bins
    operands = _pool_operands((bins, bins), 2 * group_size**2, (parts, parts), classes)
    options = {
        "output_size": bins,
        "spatial_scale": 0.5,
        "group_size": group_size,
        "part_size": part_size,
        "sample_per_part": samples,
    }
    want = loops.deform_psroi_pool(**operands, **options)
    tensors = {name: torch.from_numpy(array) for name, array in operands.items()}
    got = reference.deform_psroi_pool(**tensors, **options)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["deform_roi_pool", "deform_psroi_pool"])
def test_nonfinite_offsets_of_pools_equal_loops(name):
    """NaN is never off the map, infinity always is; in the third region either axis leaves it."""
    bins = (2, 2)
    nonfinite = [np.nan, np.inf, -np.inf, 0.5, 1e6, 0.5, np.nan, np.inf, np.nan, 0.0]
    operands = _pool_operands(bins, 2, nonfinite=nonfinite)
    options = {"output_size": bins if name == "deform_roi_pool" else 2, "spatial_scale": 0.5}
    want = getattr(loops, name)(**operands, **options)
    tensors = {key: torch.from_numpy(array) for key, array in operands.items()}
    got = getattr(reference, name)(**tensors, **options)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-12)
    assert np.isnan(want).any()


@pytest.mark.parametrize("axis", [0, 1])
def test_offset_derivative_is_the_right_sided_slope(axis):
    """Zero offsets with padding: samples on -1, on integers and on the last pixel."""
    operands, options = _conv((1, 1, 3, 4), (2, 2), padding=(1, 1))
    operands["offset"][:] = 0
    step = 2.0**-20
    moved = operands["offset"].copy()
    moved[:, axis::2] = step
    # The slope of every tap at once: each output's is the sum over its own taps.
    rise = loops.deform_conv2d(**{**operands, "offset": moved}, **options)
    slope = (rise - loops.deform_conv2d(**operands, **options)) / step

    tensors = {name: torch.from_numpy(array) for name, array in operands.items()}
    tensors["offset"].requires_grad_()
    out = reference.deform_conv2d(**tensors, **options)
    for index in np.ndindex(*out.shape):
        (grad,) = torch.autograd.grad(out[index], tensors["offset"], retain_graph=True)
        assert grad[:, axis::2].sum().item() == pytest.approx(slope[index], abs=1e-7)
