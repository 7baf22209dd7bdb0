# SPDX-License-Identifier: BSD-3-Clause
"""Where Pascal VOC's XML files, lists and classes are in the folders that tools export."""

import re
from dataclasses import dataclass
from pathlib import Path

from dcnv2.data.formats.files import UNSPLIT, read_list

YEAR = re.compile(r"VOC\d{4}")
LISTS = ("Main", "Segmentation")


@dataclass
class VocSplit:
    """The files of a split.

    Attributes:
        folder: of the year, or of the data set.
        source: list of the images, or the folder of the XML files; for messages.
        stems: names of the images without suffix, from the list; or as the XML files are named.
        xml: folder of the XML files, which may have folders in it.
    """

    folder: Path
    source: Path
    stems: list[str]
    xml: Path


def voc_splits(root: Path) -> list[str]:
    """Returns the names of the splits of a folder, none if it is not in VOC's format."""
    names = []
    for folder in [root, *root.glob("VOC[0-9]*"), *root.glob("VOCdevkit/VOC[0-9]*")]:
        prefix = "" if folder == root else folder.name.removeprefix("VOC") + "_"
        lists = {file.stem for file in folder.glob("ImageSets/Main/*.txt")}
        # The challenges have further lists for each class, such as cat_train.txt.
        own = {name for name in lists if name.rpartition("_")[0] == ""}
        own |= {name for name in lists if name.rpartition("_")[2] not in lists}
        names += [prefix + name for name in own]
    return sorted(names) or sorted(_xml_folders(root))


def find_voc(root: Path, split: str, masks: bool) -> VocSplit:
    """Finds the files of a split.

    Args:
        root: The folder that holds Annotations, ImageSets and JPEGImages, or folders with XML
            files next to pictures; or, for a split with a year before its name such as
            `2007_trainval`, one that contains `VOC2007` or `VOCdevkit/VOC2007`.
        split: Name of a list in `ImageSets/Main`, or in `ImageSets/Segmentation` with masks, or
            of a folder with XML files.
        masks: Whether masks are required.

    Raises:
        FileNotFoundError: Nothing was found; the message lists the paths that were tried.
        ValueError: The list is not text in UTF-8.
    """
    year, _, name = split.partition("_")
    tried = [(root, split)]
    if year.isdigit() and name:
        tried += [(root / f"VOC{year}", name), (root / "VOCdevkit" / f"VOC{year}", name)]
    kinds = [LISTS[masks]]
    if not any((folder / "ImageSets" / kinds[0]).is_dir() for folder, _ in tried):
        kinds = ["Main"]
    lists = [
        (folder, folder / "ImageSets" / kind / f"{n}.txt") for folder, n in tried for kind in kinds
    ]
    for folder, file in lists:
        if file.is_file():
            return VocSplit(folder, file, _read_list(file), folder / "Annotations")
    folders = _xml_folders(root)
    if split in folders:
        xml = folders[split]
        stems = sorted(p.relative_to(xml).as_posix().removesuffix(".xml") for p in _xml_below(xml))
        return VocSplit(root, xml, stems, xml)
    lines = "\n".join(f"  {file}" for _, file in lists)
    raise FileNotFoundError(f"{root} has no VOC split '{split}'; tried\n{lines}")


def all_xml(found: VocSplit) -> list[Path]:
    """Returns the XML files of all splits of a data set, whose classes must be the same."""
    return _xml_below(found.xml if found.xml.name == "Annotations" else found.folder)


def label_map(folder: Path) -> list[str] | None:
    """Returns the classes of CVAT's `labelmap.txt` in their order; None if there is no such file.

    Raises:
        ValueError: it is not text.
    """
    path = folder / "labelmap.txt"
    if not path.is_file():
        return None
    lines = [line for line in read_list(path) if not line.startswith("#")]
    names = [line.partition(":")[0].strip() for line in lines]
    return [name for name in dict.fromkeys(names) if name and name != "background"]


def _xml_folders(root: Path) -> dict[str, Path]:
    """Returns the folders of XML files by the name of their split, where there are no lists."""
    if not root.is_dir():
        return {}
    if (root / "Annotations").is_dir():
        root = root / "Annotations"
    if any(_is_annotation(path) for path in root.glob("*.xml")):
        return {UNSPLIT: root}
    below = [folder for folder in sorted(root.iterdir()) if folder.is_dir()]
    return {
        folder.name: folder
        for folder in below
        if folder.name[0] != "." and any(map(_is_annotation, _xml_below(folder)))
    }


def _xml_below(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*.xml") if not p.name.startswith("."))


def _is_annotation(path: Path) -> bool:
    """Whether an XML file describes one image, as VOC's; CVAT's describes all."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(2048)
    return re.search(rb"<annotation[\s>]", start.replace(b"\0", b"")) is not None


def _read_list(path: Path) -> list[str]:
    """Returns the names in a list of images; the second column of a class's list is dropped."""
    return [re.sub(r"\s+-?[01]$", "", line).replace("\\", "/") for line in read_list(path)]
