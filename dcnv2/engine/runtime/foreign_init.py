# SPDX-License-Identifier: BSD-3-Clause
"""Weights of another project's detector in a model whose options were chosen otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from dcnv2.convert.detectors.foreign import ForeignDetector
from dcnv2.models import ModelConfig

STEM = "backbone.body.conv1.weight"
# Options that a model may have otherwise: its training starts from other detections.
CONVENTIONS = (
    *("backbone.arch", "backbone.stride_in_1x1", "backbone.mask_scale", "image_mean", "geometry"),
    *("rpn.anchor_sizes", "rpn.aspect_ratios", "box.pool.aligned", "box.pool.sampling_ratio"),
    *("mask.pool.aligned", "mask.pool.sampling_ratio"),
)


def fit_foreign(
    detector: ForeignDetector, own: Mapping[str, Tensor], config: ModelConfig
) -> dict[str, Tensor]:
    """Returns a detector's tensors for a model with other options, where weights can follow.

    The first kernel is scaled to the model's `image_std`, exactly; a body's conv5 goes to the RoI
    heads of a `c4` model.

    Args:
        detector: what was read; its tensors, their names in the file and its table follow.
        own: the model's tensors.
        config: of the model.
    """
    tensors = detector.tensors
    theirs, ours = detector.options["image_std"], list(config.image_std)
    if not torch.allclose(torch.tensor(theirs), torch.tensor(ours)):
        factor = torch.tensor(ours).double() / torch.tensor(theirs).double()
        stem = tensors[STEM]
        tensors[STEM] = (stem.double() * factor.view(3, 1, 1)).to(stem.dtype)
        text = "first kernel scaled to model.image_std"
        detector.conventions.append(("scale of pixels", f"model.image_std: {theirs}", text))
    if not detector.whole:
        _move_conv5(detector, own)
    return tensors


def _move_conv5(detector: ForeignDetector, own: Mapping[str, Tensor]) -> None:
    """Moves a body's conv5 to the heads of a model that has it there."""
    for name in [name for name in detector.tensors if name.startswith("backbone.body.layer4.")]:
        heads = [name.replace("backbone.body", f"roi_heads.{h}") for h in ("box_head", "mask_head")]
        for moved in (head for head in heads if head in own):
            detector.tensors[moved] = detector.tensors[name]
            detector.source_names[moved] = detector.source_names.get(name, "")
        if name not in own and any(head in own for head in heads):
            del detector.tensors[name]


def differences(detector: ForeignDetector, config: ModelConfig) -> Iterator[str]:
    """Yields a sentence for each option that is not as the weights were trained with."""
    for name in CONVENTIONS:
        theirs = detector.options.get(name, 1.0 if name.endswith("mask_scale") else None)
        ours: Any = config
        for part in name.split("."):
            ours = getattr(ours, part)
        if theirs is None or _same(theirs, ours):
            continue
        if name.endswith("mask_scale") and "dcnv2" not in config.backbone.convs:
            continue
        value = str(theirs).lower() if isinstance(theirs, bool) else theirs
        yield (
            f"the weights were trained with model.{name} {value}, here it is {ours}: "
            f"--model.{name}={str(value).replace(' ', '')} follows them"
        )


def _same(theirs: Any, ours: Any) -> bool:
    if isinstance(theirs, list) and all(isinstance(value, float) for value in theirs):
        return torch.allclose(torch.tensor(theirs), torch.tensor(list(ours)), rtol=1e-4)
    return bool(theirs == ours)
