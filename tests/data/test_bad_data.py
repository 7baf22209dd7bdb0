# SPDX-License-Identifier: BSD-3-Clause
"""Every kind of bad input is found before training, named, and can be skipped and counted."""

import json

import numpy as np
import pytest
from coco_folders import HEIGHT, WIDTH, annotation, document, image_entry, write_coco
from PIL import Image

from dcnv2.data.annotations import KINDS, BadDataError
from dcnv2.data.coco import CocoDataset

PIXELS = HEIGHT * WIDTH
NAN = float("nan")


def _rle(counts):
    return {"size": [HEIGHT, WIDTH], "counts": counts}


BAD_ANNOTATIONS = {
    "zero width": ("zero-area box", {"bbox": [5, 4, 0, 16]}),
    "negative height": ("zero-area box", {"bbox": [5, 4, 20, -3]}),
    "right of the image": ("box outside image", {"bbox": [WIDTH, 4, 6, 6]}),
    "above the image": ("box outside image", {"bbox": [5, -9, 6, 9]}),
    "NaN in the box": ("invalid annotation", {"bbox": [5, 4, NAN, 16]}),
    "three numbers": ("invalid annotation", {"bbox": [5, 4, 20]}),
    "words in the box": ("invalid annotation", {"bbox": ["5", "4", "20", "16"]}),
    "no box": ("invalid annotation", {"bbox": None}),
    "no category": ("invalid annotation", {"category_id": None}),
    "category not listed": ("unknown category", {"category_id": 3}),
    "image not listed": ("unknown image", {"image_id": 12345}),
    "no segmentation": ("missing mask", {"segmentation": None}),
    "empty list": ("missing mask", {"segmentation": []}),
    "two points": ("invalid polygon", {"segmentation": [[1, 1, 9, 9]]}),
    "odd count": ("invalid polygon", {"segmentation": [[1, 1, 9, 1, 9, 9, 1]]}),
    "one bad part of two": (
        "invalid polygon",
        {"segmentation": [[1, 1, 9, 1, 9, 9], [1, 1, 9, 9]]},
    ),
    "flat list": ("invalid polygon", {"segmentation": [1, 1, 9, 1, 9, 9]}),
    "infinite point": ("invalid polygon", {"segmentation": [[1, 1, float("inf"), 1, 9, 9]]}),
    "words in the polygon": ("invalid polygon", {"segmentation": [["1", 1, 9, 1, 9, 9]]}),
    "polygon of no area": ("empty mask", {"segmentation": [[3, 3, 3, 3, 3, 3]]}),
    "polygon outside": ("empty mask", {"segmentation": [[-20, 1, -10, 1, -10, 9]]}),
    "no run of ones": ("empty mask", {"segmentation": _rle([PIXELS])}),
    "short runs": ("invalid RLE", {"segmentation": _rle([5, 5])}),
    "negative run": ("invalid RLE", {"segmentation": _rle([-5, 10, PIXELS - 5])}),
    "another size": (
        "invalid RLE",
        {"segmentation": {"size": [WIDTH, HEIGHT], "counts": [0, PIXELS]}},
    ),
    "cut text": ("invalid RLE", {"segmentation": _rle("5`")}),
    "text of another image": ("invalid RLE", {"segmentation": _rle("55")}),
    "no counts": ("invalid RLE", {"segmentation": _rle(None)}),
}


def _load(root, **options):
    return CocoDataset(root, "val2017", **options)


@pytest.mark.parametrize("name", BAD_ANNOTATIONS)
def test_bad_annotations_are_named_or_skipped_and_counted(tmp_path, name):
    kind, changes = BAD_ANNOTATIONS[name]
    bad = annotation(2206849, **{"image_id": 9, **changes})
    rows = [annotation(1, 9), bad, annotation(3, 9)]
    root = write_coco(tmp_path, document([image_entry(9, "9.jpg")], rows))
    with pytest.raises(BadDataError, match=f"{kind}: annotation 2206849 on image") as caught:
        _load(root)
    assert [problem.kind for problem in caught.value.problems] == [kind]
    assert "instances_val2017.json" in str(caught.value)
    dataset = _load(root, on_bad="skip")
    assert dataset.skipped == {kind: 1}
    assert dataset.table.ids.tolist() == [1, 3]
    assert len(dataset[0][1]["masks"]) == 2
    assert kind in repr(dataset)


def test_the_two_flat_boxes_of_coco_train2017(tmp_path):
    """As annotations 2206849 on image 550395 and 200365 on image 200365: of height zero."""
    images = [image_entry(i, f"{i:012d}.jpg") for i in (200365, 550395)]
    rows = [
        annotation(200365, 200365, bbox=[12.39, 9.95, 23.0, 0.0], area=0.0),
        annotation(900, 200365),
        annotation(2206849, 550395, bbox=[9.98, 28.99, 5.01, 0.0], area=0.0),
        annotation(901, 550395),
    ]
    root = write_coco(tmp_path, document(images, rows), "train2017", "instances_train2017")
    with pytest.raises(BadDataError) as caught:
        CocoDataset(root, "train2017")
    assert "2 zero-area box" in str(caught.value)
    assert "annotation 2206849 on image 550395" in str(caught.value)
    dataset = CocoDataset(root, "train2017", on_bad="skip")
    assert dataset.skipped == {"zero-area box": 2}
    assert dataset.table.ids.tolist() == [900, 901]


