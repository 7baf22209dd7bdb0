# SPDX-License-Identifier: BSD-3-Clause
"""Bad files of YOLO's, VOC's and CVAT's formats: one sentence with file and entry, no traceback."""

import contextlib
import os
import random

import pytest
from format_folders import (
    FORMATS,
    cvat_shapes,
    cvat_xml,
    labelimg_voc,
    picture,
    text,
    ultralytics,
    voc_xml,
    write_pictures,
    yolo_row,
)

from dcnv2.data.annotations import BadDataError
from dcnv2.data.folders import find_format, open_dataset

GOOD = "0 0.5 0.5 0.4 0.4"
YOLO_LINES = {
    "class out of range": (
        "2 0.5 0.5 0.4 0.4",
        "unknown category",
        r"class 2 is not among 0 \(cat",
    ),
    "negative class": ("-1 0.5 0.5 0.4 0.4", "unknown category", "class -1"),
    "half a class": ("0.5 0.5 0.5 0.4 0.4", "unknown category", "class 0.5"),
    "name for a class": ("dog 0.5 0.5 0.4 0.4", "invalid annotation", "wanted a class number"),
    "NaN": ("0 nan 0.5 0.4 0.4", "invalid annotation", "wanted a class number and coord"),
    "infinity": ("0 inf 0.5 0.4 0.4", "invalid annotation", "wanted a class number and coord"),
    "huge": ("0 1e300 0.5 0.4 0.4", "invalid annotation", "no share of the image"),
    "beyond float": ("0 1e999 0.5 0.4 0.4", "invalid annotation", "wanted a class number"),
    "pixels": ("0 20 15 10 10", "invalid annotation", "coordinates are not pixels"),
    "commas": ("0,0.5,0.5,0.4,0.4", "invalid annotation", "wanted a class number"),
    "class only": ("0", "invalid annotation", "after the class; got 0"),
    "three numbers": ("0 0.5 0.5 0.4", "invalid annotation", "got 3"),
    "five numbers": ("0 0.5 0.5 0.4 0.4 0.9", "invalid annotation", "got 5"),
    "odd polygon": ("0 .1 .1 .5 .1 .5 .5 .3", "invalid annotation", "got 7"),
    "no width": ("0 0.5 0.5 0 0.4", "zero-area box", "0 wide"),
    "negative height": ("0 0.5 0.5 0.4 -0.4", "zero-area box", "high"),
    "flat polygon": ("0 .1 .1 .5 .1 .3 .1", "zero-area box", "0 high"),
    "outside": ("0 1.4 1.4 0.2 0.2", "box outside image", "in an image of 40 x 30"),
}


@pytest.mark.parametrize("name", YOLO_LINES)
def test_bad_lines_of_yolo(tmp_path, name):
    line, kind, what = YOLO_LINES[name]
    ultralytics(tmp_path)
    text(tmp_path / "labels/val/b.txt", f"{GOOD}\n{line}\n")
    with pytest.raises(BadDataError, match=what) as caught:
        open_dataset(tmp_path, "val", masks=False)
    (problem,) = caught.value.problems
    assert problem.kind == kind
    assert "line 2" in str(problem)
    assert "b." in str(problem)
    dataset = open_dataset(tmp_path, "val", masks=False, on_bad="skip")
    assert dataset.skipped == {kind: 1}
    assert len(dataset.table.ids) == 3


@pytest.mark.parametrize(
    "content",
    [
        f"\ufeff{GOOD}\r\n{GOOD}",
        f"{GOOD}\r{GOOD}\r",
        f"  {GOOD}\t\n\n{GOOD}  ",
        f"{GOOD}\n0.0{GOOD[1:]}",
    ],
)
def test_line_ends_and_marks(tmp_path, content):
    ultralytics(tmp_path)
    (tmp_path / "labels/val/b.txt").write_bytes(content.encode())
    assert len(open_dataset(tmp_path, "val", masks=False).target(1)["labels"]) == 2


