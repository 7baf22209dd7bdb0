# SPDX-License-Identifier: BSD-3-Clause
"""Where YOLO's pictures, label files and classes are: Ultralytics, Darknet, CVAT, Roboflow, ..."""

import reprlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from dcnv2.data.formats.files import (
    UNSPLIT,
    BadFileError,
    find_picture,
    pictures_in,
    read_lines,
    read_list,
)

SPLITS = ("train", "val", "valid", "test")
NAME_FILES = ("classes.txt", "obj.names", "labels/classes.txt", "data/obj.names")


def find_description(root: Path) -> tuple[Path, dict[str, Any]] | None:
    """Returns a folder's `data.yaml`, or a file of its kind with another name, and its content.

    Raises:
        ValueError: a file named data.yaml is no description of a data set.
    """
    files = sorted([*root.glob("*.yaml"), *root.glob("*.yml")], key=lambda p: (p.stem != "data", p))
    for path in files:
        try:
            content = yaml.safe_load("\n".join(read_lines(path)))
            if isinstance(content, dict) and "names" in content:
                return path, content
            error = "it has no names of classes"
        except (BadFileError, OSError, ValueError, yaml.YAMLError, RecursionError) as caught:
            error = " ".join(str(caught).split()) or "nested too deeply"
        if path.stem == "data":
            raise ValueError(f"{path}: not a description of a YOLO data set: {error}")
    return None


def class_names(path: Path, given: Any) -> list[str]:
    """Returns the names in a description, a list or a mapping of numbers, in their order.

    Raises:
        ValueError: it is something else, numbers are missing, or names are empty or repeated.
    """
    if isinstance(given, dict):
        numbers = [int(k) if isinstance(k, str) and k.isdecimal() else k for k in given]
        if any(type(k) is not int for k in numbers) or sorted(numbers) != [*range(len(numbers))]:
            got = reprlib.repr(list(given))
            raise ValueError(f"{path}: names: wanted the numbers from 0 without gaps, got {got}")
        by_number = dict(zip(numbers, given.values(), strict=True))
        given = [by_number[number] for number in range(len(by_number))]
    if not isinstance(given, list) or not given:
        raise ValueError(f"{path}: names: wanted the names of classes, got {reprlib.repr(given)}")
    for name in given:
        if not isinstance(name, str | int | float) or not str(name).strip():
            raise ValueError(f"{path}: names: wanted texts, got {reprlib.repr(name)}")
    names = [str(name).strip() for name in given]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path}: names: {twice[0]!r} occurs twice")
    return names


def read_names(root: Path) -> tuple[list[str], str, bool]:
    """Returns the classes of a folder, the file that has them, and whether labels have key points.

    Raises:
        ValueError: there is no such file, or it is damaged.
    """
    described = find_description(root)
    if described is not None:
        path, content = described
        names = class_names(path, content["names"])
        count = content.get("nc", len(names))
        if count != len(names):
            raise ValueError(f"{path}: nc is {reprlib.repr(count)}, but names has {len(names)}")
        return names, str(path), "kpt_shape" in content
    for name in NAME_FILES:
        path = root / name
        if path.is_file():
            return class_names(path, read_list(path)), str(path), False
    raise ValueError(
        f"{root} has YOLO's labels, but no names of classes: add a file data.yaml with "
        "'names: [first, second]', or classes.txt with a name on each line"
    )


def yolo_splits(root: Path) -> dict[str, list[Path]]:
    """Returns the folders and lists of each split's pictures; empty if it is not YOLO's format."""
    if not root.is_dir():
        return {}
    if found := _described_splits(root):
        return found
    lists = {name: [root / f"{name}.txt"] for name in SPLITS if (root / f"{name}.txt").is_file()}
    if (root / "obj.names").is_file() or (root / "obj_train_data").is_dir():
        return lists
    for pattern, labels in (("images/{}", "labels/{}"), ("{}/images", "{}/labels")):
        pairs = {name: (root / pattern.format(name), root / labels.format(name)) for name in SPLITS}
        found = {n: [pictures] for n, (pictures, texts) in pairs.items() if texts.is_dir()}
        if found:
            return found
    if (root / "images").is_dir() and (root / "labels").is_dir():
        return {UNSPLIT: [root / "images"]}
    if (root / "classes.txt").is_file():  # as labelImg writes it next to the pictures
        return {UNSPLIT: [root]}
    return {}


def _described_splits(root: Path) -> dict[str, list[Path]]:
    described = find_description(root)
    if described is None:
        return {}
    path, content = described
    named = [name for name in SPLITS if content.get(name)]
    return {name: _resolve(path, content.get("path"), content[name]) for name in named}


def absent_splits(root: Path) -> dict[str, Path]:
    """Returns splits that are described only, with their path: Roboflow names `test` always."""
    described = _described_splits(root)
    return {name: paths[0] for name, paths in described.items() if not any_exists(paths)}


def any_exists(paths: Iterable[Path]) -> bool:
    """Whether there is a folder or list."""
    return any(path.exists() for path in paths)


def _resolve(path: Path, base: Any, entries: Any) -> list[Path]:
    """Returns the paths that a description names, wherever the data set was moved to."""
    texts = entries if isinstance(entries, list) else [entries]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(
            f"{path}: wanted the path of a folder or list, got {reprlib.repr(entries)}"
        )
    folders = [path.parent]
    if isinstance(base, str):
        folders.insert(0, path.parent / base.replace("\\", "/"))
    found = []
    for text in texts:
        written = text.replace("\\", "/")
        tried = [folder / written for folder in folders]
        # Roboflow writes ../train/images for what is next to the file.
        parts = [part for part in Path(written).parts if part not in ("..", ".", "/")]
        tried += [path.parent.joinpath(*parts[begin:]) for begin in range(len(parts))]
        found.append(next((p for p in tried if p.exists()), tried[0]))
    return found


def pictures_of(root: Path, sources: Iterable[Path]) -> list[Path]:
    """Returns the pictures of a split, in the order of its folders and lists.

    Raises:
        FileNotFoundError: a folder or list is missing.
        ValueError: a list is not text, or there are no pictures.
    """
    found: list[Path] = []
    for source in sources:
        if source.is_dir():
            found += pictures_in(source)
        elif source.is_file():
            found += _listed(root, source, read_list(source))
        else:
            raise FileNotFoundError(f"{source}: no such folder or list of pictures")
    if not found:
        raise ValueError(f"{', '.join(map(str, sources))}: no pictures found")
    return list(dict.fromkeys(found))


def _listed(root: Path, source: Path, lines: Sequence[str]) -> list[Path]:
    pictures = []
    for line in lines:
        parts = Path(line.replace("\\", "/")).parts
        # Darknet's lists begin with `data/`; others have the folders of the machine they are from.
        tails = ["/".join(parts[begin:]) for begin in range(max(len(parts) - 1, 1))]
        places = (base / tail for tail in tails for base in (source.parent, root))
        pictures.append(next((p for p in places if p.is_file()), find_picture([root], [line])))
    return pictures
