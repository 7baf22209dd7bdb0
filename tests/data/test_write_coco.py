# SPDX-License-Identifier: BSD-3-Clause
"""Conversion to COCO: objects, polygons, ids and pictures are those of the source."""

import json
from pathlib import Path

import pytest
from coco_folders import TRIANGLE, annotation, document, image_entry, write_coco
from format_folders import (
    FORMATS,
    OBJECTS,
    picture,
    polygon_row,
    text,
    ultralytics,
    write_yolo_pairs,
)

from dcnv2 import cli
from dcnv2.data.coco import CocoDataset


def _convert(source, target, *words):
    return cli.main(["data", "convert", str(source), str(target), *words])


def _written(folder, split):
    return json.loads((folder / f"annotations/instances_{split}.json").read_text())


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_any_form_becomes_coco(tmp_path, write):
    source, target = tmp_path / "source", tmp_path / "target"
    write(source)
    assert _convert(source, target) == 0
    for split in FORMATS[write][1]:
        dataset = CocoDataset(target, Path(split).stem, masks=False)
        assert dataset.names == ["cat", "dog"]
        assert [len(dataset.target(i)["labels"]) for i in range(2)] == [2, 1]
        boxes = [box for objects in OBJECTS.values() for _, box in objects]
        got = [box for i in range(2) for box in dataset.target(i)["boxes"].tolist()]
        assert got == [pytest.approx(box) for box in boxes]


def test_polygons_run_lengths_and_ids_are_kept(tmp_path):
    runs = {"size": [30, 40], "counts": [600, 40, 560]}
    rows = [annotation(7, 9), annotation(5, 9, segmentation=runs, iscrowd=1)]
    rows.append(annotation(4, 9, segmentation=None))
    write_coco(tmp_path / "source", document([image_entry(9, "9.jpg")], rows))
    assert _convert(tmp_path / "source", tmp_path / "target", "val2017") == 0
    written = _written(tmp_path / "target", "val2017")
    assert written["images"] == [image_entry(9, "9.jpg")]
    assert sorted(c["id"] for c in written["categories"]) == [1, 18, 44]
    by_id = {entry["id"]: entry for entry in written["annotations"]}
    assert by_id[7]["segmentation"] == TRIANGLE
    assert (by_id[5]["segmentation"], by_id[5]["iscrowd"]) == (runs, 1)
    assert (by_id[4]["segmentation"], by_id[4]["iscrowd"]) == ([], 0)
    assert by_id[7]["area"] == 160.5


def test_pictures_are_links_and_names_do_not_collide(tmp_path):
    ultralytics(tmp_path / "source", polygon_row)
    images, labels = tmp_path / "source/images/val/b", tmp_path / "source/labels/val/b"
    write_yolo_pairs(images, labels)
    assert _convert(tmp_path / "source", tmp_path / "target", "val") == 0
    names = [entry["file_name"] for entry in _written(tmp_path / "target", "val")["images"]]
    assert sorted(names) == ["a.png", "a_2.png", "b.jpg", "b_2.jpg"]
    assert (tmp_path / "target/images/val/a.png").stat().st_nlink == 2


def test_pictures_are_copied_where_links_are_impossible(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    ultralytics(tmp_path / "source")
    assert _convert(tmp_path / "source", tmp_path / "target") == 0
    assert len(CocoDataset(tmp_path / "target", "val", masks=False)) == 2


def test_problems_stop_a_conversion_or_are_left_out(tmp_path, capsys):
    ultralytics(tmp_path / "source")
    text(tmp_path / "source/labels/val/b.txt", "7 0.5 0.5 0.1 0.1\n")
    assert _convert(tmp_path / "source", tmp_path / "a", "val") == 1
    assert "b.txt, line 1: class 7" in capsys.readouterr().err
    assert _convert(tmp_path / "source", tmp_path / "b", "val", "--on-bad=skip") == 0
    assert "val: left out: 1 unknown category" in capsys.readouterr().out
    assert _convert(tmp_path / "source", tmp_path / "b", "val") == 1
    assert "b: wanted a new or empty folder" in capsys.readouterr().err


def test_nothing_is_written_over(tmp_path):
    ultralytics(tmp_path / "source")
    assert _convert(tmp_path / "source", tmp_path / "source") == 1
    file = picture(tmp_path / "file.png")
    assert _convert(tmp_path / "source", file) == 1


def test_a_split_of_which_no_image_is_left_is_not_written(tmp_path, capsys):
    source, target = tmp_path / "source", tmp_path / "target"
    write_coco(source, document([image_entry(9, "9.jpg")], [annotation(7, 9)]))
    for file in source.rglob("9.jpg"):
        file.unlink()
    assert _convert(source, target, "val2017", "--on-bad", "skip") == 1
    error = capsys.readouterr().err
    assert "split val2017 has no images to write (1 missing image" in error
    assert not target.exists()
