# SPDX-License-Identifier: BSD-3-Clause
"""The images of an evaluation with most errors: truth on the left, prediction on the right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2 import functional

from dcnv2.data.dataset import DetectionDataset
from dcnv2.data.run_lengths import decode
from dcnv2.engine.evaluation.evaluate import Result
from dcnv2.engine.visualization.draw import draw, write_picture

# Number of pictures, height of their titles, and width between their halves, in pixels.
COUNT = 16
TITLE = 16
GAP = 8


def draw_worst(folder: Path, result: Result, count: int = COUNT) -> list[Path]:
    """Draws the images with most errors into `worst/`, those of other sets into their folders.

    Args:
        folder: where the results are written; the names of the pictures begin with their rank.
        result: with its data set and its errors.
        count: draw at most this many; images without an error are not drawn.

    Returns:
        The pictures.

    Raises:
        OSError: a picture could not be written.
    """
    written: list[Path] = []
    dataset, errors = result.dataset, result.errors
    if dataset is not None and errors is not None:
        numbers = errors.per_image
        wrong = numbers[numbers[["wrong_class", "missed", "false"]].sum(axis=1) > 0].head(count)
        places = {image_id: index for index, image_id in enumerate(dataset.image_ids.tolist())}
        chosen = set(wrong["image_id"])
        found = [entry for entry in result.detections if entry["image_id"] in chosen]
        for rank, row in enumerate(wrong.itertuples(), start=1):
            index = places[row.image_id]
            title = f"{row.missed} missed, {row.wrong_class} of another class, {row.false} false"
            entries = [entry for entry in found if entry["image_id"] == row.image_id]
            name = re.sub(r"[^\w.-]", "_", Path(dataset.table.files[index]).stem)[:80]
            path = folder / "worst" / f"{rank:02d}_{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pair = beside(dataset, index, entries, errors.threshold, title)
            write_picture(path, pair)
            written.append(path)
    for name, other in result.others.items():
        written += draw_worst(folder / name, other, count)
    return written


def beside(
    dataset: DetectionDataset,
    index: int,
    detections: Sequence[dict[str, Any]],
    threshold: float,
    title: str,
) -> Tensor:
    """Returns an image with its objects, and next to it with detections: uint8 [3, H, W].

    Args:
        dataset: of the image.
        index: of the image.
        detections: of the image, in COCO's result format.
        threshold: minimum score.
        title: over the right half, after `prediction: `.
    """
    image = dataset.image(index)
    truth = draw(image, dataset.target(index), dataset.names, threshold)
    found = draw(image, _drawable(dataset, index, detections), dataset.names, threshold)
    halves = [_titled(truth, "truth"), _titled(found, f"prediction: {title}")]
    gap = torch.full((3, halves[0].shape[1], GAP), 255, dtype=torch.uint8)
    return torch.cat([halves[0], gap, halves[1]], dim=2)


def _drawable(
    dataset: DetectionDataset, index: int, entries: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Returns results in COCO's format as `draw` takes them."""
    width, height = dataset.table.sizes[index].tolist()
    labels = {category: label for label, category in enumerate(dataset.category_ids, start=1)}
    boxes = torch.tensor([entry["bbox"] for entry in entries]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    result: dict[str, Any] = {
        "boxes": boxes,
        "labels": torch.tensor([labels[e["category_id"]] for e in entries], dtype=torch.int64),
        "scores": torch.tensor([entry["score"] for entry in entries]),
    }
    if entries and all("segmentation" in entry for entry in entries):
        codes = [entry["segmentation"]["counts"].encode("ascii") for entry in entries]
        result["masks"] = decode(codes, (width, height))
    return result


def _titled(picture: Tensor, title: str) -> Tensor:
    """Returns a picture below a line of text, cut to its width."""
    strip = Image.new("RGB", (picture.shape[2], TITLE), "white")
    ImageDraw.Draw(strip).text((3, 2), title, "black")
    return torch.cat([functional.pil_to_tensor(strip), picture], dim=1)
