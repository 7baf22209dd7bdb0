# SPDX-License-Identifier: BSD-3-Clause
"""Reading COCO folders: layouts, targets, masks, crowds, empty images, ground truth."""

import json

import numpy as np
import pytest
import torch
from coco_folders import (
    HEIGHT,
    TRIANGLE,
    WIDTH,
    annotation,
    document,
    image_entry,
    write_coco,
    write_images,
)
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from torchvision import tv_tensors

from dcnv2.data.coco import SPLITS, CocoDataset, locate
from dcnv2.data.shapes import write_shapes
from dcnv2.structures import RunLengthMasks


def _two_images(prefix=""):
    images = [image_entry(9, f"{prefix}9.jpg"), image_entry(4, f"{prefix}4.jpg")]
    return document(images, [annotation(71, 9), annotation(70, 9, category_id=44)])


@pytest.mark.parametrize(
    ("split", "folder", "name"),
    [
        ("train2014", "train2014", "instances_train2014"),
        ("train2014", "images/train2014", "instances_train2014"),
        ("val2014", "val2014", "instances_val2014"),
        ("minival", "val2014", "instances_minival2014"),
        ("minival2014", "images/val2014", "instances_minival2014"),
        ("valminusminival", "val2014", "instances_valminusminival2014"),
        ("train2017", "train2017", "instances_train2017"),
        ("val2017", "images/val2017", "instances_val2017"),
        ("train", "train2017", "instances_train2017"),
        ("val", "val2014", "instances_val2014"),
        ("val", "images/val", "instances_val"),
        ("test-dev2017", "test2017", "image_info_test-dev2017"),
        ("annotations/instances_fine.json", "cities", "instances_fine"),
    ],
)
def test_layouts(tmp_path, split, folder, name):
    prefix = "cities/" if folder == "cities" else ""
    content = _two_images(prefix)
    write_images(tmp_path / folder, ["9.jpg", "4.jpg"])
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / f"{name}.json").write_text(json.dumps(content))
    dataset = CocoDataset(tmp_path, split)
    assert dataset.image_ids.tolist() == [4, 9]
    assert dataset[1][0].shape == (3, HEIGHT, WIDTH)


def test_the_set_s_own_name_goes_before_the_years(tmp_path):
    for name in reversed(SPLITS["train"]):
        write_coco(tmp_path, _two_images(), name, f"instances_{name}")
        assert locate(tmp_path, "train")[1].stem == f"instances_{name}"


