# SPDX-License-Identifier: BSD-3-Clause
"""FLOPs that PyTorch's counter reports: those of conv2d of the same shape."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dcnv2.ops import deform_conv2d, deform_psroi_pool, deform_roi_pool, multiscale_roi_align

GEOMETRY = {"stride": (2, 1), "padding": (1, 2), "dilation": (2, 1)}


def _count(function, *operands, backward=False):
    with FlopCounterMode(display=False) as counter:
        out = function(*operands)
        if backward:
            out.sum().backward()
    return {str(op): count for op, count in counter.get_flop_counts()["Global"].items()}


def _operands(groups, masked, needs):
    """Operands of which those named in `needs` want a gradient."""
    found = {
        "input": torch.randn(2, 6, 9, 8),
        "offset": torch.randn(2, 36, 4, 11),
        "weight": torch.randn(8, 6 // groups, 3, 2),
        "mask": torch.rand(2, 18, 4, 11) if masked else None,
    }
    return {n: t if t is None else t.requires_grad_(n in needs) for n, t in found.items()}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_forward_counts_as_conv2d(groups, masked):
    o = _operands(groups, masked, "")
    count = _count(
        lambda: deform_conv2d(o["input"], o["offset"], o["weight"], mask=o["mask"], **GEOMETRY)
    )
    wanted = _count(
        lambda: torch.nn.functional.conv2d(o["input"], o["weight"], groups=groups, **GEOMETRY)
    )
    assert count == {"dcnv2.deform_conv2d": wanted["aten.convolution"]}
    products = 2 * 8 * (6 // groups) * 3 * 2 * 4 * 11
    assert wanted["aten.convolution"] == 2 * products


@pytest.mark.parametrize(
    ("needs", "products"),
    [
        (("input", "offset", "weight", "mask"), 2),
        (("input", "weight"), 2),
        (("input",), 1),
        (("offset", "mask"), 1),
        (("weight",), 1),
    ],
)
def test_the_backward_counts_its_products_as_conv2d(needs, products):
    o = _operands(1, True, needs)
    count = _count(
        lambda: deform_conv2d(o["input"], o["offset"], o["weight"], mask=o["mask"], **GEOMETRY),
        backward=True,
    )
    assert count["dcnv2.deform_conv2d_backward"] == products * count["dcnv2.deform_conv2d"]
    if set(needs) <= {"input", "weight"}:
        wanted = _count(
            lambda: torch.nn.functional.conv2d(o["input"], o["weight"], **GEOMETRY), backward=True
        )
        assert count["dcnv2.deform_conv2d_backward"] == wanted["aten.convolution_backward"]


def test_grouped_products_are_counted_once_in_the_backward():
    o = _operands(2, False, ("input", "weight"))
    count = _count(
        lambda: deform_conv2d(o["input"], o["offset"], o["weight"], **GEOMETRY), backward=True
    )
    assert count["dcnv2.deform_conv2d_backward"] == 2 * count["dcnv2.deform_conv2d"]


def test_roi_align_of_several_maps_counts_its_samples():
    maps = [torch.randn(1, 4, 9, 8, requires_grad=True), torch.randn(1, 4, 5, 4)]
    rois = torch.tensor([[0, 1.0, 1, 5, 6]]).expand(2, 5)
    products = 2 * 4 * 3 * 3 * 9 * 4
    count = _count(lambda: multiscale_roi_align(maps, rois, [0.5, 0.25], 3, 3), backward=True)
    assert count["dcnv2.multiscale_roi_align"] == 2 * products
    assert count["dcnv2.multiscale_roi_align_backward"] == 2 * products


@pytest.mark.parametrize(
    ("pool", "name", "samples"),
    [
        (lambda x, r: deform_roi_pool(x, r, None, None, 3, sampling_ratio=3), "roi", 9),
        (lambda x, r: deform_roi_pool(x, r, None, None, 3), "roi", 4),
        (lambda x, r: deform_psroi_pool(x, r, None, None, 3, sample_per_part=3), "psroi", 9),
    ],
)
def test_pools_count_their_samples(pool, name, samples):
    x = torch.randn(1, 4, 9, 8, requires_grad=True)
    rois = torch.tensor([[0, 1.0, 1, 5, 6]]).expand(2, 5)
    products = 2 * 4 * 3 * 3 * samples * 4
    assert _count(pool, x, rois, backward=True) == {
        f"dcnv2.deform_{name}_pool": 2 * products,
        f"dcnv2.deform_{name}_pool_backward": 2 * products,
    }
