# SPDX-License-Identifier: BSD-3-Clause
"""RoIAlign from several maps on each path, and FPN's choice of the map.

The correctness suite has every other property of the operator.
"""

import pytest
import torch
from op_cases import ROIS, generator, gradients
from torchvision.ops.poolers import LevelMapper

import reference
from dcnv2.ops import fpn_levels, multiscale_roi_align

SCALES = [0.5, 0.25, 0.125]


def _maps(dtype=torch.float64):
    random = generator(4)
    return [
        torch.randn(2, 8, *size, generator=random, dtype=torch.float64).to(dtype).requires_grad_()
        for size in ((9, 11), (5, 6), (3, 3))
    ]


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("samples", [0, 2])
def test_values_and_gradients_are_the_references(samples, aligned):
    maps, rois = _maps(), torch.tensor(ROIS, dtype=torch.float64)
    call = (maps, rois, SCALES, (3, 4), samples, aligned, torch.tensor([2, -1, 0, 2]))
    got, wanted = multiscale_roi_align(*call), reference.multiscale_roi_align(*call)
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(gradients(got, maps), gradients(wanted, maps))
    assert not got[1].any()


@pytest.mark.usefixtures("path")
def test_second_derivatives_are_those_of_plain_autograd():
    maps, rois = _maps(), torch.tensor(ROIS, dtype=torch.float64)
    call = (maps, rois, SCALES, 2, 2, True, torch.tensor([0, 1, 1, 0]))
    results = []
    for op in (multiscale_roi_align, reference.multiscale_roi_align):
        grads = torch.autograd.grad(op(*call).pow(3).sum(), maps, create_graph=True)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in grads), maps))
    torch.testing.assert_close(*results)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_keeps_the_dtype_of_the_maps_and_the_digits_of_boxes(dtype):
    maps, rois = _maps(dtype), torch.tensor(ROIS, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        got = multiscale_roi_align(maps, rois, SCALES, 2)
    assert got.dtype == dtype
    wanted = multiscale_roi_align([x.double() for x in maps], rois, SCALES, 2)
    torch.testing.assert_close(got.double(), wanted, rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize("finest", [2, 3])
def test_levels_are_those_of_torchvision(finest):
    """Sides a little below and above every boundary, and far from all."""
    sides = torch.tensor([1.0, 56, 112, 224, 448, 896, 5000])
    sides = torch.cat([sides * (1 + share) for share in (-1e-3, -1e-5, 0, 1e-7, 1e-5, 1e-3)])
    boxes = torch.stack([sides * 0, sides * 0, sides, sides], 1)
    scales = [2.0**-level for level in range(finest, finest + 4)]
    got = fpn_levels(boxes, scales)
    assert torch.equal(got, LevelMapper(finest, finest + 3)([boxes]))
    assert torch.equal(got, fpn_levels(boxes[:, [2, 3, 0, 1]], scales)), "corners exchanged"


def test_boxes_without_an_area_are_of_the_finest_map():
    boxes = torch.tensor([[5.0, 5, 5, 9], [5, 5, 5, 5], [9, 1, 3, 7], [0, 0, torch.nan, 9]])
    assert not fpn_levels(boxes, SCALES).any()


def test_levels_may_be_left_to_fpn_and_be_of_any_whole_type():
    maps, rois = _maps(), torch.tensor(ROIS, dtype=torch.float64)
    rois[:, 1:] *= torch.tensor([[1], [20], [60], [120]])
    scales = [scale / 8 for scale in SCALES]
    levels = fpn_levels(rois[:, 1:], scales)
    assert levels.unique().numel() > 1
    got = multiscale_roi_align(maps, rois, scales)
    for dtype in (torch.int32, torch.uint8, torch.int64):
        assert torch.equal(multiscale_roi_align(maps, rois, scales, levels=levels.to(dtype)), got)


def test_padded_boxes_have_the_bins_of_the_table():
    """Of each image, those before its count; the others may hold anything."""
    maps, boxes = _maps(), torch.tensor(ROIS, dtype=torch.float64)[:, 1:].view(2, 2, 4).clone()
    boxes[1, 1] = torch.nan
    got = multiscale_roi_align(maps, boxes, SCALES, 2, counts=torch.tensor([2, 1]))
    wanted = multiscale_roi_align(maps, [boxes[0], boxes[1, :1]], SCALES, 2)
    assert torch.equal(got[:3], wanted)
    assert not got[3].any()
    boxes[1, 1] = 1.0
    whole = multiscale_roi_align(maps, boxes, SCALES, 2)
    assert torch.equal(whole, multiscale_roi_align(maps, list(boxes), SCALES, 2))