def test_empty_and_missing_label_files_are_pictures_without_objects(tmp_path):
    ultralytics(tmp_path)
    text(tmp_path / "labels/val/b.txt", "")
    dataset = open_dataset(tmp_path, "val", masks=False)
    assert len(dataset.target(1)["labels"]) == 0
    assert not dataset.notes
    picture(tmp_path / "images/val/c.png")
    dataset = open_dataset(tmp_path, "val", masks=False)
    assert len(dataset) == 3
    (note,) = dataset.notes
    assert note == "1 picture, such as c.png, without a label file: taken as without objects"


def test_label_files_without_a_picture_are_counted(tmp_path):
    ultralytics(tmp_path)
    text(tmp_path / "labels/val/classes.txt", "cat\n")
    assert not open_dataset(tmp_path, "val", masks=False).notes
    text(tmp_path / "labels/val/lost.txt", GOOD)
    (note,) = open_dataset(tmp_path, "val", masks=False).notes
    assert note == "1 label file, such as lost.txt, without a picture: left out"
    for file in (tmp_path / "labels/val").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"no picture of 'val' has a label file, such as .*a\.txt"):
        open_dataset(tmp_path, "val", masks=False)


BAD_LABELS = {"zeros": b"\0" * 50, "Latin-1": b"caf\xe9", "UTF-16": "0 1".encode("utf-16")}


@pytest.mark.parametrize("name", [*BAD_LABELS, "folder", "pipe"])
def test_label_files_that_are_no_text(tmp_path, name):
    ultralytics(tmp_path)
    path = tmp_path / "labels/val/b.txt"
    path.unlink()
    if name == "folder":
        path.mkdir()
    elif name == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(BAD_LABELS[name])
    dataset = open_dataset(tmp_path, "val", masks=False, on_bad="skip")
    assert dataset.skipped == {"missing annotation file": 1}
    assert "b.txt: not a" in str(dataset.problems[0])


DESCRIPTIONS = {
    "names: [cat, cat]": "'cat' occurs twice",
    "names: []": "wanted the names of classes, got",
    "names: {0: cat, 2: dog}": "the numbers from 0 without gaps, got",
    "names: {a: cat}": "the numbers from 0 without gaps",
    "names: {true: cat}": "the numbers from 0 without gaps",
    "names: cat": "wanted the names of classes, got 'cat'",
    "names: [[cat]]": "wanted texts",
    "names: [' ']": "wanted texts",
    "names: [cat, dog]\nnc: 3": "nc is 3, but names has 2",
    "names: [cat, dog]\nval: 7": "wanted the path of a folder or list, got 7",
    "names: [cat, dog]\nval: nowhere": "nowhere: no such folder or list of pictures",
    "names: [cat, dog]\nval: labels": "no pictures found",
    "nc: 2": "it has no names of classes",
    "names: [cat": "not a description of a YOLO data set",
    "names: !!python/object:os.system [x]": "not a description of a YOLO data set",
    "- 3": "not a description of a YOLO data set",
}


@pytest.mark.parametrize("content", DESCRIPTIONS)
def test_bad_descriptions_of_yolo(tmp_path, content):
    ultralytics(tmp_path)
    text(tmp_path / "data.yaml", content)
    with pytest.raises((ValueError, FileNotFoundError), match=DESCRIPTIONS[content]) as caught:
        open_dataset(tmp_path, "val", masks=False)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("names", [["cat", "dog"], {"0": "cat", "1": "dog"}, {1: "dog", 0: "cat"}])
def test_names_of_yolo_are_a_list_or_a_mapping(tmp_path, names):
    ultralytics(tmp_path, names=names)
    assert open_dataset(tmp_path, "val", masks=False).names == ["cat", "dog"]


