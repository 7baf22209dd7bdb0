# SPDX-License-Identifier: BSD-3-Clause
"""Reads COCO annotation files, and checks what every field holds before it is used."""

import json
import logging
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dcnv2.data.formats.likeness import likeness
from dcnv2.data.polygons import finite

log = logging.getLogger("dcnv2")

LARGEST_ID = 2**63 - 1
LARGEST_SIDE = 2**31 - 1
FLAGS = (0, 1)

Rule = Callable[[Any], Any]
"""Returns a field's value in its proper type; raises ValueError, which says what was wanted."""


def load_document(path: str | Path) -> dict[str, Any]:
    """Reads a COCO annotation file in UTF-8, 16 or 32.

    The entries of `images` and `annotations` are not checked: see `read_fields`.

    Returns:
        The document; each of its `categories` has a whole number `id` and a text `name`.

    Raises:
        ValueError: Not JSON, a key occurs twice in an object, there is no list of images, or a
            category is invalid, or has the id or the name of another. The message names the file.
    """
    content = Path(path).read_bytes()
    if content.startswith(b"\x1f\x8b"):
        raise ValueError(f"{path}: compressed by gzip; unpack it with gunzip")
    if not content.strip():
        raise ValueError(f"{path}: not a JSON file: it is empty")
    try:
        document = json.loads(content, object_pairs_hook=_unique_keys)
    except RecursionError:
        raise ValueError(f"{path}: not a COCO annotation file: nested too deeply") from None
    except ValueError as error:  # of the syntax, the encoding, or a number of too many digits
        raise ValueError(f"{path}: not a JSON file: {error}") from None
    for key in ("images", "categories", "annotations"):
        is_optional = key == "annotations"  # test sets have none
        if not isinstance(document, dict) or not (
            isinstance(document.get(key), list) or (is_optional and key not in document)
        ):
            hint = likeness(document)
            raise ValueError(f"{path}: not a COCO annotation file: it has no list of {key}{hint}")
    _drop_root_category(path, document)
    document["categories"] = _read_categories(path, document["categories"])
    return document


def _drop_root_category(path: str | Path, document: dict[str, Any]) -> None:
    """Removes the category 0 that Roboflow adds as the parent of the others; it has no objects."""
    first, *others = document["categories"] or [None]
    if not (isinstance(first, dict) and first.get("id") == 0 and others):
        return
    parents = {entry.get("supercategory") for entry in others if isinstance(entry, dict)}
    if first.get("supercategory") != "none" or parents != {first.get("name")}:
        return
    if not any(id_in(entry, "category_id") == 0 for entry in document.get("annotations", [])):
        log.warning("%s: category 0 is left out: it is the parent of the others", path)
        document["categories"] = others


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        number = f" with the id {reprlib.repr(values['id'])}" if "id" in values else ""
        raise ValueError(f"the key {twice!r} occurs twice in an object{number}")
    return values


def _read_categories(path: str | Path, entries: list[Any]) -> list[dict[str, Any]]:
    if not entries:
        raise ValueError(f"{path}: the list of categories is empty")
    categories = []
    for index, entry in enumerate(entries):
        try:
            fields = read_fields(entry, CATEGORY)
        except ValueError as error:
            raise ValueError(f"{path}: categories[{index}]: {error}") from None
        categories.append({**entry, **fields})
    ids = [category["id"] for category in categories]
    if len(set(ids)) < len(ids):
        raise ValueError(f"{path}: two categories have the same id, among {sorted(ids)}")
    by_name: dict[str, int] = {}
    for category in categories:
        other = by_name.setdefault(category["name"], category["id"])
        if other != category["id"]:
            raise ValueError(
                f"{path}: categories {other} and {category['id']} are both named "
                f"{category['name']!r}: give them different names, or one id to the objects of both"
            )
    return categories


def read_fields(entry: Any, rules: Mapping[str, Rule]) -> dict[str, Any]:
    """Returns the fields of an entry that have rules, each as its rule returns it.

    Fields that are absent or null become None if they are in `OPTIONAL`.

    Args:
        entry: An entry of one of the file's lists.
        rules: `CATEGORY`, `IMAGE` or `ANNOTATION`.

    Raises:
        ValueError: Not an object, a field is missing, or its value is none that it may hold.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"wanted an object with {', '.join(rules)}; got {reprlib.repr(entry)}")
    lacking = [key for key in rules if entry.get(key) is None and key not in OPTIONAL]
    if lacking:
        raise ValueError(f"has no {' and no '.join(lacking)}")
    values = dict.fromkeys(rules)
    for key, rule in rules.items():
        value = entry.get(key)
        if value is not None:
            try:
                values[key] = rule(value)
            except ValueError as error:
                raise ValueError(f"{key}: {error}, got {reprlib.repr(value)}") from None
    return values


def entry_name(kind: str, entry: Any, index: int) -> str:
    """Names an entry for a message: by its id if it has a valid one, else by its place."""
    number = id_in(entry, "id")
    return f"{kind}s[{index}]" if number is None else f"{kind} {number}"


def id_in(entry: Any, key: str) -> int | None:
    """Returns a field that holds an id; None if there is no such field, or something else in it."""
    try:
        return _id(entry.get(key)) if isinstance(entry, dict) else None
    except ValueError:
        return None


def _whole(value: Any, low: int, high: int, wanted: str) -> int:
    # A table that went through pandas has 3.0 for 3. A truth value is an int to Python.
    if type(value) in (int, float) and low <= value <= high and value == int(value):
        return int(value)
    raise ValueError(f"wanted {wanted}")


def _id(value: Any) -> int:
    return _whole(value, -LARGEST_ID, LARGEST_ID, "a whole number of at most 64 bits")


def _side(value: Any) -> int:
    return _whole(value, 1, LARGEST_SIDE, "a whole number of pixels, at least 1")


def _text(value: Any) -> str:
    if isinstance(value, str) and value.strip() and "\0" not in value:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("wanted text without halves of surrogate pairs") from None
        return value
    raise ValueError("wanted text")


def _box(value: Any) -> tuple[float, float, float, float]:
    if isinstance(value, list) and len(value) == 4 and finite(value):
        x, y, width, height = value
        return x, y, width, height
    raise ValueError("wanted a box of four finite numbers")


def _area(value: Any) -> float:
    if finite([value]) and value >= 0:
        return float(value)
    raise ValueError("wanted a finite number of at least 0")


def _flag(value: Any) -> bool:
    if isinstance(value, bool | int | float) and value in FLAGS:
        return bool(value)
    raise ValueError("wanted 0 or 1")


CATEGORY: dict[str, Rule] = {"id": _id, "name": _text}
IMAGE: dict[str, Rule] = {"id": _id, "file_name": _text, "width": _side, "height": _side}
ANNOTATION: dict[str, Rule] = {
    "id": _id,
    "image_id": _id,
    "category_id": _id,
    "bbox": _box,
    "area": _area,
    "iscrowd": _flag,
}
OPTIONAL = ("area", "iscrowd")
