# SPDX-License-Identifier: BSD-3-Clause
"""Label Studio's own JSON: whole and reduced, shapes in percent, names of uploaded pictures."""

import json

import pytest
from format_folders import HEIGHT, NAMES, OBJECTS, WIDTH, label_studio_json, picture, text

from dcnv2.data.annotations import BadDataError
from dcnv2.data.folders import find_splits, open_dataset


def _shape(**value):
    sides = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    return {**sides, "type": "shape", "value": value}


def _write(root, *shapes, image="/data/upload/1/0a1b2c3d-a.png", **extra):
    picture(root / "a.png")
    task = {"id": 7, "data": {"image": image}, "annotations": [{"result": list(shapes)}]}
    text(root / "project.json", json.dumps([{**task, **extra}]))


def test_several_files_are_splits(tmp_path):
    label_studio_json(tmp_path)
    (tmp_path / "project.json").rename(tmp_path / "first.json")
    text(tmp_path / "second.json", (tmp_path / "first.json").read_text())
    assert find_splits(tmp_path) == ["first", "second"]
    assert open_dataset(tmp_path, "second", masks=False).names == NAMES


@pytest.mark.parametrize(
    "image",
    [
        "/data/upload/1/0a1b2c3d-a.png",
        "/data/local-files/?d=set%2Fa.png",
        "https://example.org/x/a.png?token=b.png",
        "s3://bucket/a.png",
        "C:\\pictures\\a.png",
    ],
)
def test_pictures_of_servers_and_storages_are_found(tmp_path, image):
    _write(tmp_path, _shape(x=0, y=0, width=50, height=50, labels=["cat"]), image=image)
    assert open_dataset(tmp_path, "all", masks=False).table.files == [str(tmp_path / "a.png")]


def test_a_turned_rectangle_turns_around_its_first_corner(tmp_path):
    shape = _shape(x=50, y=20, width=25, height=20, rotation=90, rectanglelabels=["cat"])
    _write(tmp_path, shape)
    ((x, y, width, height),) = open_dataset(tmp_path, "all").table.boxes.tolist()
    assert (x, y, width, height) == pytest.approx((20 - 6, 6, 6, 10))


def test_polygons_and_ellipses_are_masks(tmp_path):
    polygon = _shape(points=[[0, 0], [50, 0], [50, 50], [0, 50]], polygonlabels=["cat"])
    ellipse = _shape(x=50, y=50, radiusX=10, radiusY=10, ellipselabels=["dog"])
    _write(tmp_path, polygon, ellipse)
    dataset = open_dataset(tmp_path, "all")
    square, round_one = dataset.target(0)["masks"].dense().sum((1, 2)).tolist()
    assert square == WIDTH * HEIGHT / 4
    assert round_one == pytest.approx(3.14 * 4 * 3, rel=0.1)


def test_what_is_no_object_is_counted(tmp_path):
    box = _shape(x=0, y=0, width=50, height=50, rectanglelabels=["cat"])
    choice = {"type": "choices", "value": {"choices": ["blurred"]}}
    brush = _shape(rle=[0, 1], format="rle", brushlabels=["cat"])
    _write(tmp_path, box, choice, brush)
    dataset = open_dataset(tmp_path, "all", masks=False)
    assert dataset.notes == ["left out: 1 brush, which are no boxes or polygons"]
    assert len(dataset.table.ids) == 1


def test_the_first_annotation_that_was_not_cancelled_is_read(tmp_path):
    boxes = [_shape(x=0, y=0, width=w, height=50, rectanglelabels=["cat"]) for w in (10, 20, 30)]
    annotations = [{"result": [box]} for box in boxes]
    annotations[0]["was_cancelled"] = True
    _write(tmp_path, annotations=annotations)
    dataset = open_dataset(tmp_path, "all", masks=False)
    assert dataset.table.boxes[:, 2].tolist() == [0.2 * WIDTH]
    assert dataset.notes == ["1 tasks have several annotations: the first of each is used"]


BAD = {
    "a text for a number": (
        _shape(x="1", y=0, width=9, height=9, labels=["cat"]),
        "finite numbers",
    ),
    "a number that is missing": (_shape(x=1, width=9, height=9, labels=["cat"]), "finite numbers"),
    "no label": (_shape(x=1, y=1, width=9, height=9), "has no label"),
    "two points": (_shape(points=[[0, 0], [9, 9]], labels=["cat"]), "three or more points"),
    "a turned picture": (
        {**_shape(x=1, y=1, width=9, height=9, labels=["cat"]), "image_rotation": 90},
        "turn its file",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_shapes_are_named(tmp_path, name):
    shape, message = BAD[name]
    good = _shape(x=0, y=0, width=50, height=50, rectanglelabels=["cat"])
    _write(tmp_path, good, shape)
    with pytest.raises(BadDataError, match=rf"object 2 of task 7.*{message}"):
        open_dataset(tmp_path, "all", masks=False)
    assert len(open_dataset(tmp_path, "all", masks=False, on_bad="skip").table.ids) == 1


def test_a_task_without_a_picture_is_named(tmp_path):
    _write(tmp_path, data={"text": "hello"})
    with pytest.raises(BadDataError, match=r"task 7: .*no text in it names a picture"):
        open_dataset(tmp_path, "all", masks=False)


def test_all_objects_are_those_of_the_other_formats(tmp_path):
    label_studio_json(tmp_path)
    assert len(open_dataset(tmp_path, "all", masks=False)) == len(OBJECTS)