def test_missing_annotations_name_every_path_that_was_tried(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        CocoDataset(tmp_path, "minival")
    for part in ("minival", "instances_minival.json", "instances_minival2014.json"):
        assert str(part) in str(caught.value)


def test_missing_image_folder_names_every_path_that_was_tried(tmp_path):
    write_coco(tmp_path, document([], []), "elsewhere")
    with pytest.raises(FileNotFoundError) as caught:
        CocoDataset(tmp_path, "val2017")
    assert str(tmp_path / "val2017") in str(caught.value)
    assert str(tmp_path / "images" / "val2017") in str(caught.value)


def test_items_have_torchvision_s_form(tmp_path):
    image, target = CocoDataset(write_coco(tmp_path, _two_images()), "val2017")[1]
    assert isinstance(image, tv_tensors.Image)
    assert (image.dtype, image.shape) == (torch.uint8, (3, HEIGHT, WIDTH))
    assert isinstance(target["boxes"], tv_tensors.BoundingBoxes)
    assert target["boxes"].format == tv_tensors.BoundingBoxFormat.XYXY
    assert target["boxes"].canvas_size == (HEIGHT, WIDTH)
    assert target["boxes"].dtype == torch.float32
    assert target["boxes"].tolist() == [[5, 4, 25, 20]] * 2
    assert isinstance(target["masks"], RunLengthMasks)
    assert target["masks"].shape == target["masks"].dense().shape == (2, HEIGHT, WIDTH)
    assert target["labels"].dtype == torch.int64
    assert target["area"].tolist() == [160.5, 160.5]
    assert target["iscrowd"].tolist() == [0, 0]
    assert target["image_id"] == 9


def test_labels_are_contiguous_in_the_order_of_category_ids(tmp_path):
    dataset = CocoDataset(write_coco(tmp_path, _two_images()), "val2017")
    assert dataset.category_ids == [1, 18, 44]
    assert dataset.names == ["person", "dog", "bottle"]
    assert dataset[1][1]["labels"].tolist() == [2, 3]
    assert sorted(a["category_id"] for a in dataset.coco().anns.values()) == [18, 44]


def test_images_without_annotations_are_served(tmp_path):
    dataset = CocoDataset(write_coco(tmp_path, _two_images()), "val2017")
    _, target = dataset[0]
    assert target["boxes"].shape == (0, 4)
    assert target["masks"].shape == (0, HEIGHT, WIDTH)
    assert target["labels"].shape == target["area"].shape == target["iscrowd"].shape == (0,)
    assert sorted(dataset.coco().getImgIds()) == [4, 9]


def test_polygons_and_both_run_length_forms_give_the_same_mask(tmp_path):
    compressed = coco_mask.merge(coco_mask.frPyObjects(TRIANGLE, HEIGHT, WIDTH))
    mask = coco_mask.decode(compressed)
    changes = np.flatnonzero(np.diff(mask.T.ravel().astype(int), prepend=0))
    counts = np.diff(changes, prepend=0, append=mask.size).tolist()
    size = [HEIGHT, WIDTH]
    text = {"size": size, "counts": compressed["counts"].decode()}
    forms = [TRIANGLE, text, {"size": size, "counts": counts}]
    rows = [annotation(i, 9, segmentation=form) for i, form in enumerate(forms)]
    content = document([image_entry(9, "9.jpg")], rows)
    masks = CocoDataset(write_coco(tmp_path, content), "val2017")[0][1]["masks"]
    assert mask.any()
    np.testing.assert_array_equal(masks, np.stack([mask] * 3))


@pytest.mark.parametrize("masks", [True, False])
def test_turned_boxes_of_cvat_are_polygons(tmp_path, masks):
    turn = {"bbox": [15, 13, 10, 4], "segmentation": [], "attributes": {"rotation": -270.0}}
    kept = {"segmentation": TRIANGLE, "attributes": {"rotation": 90.0}}
    others = [{"attributes": value} for value in ({"rotation": "x"}, {}, [])]
    rows = [annotation(i, 9, **changes) for i, changes in enumerate([turn, kept, *others])]
    content = document([image_entry(9, "9.jpg")], rows)
    dataset = CocoDataset(write_coco(tmp_path, content), "val2017", masks=masks)
    assert dataset.table.boxes[0].tolist() == pytest.approx([18, 10, 4, 10], abs=1e-4)
    assert dataset.table.boxes[1:].tolist() == [[5, 4, 20, 16]] * 4
    if masks:
        assert dataset.target(0)["masks"].dense()[0].sum() == 40


def test_parts_of_an_object_are_joined(tmp_path):
    parts = [[1, 1, 5, 1, 5, 5, 1, 5], [3, 3, 9, 3, 9, 9, 3, 9]]
    content = document([image_entry(9, "9.jpg")], [annotation(1, 9, segmentation=parts)])
    mask = CocoDataset(write_coco(tmp_path, content), "val2017")[0][1]["masks"][0]
    expected = np.zeros((HEIGHT, WIDTH))
    expected[1:5, 1:5] = expected[3:9, 3:9] = 1
    np.testing.assert_array_equal(mask.numpy(), expected)


def test_crowds_are_for_evaluation_unless_asked_for(tmp_path):
    size = {"size": [HEIGHT, WIDTH], "counts": [100, 200, HEIGHT * WIDTH - 300]}
    rows = [annotation(1, 9), annotation(2, 9, iscrowd=1, segmentation=size)]
    root = write_coco(tmp_path, document([image_entry(9, "9.jpg")], rows))
    dataset = CocoDataset(root, "val2017")
    assert dataset[0][1]["iscrowd"].tolist() == [0]
    assert len(dataset[0][1]["boxes"]) == 1
    assert CocoDataset(root, "val2017", crowd=True)[0][1]["iscrowd"].tolist() == [0, 1]
    crowd = [entry for entry in dataset.coco().anns.values() if entry["iscrowd"]]
    assert [dataset.coco().annToMask(entry).sum() for entry in crowd] == [200]


def test_boxes_that_stick_out_are_clipped(tmp_path):
    row = annotation(1, 9, bbox=[-3.0, 10.0, 20.0, 25.5])
    root = write_coco(tmp_path, document([image_entry(9, "9.jpg")], [row]))
    dataset = CocoDataset(root, "val2017")
    assert dataset[0][1]["boxes"].tolist() == [[0, 10, 17, HEIGHT]]
    assert dataset.coco().anns[1]["bbox"] == row["bbox"]


def test_ratios_are_of_width_to_height(tmp_path):
    assert WIDTH != HEIGHT
    dataset = CocoDataset(write_coco(tmp_path, _two_images()), "val2017")
    assert dataset.aspect_ratios().tolist() == [WIDTH / HEIGHT] * 2


def test_sets_without_masks(tmp_path):
    content = document([image_entry(9, "9.jpg")], [annotation(1, 9, segmentation=None)])
    dataset = CocoDataset(write_coco(tmp_path, content), "val2017", masks=False)
    assert "masks" not in dataset[0][1]
    assert "segmentation" not in dataset.coco().anns[1]


def test_limit_takes_the_first_images_by_id_and_keeps_all_categories(tmp_path):
    root = write_coco(tmp_path, _two_images())
    (root / "val2017" / "9.jpg").unlink()
    dataset = CocoDataset(root, "val2017", limit=1)
    assert dataset.image_ids.tolist() == [4]
    assert len(dataset.names) == 3


def test_ground_truth_scores_as_pycocotools_own_reading_does(tmp_path):
    root = write_shapes(tmp_path, train=0, val=12, size=64)
    dataset = CocoDataset(root, "val")
    theirs, ours = COCO(dataset.annotation_file), dataset.coco()
    assert theirs.getImgIds() == ours.getImgIds()
    assert theirs.getCatIds() == ours.getCatIds()
    for mine, other in zip(ours.anns.values(), theirs.anns.values(), strict=True):
        same = ("image_id", "category_id", "bbox", "area", "iscrowd")
        assert [mine[key] for key in same] == [other[key] for key in same]
        np.testing.assert_array_equal(ours.annToMask(mine), theirs.annToMask(other))


def test_no_object_has_the_id_that_cocoeval_takes_for_none(tmp_path):
    content = document([image_entry(9, "9.jpg")], [annotation(0, 9)])
    assert 0 not in CocoDataset(write_coco(tmp_path, content), "val2017").coco().anns


def test_index_out_of_range(tmp_path):
    dataset = CocoDataset(write_coco(tmp_path, _two_images()), "val2017")
    assert dataset[-1][1]["image_id"] == 9
    with pytest.raises(IndexError):
        dataset[2]
