# SPDX-License-Identifier: BSD-3-Clause
"""Run-length masks are the tensors that they stand for, and are transformed like them."""

import pickle

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torchvision import tv_tensors
from torchvision.transforms import v2

from dcnv2.data.run_lengths import decode, encode
from dcnv2.structures import RunLengthMasks

SIZE = (33, 47)


def _dense():
    """uint8 [6, H, W]: ragged blobs, one with holes, one empty, one full, one at the border."""
    random = torch.Generator().manual_seed(1)
    masks = torch.zeros(6, *SIZE, dtype=torch.uint8)
    for mask, (x, y) in zip(
        masks, [(4, 5), (20, 8), (25, 18), (0, 0), (9, 9), (30, 21)], strict=True
    ):
        mask[y : y + 12, x : x + 17] = torch.rand(12, 17, generator=random) < 0.8
    masks[3], masks[4] = 1, 0
    return masks


def _same(masks, wanted):
    """The pixels of `wanted`, and the runs in order, as code that reads them expects."""
    assert torch.equal(masks.dense(), wanted)
    assert masks.shape == wanted.shape
    column, top, _ = masks.runs.long().unbind(1)
    order = (masks.owner * masks.size[1] + column) * masks.size[0] + top
    assert (order.diff() > 0).all()


def test_masks_have_the_shape_and_the_items_of_their_tensor():
    dense = _dense()
    masks = RunLengthMasks.from_dense(dense)
    _same(masks, dense)
    assert len(masks) == 6
    assert masks.areas().tolist() == dense.flatten(1).sum(1).tolist()
    np.testing.assert_array_equal(masks, dense)
    for one, other in zip(masks, dense, strict=True):
        assert torch.equal(one, other)
    keep = torch.tensor([True, False, False, True, True, False])
    for index in (keep, torch.tensor([5, 0, 0]), [2, 4], slice(1, None, 2), slice(0, 0), -1):
        part = masks[index]
        assert torch.equal(part if isinstance(index, int) else part.dense(), dense[index])
    with pytest.raises(IndexError, match="mask 6 of 6"):
        masks[6]


def test_windows_are_the_smallest_boxes():
    masks = torch.zeros(3, 9, 8, dtype=torch.bool)
    masks[0, 2, 3] = masks[0, 5, 4] = masks[2, 0, 0] = masks[2, 8, 7] = True
    windows = RunLengthMasks.from_dense(masks).windows()
    assert windows.tolist() == [[3, 2, 5, 6], [0, 0, 0, 0], [0, 0, 8, 9]]


def test_masks_are_concatenated_pickled_and_moved_whole():
    dense = _dense()
    parts = [RunLengthMasks.from_dense(dense[:2]), RunLengthMasks.from_dense(dense[2:])]
    parts[1].refit[0] = True
    masks = RunLengthMasks.concatenate(parts, SIZE)
    for same in (masks, pickle.loads(pickle.dumps(masks)), masks.to("cpu", non_blocking=True)):
        _same(same, dense)
        assert same.refit.tolist() == [False, False, True, False, False, False]
    _same(RunLengthMasks.concatenate([], SIZE), dense[:0])


def test_codes_are_pycocotools():
    dense = _dense()
    wanted = coco_mask.encode(np.asfortranarray(dense.permute(1, 2, 0).numpy()))
    masks = RunLengthMasks.from_dense(dense)
    assert encode(masks) == wanted
    again = decode([code["counts"] for code in wanted], SIZE[::-1])
    _same(again, dense)
    assert torch.equal(again.runs, masks.runs)
    _same(decode([], SIZE[::-1]), dense[:0])
    assert encode(masks[:0]) == []
    touching = torch.tensor([[2, 1, 4], [2, 4, 9], [3, 0, 2]], dtype=torch.int32)
    joined = RunLengthMasks(touching, torch.tensor([0, 3]), SIZE)
    assert encode(joined) == encode(RunLengthMasks.from_dense(joined.dense()))


