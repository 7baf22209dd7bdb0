# SPDX-License-Identifier: BSD-3-Clause
"""Pascal VOC folders in native XML, and the inspection of folders of either format."""

import os

import numpy as np
import pytest
from coco_folders import annotation, document, image_entry, write_coco, write_images
from PIL import Image

from dcnv2.data.annotations import BadDataError
from dcnv2.data.coco import CocoDataset
from dcnv2.data.folders import find_splits, inspect, open_dataset
from dcnv2.data.formats.voc import CLASSES, VocDataset

WIDTH, HEIGHT = 40, 30


def _object(name="dog", box=(5, 3, 20, 12), difficult=0):
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        f"<bndbox>{box}</bndbox>{part}</object>"
    )


def _xml(*objects, width=WIDTH, height=HEIGHT):
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation>{size}{''.join(objects)}</annotation>"


def _write(root, split="trainval", kind="Main", **documents):
    """Writes a year's folder of the given XML by names with a leading letter, as _000005."""
    stems = [name.removeprefix("_") for name in documents]
    for folder in ("Annotations", f"ImageSets/{kind}", "SegmentationObject"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    write_images(root / "JPEGImages", [f"{stem}.jpg" for stem in stems])
    (root / "ImageSets" / kind / f"{split}.txt").write_text("\n".join(stems) + "\n")
    for stem, text in zip(stems, documents.values(), strict=True):
        (root / "Annotations" / f"{stem}.xml").write_text(text)
    return root


@pytest.mark.parametrize(
    ("folder", "split"),
    [(".", "trainval"), ("VOC2007", "2007_trainval"), ("VOCdevkit/VOC2012", "2012_trainval")],
)
def test_layouts(tmp_path, folder, split):
    _write(tmp_path / folder, _000005=_xml(_object()), _2008_000008=_xml())
    dataset = VocDataset(tmp_path, split)
    assert dataset.image_ids.tolist() == [5, 2008000008]
    assert find_splits(tmp_path) == [split]
    assert len(open_dataset(tmp_path, split, masks=False)) == 2


def test_missing_lists_name_every_path_that_was_tried(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        VocDataset(tmp_path, "2007_test")
    for folder in (tmp_path / "VOC2007", tmp_path / "VOCdevkit" / "VOC2007"):
        assert str(folder / "ImageSets" / "Main" / "test.txt") in str(caught.value)


def test_boxes_count_from_one_and_hold_their_last_pixel(tmp_path):
    root = _write(tmp_path / "VOC2007", _a=_xml(_object(box=(1, 1, WIDTH, HEIGHT))))
    dataset = VocDataset(root)
    image, target = dataset[0]
    assert image.shape == (3, HEIGHT, WIDTH)
    assert target["boxes"].tolist() == [[0, 0, WIDTH, HEIGHT]]
    assert target["labels"].tolist() == [CLASSES.index("dog") + 1]
    assert "masks" not in target


def test_difficult_objects_are_neither_trained_on_nor_missed(tmp_path):
    root = _write(tmp_path, _a=_xml(_object(), _object("cat", difficult=1)))
    dataset = VocDataset(root)
    assert len(dataset[0][1]["labels"]) == 1
    assert VocDataset(root, crowd=True)[0][1]["iscrowd"].tolist() == [0, 1]
    assert [entry["iscrowd"] for entry in dataset.coco().anns.values()] == [0, 1]


def test_masks_come_from_the_object_numbers(tmp_path):
    root = _write(
        tmp_path, kind="Segmentation", _a=_xml(_object(), _object("cat", (10, 13, 30, 20)))
    )
    owners = np.zeros((HEIGHT, WIDTH), np.uint8)
    owners[2:12, 4:20], owners[12:20, 9:30], owners[20] = 1, 2, 255
    image = Image.fromarray(owners, "P")
    image.putpalette(list(range(256)) * 3)
    image.save(root / "SegmentationObject" / "a.png")
    _, target = VocDataset(root, masks=True)[0]
    np.testing.assert_array_equal(target["masks"].dense().numpy(), [owners == 1, owners == 2])
    assert target["area"].tolist() == [160, 168]


ENTITIES = "".join(f'<!ENTITY e{k} "{f"&e{k - 1};" * 9}">' for k in range(1, 10))
BOMB = f'<!DOCTYPE b [<!ENTITY e0 "dog">{ENTITIES}]><annotation>&e9;</annotation>'
SPOILED = {
    "unknown class": ("unknown category", _xml(_object("unicorn"))),
    "class of other case": ("unknown category", _xml(_object("Dog"))),
    "empty name": ("invalid annotation", _xml(_object(""))),
    "no name": ("invalid annotation", _xml(_object().replace("<name>dog</name>", "", 1))),
    "no width": ("zero-area box", _xml(_object(box=(5, 3, 4, 12)))),
    "exchanged corners": ("zero-area box", _xml(_object(box=(20, 12, 5, 3)))),
    "outside": ("box outside image", _xml(_object(box=(50, 3, 60, 12)))),
    "a word": ("invalid annotation", _xml(_object(box=(5, 3, "wide", 12)))),
    "NaN": ("invalid annotation", _xml(_object(box=(5, "nan", 20, 12)))),
    "infinity": ("invalid annotation", _xml(_object(box=(5, 3, "inf", 12)))),
    "beyond float": ("invalid annotation", _xml(_object(box=(5, 3, "9" * 400, 12)))),
    "an empty corner": ("invalid annotation", _xml(_object(box=(5, 3, "", 12)))),
    "no box": ("invalid annotation", _xml("<object><name>dog</name></object>")),
    "difficult of a word": ("invalid annotation", _xml(_object(difficult="maybe"))),
    "difficult of 2": ("invalid annotation", _xml(_object(difficult=2))),
    "cut": ("invalid image entry", "<annotation>"),
    "empty file": ("invalid image entry", ""),
    "zeros": ("invalid image entry", "\0" * 100),
    "JSON": ("invalid image entry", '{"size": 3}'),
    "two roots": ("invalid image entry", _xml() * 2),
    "unknown encoding": ("invalid image entry", '<?xml version="1.0" encoding="x-9"?>' + _xml()),
    "encoding of many bytes": (
        "invalid image entry",
        '<?xml version="1.0" encoding="shift_jis"?>' + _xml(),
    ),
    "unknown entity": ("invalid image entry", _xml("&nothing;")),
    "entities that expand": ("invalid image entry", BOMB),
    "a file as entity": (
        "invalid image entry",
        '<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]>' + _xml("&f;"),
    ),
    "no height": ("invalid image entry", "<annotation><size><width>40</width></size></annotation>"),
    "size of zero": ("invalid image entry", _xml(width=0)),
    "negative size": ("invalid image entry", _xml(width=-(10**4000))),
    "size in text": ("invalid image entry", _xml(width="40px")),
    "size and a half": ("invalid image entry", _xml(width="40.5")),
    "size of 5000 digits": ("invalid image entry", _xml(height="9" * 5000)),
    "nested deeply": ("invalid image entry", "<a>" * 10_000 + "</a>" * 10_000),
    "another size": ("broken image", _xml(width=WIDTH + 1)),
    "a size beyond 64 bits": ("broken image", _xml(width=10**30)),
}


@pytest.mark.parametrize("name", SPOILED)
def test_bad_input_is_named_or_skipped_and_counted(tmp_path, name):
    kind, text = SPOILED[name]
    root = _write(tmp_path, _good=_xml(_object()), _bad=text)
    with pytest.raises(BadDataError, match=f"{kind}: .*bad") as caught:
        VocDataset(root, classes=CLASSES)
    assert len(str(caught.value)) < 600
    dataset = VocDataset(root, on_bad="skip", classes=CLASSES)
    assert dataset.skipped == {kind: 1}
    assert len(dataset.table.ids) == 1


@pytest.mark.parametrize("difficult", ["", " 0 ", "False", "false"])
def test_objects_that_are_not_difficult(tmp_path, difficult):
    root = _write(tmp_path, _a=_xml(_object(difficult=difficult)))
    assert not VocDataset(root).table.crowd.any()


def test_descriptions_that_are_no_regular_files(tmp_path):
    root = _write(tmp_path, _a=_xml(), _b=_xml(), _c=_xml())
    for name in ("a", "b"):
        (root / "Annotations" / f"{name}.xml").unlink()
    (root / "Annotations" / "a.xml").mkdir()
    os.mkfifo(root / "Annotations" / "b.xml")
    dataset = VocDataset(root, on_bad="skip")
    assert dataset.skipped == {"invalid image entry": 2}
    assert all("not a regular file" in problem.what for problem in dataset.problems)


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (("_7", "_2008_000008"), [7, 2008000008]),
        (("_7", "_07"), [1, 2]),
        (("_7", "_²"), [1, 2]),
        (("_7", "_20230101123456789012"), [1, 2]),
    ],
)
def test_names_that_are_distinct_numbers_of_64_bits_are_the_ids(tmp_path, names, ids):
    root = _write(tmp_path, **dict.fromkeys(names, _xml(_object())))
    assert VocDataset(root).image_ids.tolist() == ids


