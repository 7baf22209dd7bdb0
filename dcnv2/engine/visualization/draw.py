# SPDX-License-Identifier: BSD-3-Clause
"""Draws detections on an image: boxes, masks and labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageColor
from torch import Tensor
from torchvision.utils import draw_bounding_boxes

from dcnv2.data.whole_files import replacing
from dcnv2.engine.visualization.fonts import SIZE, label
from dcnv2.structures import RunLengthMasks

# Small images are enlarged until their longer side has about this many pixels.
READABLE_SIDE = 256
# Opacity of masks.
ALPHA = 0.45
# Ten colours that are easy to tell apart (matplotlib's tab10).
COLOURS = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd"),
    *("#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"),
)


def draw(image: Tensor, result: dict[str, Any], names: Sequence[str], threshold: float) -> Tensor:
    """Draws detections on a uint8 image [3, H, W].

    Args:
        image: small images are enlarged by an integer factor, so that labels are legible.
        result: as `predict` or `Predictor` return it; of ground truth, without `scores`,
            everything is drawn.
        names: names of the classes 1, 2, ..., in any script; see `fonts.label`.
        threshold: minimum score.
    """
    times = max(1, READABLE_SIDE // max(image.shape[1:]))
    labels = result["labels"].tolist()
    scores = result["scores"].tolist() if "scores" in result else [None] * len(labels)
    chosen = [i for i, score in enumerate(scores) if score is None or score >= threshold]
    if not chosen:
        return _enlarge(image, times)
    colours = [COLOURS[(labels[i] - 1) % len(COLOURS)] for i in chosen]
    if "masks" in result:
        masks = result["masks"][chosen]
        masks = RunLengthMasks.from_dense(masks) if isinstance(masks, Tensor) else masks
        image = draw_masks(image, masks, colours)
    image = _enlarge(image, times)
    by_font = defaultdict(list)
    for place, i in enumerate(chosen):
        text, font = label(names[labels[i] - 1], labels[i])
        score = "" if scores[i] is None else f" {scores[i]:.2f}"
        by_font[font].append((place, text + score))
    boxes = result["boxes"][chosen] * times
    for font, entries in by_font.items():
        places, texts = map(list, zip(*entries, strict=True))
        image = draw_bounding_boxes(
            *(image, boxes[places], texts),
            colors=[colours[place] for place in places],
            label_colors="white",
            fill_labels=True,
            font=font,
            font_size=None if font is None else SIZE,
        )
    return image


def write_picture(path: Path, picture: Tensor) -> None:
    """Writes uint8 [3, H, W] as a PNG, completely or not at all.

    Raises:
        OSError: the file could not be written; the message names it.
    """
    with replacing(path) as aside:
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(aside, format="PNG")


def draw_masks(image: Tensor, masks: RunLengthMasks, colours: Sequence[str]) -> Tensor:
    """Returns what torchvision's `draw_segmentation_masks` does, without planes [K, H, W].

    Args:
        image: uint8 [3, H, W].
        masks: K masks of the image; pixels of several masks turn black.
        colours: one for each mask, as Pillow names them.
    """
    down_columns = image.transpose(1, 2)
    painted = down_columns.flatten(1).clone()
    count = torch.zeros(painted.shape[1], dtype=torch.int32)
    for index, colour in enumerate(colours):
        pixels = masks.pixels(index)
        painted[:, pixels] = torch.tensor(ImageColor.getrgb(colour), dtype=torch.uint8)[:, None]
        count[pixels] += 1
    painted[:, count > 1] = 0
    blended = down_columns * (1 - ALPHA) + painted.view_as(down_columns) * ALPHA
    return blended.to(image.dtype).transpose(1, 2).contiguous()


def _enlarge(planes: Tensor, times: int) -> Tensor:
    """[K, H, W] -> [K, times H, times W]."""
    return planes.repeat_interleave(times, dim=1).repeat_interleave(times, dim=2)
