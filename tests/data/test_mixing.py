# SPDX-License-Identifier: BSD-3-Clause
"""Mosaic and copy-paste: pixels, boxes and masks of the mixed image agree."""

import pytest
import torch
from torchvision import tv_tensors

from dcnv2.data.folders import open_dataset
from dcnv2.data.loader import Seeded
from dcnv2.data.mixing import CopyPaste, Mosaic, mixing_transforms
from dcnv2.data.shapes import write_shapes
from dcnv2.data.transforms import DropEmptyObjects, train_transforms
from dcnv2.structures import RunLengthMasks


class Pair:
    """Two images: rectangles of the colours 1, 2, ... on black; `size` is that of the second."""

    def __init__(self, size=(40, 60), masks=True, crowd=False):
        self.items = [
            _item((40, 60), [(2, 2, 12, 30, 100)], masks),
            _item(size, [(6, 10, 26, 20, 200), (30, 5, 38, 35, 250)], masks, crowd),
        ]

    def __len__(self):
        return 1  # the other image is always the second

    def image(self, _):
        return self.items[1][0]

    def target(self, _):
        return dict(self.items[1][1])


def _item(size, rectangles, masks, crowd=False):
    image = torch.zeros(3, *size, dtype=torch.uint8)
    boxes, planes = [], torch.zeros(len(rectangles), *size, dtype=torch.uint8)
    for plane, (x1, y1, x2, y2, level) in zip(planes, rectangles, strict=True):
        image[:, y1:y2, x1:x2] = level
        plane[y1:y2, x1:x2] = 1
        boxes.append([float(v) for v in (x1, y1, x2, y2)])
    count = len(boxes)
    target = {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
        "labels": torch.arange(1, count + 1),
        "area": torch.ones(count),
        "iscrowd": torch.full((count,), int(crowd), dtype=torch.uint8),
        "image_id": 7,
    }
    if masks:
        target["masks"] = RunLengthMasks.from_dense(planes)
    return tv_tensors.Image(image), target


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_a_mosaic_holds_four_images_with_their_objects(seed, masks):
    pair = Pair(size=(80, 100), masks=masks)
    torch.manual_seed(seed)
    image, target = DropEmptyObjects()(*Mosaic(pair, 1.0)(*pair.items[0]))
    assert image.shape == (3, 80, 120)
    assert target["image_id"] == 7
    assert 1 <= len(target["boxes"]) == len(target["labels"]) <= 7
    for index, (x1, y1, x2, y2) in enumerate(target["boxes"].round().int().tolist()):
        inner = image[0, y1 + 1 : y2 - 1, x1 + 1 : x2 - 1]
        assert inner.numel() == 0 or inner.float().mean() > 60, "the object is in its box"
        if masks:
            assert (image[0][target["masks"][index].bool()] > 40).all()
    if masks:
        found = target["masks"].dense().bool().any(dim=0)
        assert not image[0][~found].gt(130).any(), "no object without a mask"


@pytest.mark.parametrize("size", [(40, 60), (20, 90)])
@pytest.mark.parametrize("seed", range(4))
def test_pasted_objects_hide_what_is_below(seed, size):
    pair = Pair(size=size)
    torch.manual_seed(seed)
    image, target = DropEmptyObjects()(*CopyPaste(pair, 1.0)(*pair.items[0]))
    assert image.shape == (3, 40, 60)
    planes = target["masks"].dense()
    assert planes.sum(dim=0).max() <= 1, "no pixel belongs to two objects"
    for plane, box in zip(planes, target["boxes"].tolist(), strict=True):
        rows, columns = torch.where(plane.bool())
        fitted = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert box == pytest.approx([float(v) for v in fitted], abs=1.0)
    own = (target["labels"] == 1) & (target["area"] == 1)
    assert own.any()


def test_crowd_regions_are_not_pasted():
    pair = Pair(crowd=True)
    image, target = CopyPaste(pair, 1.0)(*pair.items[0])
    assert torch.equal(image, pair.items[0][0])
    assert len(target["boxes"]) == 1


def test_mixing_depends_on_the_seed_of_the_image_only(tmp_path):
    dataset = open_dataset(write_shapes(tmp_path, 4, 0, 64), "train", crowd=True)
    dataset.transforms = train_transforms(0.5)
    plain = Seeded(dataset)[1, 5]
    mixing = mixing_transforms(dataset, 0.5, 0.5)
    assert mixing_transforms(dataset, 0.0, 0.0) == []

    def mixed(image, target):
        for step in mixing:
            image, target = step(image, target)
        return train_transforms(0.5)(image, target)

    dataset.transforms = mixed
    items = [[Seeded(dataset)[1, seed] for seed in range(6)] for _ in range(2)]
    for first, second in zip(*items, strict=True):
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1]["boxes"], second[1]["boxes"])
    assert {tuple(image.shape) for image, _ in items[0]} == {(3, 64, 64), (3, 128, 128)}
    assert plain[0].shape == (3, 64, 64)


def test_transforms_with_a_probability_are_torchvisions():
    entry = {"RandomApply": {"p": 0.25, "transforms": [{"GaussianBlur": {"kernel_size": 3}}]}}
    (step, *_) = train_transforms(0.0, [entry]).transforms
    assert step.transform.p == 0.25
    item = _item((40, 60), [(2, 2, 12, 30, 100)], True)
    changed = 0
    for seed in range(40):
        torch.manual_seed(seed)
        image, _ = train_transforms(0.0, [entry])(*item)
        changed += not torch.equal(image, item[0])
    assert 3 <= changed <= 20
    for wrong in ([{"GausianBlur": {}}], [{"GaussianBlur": {"kernel_size": 2}}]):
        with pytest.raises(ValueError, match=r"data\.augment: .*GaussianBlur"):
            train_transforms(0.0, [{"RandomApply": {"transforms": wrong}}])
