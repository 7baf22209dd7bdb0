# SPDX-License-Identifier: BSD-3-Clause
"""Whose rules round sizes, anchors and pasted masks: each option changes what it says, no more."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import paste_masks_in_image

from dcnv2.engine.evaluation.detections import (
    paste_masks,
    paste_masks_exactly,
    paste_on_device,
)
from dcnv2.models.backbone import load_imagenet_weights
from dcnv2.models.pasting import paste_all, paste_exactly
from dcnv2.models.precise import ExactAnchors
from dcnv2.models.transform import Transform

MEAN, STD = [0.0] * 3, [1.0] * 3


@pytest.mark.parametrize(
    ("geometry", "size"),
    [("torchvision", (50, 74)), ("detectron2", (50, 75)), ("mmdetection", (50, 75))],
)
def test_sides_are_rounded(geometry, size):
    """101 x 151 to a shorter side of 50: the longer one is 74.75."""
    transform = Transform([50], 200, MEAN, STD, geometry=geometry).eval()
    image, _ = transform.resize(torch.rand(3, 101, 151))
    assert image.shape[1:] == size
    target = {"boxes": torch.tensor([[0.0, 0.0, 151.0, 101.0]])}
    _, target = transform.resize(torch.rand(3, 101, 151), target)
    assert target["boxes"].round().tolist() == [[0.0, 0.0, size[1], size[0]]]


def test_only_detectron2_shrinks_with_antialiasing():
    """Lines of one pixel become grey with it, and black or white without."""
    image = torch.zeros(3, 64, 64)
    image[:, ::4] = 1
    spread = {}
    for geometry in ("torchvision", "detectron2", "mmdetection"):
        transform = Transform([16], 64, MEAN, STD, geometry=geometry).eval()
        small, _ = transform.resize(image)
        spread[geometry] = small.mean().item()
    assert spread["torchvision"] == spread["mmdetection"] == 0.0
    assert spread["detectron2"] == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize(("size", "short"), [((48, 67), 32), ((31, 44), 80)])
def test_detectron2_resizes_as_pillow_up_to_the_rounding_to_bytes(size, short):
    """Pillow rounds after each of its two passes, half a grey level each, in fixed point."""
    seeded = torch.Generator().manual_seed(0)
    image = torch.randint(256, (3, *size), dtype=torch.uint8, generator=seeded)
    transform = Transform([short], 400, MEAN, STD, geometry="detectron2").eval()
    found, _ = transform.resize(image / 255)
    theirs = Image.fromarray(image.permute(1, 2, 0).numpy())
    height, width = found.shape[1:]
    theirs = theirs.resize((width, height), Image.Resampling.BILINEAR)
    wanted = torch.from_numpy(np.array(theirs)).permute(2, 0, 1)
    assert (255 * found - wanted).abs().max() <= 1.001


@pytest.mark.parametrize(("size", "short"), [((48, 67), 32), ((31, 44), 80)])
def test_mmdetection_resizes_between_the_four_nearest_pixels(size, short):
    """As OpenCV's INTER_LINEAR: centres of pixels are at halves, whatever the scale."""
    image = torch.rand(1, *size, dtype=torch.float64)
    transform = Transform([short], 400, MEAN, STD, geometry="mmdetection").eval()
    found, _ = transform.resize(image)
    for axis, old in enumerate(size, start=1):
        new = found.shape[axis]
        at = ((torch.arange(new, dtype=torch.float64) + 0.5) * old / new - 0.5).clamp(0, old - 1)
        low = at.floor().long()
        share = (at - low).view([-1 if k == axis else 1 for k in range(3)])
        high = (low + 1).clamp(max=old - 1)
        below, above = image.index_select(axis, low), image.index_select(axis, high)
        image = below * (1 - share) + above * share
    torch.testing.assert_close(found, image)


def test_batches_are_padded_to_a_multiple():
    for divisor, side in ((32, 64), (1, 50)):
        transform = Transform([50], 50, MEAN, STD, size_divisible=divisor).eval()
        assert transform([torch.rand(3, 50, 50)])[0].tensors.shape[2:] == (side, side)


