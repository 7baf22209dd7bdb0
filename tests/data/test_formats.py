# SPDX-License-Identifier: BSD-3-Clause
"""Folders as tools export them are read as they are, and every bad file is named."""

import pytest
from format_folders import FORMATS, NAMES, OBJECTS, polygon_row, roboflow_yolo, text, ultralytics

from dcnv2 import cli
from dcnv2.data.annotations import BadDataError
from dcnv2.data.folders import find_format, find_splits, open_dataset

FORMATS_BY_NAME = {write.__name__: write for write in FORMATS}


def _objects(dataset):
    """Class names and corners of each image, by the name of its file."""
    found = {}
    for index, file in enumerate(dataset.table.files):
        target = dataset.target(index)
        names = [dataset.names[label - 1] for label in target["labels"].tolist()]
        boxes = [tuple(round(side, 3) for side in box) for box in target["boxes"].tolist()]
        found[file.rpartition("/")[2]] = list(zip(names, boxes, strict=True))
    return found


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_exports_are_read_as_they_are(tmp_path, write, capsys):
    write(tmp_path)
    entry, splits = find_format(tmp_path)
    assert (entry.name, splits) == FORMATS[write]
    for split in splits:
        dataset = open_dataset(tmp_path, split, masks=False)
        assert dataset.names == NAMES
        assert _objects(dataset) == OBJECTS
        assert dataset.image(0).shape == (3, 30, 40)
    assert cli.main(["data", "check", str(tmp_path)]) == 0
    assert "no object has a mask" in capsys.readouterr().out


def test_splits_have_the_names_that_tools_give_them(tmp_path):
    roboflow_yolo(tmp_path / "yolo")
    FORMATS_BY_NAME["roboflow_coco"](tmp_path / "coco")
    FORMATS_BY_NAME["roboflow_voc"](tmp_path / "voc")
    for name in ("yolo", "coco", "voc"):
        assert len(open_dataset(tmp_path / name, "val", masks=False)) == 2
        assert len(open_dataset(tmp_path / name, "valid", masks=False)) == 2
        with pytest.raises(FileNotFoundError, match="has no split 'test', but train, val"):
            open_dataset(tmp_path / name, "test", masks=False)


def test_the_parent_category_of_roboflow_is_no_class(tmp_path, caplog):
    FORMATS_BY_NAME["roboflow_coco"](tmp_path)
    assert open_dataset(tmp_path, "train", masks=False).names == NAMES
    assert "category 0 is left out" in caplog.text


def test_polygons_are_masks(tmp_path):
    ultralytics(tmp_path, polygon_row)
    dataset = open_dataset(tmp_path, "val")
    assert _objects(dataset) == OBJECTS
    assert dataset.target(0)["masks"].dense()[0].sum() == 20 * 16
    assert dataset.table.areas.tolist() == [320, 300, 1200]


def test_a_set_without_masks_names_the_option(tmp_path):
    ultralytics(tmp_path)
    with pytest.raises(BadDataError, match=r"--model\.mask\.enabled=false"):
        open_dataset(tmp_path, "val")


def test_the_file_that_describes_a_folder_stands_for_it(tmp_path):
    ultralytics(tmp_path / "yolo")
    FORMATS_BY_NAME["cvat_images"](tmp_path / "cvat")
    assert find_splits(tmp_path / "yolo/data.yaml") == ["train", "val"]
    assert len(open_dataset(tmp_path / "cvat/annotations.xml", "default", masks=False)) == 2


FOREIGN = {
    "an empty folder": (
        {},
        "no data set in the format of COCO, CVAT, Label Studio, Pascal VOC, YOLO",
    ),
    "pictures": ({"a.png": ""}, "it has pictures, but no annotations"),
    "an archive": ({"set.zip": ""}, "an archive: unpack it"),
    "LabelMe": ({"a.json": '{"imagePath": "a.png", "shapes": []}'}, "LabelMe: convert it"),
    "VIA": ({"via.json": '{"_via_img_metadata": {}}'}, "VGG Image Annotator: export it as COCO"),
    "YOLO without classes": ({"a.png": "", "a.txt": "0 .5 .5 .1 .1"}, "add classes.txt"),
    "results": ({"r.json": '[{"image_id": 1, "score": 1}]'}, "detections in COCO's result"),
    "damaged JSON": ({"a.json": "{"}, "a.json is no format of annotations"),
    "labels only": ({"labels/a.txt": "0 .5 .5 .1 .1"}, "no data set"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_folders_of_other_forms_are_named(tmp_path, name, capsys):
    files, message = FOREIGN[name]
    for path, content in files.items():
        text(tmp_path / path, content)
    with pytest.raises(FileNotFoundError, match=message):
        find_splits(tmp_path)
    with pytest.raises(FileNotFoundError, match=message):
        open_dataset(tmp_path, "train")
    assert cli.main(["data", "check", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


def test_a_part_of_a_data_set_points_to_the_whole(tmp_path):
    FORMATS_BY_NAME["roboflow_coco"](tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(FileNotFoundError, match=f"part of {tmp_path}, give that folder"):
        find_splits(tmp_path / "images")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find_splits(tmp_path / "nowhere")


def test_splits_that_are_only_described_are_left_out(tmp_path, capsys):
    roboflow_yolo(tmp_path)
    with (tmp_path / "data.yaml").open("a") as file:
        file.write("test: ../test/images\n")
    assert find_splits(tmp_path) == ["train", "val"]
    assert cli.main(["data", "check", str(tmp_path)]) == 0
    assert "also names 'test', but there is no" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="no such folder or list of pictures"):
        open_dataset(tmp_path, "test", masks=False)


def test_yolo_notes_what_it_leaves_out_or_doubts(tmp_path):
    ultralytics(tmp_path)
    text(tmp_path / "images/train/a.jpg", "")
    (tmp_path / "images/train/b.jpg").replace(tmp_path / "images/train/a.jpg")
    with (tmp_path / "data.yaml").open("a") as file:
        file.write("kpt_shape: [1, 3]\n")
    notes = " ".join(open_dataset(tmp_path, "train", masks=False).notes)
    assert "key points are left out" in notes
    assert "1 label file, such as a.txt, used for several pictures" in notes


@pytest.mark.parametrize(
    ("row", "hint"), [("0 .5 .5 .1 .1 .9", "score of a prediction"), ("0" + " .5" * 7, "kpt_shape")]
)
def test_lines_of_other_tasks_are_named(tmp_path, row, hint):
    ultralytics(tmp_path)
    text(tmp_path / "labels/train/a.txt", row)
    with pytest.raises(BadDataError, match=hint):
        open_dataset(tmp_path, "train", masks=False)
