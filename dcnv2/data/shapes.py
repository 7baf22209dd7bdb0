# SPDX-License-Identifier: BSD-3-Clause
"""The embedded data set: deformed, textured, occluding shapes with exact masks, from a seed.

A split is written as a COCO folder. Every picture has a random stream of its own, so picture i of a
split does not depend on their number. A seed gives the same bytes on every machine.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from dcnv2.data import raster, render, shape_contours
from dcnv2.data.images import write_png
from dcnv2.data.run_lengths import run_lengths
from dcnv2.data.whole_files import make_folder, replacing

VERSION = "1.0"
"""Changes whenever the same seed would draw something else."""

CLASSES = tuple(shape_contours.CONTOURS)
SIDE_SHARE = (0.21, 0.62)
"""Shortest and longest object, as a share of the picture's side."""
MIN_VISIBLE = 0.7
"""Share of an object's pixels inside the picture that later objects leave visible."""
MAX_SIZE = 4096
"""Largest side of a picture, in pixels: drawing one takes some 100 bytes a pixel."""
MAX_OUTSIDE = 0.15
"""How far an object may stick out of the picture, as a share of its side."""
EMPTY_SHARE, CROWD_SHARE, TWIG_SHARE = 0.04, 0.06, 0.25
"""Shares of pictures without objects, with a crowd region, with clutter in front of objects."""
PLACE_TRIES = 8
_SPLIT_STREAM = {"train": 0, "val": 1}


@dataclass
class Instance:
    """One annotated object: its class as an index into CLASSES, and its visible pixels."""

    label: int
    mask: np.ndarray  # bool [size, size]
    crowd: bool = False

    def __post_init__(self) -> None:
        self.pixels = np.count_nonzero(self.mask)  # inside the picture, before others hide some