def test_exact_anchors_are_whole_areas_at_the_strides_of_the_maps():
    """A padded image of 96 has a coarsest map of 2 at stride 64, not 48."""
    anchors = ExactAnchors(((32,), (64,)), ((0.5, 2.0),) * 2, [32, 64])
    images = ImageList(torch.zeros(1, 3, 96, 96), [(96, 96)])
    (found,) = anchors(images, [torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 2, 2)])
    sides = found[:, 2:] - found[:, :2]
    sizes = torch.tensor([32.0] * 18 + [64.0] * 8)
    torch.testing.assert_close(sides.prod(dim=1).sqrt(), sizes)
    torch.testing.assert_close(sides[:, 1] / sides[:, 0], torch.tensor([0.5, 2.0] * 13))
    centres = (found[18:, :2] + found[18:, 2:]) / 2
    assert centres.unique(dim=0).tolist() == [[0, 0], [0, 64], [64, 0], [64, 64]]


def test_masks_are_sampled_at_the_centres_of_pixels():
    mask = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    # Over a box of 4 pixels: cells of the mask have centres at 1 and 3 pixels from its left.
    pasted = paste_exactly(mask, torch.tensor([2.0, 2.0, 6.0, 6.0]), (0, 0, 8, 8))
    # Half a cell beyond the box they meet zeros.
    torch.testing.assert_close(pasted[3], torch.tensor([0, 0, 0, 0.25, 0.75, 0.75, 0.25, 0]))
    shifted = paste_exactly(mask, torch.tensor([2.5, 2.0, 6.5, 6.0]), (0, 0, 8, 8))
    torch.testing.assert_close(shifted[3, 3:6], torch.tensor([0.0, 0.5, 1.0]))
    window = paste_exactly(mask, torch.tensor([2.0, 2.0, 6.0, 6.0]), (3, 3, 6, 5))
    torch.testing.assert_close(window, pasted[3:5, 3:6])


@pytest.mark.parametrize("box", [[1, 1, 1, 5], [-30, 2, -20, 9], [40, 40, 50, 50], [-5, -5, 60, 9]])
def test_pasting_survives_boxes_without_area_and_outside(box):
    masks = torch.ones(1, 1, 4, 4)
    boxes = torch.tensor([box], dtype=torch.float32)
    dense = paste_masks_exactly(masks, boxes, (20, 30)).dense()
    whole = paste_exactly(masks[0, 0], boxes[0], (0, 0, 30, 20))
    assert torch.equal(dense[0].bool(), whole >= 0.5)


def test_pasted_planes_and_runs_agree():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(3, 1, 28, 28, generator=generator)
    boxes = torch.tensor([[1.3, 2.7, 17.1, 12.2], [-4.0, 0.5, 9.9, 25.0], [3.0, 3.0, 5.5, 4.4]])
    transform = Transform([20], 30, MEAN, STD, geometry="detectron2").eval()
    found = [{"boxes": boxes.clone(), "masks": masks}]
    planes = transform.postprocess(found, [(20, 30)], [(20, 30)])[0]["masks"]
    runs = paste_masks_exactly(masks, boxes, (20, 30))
    assert torch.equal(runs.dense().bool(), planes[:, 0] >= 0.5)
    assert planes[:, 0].amax(dim=(1, 2)).min() > 0.5


@pytest.mark.parametrize("exact", [True, False])
def test_all_masks_are_pasted_as_one_by_one(exact):
    generator = torch.Generator().manual_seed(1)
    masks = torch.rand(9, 1, 28, 28, generator=generator)
    corners = torch.rand(9, 2, 2, generator=generator) * torch.tensor([60.0, 40.0]) - 10
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    boxes[:3] = torch.tensor([[3.0, 3, 3, 9], [-30, -9, -20, 9], [-5, -5, 90, 90]])
    size = (33, 45)
    got = paste_all(masks, boxes, size, exact)
    if exact:
        window = (0, 0, size[1], size[0])
        pairs = zip(masks[:, 0], boxes, strict=True)
        wanted = torch.stack([paste_exactly(mask, box, window) for mask, box in pairs])[:, None]
    else:
        inside = torch.arange(9) != 1  # which ends torchvision's function
        wanted = torch.zeros(9, 1, *size)
        wanted[inside] = paste_masks_in_image(masks[inside], boxes[inside], size)
    torch.testing.assert_close(got, wanted, rtol=0, atol=2e-5)
    assert paste_all(masks[:0], boxes[:0], size, exact).shape == (0, 1, *size)
    runs = paste_on_device(masks, boxes, size, exact)
    one_by_one = (paste_masks_exactly if exact else paste_masks)(masks, boxes, size)
    assert (runs.dense() != one_by_one.dense()).sum() <= 2, "a value next to one half"


def test_no_weights_by_name_for_a_body_that_torchvision_lacks():
    with pytest.raises(FileNotFoundError, match="there are no other weights of resnext101_32x4d"):
        load_imagenet_weights([], "resnext101_32x4d", "IMAGENET1K_V1")