def test_lists_of_images(tmp_path):
    root = _write(tmp_path, _a=_xml(_object()), _b=_xml(_object()))
    path = root / "ImageSets" / "Main" / "trainval.txt"
    path.write_bytes(b"\xef\xbb\xbfa  1\r\n\r\nb -1\r\na\r\n")
    with pytest.raises(BadDataError, match="duplicate image id: image a: listed 2 times"):
        VocDataset(root)
    assert len(VocDataset(root, on_bad="skip")) == 2
    path.write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"trainval\.txt: not a text file in UTF-8"):
        VocDataset(root)


def test_missing_files(tmp_path):
    root = _write(tmp_path, _a=_xml(_object()), _b=_xml(_object()), _c=_xml(_object()))
    (root / "Annotations" / "a.xml").unlink()
    (root / "JPEGImages" / "b.jpg").unlink()
    dataset = VocDataset(root, on_bad="skip")
    assert dataset.skipped == {"missing annotation file": 1, "missing image": 1}
    assert len(dataset) == 1


@pytest.mark.parametrize("mask", [None, "other size", "without the object", "RGB"])
def test_bad_masks(tmp_path, mask):
    root = _write(tmp_path, kind="Segmentation", _a=_xml(_object()))
    path = root / "SegmentationObject" / "a.png"
    if mask is not None:
        size = (WIDTH + 1, HEIGHT) if mask == "other size" else (WIDTH, HEIGHT)
        Image.new("RGB" if mask == "RGB" else "L", size).save(path)
    kind = "empty mask" if mask == "without the object" else "missing mask"
    assert VocDataset(root, masks=True, on_bad="skip").skipped == {kind: 1}