TRANSFORMS = {
    "flip": v2.RandomHorizontalFlip(1),
    "vertical flip": v2.RandomVerticalFlip(1),
    "rotation": v2.RandomRotation(40),
    "quarter turn": v2.RandomRotation((90, 90), expand=True),
    "expanding rotation": v2.RandomRotation(40, expand=True),
    "affine": v2.RandomAffine(20, (0.1, 0.1), (0.5, 1.5), 10),
    "out of the picture": v2.RandomAffine(0, (1, 1)),
    "perspective": v2.RandomPerspective(0.6, 1),
    "elastic": v2.ElasticTransform(80.0),
    "crop": v2.RandomCrop((20, 25)),
    "mirroring crop": v2.RandomCrop(60, pad_if_needed=True, padding_mode="reflect", padding=4),
    "padding": v2.Pad((3, 1, 2, 7)),
    "edge padding": v2.Pad(5, padding_mode="edge"),
    "smaller": v2.Resize(20),
    "larger": v2.Resize((80, 61)),
    "resized crop": v2.RandomResizedCrop((30, 40)),
    "scale jitter": v2.ScaleJitter((50, 60)),
    "zoom out": v2.RandomZoomOut(p=1),
    "shortest size": v2.RandomShortestSize([20, 50]),
    "centre crop": v2.CenterCrop(50),
    "colour": v2.ColorJitter(0.5),
    "several": v2.Compose([v2.RandomRotation(10), v2.RandomHorizontalFlip(1), v2.Resize(70)]),
    "to pure tensors": v2.ToPureTensor(),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("seed", [0, 1])
def test_transforms_do_to_run_lengths_what_they_do_to_tensors(name, seed):
    dense = _dense()
    image = tv_tensors.Image(torch.zeros(3, *SIZE, dtype=torch.uint8))
    results = []
    for masks in (RunLengthMasks.from_dense(dense), tv_tensors.Mask(dense)):
        torch.manual_seed(seed)
        results.append(TRANSFORMS[name](image, {"masks": masks}))
    (moved, got), (_, wanted) = results
    _same(got["masks"], wanted["masks"].as_subclass(torch.Tensor))
    assert got["masks"].size == moved.shape[-2:]


@pytest.mark.parametrize("count", [0, 1])
def test_pictures_with_few_objects_are_transformed(count):
    for transform in TRANSFORMS.values():
        image, target = transform(
            tv_tensors.Image(torch.zeros(3, *SIZE)),
            {"masks": RunLengthMasks.from_dense(_dense()[:count])},
        )
        assert target["masks"].shape == (count, *image.shape[1:])


@pytest.mark.parametrize("transform", [v2.Pad(4, fill=1), v2.RandomAffine(30, fill=255)])
def test_the_fill_of_a_transform_belongs_to_no_object(transform):
    image = tv_tensors.Image(torch.zeros(3, *SIZE, dtype=torch.uint8))
    masks = RunLengthMasks.from_dense(_dense())
    areas = transform(image, {"masks": masks})[1]["masks"].areas()
    assert (areas <= masks.areas() * 1.1).all()


def test_boxes_follow_masks_only_where_objects_were_turned_or_cut():
    image = tv_tensors.Image(torch.zeros(3, *SIZE, dtype=torch.uint8))
    masks = RunLengthMasks.from_dense(_dense()[:3])

    def refit(transform):
        return transform(image, {"masks": masks})[1]["masks"].refit.tolist()

    assert refit(v2.RandomHorizontalFlip(1)) == [False] * 3
    assert refit(v2.Resize((66, 94))) == [False] * 3
    assert refit(v2.Pad(3)) == [False] * 3
    assert refit(v2.RandomRotation((30, 30))) == [True] * 3
    crop = v2.Lambda(lambda leaf: v2.functional.crop(leaf, 0, 0, 20, 30), tv_tensors.TVTensor)
    assert refit(crop) == [False, True, True]
