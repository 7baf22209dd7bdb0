# SPDX-License-Identifier: BSD-3-Clause
"""Every kind of bad input is found before training, named, and can be skipped and counted."""

import json

import numpy as np
import pytest
from coco_folders import HEIGHT, WIDTH, annotation, document, image_entry, write_coco
from PIL import Image
from pycocotools import mask as coco_mask

from dcnv2.data.annotations import KINDS, BadDataError
from dcnv2.data.coco import CocoDataset
from dcnv2.data.segmentation import box_code
from dcnv2.engine.evaluation.coco_eval import coco_scores

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
    "a number beyond float": ("invalid annotation", {"bbox": [5, 4, 10**400, 16]}),
    "no box": ("invalid annotation", {"bbox": None}),
    "no category": ("invalid annotation", {"category_id": None}),
    "category not listed": ("unknown category", {"category_id": 3}),
    "image not listed": ("unknown image", {"image_id": 12345}),
}
BAD_MASKS = {
    "no segmentation": ("missing mask", None),
    "empty list": ("missing mask", []),
    "two points": ("invalid polygon", [[1, 1, 9, 9]]),
    "odd count": ("invalid polygon", [[1, 1, 9, 1, 9, 9, 1]]),
    "empty part": ("invalid polygon", [[]]),
    "flat list": ("invalid polygon", [1, 1, 9, 1, 9, 9]),
    "text": ("invalid polygon", "1 1 9 1 9 9"),
    "number": ("invalid polygon", 7),
    "infinite point": ("invalid polygon", [[1, 1, float("inf"), 1, 9, 9]]),
    "NaN": ("invalid polygon", [[1, 1, NAN, 1, 9, 9]]),
    "number beyond float": ("invalid polygon", [[1, 1, 10**400, 1, 9, 9]]),
    "words in the polygon": ("invalid polygon", [["1", 1, 9, 1, 9, 9]]),
    "truth value in the polygon": ("invalid polygon", [[True, 1, 9, 1, 9, 9]]),
    "list in the polygon": ("invalid polygon", [[[1, 1], 9, 1, 9, 9, 9]]),
    "polygon of no area": ("empty mask", [[3, 3, 3, 3, 3, 3]]),
    "polygon outside": ("empty mask", [[-20, 1, -10, 1, -10, 9]]),
    "polygon far outside": ("empty mask", [[-2e9, 1, -1e9, 1, -1e9, 9]]),
    "no run of ones": ("empty mask", _rle([PIXELS])),
    "short runs": ("invalid RLE", _rle([5, 5])),
    "runs that overrun": ("invalid RLE", _rle([5, PIXELS])),
    "runs beyond 32 bits": ("invalid RLE", _rle([5, 2**32 + PIXELS - 5])),
    "negative run": ("invalid RLE", _rle([-5, 10, PIXELS - 5])),
    "half a pixel": ("invalid RLE", _rle([2.5, PIXELS - 2.5])),
    "word among runs": ("invalid RLE", _rle(["5", PIXELS - 5])),
    "another size": ("invalid RLE", {"size": [WIDTH, HEIGHT], "counts": [0, PIXELS]}),
    "no size": ("invalid RLE", {"counts": [0, PIXELS]}),
    "size of one number": ("invalid RLE", {"size": PIXELS, "counts": [0, PIXELS]}),
    "cut text": ("invalid RLE", _rle("5`")),
    "empty text": ("invalid RLE", _rle("")),
    "text of another image": ("invalid RLE", _rle("55")),
    "text that overruns": ("invalid RLE", _rle("5oo5")),
    "text with a negative run": ("invalid RLE", _rle("5N")),
    "text with letters outside the format": ("invalid RLE", _rle("5~é\x00")),
    "text of an endless number": ("invalid RLE", _rle("5" + "P" * 40 + "0")),
    "no counts": ("invalid RLE", _rle(None)),
}
GOOD_PART = [1, 1, 9, 1, 9, 9]
BAD_PARTS = {
    "two points": [1, 1, 9, 9],
    "odd count": [1, 1, 9, 1, 9, 9, 1],
    "empty": [],
    "NaN": [1, NAN, 9, 1, 9, 9],
    "run lengths of another size": {"size": [WIDTH, HEIGHT], "counts": [0, PIXELS]},
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


def _with_segmentation(root, segmentation):
    rows = [annotation(1, 9), annotation(7, 9, segmentation=segmentation)]
    return write_coco(root, document([image_entry(9, "9.jpg")], rows))


@pytest.mark.parametrize("name", BAD_MASKS)
def test_objects_without_usable_mask_are_named_or_regions_to_ignore(tmp_path, name):
    """Left out, they would be background in training; found, they would count as wrong."""
    kind, segmentation = BAD_MASKS[name]
    root = _with_segmentation(tmp_path, segmentation)
    with pytest.raises(BadDataError, match=f"{kind}: annotation 7 on image 9") as caught:
        _load(root)
    assert "instances_val2017.json" in str(caught.value)
    dataset = _load(root, on_bad="skip")
    assert dataset.skipped[kind] == 1
    assert dataset.table.crowd.tolist() == [False, True]
    assert len(dataset[0][1]["boxes"]) == 1, "not among the objects"
    region = dataset.coco().anns[2]
    assert region["iscrowd"] == 1
    assert region["bbox"] == annotation(7, 9)["bbox"]
    assert coco_mask.toBbox(region["segmentation"]).tolist() == region["bbox"]


@pytest.mark.parametrize("name", BAD_PARTS)
@pytest.mark.parametrize("first", [True, False])
def test_good_parts_of_a_segmentation_are_kept(tmp_path, name, first):
    parts = [BAD_PARTS[name], GOOD_PART] if first else [GOOD_PART, BAD_PARTS[name]]
    root = _with_segmentation(tmp_path, parts)
    with pytest.raises(BadDataError, match=f"annotation 7 .*part {1 if first else 2}: "):
        _load(root)
    dataset = _load(root, on_bad="skip")
    assert sum(dataset.skipped.values()) == 1
    wanted = coco_mask.decode(coco_mask.frPyObjects([GOOD_PART], HEIGHT, WIDTH))[..., 0]
    np.testing.assert_array_equal(dataset[0][1]["masks"][1], wanted)


@pytest.mark.parametrize(
    "part", [[3] * 6, [5, 5, 8, 8, 11, 11], [-20, 1, -10, 1, -10, 9], [1, 1, *GOOD_PART]]
)
def test_parts_without_a_pixel_of_their_own_are_no_problem(tmp_path, part):
    """Of no area, on a line, outside the picture, or with a point twice."""
    dataset = _load(_with_segmentation(tmp_path, [GOOD_PART, part]))
    wanted = coco_mask.decode(coco_mask.frPyObjects([GOOD_PART], HEIGHT, WIDTH))[..., 0]
    np.testing.assert_array_equal(dataset[0][1]["masks"][1], wanted)


def test_polygons_and_run_lengths_may_be_mixed(tmp_path):
    runs = _rle([2 * HEIGHT, 3, PIXELS - 2 * HEIGHT - 3])
    mask = _load(_with_segmentation(tmp_path, [GOOD_PART, runs]))[0][1]["masks"][1]
    wanted = coco_mask.frPyObjects([GOOD_PART], HEIGHT, WIDTH)
    wanted = coco_mask.decode(wanted)[..., 0]
    wanted[:3, 2] = 1
    np.testing.assert_array_equal(mask, wanted)


def test_a_validation_object_without_mask_is_no_false_positive(tmp_path):
    """Perfect detections, one of them of the object whose mask is of no use."""
    rows = [annotation(1, 9), annotation(2, 9, bbox=[30, 20, 9, 9], segmentation=[[1, 1, 9, 9]])]
    root = write_coco(tmp_path, document([image_entry(9, "9.jpg")], rows))
    dataset = _load(root, on_bad="skip")
    results = [
        {"image_id": 9, "category_id": 18, "bbox": [30, 20, 9, 9], "score": 0.9},
        {"image_id": 9, "category_id": 18, "bbox": rows[0]["bbox"], "score": 0.8},
    ]
    for result in results:
        code = box_code(result["bbox"], (WIDTH, HEIGHT))
        result["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": code.decode()}
    results[1]["segmentation"] = dataset.coco().annToRLE(dataset.coco().anns[1])
    numbers = coco_scores(dataset.coco(), results, [9]).numbers
    assert numbers["box_AP"] == pytest.approx(1)
    assert numbers["mask_AP"] == pytest.approx(1)


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
    tried = {kind for kind, _ in [*BAD_ANNOTATIONS.values(), *BAD_MASKS.values()]}
    tried |= {"missing image", "broken image", "invalid image entry"}
    tried |= {"duplicate image id", "duplicate annotation id"}
    tried |= {"missing annotation file"}  # of VOC: test_voc.py
    tried |= {"no images", "no objects"}  # of whole sets: test_set_checks.py
    tried |= {"boxes not in pixels", "boxes not x, y, width, height"}
    assert tried == set(KINDS)