def test_inspection_counts_splits_classes_and_problems(tmp_path):
    rows = [
        annotation(1, 9),
        annotation(2, 9, area=2000.0, bbox=[30.0, 4, 20, 16]),
        annotation(3, 9, category_id=44, bbox=[0, 0, 0, 5]),
        annotation(4, 9, iscrowd=1),
    ]
    images = [image_entry(9, "9.jpg"), image_entry(4, "4.jpg"), image_entry(5, "5.jpg")]
    root = write_coco(tmp_path, document(images, rows))
    (root / "val2017" / "5.jpg").unlink()
    assert find_splits(root) == ["val2017"]
    dataset = open_dataset(root, "val2017", on_bad="skip", decode=True)
    assert isinstance(dataset, CocoDataset)
    report = inspect({"val2017": dataset})
    assert report.splits.to_dict("records") == [
        {
            "split": "val2017",
            "images": 2,
            "without_objects": 1,
            "objects": 2,
            "crowds": 1,
            "boxes_sticking_out": 1,
            "problems": 2,
        }
    ]
    classes = report.classes.set_index("class")
    assert classes["objects"].to_dict() == {"person": 0, "dog": 2, "bottle": 0}
    assert classes.loc["dog", ["images", "small", "medium", "large"]].tolist() == [1, 1, 1, 0]
    assert classes["share"].sum() == 1
    assert report.problems["kind"].tolist() == ["missing image", "zero-area box"]
    assert report.problems["image_id"].tolist() == [5, 9]
    assert report.problems["annotation_id"].isna().tolist() == [True, False]


def test_inspection_of_sound_sets_has_no_problems(tmp_path):
    root = _write(tmp_path, _a=_xml(_object()))
    report = inspect({"trainval": open_dataset(root, "trainval", on_bad="skip", masks=False)})
    assert report.problems.empty
    assert list(report.problems.columns)[:4] == ["split", "kind", "where", "what"]


def test_folders_that_are_no_data_sets(tmp_path):
    with pytest.raises(FileNotFoundError, match="no data set"):
        find_splits(tmp_path)
