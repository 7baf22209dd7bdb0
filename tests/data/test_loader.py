# SPDX-License-Identifier: BSD-3-Clause
"""Batches depend on seed and step alone; transforms keep boxes and masks together."""

import itertools
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from coco_folders import annotation, document, image_entry, write_coco
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2

from dcnv2.data.coco import CocoDataset
from dcnv2.data.images import BadImageError
from dcnv2.data.loader import Seeded, StepSampler, collate, eval_loader, train_loader
from dcnv2.data.shapes import write_shapes
from dcnv2.data.transforms import DropEmptyObjects, eval_transforms, train_transforms
from dcnv2.structures import RunLengthMasks

RATIOS = [1.5, 0.7, 1.0, 1.2, 0.5, 0.6, 2.0, 1.1, 0.9, 1.3, 1.4]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"), train=18, val=7, size=64)


def _steps(start, stop, **options):
    return list(StepSampler(RATIOS, 4, seed=3, start=start, stop=stop, **options))


@pytest.mark.parametrize("start", [0, 1, 2, 3, 7, 50])
def test_a_sampler_that_starts_later_goes_on_as_the_first_did(start):
    assert _steps(start, 60) == _steps(0, 60)[start:]


def test_a_sampler_without_an_end_goes_on_for_ever():
    endless = StepSampler(RATIOS, 4, seed=3)
    assert list(itertools.islice(endless, 60)) == _steps(0, 60)
    with pytest.raises(TypeError):
        len(endless)


def test_epochs_show_every_image_in_another_order_and_seeds_never_repeat():
    sampler = StepSampler(RATIOS, 4, seed=3)
    assert sampler.steps_per_epoch == 3
    epochs = [sampler.epoch(number) for number in range(4)]
    assert all(set(epoch.ravel().tolist()) == set(range(len(RATIOS))) for epoch in epochs)
    assert len({epoch.tobytes() for epoch in epochs}) == 4
    seeds = [seed for batch in _steps(0, 60) for _, seed in batch]
    assert len(set(seeds)) == len(seeds)
    assert _steps(0, 6) != list(StepSampler(RATIOS, 4, seed=4, stop=6))


def test_wide_and_tall_images_do_not_meet():
    for batch in _steps(0, 30):
        assert len({RATIOS[index] < 1 for index, _ in batch}) == 1


def test_groups_smaller_than_a_batch_fill_it_by_repetition():
    batches = list(StepSampler([1.0, 0.5], 4, stop=2))
    assert sorted([index for index, _ in batch] for batch in batches) == [[0] * 4, [1] * 4]


def test_ranks_share_each_batch():
    whole = _steps(0, 20)
    shares = [_steps(0, 20, rank=rank, world_size=2) for rank in range(2)]
    for step, batch in enumerate(whole):
        assert sorted(shares[0][step] + shares[1][step]) == sorted(batch)
        assert len(shares[0][step]) == 2


def test_samplers_refuse_what_they_cannot_serve():
    with pytest.raises(ValueError, match="no images"):
        StepSampler([], 4)
    with pytest.raises(ValueError, match="3 ranks"):
        StepSampler(RATIOS, 4, world_size=3)
    with pytest.raises(ValueError, match="batch_size"):
        StepSampler(RATIOS, 0)


def _same(left, right):
    for (images, targets), (others, wanted) in zip(left, right, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(images, others, strict=True))
        for target, want in zip(targets, wanted, strict=True):
            assert target.keys() == want.keys()
            for key, value in target.items():
                np.testing.assert_array_equal(value, want[key])


@pytest.mark.slow
def test_workers_and_resume_change_nothing_in_the_batches(shapes):
    turned = {"RandomRotation": {"degrees": 20}}
    augmented = train_transforms(0.5, ["RandomPhotometricDistort", turned])
    dataset = CocoDataset(shapes, "train", augmented)
    whole = list(train_loader(dataset, 4, seed=5, stop=6))
    torch.rand(3)
    _same(whole[2:], list(train_loader(dataset, 4, seed=5, start=2, stop=6, workers=2)))
    shares = [
        list(train_loader(dataset, 4, seed=5, stop=6, rank=rank, world_size=2)) for rank in (0, 1)
    ]
    _same([(images[1::2], targets[1::2]) for images, targets in whole], shares[1])


