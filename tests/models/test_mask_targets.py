# SPDX-License-Identifier: BSD-3-Clause
"""Crops of masks for RoIs: the same from run lengths as from tensors, in bounded memory."""

import pytest
import torch
from torchvision.models.detection.roi_heads import project_masks_on_boxes
from torchvision.ops import roi_align

from dcnv2.models import mask_targets
from dcnv2.models.mask_targets import pack_masks
from dcnv2.structures import RunLengthMasks

SIDE, SIZE = (52, 40), 14


@pytest.fixture
def aligned(monkeypatch):
    """The sizes [U, 1, H, W] of the planes that RoIAlign gets, call by call."""
    sizes = []

    def align(planes, *operands):
        sizes.append(planes.shape)
        return roi_align(planes, *operands)

    monkeypatch.setattr(mask_targets, "roi_align", align)
    return sizes


def crop_masks(masks, boxes, index, size):
    """Crops of one image's masks, by their numbers."""
    packed = pack_masks([masks], [(1.0, 1.0)], max(len(masks), 1))
    return packed.crop(boxes, torch.zeros_like(index), index, size)


def _case(rois=40):
    """Masks uint8 [6, H, W]: noise, one empty, one full, small ones; RoIs and their masks."""
    random = torch.Generator().manual_seed(5)
    masks = torch.rand(6, *SIDE, generator=random) < 0.7
    masks[1] = False
    masks[2] = True
    masks[3, :, 8:] = masks[3, :20] = False
    masks[4, 12:] = masks[4, :, :30] = False
    corners = torch.rand(rois, 2, 2, generator=random) * torch.tensor([SIDE[1], SIDE[0]])
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    boxes[:1] = torch.tensor([0.0, 0, SIDE[1], SIDE[0]])
    return masks.to(torch.uint8), boxes, torch.randint(0, 6, (rois,), generator=random)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_crops_are_torchvisions(dtype):
    masks, boxes, index = _case()
    boxes = boxes.to(dtype)
    wanted = project_masks_on_boxes(masks, boxes, index, SIZE)
    for form in (masks, RunLengthMasks.from_dense(masks)):
        got = crop_masks(form, boxes, index, SIZE)
        assert got.dtype == dtype
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)
    assert 0 < wanted.mean() < 1


@pytest.mark.parametrize("index", range(6))
def test_rois_at_every_border_of_the_picture(index):
    """RoIAlign repeats the last row and column of a picture, but not those of a window."""
    masks, _, _ = _case()
    high, wide = SIDE
    boxes = torch.tensor(
        [[0.0, 0, 9, 9], [wide - 9, 0, wide, 9], [0, high - 7.5, 9, high], [20, 30, wide, high]]
    )
    which = torch.full((4,), index)
    wanted = project_masks_on_boxes(masks, boxes, which, SIZE)
    got = crop_masks(RunLengthMasks.from_dense(masks), boxes, which, SIZE)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", ["tensor", "run lengths"])
@pytest.mark.parametrize("chunk", [1, 40 * 52, 2 * 42 * 54 + 1])
def test_crops_in_parts_are_the_same(monkeypatch, aligned, chunk, form):
    masks, boxes, index = _case()
    wanted = crop_masks(masks, boxes, index, SIZE)
    aligned.clear()
    monkeypatch.setattr(mask_targets, "MASK_CHUNK", chunk)
    if form == "run lengths":
        masks = RunLengthMasks.from_dense(masks)
    torch.testing.assert_close(crop_masks(masks, boxes, index, SIZE), wanted)
    assert max(size.numel() for size in aligned) <= max(chunk, 42 * 54)


@pytest.mark.parametrize("form", ["tensor", "run lengths"])
def test_many_rois_of_one_object_share_its_mask(aligned, form):
    """128 RoIs of a 1000 px image would take half a gigabyte for copies of the same mask."""
    masks, boxes, index = _case()
    if form == "run lengths":
        masks = RunLengthMasks.from_dense(masks)
    crop_masks(masks, boxes, torch.full_like(index, 3), SIZE)
    assert sum(size[0] for size in aligned) == len(masks)


def test_small_windows_are_not_padded_to_a_large_one(aligned):
    masks = torch.zeros(9, 400, 300, dtype=torch.uint8)
    masks[0] = 1
    for k in range(1, 9):
        masks[k, 40 * k : 40 * k + 12, 5:15] = 1
    boxes = torch.tensor([[0.0, 0, 90, 80]]).repeat(9, 1)
    crop_masks(RunLengthMasks.from_dense(masks), boxes, torch.arange(9), SIZE)
    assert sum(size.numel() for size in aligned) == 402 * 302 + 8 * 14 * 12


@pytest.mark.parametrize("count", [0, 6])
def test_no_rois_have_no_crops(count):
    masks, boxes, index = _case(0)
    for form in (masks[:count], RunLengthMasks.from_dense(masks[:count])):
        assert crop_masks(form, boxes, index, SIZE).shape == (0, SIZE, SIZE)