class Scene:
    """One picture in the making, rendered from back to front."""

    def __init__(self, rng: np.random.Generator, size: int, warp: float) -> None:
        self.rng, self.size, self.warp = rng, size, warp
        self.picture = render.background(rng, size)
        self.ground = self.picture.reshape(-1, 3)[:: size * size // 7].copy()
        self.instances: list[Instance] = []

    def clutter(self, most: int) -> None:
        """Paints up to `most` dull bars and shards; what they hide is hidden."""
        for _ in range(int(self.rng.random() * (most + 1))):
            draws = self.rng.random(11)
            thin = 0.04 if draws[0] < 0.6 else 0.35
            length = self.size * (0.08 + 0.2 * draws[1])
            corners = shape_contours.on_circle(np.array([0.0, 0.25, 0.5, 0.75]) + 0.2 * draws[2:6])
            contour = corners[: 3 + int(2 * draws[6])] * [1, thin]
            contours, inverse = shape_contours.place(
                [contour], length, tuple(self.size * draws[7:9]), np.array([1.0, *draws[9:]])
            )
            cover, corner = self._cover(contours)
            mask = self._mask(cover, corner)
            if not self._hides_too_much(mask):
                self._hide(mask)
                colours = render.dull_colours(self.rng, self.ground)
                render.render_shape(self.picture, cover, inverse, corner, colours, self.rng)

    def objects(self, labels: Sequence[int], most: int) -> None:
        """Paints one to `most` objects of random classes; each leaves enough of those before it."""
        for _ in range(1 + int(self.rng.random() * most)):
            label = labels[int(self.rng.random() * len(labels))]
            for _ in range(PLACE_TRIES):
                draw = self.rng.random()
                shortest, longest = SIDE_SHARE
                side = self.size * (shortest + (longest - shortest) * draw)
                margin = side * (0.5 - MAX_OUTSIDE)
                centre = margin + (self.size - 2 * margin) * self.rng.random(2)
                contours, inverse = self._contours(label, side, tuple(centre))
                cover, corner = self._cover(contours)
                mask = self._mask(cover, corner)
                if not self._hides_too_much(mask):
                    self._hide(mask)
                    self.instances.append(Instance(label, mask))
                    colours = render.vivid_colours(self.rng, self.ground)
                    render.render_shape(self.picture, cover, inverse, corner, colours, self.rng)
                    break

    def crowd(self, label: int) -> None:
        """Paints a dozen small objects of one class as a single crowd region."""
        middle = self.size * (0.25 + 0.5 * self.rng.random(2))
        colours = render.vivid_colours(self.rng, self.ground)
        region = np.zeros((self.size, self.size), bool)
        for _ in range(10 + int(8 * self.rng.random())):
            draws = self.rng.random(3)
            side = self.size * (0.08 + 0.05 * draws[0])
            centre = middle + self.size * 0.36 * (draws[1:] - 0.5)
            contours, inverse = self._contours(label, side, tuple(centre))
            cover, corner = self._cover(contours)
            render.render_shape(self.picture, cover, inverse, corner, colours, self.rng)
            region |= self._mask(cover, corner)
        self.instances.append(Instance(label, region, crowd=True))

    def _contours(
        self, label: int, side: float, centre: tuple[float, float]
    ) -> tuple[shape_contours.Contours, np.ndarray]:
        draws = self.rng.random(16)
        shape = shape_contours.CONTOURS[CLASSES[label]](draws[:4])
        shape = shape_contours.deform(shape, draws[4:13], self.warp)
        return shape_contours.place(shape, side, centre, draws[13:])

    def _cover(self, contours: shape_contours.Contours) -> tuple[np.ndarray, tuple[int, int]]:
        """Coverage of contours in their box and room for a shadow, and that window's corner."""
        low = np.clip(np.floor(contours[0].min(0)), 0, self.size - 1).astype(int)
        high = np.clip(np.ceil(contours[0].max(0)) + render.SHADOW, low + 1, self.size).astype(int)
        width, height = (high - low).tolist()
        cover = raster.coverage([points - low for points in contours], height, width)
        return cover, (int(low[1]), int(low[0]))

    def _mask(self, cover: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
        """The pixels that are at least half covered, bool [size, size]."""
        mask = np.zeros((self.size, self.size), bool)
        row, column = corner
        mask[row : row + cover.shape[0], column : column + cover.shape[1]] = cover >= 0.5
        return mask

    def _hides_too_much(self, mask: np.ndarray) -> bool:
        return any(
            np.count_nonzero(old.mask & ~mask) < MIN_VISIBLE * old.pixels for old in self.instances
        )

    def _hide(self, mask: np.ndarray) -> None:
        for instance in self.instances:
            instance.mask &= ~mask


def draw_picture(
    stream: Sequence[int], size: int, labels: Sequence[int], warp: float
) -> tuple[np.ndarray, list[Instance]]:
    """Draws one picture.

    Args:
        stream: Whole numbers that seed it, such as (seed, split, index).
        size: Side in pixels.
        labels: Indices into CLASSES that may occur.
        warp: Strength of the non-rigid deformation, 0 to 1.

    Returns:
        uint8 [size, size, 3], and its objects from back to front with their visible masks.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(stream)))
    scene = Scene(rng, size, warp)
    kind, label, twigs = rng.random(3)
    scene.clutter(5)
    if kind < CROWD_SHARE:
        scene.crowd(labels[int(label * len(labels))])
    if kind < 1 - EMPTY_SHARE:
        scene.objects(labels, 4 if kind > CROWD_SHARE else 2)
    if twigs < TWIG_SHARE:
        scene.clutter(2)
    return render.finish(rng, scene.picture), scene.instances


def write_shapes(
    root: str | Path,
    train: int = 2000,
    val: int = 200,
    size: int = 128,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    warp: float = 0.6,
) -> Path:
    """Writes the embedded set as a COCO folder, over what was there.

    `images/{train,val}/%06d.png` and `annotations/instances_{train,val}.json`. Objects have one
    polygon or more where a polygon can say exactly what is visible, run-length codes elsewhere;
    boxes and areas are those of the visible pixels.

    Args:
        root: Folder to write to.
        train: Pictures in the training split.
        val: Pictures in the validation split.
        size: Side of the pictures in pixels, at least 64.
        seed: Picture i of a split depends only on it, on i and on the four options below.
        classes: Names out of CLASSES that may occur, in the order of the category ids.
        warp: Strength of the non-rigid deformation, from 0 for none to 1, where contours still
            never cross themselves but classes are hardest to tell apart.

    Returns:
        The folder.

    Raises:
        ValueError: An unknown or repeated class, or an option out of range.
    """
    names = tuple(classes) if classes is not None else CLASSES
    _check_options(train, val, size, seed, names, warp)
    root = Path(root)
    labels = [CLASSES.index(name) for name in names]
    make_folder(root / "annotations")
    for split, count in (("train", train), ("val", val)):
        folder = root / "images" / split
        make_folder(folder)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(count):
            name = f"{index + 1:06d}.png"
            stream = (seed, _SPLIT_STREAM[split], index)
            pixels, instances = draw_picture(stream, size, labels, warp)
            write_png(folder / name, pixels)
            images.append({"id": index + 1, "file_name": name, "width": size, "height": size})
            for instance in instances:
                annotation = {"id": len(annotations) + 1, "image_id": index + 1}
                annotation["category_id"] = labels.index(instance.label) + 1
                annotations.append(annotation | _describe(instance))
        options = {"seed": seed, "size": size, "warp": warp, "split": split, "images": count}
        document = {
            "info": {"description": "dcnv2 shapes", "version": VERSION, **options},
            "categories": [
                {"id": i + 1, "name": name, "supercategory": "shape"}
                for i, name in enumerate(names)
            ],
            "images": images,
            "annotations": annotations,
        }
        path = root / "annotations" / f"instances_{split}.json"
        with replacing(path) as aside:
            aside.write_text(json.dumps(document, separators=(",", ":")))
    return root


def _check_options(
    train: int, val: int, size: int, seed: int, names: Sequence[str], warp: float
) -> None:
    unknown = [name for name in names if name not in CLASSES]
    if unknown or not names or len(set(names)) < len(names):
        raise ValueError(f"classes: wanted different names of {', '.join(CLASSES)}, got {names}")
    if min(train, val) < 0:
        raise ValueError(f"train and val: wanted counts of pictures, got {train} and {val}")
    if not 64 <= size <= MAX_SIZE:
        raise ValueError(f"size: wanted 64 to {MAX_SIZE} pixels, got {size}")
    if seed < 0:
        raise ValueError(f"seed: wanted at least 0, got {seed}")
    if not 0 <= warp <= 1:
        raise ValueError(f"warp: wanted 0 to 1, got {warp}")


def _describe(instance: Instance) -> dict[str, Any]:
    """Segmentation, area, box and crowd flag in COCO's form."""
    mask = instance.mask
    segmentation: Any
    if instance.crowd:
        segmentation = {"size": list(mask.shape), "counts": run_lengths(mask)}
    elif (segmentation := raster.trace_polygons(mask)) is None:
        segmentation = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        segmentation["counts"] = segmentation["counts"].decode("ascii")
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return {
        "segmentation": segmentation,
        "area": int(np.count_nonzero(mask)),
        "bbox": [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1],
        "iscrowd": int(instance.crowd),
    }
