# SPDX-License-Identifier: BSD-3-Clause
"""COCO annotation files that are damaged, each in its own way."""

import copy
import gzip
import json
from typing import Any

from coco_folders import annotation, document, image_entry

INF, NAN, HUGE = float("inf"), float("nan"), 10**400
DEEP = "[" * 100_000


def plain() -> dict[str, Any]:
    """A valid document: two images with two annotations each."""
    images = [image_entry(9, "9.jpg"), image_entry(4, "4.jpg")]
    return document(images, [annotation(k, image) for k, image in enumerate((9, 9, 4, 4), start=1)])


def changed(place: str, value: Any) -> bytes:
    """The valid document with one value replaced: `images.0.id` is the id of the first image."""
    content = copy.deepcopy(plain())
    *path, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    inner: Any = content
    for part in path:
        inner = inner[part]
    inner[last] = value
    return json.dumps(content).encode()


_TEXT = json.dumps(plain()).encode()
FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "white space": (b" \n\t ", "is empty"),
    "half": (_TEXT[: len(_TEXT) // 2], "not a JSON file"),
    "without the last brace": (_TEXT[:-1], "not a JSON file"),
    "two documents": (_TEXT + _TEXT, "not a JSON file: Extra data"),
    "an HTML page": (b"<html>404</html>", "not a JSON file"),
    "a git LFS pointer": (b"version https://git-lfs.github.com/spec/v1", "not a JSON file"),
    "zeros": (bytes(1000), "not a JSON file"),
    "a JPEG": (b"\xff\xd8\xff\xe0" + bytes(range(256)), "not a JSON file"),
    "gzip": (gzip.compress(_TEXT), "compressed by gzip"),
    "Latin-1": (_TEXT.replace(b"person", b"caf\xe9"), "not a JSON file"),
    "single quotes": (_TEXT.replace(b'"', b"'"), "not a JSON file"),
    "a comma too many": (_TEXT.replace(b"}]", b"},]"), "not a JSON file"),
    "a number of 5000 digits": (_TEXT.replace(b"160.5", b"9" * 5000), "not a JSON file"),
    "nested too deeply": (DEEP.encode(), "nested too deeply"),
    "a key nested too deeply": (_TEXT[:-1] + b', "x": ' + DEEP.encode(), "nested too deeply"),
    "null": (b"null", "it has no list of images"),
    "a number": (b"3", "it has no list of images"),
    "a text": (b'"images"', "it has no list of images"),
    "a list": (b"[]", "it has no list of images"),
    "a list of results": (b'[{"image_id": 9, "bbox": [1, 2, 3, 4]}]', "no list of images"),
    "an empty object": (b"{}", "it has no list of images"),
    "images twice": (_TEXT[:-1] + b', "images": []}', "the key 'images' occurs twice"),
    "a box twice": (
        _TEXT.replace(b'"bbox"', b'"bbox": [1, 1, 2, 2], "bbox"', 1),
        "the key 'bbox' occurs twice in an object with the id 1",
    ),
    "no images": (changed("images", None), "no list of images"),
    "images by id": (changed("images", {"9": image_entry(9, "9.jpg")}), "no list of images"),
    "no categories": (changed("categories", None), "no list of categories"),
    "categories of no entry": (changed("categories", []), "list of categories is empty"),
    "categories by id": (changed("categories", {"1": "person"}), "no list of categories"),
    "annotations of null": (changed("annotations", None), "no list of annotations"),
    "annotations in text": (changed("annotations", "none"), "no list of annotations"),
    "annotations by image": (changed("annotations", {"9": []}), "no list of annotations"),
    "a category of null": (changed("categories.0", None), r"categories\[0\]: wanted an object"),
    "a category in text": (changed("categories.1", "dog"), r"categories\[1\]: wanted an object"),
    "a category without name": (changed("categories.0", {"id": 1}), r"\[0\]: has no name"),
    "a category without id": (changed("categories.0", {"name": "x"}), r"\[0\]: has no id"),
    "a category id in text": (changed("categories.0.id", "44"), "id: wanted a whole number"),
    "a category id of true": (changed("categories.0.id", True), "id: wanted a whole number"),
    "a category id of a list": (changed("categories.0.id", [44]), "id: wanted a whole number"),
    "a category id and a half": (changed("categories.0.id", 1.5), "id: wanted a whole number"),
    "a category id of NaN": (changed("categories.0.id", NAN), "id: wanted a whole number"),
    "a category id beyond 64 bits": (changed("categories.0.id", 2**64), "64 bits, got 1844"),
    "a category id used twice": (changed("categories.0.id", 1), "same id"),
    "a category name used twice": (changed("categories.0.name", "dog"), "44 and 18 are both named"),
    "a category name of null": (changed("categories.0.name", None), "has no name"),
    "a category name of a number": (changed("categories.0.name", 7), "name: wanted text"),
    "an empty category name": (changed("categories.0.name", " "), "name: wanted text"),
    "half a surrogate pair": (changed("categories.0.name", "\ud83d"), "surrogate"),
}
"""What ends the reading of a file -> its bytes, and words of the message."""

_ID, _PIXELS, _NUMBERS = "whole number", "whole number of pixels", "four finite numbers"
ENTRIES: dict[str, tuple[bytes, str, str]] = {
    f"{place} of {value!r:.20}": (changed(place, value), kind, words)
    for place, kind, cases in (
        (
            "images.0",
            "invalid image entry",
            [(v, r"images\[0\]: wanted an object") for v in (None, 3, "9.jpg", [9], True)]
            + [({}, r"images\[0\]: has no id and no file_name and no width and no height")],
        ),
        (
            "images.0.id",
            "invalid image entry",
            [(v, _ID) for v in ("9", True, [9], {}, 9.5, NAN, INF, 2**63, -HUGE)]
            + [(None, "has no id")],
        ),
        (
            "images.0.file_name",
            "invalid image entry",
            [(v, "file_name: wanted text") for v in (3, "", " ", ["9.jpg"], {}, "9\0.jpg", False)]
            + [(None, "has no file_name"), ("\udc80.jpg", "surrogate")],
        ),
        (
            "images.0.width",
            "invalid image entry",
            [(v, _PIXELS) for v in ("40", 0, -40, 40.5, True, [40], NAN, INF, HUGE)],
        ),
        ("images.0.height", "invalid image entry", [("30px", _PIXELS), (None, "has no height")]),
        ("images.0.file_name", "missing image", [("none.jpg", "no such image file")]),
        ("images.0.file_name", "broken image", [("/dev/zero", "not a regular file")]),
        ("images.0.width", "broken image", [(41, "annotated as 41 x 30")]),
        (
            "annotations.1",
            "invalid annotation",
            [(v, r"annotations\[1\]: wanted an object") for v in (None, 3, "box", [1, 2], False)]
            + [({}, "has no id and no image_id and no category_id and no bbox")],
        ),
        (
            "annotations.1.id",
            "invalid annotation",
            [(v, _ID) for v in ("2", True, [2], {"id": 2}, 2.5, NAN, HUGE, 2**63)],
        ),
        (
            "annotations.1.image_id",
            "invalid annotation",
            [(v, _ID) for v in ("9", [9], {}, True, 9.5, INF, HUGE)] + [(None, "no image_id")],
        ),
        (
            "annotations.1.category_id",
            "invalid annotation",
            [(v, _ID) for v in ("18", "dog", [18], {}, False, NAN)],
        ),
        (
            "annotations.1.bbox",
            "invalid annotation",
            [
                (value, _NUMBERS)
                for value in (
                    *("5 4 20 16", 5, {}, {"x": 5}, [], [5, 4, 20], [5, 4, 20, 16, 1]),
                    *([5, 4, 20, None], [5, 4, "20", 16], [5, 4, [20], 16], [True, 4, 20, 16]),
                    *([NAN, 4, 20, 16], [5, 4, INF, 16], [5, 4, HUGE, 16], [[5, 4, 20, 16]]),
                )
            ],
        ),
        (
            "annotations.1.area",
            "invalid annotation",
            [(v, "area: wanted a finite") for v in ("160", NAN, INF, -1, -INF, [160], {}, True)],
        ),
        (
            "annotations.1.iscrowd",
            "invalid annotation",
            [(v, "iscrowd: wanted 0 or 1") for v in ("0", "1", "false", 2, -1, 0.5, NAN, [], {})],
        ),
        ("annotations.1.image_id", "unknown image", [(7, "not listed")]),
        ("annotations.1.category_id", "unknown category", [(7, "not among 1, 18, 44")]),
        ("annotations.1.id", "duplicate annotation id", [(1, "occurred before")]),
    )
    for value, words in cases
}
"""What spoils one entry -> the file, the kind of the problem, and words of its message."""

READABLE: dict[str, bytes] = {
    "UTF-8 with a byte order mark": b"\xef\xbb\xbf" + _TEXT,
    "UTF-16": json.dumps(plain()).encode("utf-16"),
    "UTF-32": json.dumps(plain()).encode("utf-32"),
    "area of null": changed("annotations.1.area", None),
    "area of zero": changed("annotations.1.area", 0),
    "iscrowd of null": changed("annotations.1.iscrowd", None),
    "iscrowd of false": changed("annotations.1.iscrowd", False),
    "iscrowd of 0.0": changed("annotations.1.iscrowd", 0.0),
    "ids in floating point": changed("annotations.1.image_id", 9.0),
    "category ids in floating point": changed("annotations.1.category_id", 18.0),
    "width in floating point": changed("images.0.width", 40.0),
    "unused fields of any value": changed("images.0.license", [NAN, None]),
    "info of null": changed("info", None),
    "negative ids": changed("annotations.1.id", -2),
}
"""Unusual files with the same meaning as the plain one."""
