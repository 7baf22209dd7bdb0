# SPDX-License-Identifier: BSD-3-Clause
"""A detector's architecture from the shapes of its tensors, under our names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

# Blocks of conv2 to conv5, width of conv2's 3x3 convolutions, and their input channels a group.
_ARCHS = {
    ((3, 4, 6, 3), 64, 64): "resnet50",
    ((3, 4, 23, 3), 64, 64): "resnet101",
    ((3, 4, 23, 3), 128, 4): "resnext101_32x4d",
    ((3, 4, 23, 3), 256, 8): "resnext101_32x8d",
    ((3, 4, 23, 3), 256, 4): "resnext101_64x4d",
}
_TAPS = 9


def layout(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Returns the options of `ModelConfig` that shapes tell, by dotted name below `model.`.

    Args:
        tensors: under our names: a whole detector, or its body only.

    Raises:
        ValueError: no detector of ours has this shape; the message says where.
    """
    options = _body(tensors)
    if "rpn.head.cls_logits.weight" in tensors:
        options |= _necks_and_heads(tensors)
    return options


def _body(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    blocks: dict[int, set[int]] = {}
    deformable: dict[int, set[int]] = {}
    for name in tensors:
        found = re.search(r"layer(\d)\.(\d+)\.(conv3|conv2\.conv_offset)\.weight$", name)
        if found:
            kind = blocks if found[3] == "conv3" else deformable
            kind.setdefault(int(found[1]), set()).add(int(found[2]))
    counts = tuple(len(blocks.get(stage, ())) for stage in range(1, 5))
    first = tensors.get("backbone.body.layer1.0.conv2.weight")
    if first is None or first.dim() != 4 or 0 in counts:
        raise ValueError(
            f"the backbone is no ResNet of bottleneck blocks in conv2 to conv5: {list(counts)}"
        )
    shape = counts, first.shape[0], first.shape[1]
    if shape not in _ARCHS:
        known = ", ".join(_ARCHS.values())
        raise ValueError(
            f"the backbone has {list(counts)} blocks, 3x3 convolutions of {first.shape[0]} "
            f"channels with {first.shape[1]} a group: wanted {known}"
        )
    options: dict[str, Any] = {"backbone.arch": _ARCHS[shape]}
    kinds, groups = ["plain"] * 4, set()
    for stage, found_blocks in deformable.items():
        if found_blocks != blocks[stage]:
            raise ValueError(
                f"conv{stage + 1}: {len(found_blocks)} of its {len(blocks[stage])} blocks are "
                "deformable: wanted all or none, so fallback_on_stride has to be off"
            )
        kinds[stage - 1], deform_groups = _kind(tensors, stage)
        groups.add(deform_groups)
    if len(groups) > 1:
        raise ValueError(f"deform groups differ between stages: {sorted(groups)}")
    options["backbone.convs"] = kinds
    options["backbone.deform_groups"] = groups.pop() if groups else 1
    affine = "backbone.body.bn1.running_mean" in tensors
    options["backbone.norm"] = "frozen" if affine else "group"
    return options


def _kind(tensors: Mapping[str, Tensor], stage: int) -> tuple[str, int]:
    """Whether a stage's convolutions are modulated, and their deform groups."""
    suffix = f"layer{stage}.0.conv2"
    layer = next(name for name in tensors if name.endswith(f"{suffix}.conv_offset.weight"))
    planes, channels = tensors[layer].shape[:2]
    for kind, fields in (("dcnv1", 2), ("dcnv2", 3)):
        groups, rest = divmod(planes, fields * _TAPS)
        # Widths are powers of two, so only one of both divides.
        if groups and not rest and channels % groups == 0:
            return kind, groups
    raise ValueError(f"{suffix}: {planes} planes of offsets and masks for {channels} channels")


def _necks_and_heads(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    pyramid = "backbone.fpn.inner_blocks.0.0.weight" in tensors
    c4 = any(name.startswith("roi_heads.box_head.layer4.") for name in tensors)
    if not pyramid and not c4:
        raise ValueError("neither a feature pyramid, nor conv5 in the heads: wanted FPN or C4")
    width = 1024
    options: dict[str, Any] = {"backbone.topology": "fpn" if pyramid else "c4"}
    if pyramid:
        width = options["backbone.channels"] = _rows(tensors, "backbone.fpn.inner_blocks.0.0")
        if "backbone.fpn.inner_blocks.0.1.running_mean" in tensors:
            options["backbone.norm"] = "batch"
    if (classes := _rows(tensors, "roi_heads.box_predictor.cls_score")) is None:
        return {**options, "task": "proposals", "mask.enabled": False}
    options |= {"num_classes": classes - 1} | (_box_head(tensors, width) if pyramid else {})
    return options | _mask_head(tensors, pyramid)


def _box_head(tensors: Mapping[str, Tensor], width: int) -> dict[str, Any]:
    convs = _convolutions(tensors, "roi_heads.box_head")
    first = f"roi_heads.box_head.{len(convs) + 1}" if convs else "roi_heads.box_head.fc6"
    fc = tensors.get(f"{first}.weight")
    last = "roi_heads.box_head.fc7.weight"
    if fc is None or fc.dim() != 2 or (last in tensors) == bool(convs):
        raise ValueError("the box head: wanted two fc layers, or convolutions and one fc layer")
    options: dict[str, Any] = {"box.hidden_channels": fc.shape[0], "box.convs": convs}
    options["box.pool_size"] = math.isqrt(fc.shape[1] // ([width, *convs][-1]))
    if "roi_heads.box_head.0.1.weight" in tensors:
        options["box.norm"] = _norm(tensors, "roi_heads.box_head.0.1")
    return options


def _mask_head(tensors: Mapping[str, Tensor], pyramid: bool) -> dict[str, Any]:
    deconv = tensors.get("roi_heads.mask_predictor.conv5_mask.weight")
    if deconv is None:
        return {"mask.enabled": False}
    options: dict[str, Any] = {"mask.deconv_channels": deconv.shape[1]}
    if not pyramid:
        return {**options, "mask.shared": True}
    options["mask.convs"] = _convolutions(tensors, "roi_heads.mask_head")
    if "roi_heads.mask_head.0.1.weight" in tensors:
        options["mask.norm"] = _norm(tensors, "roi_heads.mask_head.0.1")
    return options


def _convolutions(tensors: Mapping[str, Tensor], head: str) -> list[int]:
    """Widths of the convolutions of a head, in order."""
    widths: list[int] = []
    while (weight := tensors.get(f"{head}.{len(widths)}.0.weight")) is not None:
        widths.append(weight.shape[0])
    return widths


def _norm(tensors: Mapping[str, Tensor], layer: str) -> str:
    return "batch" if f"{layer}.running_mean" in tensors else "group"


def _rows(tensors: Mapping[str, Tensor], layer: str) -> Any:
    weight = tensors.get(f"{layer}.weight")
    return None if weight is None else weight.shape[0]
