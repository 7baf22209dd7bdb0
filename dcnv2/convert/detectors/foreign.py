# SPDX-License-Identifier: BSD-3-Clause
"""Reads a detector of another project as weights and options of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dcnv2.convert.checkpoints import unwrap
from dcnv2.convert.detectors import detectron2, mmdetection, renaming
from dcnv2.convert.detectors.conventions import Conversion
from dcnv2.convert.detectors.layout import layout
from dcnv2.convert.detectors.origins import CAFFE2, DETECTRON2, Origin, origin_of
from dcnv2.convert.detectors.settings import Settings
from dcnv2.convert.weight_files import load_checkpoint


@dataclass
class ForeignDetector:
    """A detector, or only its backbone, under our names.

    Attributes:
        origin: what the file is.
        tensors: under our names.
        options: options of `ModelConfig`, by dotted name below `model.`.
        source_names: the name in the file of each of our names, where the file has it.
        left_out: names in the file that no module of ours has.
        conventions: a topic, how the source has it, and what became of it.
        classes: names of the classes, where the file has them.
        whole: whether it is a whole detector.
    """

    origin: Origin
    tensors: dict[str, Tensor]
    options: dict[str, Any]
    source_names: dict[str, str]
    left_out: list[str]
    conventions: list[tuple[str, str, str]]
    classes: list[str] | None
    whole: bool


def read_detector(
    path: str | Path, config: Mapping[str, Any] | None = None
) -> ForeignDetector | dict[str, Tensor]:
    """Reads a file of weights, and converts it if it is detectron2's or mmdetection's.

    Args:
        path: `.pkl`, `.pth` and the like, or `.safetensors`.
        config: detectron2's `config.yaml` of these weights, as nested values, if there is one.

    Returns:
        The detector, or the tensors as they are if the names are not those of these projects.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is no file of weights, or a detector that has no counterpart here; the
            message names what it is.
    """
    path = Path(path)
    checkpoint = load_checkpoint(path)
    try:
        state = unwrap(checkpoint)
        origin = origin_of(state)
        if origin is None or origin.ours:
            return state
        if origin.project is None:
            raise ValueError(f"it looks like {origin.text}: {origin.taken}")
        meta = checkpoint.get("meta")
        return _convert(origin, state, meta if isinstance(meta, Mapping) else {}, config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _convert(
    origin: Origin,
    state: dict[str, Tensor],
    meta: Mapping[str, Any],
    config: Mapping[str, Any] | None,
) -> ForeignDetector:
    rules = [renaming.DETECTRON2] if origin.project == DETECTRON2 else [renaming.MMDETECTION]
    if origin.project == CAFFE2:
        rules = [renaming.CAFFE2, renaming.DETECTRON2]
    names = renaming.renamed(list(state), *rules)
    tensors: dict[str, Tensor] = {}
    for old, new in names.items():
        if new in tensors:
            raise ValueError(f"two tensors would become {new}; rename or remove one of them")
        tensors[new] = state[old]
    whole = "rpn.head.cls_logits.weight" in tensors
    _refuse_unknown(set(state) - set(names), origin)
    if origin.project in (DETECTRON2, CAFFE2):
        pyramid_norm = "backbone.fpn.inner_blocks.0.1.weight" in tensors
        if not pyramid_norm and not any("_gn_" in name for name in state):
            detectron2.add_statistics(tensors)
    work = Conversion(tensors, layout(tensors))
    if not whole:
        detectron2.set_input(
            work, str(origin.project), state, Settings("config.yaml", config or {})
        )
    elif origin.project in (DETECTRON2, CAFFE2):
        detectron2.set_conventions(work, str(origin.project), state, config)
    else:
        work.classes = mmdetection.classes_of(meta)
        mmdetection.set_conventions(work, str(origin.project), mmdetection.settings_of(meta))
    return ForeignDetector(
        origin,
        work.tensors,
        work.options,
        {new: old for old, new in names.items()},
        sorted(set(state) - set(names)),
        work.conventions,
        work.classes,
        whole,
    )


def _refuse_unknown(names: set[str], origin: Origin) -> None:
    """Raises `ValueError` at a tensor that changes detections and that we have no place for."""
    unknown = sorted(name for name in names if not renaming.UNUSED.search(name))
    if unknown:
        raise ValueError(
            f"it looks like {origin.text}, but has {unknown[0]}"
            f"{f' and {len(unknown) - 1} more' if len(unknown) > 1 else ''}, which Faster and "
            "Mask R-CNN here do not have"
        )