def test_names_in_any_script(tmp_path):
    ultralytics(tmp_path, names=["猫", "الكلب"])
    assert open_dataset(tmp_path, "val", masks=False).names == ["猫", "الكلب"]
    labelimg_voc(tmp_path / "voc")
    text(tmp_path / "voc/b.xml", voc_xml("b.jpg", [("кошка", (1, 1, 9, 9))]))
    assert open_dataset(tmp_path / "voc", "all", masks=False).names == ["cat", "dog", "кошка"]


@pytest.mark.parametrize(
    "filename",
    ["b.jpg", "b", "C:\\pictures\\b.jpg", "/mnt/b.jpg", "", "renamed.jpg", "x" * 999],
)
def test_pictures_of_voc_are_found_by_their_names(tmp_path, filename):
    labelimg_voc(tmp_path)
    text(tmp_path / "b.xml", voc_xml("", [("cat", (1, 1, 9, 9))], filename=filename))
    dataset = open_dataset(tmp_path, "all", masks=False)
    assert [file.rpartition("/")[2] for file in dataset.table.files] == ["a.png", "b.jpg"]


def test_a_filename_is_honoured_and_names_one_picture_only(tmp_path):
    labelimg_voc(tmp_path)
    (tmp_path / "b.jpg").rename(tmp_path / "other.jpg")
    text(tmp_path / "b.xml", voc_xml("", [("cat", (1, 1, 9, 9))], filename="other.jpg"))
    assert open_dataset(tmp_path, "all", masks=False).table.files[1].endswith("other.jpg")
    text(tmp_path / "c.xml", voc_xml("", [("cat", (1, 1, 9, 9))], filename="other.jpg"))
    with pytest.raises(BadDataError, match=r"image c: its picture .*other.jpg is that of image b"):
        open_dataset(tmp_path, "all", masks=False)


BOX = 'xtl="1" ytl="1" xbr="9" ybr="9"/>'
MASK = '<mask label="cat" left="2" top="3" width="4" height="2" rle="1, 2, 5"/>'
CVAT_SHAPES = {
    "unknown label": (f'<box label="cow" {BOX}', "unknown category", "category 'cow'"),
    "no label": (f"<box {BOX}", "invalid annotation", "has no label"),
    "no corner": (
        '<box label="cat" xtl="1"/>',
        "invalid annotation",
        "ytl: wanted a finite number",
    ),
    "NaN": ('<box label="cat" xtl="nan" ' + BOX[8:], "invalid annotation", "xtl: wanted"),
    "two points": (
        '<polygon label="cat" points="1,2;3,4"/>',
        "invalid annotation",
        "three or more",
    ),
    "half a point": ('<polygon label="cat" points="1,2;3;4,5"/>', "invalid annotation", "points: "),
    "no points": ('<polygon label="cat"/>', "invalid annotation", "points: "),
    "flat": ('<box label="cat" xtl="1" ytl="1" xbr="1" ybr="9"/>', "zero-area box", "0 wide"),
    "short runs": (MASK.replace("5", "4"), "invalid annotation", "runs add up to 7 of 8"),
    "negative run": (MASK.replace("1, 2", "-1, 4"), "invalid annotation", "runs add up"),
    "words": (MASK.replace("1, 2", "one"), "invalid annotation", "rle: wanted whole numbers"),
    "beyond": (MASK.replace('left="2"', 'left="39"'), "invalid annotation", "not inside the image"),
    "huge": (MASK.replace('width="4"', 'width="1e99"'), "invalid annotation", "width: wanted"),
}


@pytest.mark.parametrize("name", CVAT_SHAPES)
def test_bad_shapes_of_cvat(tmp_path, name):
    shape, kind, what = CVAT_SHAPES[name]
    row = cvat_shapes("a.png", [("cat", (0, 0, 9, 9))]).replace("</image>", f"{shape}</image>")
    text(tmp_path / "annotations.xml", cvat_xml(row))
    write_pictures(tmp_path / "images")
    with pytest.raises(BadDataError, match=what) as caught:
        open_dataset(tmp_path, "default", masks=False)
    (problem,) = caught.value.problems
    assert (problem.kind, problem.where) == (kind, "object 2 of image a.png")