def _remove(path):
    path.unlink()


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])


def _empty(path):
    path.write_bytes(b"")


def _replace_by_text(path):
    path.write_text("<html>404 Not Found</html>")


def _resize(path):
    Image.new("RGB", (WIDTH + 1, HEIGHT)).save(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize(
    ("damage", "kind", "words"),
    [
        (_remove, "missing image", "no such image file"),
        (_cut, "broken image", "broken image"),
        (_empty, "broken image", "not an image"),
        (_replace_by_text, "broken image", "not an image"),
        (_resize, "broken image", f"41 x {HEIGHT}, annotated as {WIDTH} x {HEIGHT}"),
    ],
)
def test_bad_images_are_named_or_skipped_with_their_annotations(
    tmp_path, suffix, damage, kind, words
):
    images = [image_entry(9, f"9{suffix}"), image_entry(4, f"4{suffix}")]
    rows = [annotation(1, 9), annotation(2, 4), annotation(3, 4, bbox=[0, 0, 0, 0])]
    root = write_coco(tmp_path, document(images, rows))
    path = root / "val2017" / f"4{suffix}"
    damage(path)
    with pytest.raises(BadDataError, match=kind) as caught:
        _load(root)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(caught.value.problems) == 1
    dataset = _load(root, on_bad="skip")
    assert dataset.skipped == {kind: 1}
    assert dataset.image_ids.tolist() == dataset.coco().getImgIds() == [9]
    assert dataset.table.ids.tolist() == [1]


def test_damage_inside_a_file_is_found_by_decoding(tmp_path):
    root = write_coco(tmp_path, document([image_entry(9, "9.png")], [annotation(1, 9)]))
    path = root / "val2017" / "9.png"
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(noise).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    dataset = _load(root)
    with pytest.raises(ValueError, match=r"9\.png: broken image"):
        dataset[0]
    with pytest.raises(BadDataError, match="broken image"):
        _load(root, decode=True)


def test_duplicate_ids_keep_the_first(tmp_path):
    images = [image_entry(9, "9.jpg"), image_entry(9, "other.jpg"), image_entry(4, "4.jpg")]
    rows = [annotation(1, 9), annotation(1, 4), annotation(2, 4)]
    dataset = _load(write_coco(tmp_path, document(images, rows)), on_bad="skip")
    assert dataset.skipped == {"duplicate image id": 1, "duplicate annotation id": 1}
    assert [path.rsplit("/")[-1] for path in dataset.table.files] == ["4.jpg", "9.jpg"]
    assert dataset.table.ids.tolist() == [2, 1]


@pytest.mark.parametrize("key", ["id", "file_name", "width", "height"])
def test_image_entries_that_lack_something(tmp_path, key):
    root = write_coco(tmp_path, document([image_entry(9, "9.jpg"), image_entry(4, "4.jpg")], []))
    path = root / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    del content["images"][1][key]
    path.write_text(json.dumps(content))
    dataset = _load(root, on_bad="skip")
    assert dataset.skipped == {"invalid image entry": 1}
    assert key in dataset.problems[0].what
    assert dataset.image_ids.tolist() == [9]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"images": []}', '{"images": 3}'])
def test_files_that_are_no_annotations(tmp_path, text):
    root = write_coco(tmp_path, document([], []))
    (root / "annotations" / "instances_val2017.json").write_text(text)
    with pytest.raises(ValueError, match=r"instances_val2017\.json: not a"):
        _load(root)


def test_two_categories_of_one_id(tmp_path):
    content = document([], [])
    content["categories"].append({"id": 18, "name": "cat"})
    with pytest.raises(ValueError, match="same id"):
        _load(write_coco(tmp_path, content))


def test_long_lists_are_cut_but_counted(tmp_path):
    rows = [annotation(i, 9, bbox=[0, 0, 0, 0]) for i in range(1, 41)]
    root = write_coco(tmp_path, document([image_entry(9, "9.jpg")], rows))
    with pytest.raises(BadDataError, match="40 zero-area box") as caught:
        _load(root)
    assert "and 30 more" in str(caught.value)
    assert len(caught.value.problems) == 40


def test_masks_are_not_asked_for_where_they_are_not_used(tmp_path):
    rows = [annotation(1, 9, segmentation=[[1, 1, 9, 9]])]
    root = write_coco(tmp_path, document([image_entry(9, "9.jpg")], rows))
    assert not _load(root, masks=False).problems


def test_unknown_switch(tmp_path):
    root = write_coco(tmp_path, document([], []))
    with pytest.raises(ValueError, match="on_bad"):
        _load(root, on_bad="ignore")


def test_every_kind_has_a_case_here():
    tried = {kind for kind, _ in BAD_ANNOTATIONS.values()}
    tried |= {"missing image", "broken image", "invalid image entry"}
    tried |= {"duplicate image id", "duplicate annotation id"}
    tried |= {"missing annotation file"}  # of VOC: test_voc.py
    assert tried == set(KINDS)
