# SPDX-License-Identifier: BSD-3-Clause
"""Small parts that readers share: text and XML files, numbers, and the pictures of names."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from dcnv2.data.images import SUFFIXES

ELSEWHERE = re.compile(r"/|[A-Za-z]:|\.\./|\w+://")
"""How a path begins that is not relative to the data set."""
UNSPLIT = "all"
"""Name of the only split of a folder that a tool did not split."""
UPPER = tuple(suffix.upper() for suffix in SUFFIXES)


class BadFileError(ValueError):
    """A file that is not what its reader expects; the message does not name it."""


def read_bytes(path: Path) -> bytes:
    """Returns what a regular file holds; reading a pipe or a device might never end.

    Raises:
        BadFileError: it is not a regular file, or cannot be read.
        FileNotFoundError: there is none.
    """
    if path.exists() and not path.is_file():
        raise BadFileError("not a regular file")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BadFileError(f"cannot be read: {error.strerror}") from None


def read_lines(path: Path) -> list[str]:
    """Returns the lines of a text in UTF-8 with or without a byte-order mark.

    Raises:
        BadFileError: it is another kind of file.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFileError(f"not a text file in UTF-8: {error}") from None
    if "\0" in text:
        raise BadFileError("not a text file: it has a zero byte")
    return re.split(r"\r\n|\n|\r", text)


def read_list(path: Path) -> list[str]:
    """Returns the lines of a text that are not empty, without the space around them.

    Raises:
        ValueError: it is another kind of file; the message names it.
    """
    try:
        lines = [line.strip() for line in read_lines(path)]
    except BadFileError as error:
        raise ValueError(f"{path}: {error}") from None
    return [line for line in lines if line]


def read_xml(path: Path) -> ElementTree.Element:
    """Returns the root of an XML file.

    Raises:
        BadFileError: not XML, or XML that asks for more than a description of objects needs.
    """
    content = read_bytes(path)
    # Entities can expand to gigabytes. In UTF-16, where they would not be seen, they are refused
    # by their zero bytes; expat reads no other encoding in which ASCII is not ASCII.
    if b"<!ENTITY" in content or b"<\0!\0E" in content or b"\0<\0!\0E" in content:
        raise BadFileError("not XML: it declares entities")
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # also unknown encodings
        raise BadFileError(f"not XML: {error}") from None


def number(text: str | None) -> float:
    """Returns the number that a text is.

    Raises:
        ValueError: it is none, or not finite.
    """
    value = float(text or "")
    if "_" in (text or "") or value - value != 0:
        raise ValueError
    return value


def find_picture(folders: Iterable[Path], names: Sequence[str]) -> Path:
    """Finds the picture of a name, as written by a tool on any system.

    Each name is tried in each folder, with / for \\; with every suffix if it has none; and without
    the folders before it if these are of the machine that the tool ran on.

    Args:
        folders: where to search.
        names: such as `dog.jpg`, `C:\\pictures\\dog.jpg` or, without a suffix, `dog`.

    Returns:
        The path, or that of the first name in the first folder if there is no such file.
    """
    folders = list(folders)
    for name in names:
        written = name.replace("\\", "/")
        spellings = [name, written]
        if ELSEWHERE.match(written):
            spellings.append(PurePosixPath(written).name)
        for spelling in dict.fromkeys(spellings):
            has_suffix = PurePosixPath(spelling).suffix.lower() in SUFFIXES
            endings = ("",) if has_suffix else (*SUFFIXES, *UPPER)
            for path in (
                folder / f"{spelling}{ending}" for folder in folders for ending in endings
            ):
                if _is_file(path):
                    return path
    return folders[0] / names[0]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def pictures_in(folder: Path) -> list[Path]:
    """Returns the image files in a folder and those below it, sorted; hidden ones are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def file_number(paths: Sequence[Path], noun: str = "picture") -> str:
    """Says how many files are meant, with an example: '3 pictures, such as a.jpg'."""
    return f"{len(paths)} {noun}{'s' * (len(paths) > 1)}, such as {paths[0].name}"
