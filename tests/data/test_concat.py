# SPDX-License-Identifier: BSD-3-Clause
"""Sets put together and taken apart, sets of other layouts, and their inspection by command."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from coco_folders import annotation, document, image_entry, write_coco, write_images

from dcnv2 import cli
from dcnv2.data.coco import CocoDataset
from dcnv2.data.concat import MINIVAL, concatenate, write_minival
from dcnv2.data.shapes import write_shapes
from dcnv2.engine.config import DataConfig
from dcnv2.engine.runtime.datasets import open_train


def _set(root, ids, **changes):
    images = [image_entry(i, f"{i:012d}.jpg") for i in ids]
    content = document(images, [annotation(10 + i, i, **changes) for i in ids])
    return CocoDataset(write_coco(root, content), "val2017")


def test_sets_are_joined_with_their_objects_and_masks(tmp_path):
    first, second = _set(tmp_path / "a", [1, 2]), _set(tmp_path / "b", [7, 9, 8])
    both = concatenate([first, second])
    assert both.image_ids.tolist() == [1, 2, 7, 8, 9]
    assert len(both.table.ids) == 5
    for index in range(5):
        part, own = (first, index) if index < 2 else (second, index - 2)
        (image, target), (expected_image, expected) = both[index], part[own]
        assert torch.equal(image, expected_image)
        for key in ("boxes", "labels", "area"):
            assert torch.equal(target[key], expected[key]), key
        assert torch.equal(target["masks"].dense(), expected["masks"].dense())
    assert both.coco().getAnnIds(imgIds=[9])


def test_ids_that_meet_are_given_anew(tmp_path):
    both = concatenate([_set(tmp_path / "a", [1, 2]), _set(tmp_path / "b", [2, 3])])
    assert both.image_ids.tolist() == [1, 2, 3, 4]
    assert [target["image_id"] for _, target in both] == [1, 2, 3, 4]


def test_other_categories_and_sets_without_masks_are_refused(tmp_path):
    first = _set(tmp_path / "a", [1])
    shapes = CocoDataset(write_shapes(tmp_path / "shapes", 1, 0, 64), "train")
    with pytest.raises(ValueError, match=r"has the categories ellipse.*but .*has person"):
        concatenate([first, shapes])
    renamed = _set(tmp_path / "b", [1])
    renamed.names = ["pear", *renamed.names[1:]]
    with pytest.raises(ValueError, match="has the categories pear"):
        concatenate([first, renamed])
    bare = CocoDataset(tmp_path / "a", "val2017", masks=False)
    with pytest.raises(ValueError, match="both have masks, or neither"):
        concatenate([first, bare])


def test_a_configuration_names_several_splits_and_folders(tmp_path):
    first = write_shapes(tmp_path / "a", 3, 2, 64)
    second = write_shapes(tmp_path / "b", 2, 1, 64, seed=1)
    dataset = open_train(DataConfig(str(first), ["train", "val", f"{second}::train"]), masks=True)
    assert len(dataset) == 7
    image, target = dataset[6]
    assert image.dtype == torch.uint8
    assert target["image_id"] == 7


def test_minival_is_val2017_and_the_rest_the_rest(tmp_path):
    chosen = [int(number) for number in MINIVAL.read_text().split()]
    assert len(set(chosen)) == 5000
    others = [1, 3, 5]
    assert not set(chosen) & set(others)
    images = [image_entry(i, f"COCO_val2014_{i:012d}.jpg") for i in [*others, *chosen]]
    content = document(images, [annotation(i, i) for i in (1, chosen[0], chosen[-1])])
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations" / "instances_val2014.json"
    path.write_text(json.dumps(content))
    (tmp_path / "val2014").mkdir()
    mini, rest = (json.loads(file.read_text()) for file in write_minival(tmp_path))
    assert sorted(image["id"] for image in mini["images"]) == chosen
    assert [a["image_id"] for a in mini["annotations"]] == [chosen[0], chosen[-1]]
    assert [image["id"] for image in rest["images"]] == others
    assert [a["image_id"] for a in rest["annotations"]] == [1]
    write_images(tmp_path / "val2014", [image["file_name"] for image in rest["images"]])
    assert len(CocoDataset(tmp_path, "valminusminival")) == 3
    content["images"] = content["images"][:-1]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="lacks 1 images of val2017"):
        write_minival(tmp_path)


@pytest.mark.parametrize("folder", ["", "images", "leftImg8bit/val/ulm"])
def test_cityscapes_images_are_found_by_their_city(tmp_path, folder):
    name = "ulm_000000_000019_leftImg8bit.png"
    write_images(tmp_path / folder, [name])
    file = "annotations/instancesonly_filtered_gtFine_val.json"
    (tmp_path / "annotations").mkdir()
    content = document([image_entry(4, name)], [annotation(1, 4)])
    (tmp_path / file).write_text(json.dumps(content))
    (_, target), *_ = CocoDataset(tmp_path, file)
    assert target["image_id"] == 4


def test_check_prints_tables_and_writes_problems(tmp_path, capsys, monkeypatch):
    root = write_shapes(tmp_path / "shapes", 4, 2, 64)
    assert cli.main(["data", "check", str(root)]) == 0
    printed = capsys.readouterr().out
    for word in ("train", "val", "without_objects", "ellipse", "share"):
        assert word in printed
    path = root / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"][2] = 0
    path.write_text(json.dumps(content))
    table = tmp_path / "problems.csv"
    assert cli.main(["data", "check", str(root), "train", "--csv", str(table)]) == 1
    captured = capsys.readouterr()
    assert "zero-area box" in captured.out
    assert "1 problem\n" in captured.err
    assert "more; --csv" not in captured.out
    problems = pd.read_csv(table)
    assert problems[["split", "kind"]].to_numpy().tolist() == [["train", "zero-area box"]]
    shutil.rmtree(root / "images" / "val")
    assert cli.main(["data", "check", str(root), "val"]) == 1
    monkeypatch.setattr("dcnv2.cli.data.SHOWN_PROBLEMS", 0)
    assert cli.main(["data", "check", str(root), "train"]) == 1
    assert "and 1 more; --csv" in capsys.readouterr().out


def test_boxes_of_a_joined_set_are_where_they_were(tmp_path):
    first, second = _set(tmp_path / "a", [1]), _set(tmp_path / "b", [2], bbox=[1.0, 2.0, 9.0, 8.0])
    both = concatenate([first, second])
    np.testing.assert_array_equal(both.table.boxes[1], [1, 2, 9, 8])
