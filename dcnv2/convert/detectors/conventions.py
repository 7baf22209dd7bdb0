# SPDX-License-Identifier: BSD-3-Clause
"""Conventions that become options of ours, or that are folded into the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

# torchvision's, whose heads ours are: deltas of boxes are divided by these.
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
PREDICTOR = "roi_heads.box_predictor"


@dataclass
class Conversion:
    """A detector on its way from another project's conventions to ours.

    Attributes:
        tensors: under our names; replaced where a convention is folded in.
        options: options of `ModelConfig` by dotted name below `model.`.
        conventions: for the table: a topic, how the source has it, and what became of it.
        classes: names of the classes, where the file has them.
    """

    tensors: dict[str, Tensor]
    options: dict[str, Any]
    conventions: list[tuple[str, str, str]] = field(default_factory=list)
    classes: list[str] | None = None

    def set(self, topic: str, theirs: object, **options: Any) -> None:
        """Sets options, whose names have `__` for dots, and notes the convention."""
        dotted = {name.replace("__", "."): value for name, value in options.items()}
        self.options |= dotted
        texts = [f"model.{name}: {_text(value)}" for name, value in dotted.items()]
        self.conventions.append((topic, _text(theirs), ", ".join(texts)))

    def fold(self, topic: str, theirs: object, what: str) -> None:
        """Notes a convention that went into the weights."""
        self.conventions.append((topic, _text(theirs), what))

    def pixels(self, mean: Sequence[float], std: Sequence[float], bgr: bool, note: str) -> None:
        """Sets the pixels' scale: mean and std in 0 to 255, in the order of the channels."""
        if bgr:
            mean, std = mean[::-1], std[::-1]
            stem = self.tensors["backbone.body.conv1.weight"]
            self.tensors["backbone.body.conv1.weight"] = stem.flip(1)
            self.fold(f"channels ({note})", "B, G, R", "first kernel reversed to R, G, B")
        self.set(
            f"pixels ({note})",
            f"0 to 255, mean {_text(mean)}, std {_text(std)} of R, G, B",
            image_mean=[value / 255 for value in mean],
            image_std=[value / 255 for value in std],
        )

    def background_last(self) -> None:
        """Moves the background's row to the front, and adds rows for its boxes and masks."""
        for part in ("weight", "bias"):
            rows = self.tensors[f"{PREDICTOR}.cls_score.{part}"]
            self.tensors[f"{PREDICTOR}.cls_score.{part}"] = torch.cat([rows[-1:], rows[:-1]])
        self.fold("background", "the last class, without boxes and masks", "the first, rows added")
        self._per_class(f"{PREDICTOR}.bbox_pred", 4, "boxes")
        self._per_class("roi_heads.mask_predictor.mask_fcn_logits", 1, "masks")

    def _per_class(self, layer: str, rows: int, what: str) -> None:
        """Gives a layer with rows for each class those of the background, 0."""
        classes = self.options["num_classes"]
        for part in ("weight", "bias"):
            if (value := self.tensors.get(f"{layer}.{part}")) is None:
                continue
            if len(value) == rows and classes > 1:  # one prediction for all classes
                value = value.repeat(classes, *[1] * (value.dim() - 1))
                if part == "weight":
                    self.fold(what, "the same for every class", "rows repeated for each class")
            if len(value) != rows * classes:
                raise ValueError(
                    f"{layer}.{part} has {len(value)} rows: wanted {rows * classes} for "
                    f"{classes} classes, or {rows}"
                )
            self.tensors[f"{layer}.{part}"] = torch.cat([torch.zeros_like(value[:rows]), value])

    def box_deltas(
        self, layer: str, means: Sequence[float], stds: Sequence[float], ours: Sequence[float]
    ) -> None:
        """Folds the mean and scale of predicted box deltas into the layer that predicts them."""
        factor = torch.tensor(stds) * torch.tensor(ours)
        shift = torch.tensor(means) * torch.tensor(ours)
        if torch.allclose(factor, torch.ones(4)) and not shift.any():
            return
        for part in ("weight", "bias"):
            value = self.tensors[f"{layer}.{part}"]
            boxes = value.unflatten(0, (-1, 4)) * factor.to(value).view(4, *[1] * (value.dim() - 1))
            if part == "bias":
                boxes = boxes + shift.to(value)
            self.tensors[f"{layer}.{part}"] = boxes.flatten(0, 1)
        theirs = f"times {_text(stds)}, plus {_text(means)}"
        self.fold(f"box deltas of {layer}", theirs, "folded into its weights")

    def anchors(self, sizes: Sequence[Sequence[float]], ratios: Sequence[float]) -> None:
        """Sets the anchors, and checks that the RPN predicts as many."""
        here = len(self.tensors["rpn.head.cls_logits.weight"])
        if len(sizes[0]) * len(ratios) != here:
            raise ValueError(
                f"the RPN has {here} anchors at a place: wanted {len(sizes[0])} sizes times "
                f"{len(ratios)} ratios; the configuration next to the file may tell others"
            )
        self.set(
            "anchors",
            f"sizes {_text(sizes)}, ratios {_text(ratios)}",
            rpn__anchor_sizes=[list(level) for level in sizes],
            rpn__aspect_ratios=list(ratios),
        )

    def size_major_anchors(self) -> None:
        """Orders the RPN's predictions by ratio, then size, where the source has sizes first."""
        sizes = len(self.options["rpn.anchor_sizes"][0])
        if sizes == 1:
            return
        for layer, rows in (("rpn.head.cls_logits", 1), ("rpn.head.bbox_pred", 4)):
            for part in ("weight", "bias"):
                value = self.tensors[f"{layer}.{part}"]
                split = value.unflatten(0, (sizes, -1, rows)).transpose(0, 1)
                self.tensors[f"{layer}.{part}"] = split.flatten(0, 2)
        self.fold("order of anchors", "sizes first", "rows ordered by ratio, then size")


def _text(value: object) -> str:
    """A value for the table, floats without a tail."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(_text(entry) for entry in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)