def test_shapes_of_cvat_are_masks(tmp_path):
    shapes = (
        f'<polygon label="dog" points="5,4;25,4;25,20;5,20"/>{MASK}'
        '<ellipse label="cat" cx="20" cy="15" rx="10" ry="5"/>'
        '<box label="cat" xtl="10" ytl="10" xbr="30" ybr="20" rotation="90"/>'
        '<points label="cat" points="1,2"/><tag label="cat"/>'
    )
    row = f'name="a.png" width="40" height="30" subset="Train">{shapes}</image>'
    text(tmp_path / "annotations.xml", cvat_xml(row))
    write_pictures(tmp_path / "images" / "Train")
    dataset = open_dataset(tmp_path, "Train")
    masks = dataset.target(0)["masks"].dense()
    assert masks[0].sum() == 20 * 16
    assert masks[1].nonzero().tolist() == [[3, 3], [3, 4]]
    assert masks[2].sum() == pytest.approx(3.14 * 50, rel=0.1)
    assert dataset.target(0)["boxes"][3].tolist() == pytest.approx([15, 5, 25, 25])
    assert dataset.notes == ["left out: 1 points, which are no boxes or masks"]


CVAT_FILES = {
    "": "not XML",
    "<a": "not XML",
    "<annotation/>": "wanted <annotations>, got <annotation>",
    "<annotations/>": "no names of classes",
    "<annotations><track/></annotations>": "no names of classes",
    '<!DOCTYPE a [<!ENTITY x "y">]><annotations/>': "declares entities",
}


@pytest.mark.parametrize("content", CVAT_FILES)
def test_bad_files_of_cvat(tmp_path, content):
    text(tmp_path / "annotations.xml", content)
    with pytest.raises(ValueError, match=f"annotations.xml: .*{CVAT_FILES[content]}"):
        open_dataset(tmp_path, "default", masks=False)


def test_bad_images_of_cvat(tmp_path):
    rows = ['name="a.png" width="x" height="30"></image>', 'width="40" height="30"></image>']
    rows += ['name="c.png" width="40" height="30"></image>', 'name="a.png" width="9" height="9"/>']
    text(tmp_path / "annotations.xml", cvat_xml(*rows))
    write_pictures(tmp_path / "images")
    dataset = open_dataset(tmp_path, "default", masks=False, on_bad="skip")
    assert dataset.skipped == {"invalid image entry": 2, "missing image": 1, "broken image": 1}


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_damage_of_any_kind_ends_in_a_sentence(tmp_path, write):
    """Files are cut, and bytes replaced: a reader takes them, or raises what commands report."""
    write(tmp_path)
    splits = find_format(tmp_path)[1]
    suffixes = (".txt", ".xml", ".json", ".yaml")
    generator = random.Random(write.__name__)
    for path in [file for file in sorted(tmp_path.rglob("*")) if file.suffix in suffixes]:
        content = path.read_bytes()
        for trial in range(12):
            place = generator.randrange(len(content) + 1)
            noise = generator.choice([b"nan", b"-", b"9" * 30, b"\xff", b"\0", b"<", b"{", b"\r"])
            rest = b"" if trial % 3 == 0 else noise + content[place + 1 :]
            path.write_bytes(content[:place] + rest)
            for split in splits:
                with contextlib.suppress(ValueError, OSError):
                    dataset = open_dataset(tmp_path, split, on_bad="skip")
                    for index in range(len(dataset)):
                        dataset.target(index)
        path.write_bytes(content)


def test_rows_of_boxes_stay_in_their_picture(tmp_path):
    ultralytics(tmp_path)
    text(tmp_path / "labels/val/b.txt", yolo_row("dog", (-2, -2, 42, 32)))
    assert open_dataset(tmp_path, "val", masks=False).target(1)["boxes"].tolist() == [
        [0, 0, 40, 30]
    ]