def test_items_draw_from_their_own_seed_and_leave_the_generators_alone():
    class Draws(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return torch.rand(1).item(), {"draws": (random.random(), np.random.rand())}

    dataset = Seeded(Draws())
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    expected = Draws()[0]
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    first = dataset[0, 7]
    assert Draws()[0] == expected
    assert dataset[0, 7] == first
    assert dataset[0, 8][0] != first[0]
    assert dataset[0, 8][1]["draws"] != first[1]["draws"]
    assert first[1]["seed"] == 7, "later random draws use it too"


@pytest.mark.parametrize("world_size", [1, 3])
def test_evaluation_sees_each_image_once(shapes, world_size):
    dataset = CocoDataset(shapes, "val", eval_transforms())
    seen = [
        target["image_id"]
        for rank in range(world_size)
        for _, targets in eval_loader(dataset, 2, rank=rank, world_size=world_size)
        for target in targets
    ]
    assert sorted(seen) == dataset.image_ids.tolist()


def test_images_without_objects_are_collated(tmp_path):
    content = document([image_entry(1, "1.png"), image_entry(2, "2.png")], [annotation(1, 1)])
    dataset = CocoDataset(write_coco(tmp_path, content), "val2017", train_transforms())
    images, targets = collate([dataset[0], dataset[1]])
    assert [len(target["boxes"]) for target in targets] == [1, 0]
    assert targets[1]["boxes"].shape == (0, 4)
    assert len(images) == 2


def test_flips_move_boxes_with_masks(shapes):
    plain, flipped = (
        CocoDataset(shapes, "train", train_transforms(flip=flip)) for flip in (0.0, 1.0)
    )
    for index in range(len(plain)):
        image, target = plain[index]
        mirrored, moved = flipped[index]
        assert image.dtype == torch.uint8
        assert torch.equal(mirrored, image.flip(-1))
        assert torch.equal(moved["masks"].dense(), target["masks"].dense().flip(-1))
        if len(moved["boxes"]):
            boxes = masks_to_boxes(moved["masks"].dense()) + torch.tensor([0, 0, 1, 1])
            assert torch.equal(moved["boxes"], boxes)


def test_pipelines_give_plain_tensors_and_evaluation_keeps_all(shapes):
    dataset = CocoDataset(shapes, "val", eval_transforms())
    image, target = dataset[0]
    assert type(image) is type(target["boxes"]) is torch.Tensor
    stored, annotated = CocoDataset(shapes, "val")[0]
    assert len(target["boxes"]) == len(annotated["boxes"])
    assert torch.equal(image, stored.as_subclass(torch.Tensor))


def test_floats_of_an_augmentation_are_scaled_to_one(shapes):
    floats = {"ToDtype": {"dtype": torch.float64, "scale": True}}
    image, _ = CocoDataset(shapes, "train", train_transforms(0.0, [floats]))[0]
    bytes_, _ = CocoDataset(shapes, "train", train_transforms(0.0))[0]
    assert image.dtype == torch.float32
    torch.testing.assert_close(image, bytes_ / 255)


def test_objects_that_a_crop_leaves_empty_are_dropped_from_every_entry():
    masks = torch.zeros(4, 10, 10, dtype=torch.uint8)
    masks[0, 2:5, 2:5] = masks[1, 2:5, 2:5] = masks[3, 2:5, 2:5] = 1
    boxes = [[2, 2, 5, 5], [12, 2, 15, 5], [2, 2, 5, 5], [-3, 2, 5, 5]]
    target = {
        "boxes": tv_tensors.BoundingBoxes(
            torch.tensor(boxes).float(), format="XYXY", canvas_size=(10, 10)
        ),
        "masks": RunLengthMasks.from_dense(masks),
        "labels": torch.arange(4),
        "area": torch.arange(4.0),
        "iscrowd": torch.zeros(4, dtype=torch.uint8),
        "image_id": 5,
    }
    _, kept = DropEmptyObjects()(torch.zeros(3, 10, 10), target)
    assert kept["labels"].tolist() == kept["area"].tolist() == [0, 3]
    assert kept["boxes"].tolist() == [[2, 2, 5, 5], [0, 2, 5, 5]]
    assert len(kept["masks"]) == len(kept["iscrowd"]) == 2
    assert isinstance(kept["boxes"], tv_tensors.BoundingBoxes)
    assert len(target["labels"]) == 4


def test_crops_by_name_keep_boxes_and_masks_together(shapes):
    crop = {"RandomIoUCrop": {"min_scale": 0.4}}
    dataset = Seeded(CocoDataset(shapes, "train", train_transforms(augment=[crop])))
    for index in range(18):
        image, target = dataset[index, index]
        assert target["masks"].shape[1:] == image.shape[1:]
        for box, mask in zip(target["boxes"], target["masks"], strict=True):
            tight = masks_to_boxes(mask[None])[0] + torch.tensor([0, 0, 1, 1])
            assert torch.equal(box, tight)


@pytest.mark.parametrize(
    "augment",
    [
        {"RandomRotation": {"degrees": [45, 45], "fill": [124, 116, 104]}},
        {"RandomPerspective": {"p": 1, "fill": 127}},
        {"RandomCrop": {"size": [40, 40]}},
        {"RandomResizedCrop": {"size": [70, 70]}},
        {"RandomAffine": {"degrees": 30, "translate": [0.3, 0.3]}},
    ],
    ids=lambda augment: next(iter(augment)),
)
def test_boxes_of_turned_and_cut_objects_fit_their_masks(shapes, augment):
    """A box that is turned with its object is up to 1.4 times as large as the turned object."""
    dataset = Seeded(CocoDataset(shapes, "train", train_transforms(augment=[augment])))
    targets = [dataset[index, index][1] for index in range(6)]
    for target in targets:
        tight = masks_to_boxes(target["masks"].dense()) + torch.tensor([0, 0, 1, 1])
        assert len(tight) == len(target["boxes"]) == len(target["labels"])
        # An object that is moved whole keeps its box, whose corners are no whole pixels then.
        torch.testing.assert_close(target["boxes"], tight, rtol=0, atol=0.9)
    assert any(len(target["boxes"]) for target in targets)


def test_boxes_of_objects_that_are_left_whole_are_those_annotated(tmp_path):
    """A box of an annotation need not fit the mask to the pixel, and may cover hidden parts."""
    rows = [annotation(1, 9, bbox=[3.25, 2.5, 24.5, 20.25])]
    root = write_coco(tmp_path, document([image_entry(9, "9.png")], rows))
    flipped, scaled = (
        CocoDataset(root, "val2017", train_transforms(flip, augment))[0][1]["boxes"].tolist()
        for flip, augment in ((1.0, []), (0.0, [{"Resize": {"size": [60, 80]}}]))
    )
    assert flipped == [[40 - 27.75, 2.5, 40 - 3.25, 22.75]]
    assert scaled == [[6.5, 5, 55.5, 45.5]]


@pytest.mark.parametrize(
    ("augment", "words"),
    [
        ("RandomGreyscale", "did you mean RandomGrayscale"),
        ({"RandomGrayscale": {"prob": 1}}, "RandomGrayscale: .*prob"),
        ({"A": {}, "B": {}}, "one name"),
        ("functional", "no functional"),
    ],
)
def test_augmentations_that_do_not_exist(augment, words):
    with pytest.raises(ValueError, match=words):
        train_transforms(augment=[augment])


@pytest.mark.parametrize(
    ("augment", "words"),
    [
        ("ToPILImage", "gives no image .* but Image"),
        ("ToPureTensor", r"gives no image .* but Tensor \[3, 64, 64\]"),
        ({"FiveCrop": {"size": 32}}, "FiveCrop: image 1: "),
        ({"ConvertBoundingBoxFormat": {"format": "CXCYWH"}}, "boxes as CXCYWH, wanted XYXY"),
        ("Transform", "Transform: image 1: NotImplementedError"),
        ({"Normalize": {"mean": [0.5], "std": [0.5]}}, "Normalize: image 1: "),
    ],
    ids=str,
)
def test_an_augmentation_that_leaves_no_image_with_boxes_is_named(shapes, augment, words):
    dataset = CocoDataset(shapes, "train", train_transforms(augment=[augment]))
    with pytest.raises(ValueError, match=f"data.augment: .*{words}"):
        dataset[0]


def test_an_augmentation_that_fails_in_any_way_is_named(shapes, monkeypatch):
    """torchvision's ElasticTransform raises IndexError for boxes at the border."""

    def fail(*_):
        raise IndexError("index 64 is out of bounds")

    monkeypatch.setattr(v2.GaussianBlur, "forward", fail)
    blur = [{"GaussianBlur": {"kernel_size": 3}}]
    dataset = CocoDataset(shapes, "train", train_transforms(augment=blur))
    with pytest.raises(ValueError, match="augment: GaussianBlur: image 1: index 64 is out of"):
        dataset[0]


def test_an_image_that_breaks_later_on_is_replaced_or_stops_the_run(shapes, tmp_path, caplog):
    """The header and the end are whole, so that only decoding tells."""
    shutil.copytree(shapes, tmp_path / "set")
    dataset = CocoDataset(tmp_path / "set", "train", transforms=train_transforms())
    path = Path(dataset.table.files[4])
    data = bytearray(path.read_bytes())
    data[2000:2600] = bytes(600)
    path.write_bytes(data)
    dataset = CocoDataset(tmp_path / "set", "train", transforms=train_transforms())
    assert len(dataset) == 18, "the check of headers finds nothing"
    with pytest.raises(BadImageError, match="broken"):
        Seeded(dataset)[4, 1]
    _, target = Seeded(dataset, skip_bad=True)[4, 1]
    assert target["image_id"] == dataset.image_ids[5]
    assert "skipped" in caplog.text
