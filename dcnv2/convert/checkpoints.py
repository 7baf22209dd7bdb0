# SPDX-License-Identifier: BSD-3-Clause
"""`dcnv2.convert_state_dict`: other projects' checkpoints for our layers.

All but one of them order offsets and masks as we do, so conversion is a change of names:

    source                        offsets and masks come from        becomes
    mmcv, BasicSR, EDVR           NAME.conv_offset                   itself
    CharlesShang, chengdazhi      NAME.conv_offset_mask              NAME.conv_offset
    detectron2, old mmdetection   NAME_offset                        NAME.conv_offset
    4uiiurz1                      NAME.p_conv, NAME.m_conv           NAME.conv_offset
    CharlesShang's RoI pooling    NAME.offset_mask_fc                NAME.offset_fc

The kernel is `NAME.weight` and `NAME.bias` everywhere but with 4uiiurz1, who has `NAME.conv`, all y
before all x, and another rule at the border of the image: values agree where no sample nears it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor

SOURCES = ("dcnv2", "charlesshang", "detectron2", "4uiiurz1")
CONTAINERS = (
    *("state_dict", "model_state_dict", "params_ema", "params", "model", "net", "module", "blobs"),
)
_FIELDS = ("weight", "bias")


def convert_state_dict(state: Mapping[str, Any], source: str | None = None) -> dict[str, Tensor]:
    """Rename the entries of deformable layers in a checkpoint to the names of `dcnv2.nn`.

    All other entries keep their names. Wrappers are removed: `{"state_dict": ...}` and similar
    dictionaries, and a prefix `module.` of every name.

    Args:
        state: a dictionary of tensors by name, or a checkpoint that contains one.
        source: "charlesshang" (and chengdazhi), "detectron2" (and mmdetection before 2), "4uiiurz1"
            or "dcnv2" (and mmcv, BasicSR and EDVR, which have our names). None decides by the
            names, for each layer.

    Returns:
        A new dictionary with the same tensors, except for those of 4uiiurz1, which are reordered.

    Raises:
        ValueError: there are no tensors, the source is unknown, two tensors would get one name, or
            the layers are those of DCNv4.
    """
    if source is not None and source not in SOURCES:
        raise ValueError(f"source must be one of {', '.join(SOURCES)}, got '{source}'")
    tensors = unwrap(state)
    _refuse_dcnv4(tensors)
    for name, convert in _CONVERSIONS.items():
        if source in (None, name):
            tensors = convert(tensors)
    return tensors


def sources_of(state: Mapping[str, Any]) -> list[str]:
    """Return whose names a checkpoint's deformable layers have, of SOURCES."""
    tensors = unwrap(state)
    found = ["dcnv2"] if any(".conv_offset." in f".{name}" for name in tensors) else []
    return found + [
        name for name, convert in _CONVERSIONS.items() if convert(tensors).keys() != tensors.keys()
    ]


def unwrap(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return names and tensors of a checkpoint that may wrap them.

    Raises:
        ValueError: there are none, or a tensor's name is not text.
    """
    seen: list[Mapping[str, Any]] = []  # a dictionary may contain itself
    while all(state is not outer for outer in seen):
        seen.append(state)
        inner = (state[name] for name in CONTAINERS if isinstance(state.get(name), Mapping))
        state = next(inner, state)
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    for name in tensors:
        if not isinstance(name, str):
            raise ValueError(f"the names of tensors must be text, got {name!r}")
    if not tensors:
        some = ", ".join(list(map(str, state))[:8])
        raise ValueError(f"no tensors in the checkpoint; its entries are: {some or 'none'}")
    while all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


# ---- one source each: a dictionary in, a new one out, the same where there is nothing to do


def _rename(tensors: Mapping[str, Tensor], name_of: Callable[[str], str]) -> dict[str, Tensor]:
    """Rename all tensors.

    Raises:
        ValueError: two of them would get one name.
    """
    renamed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        _add(renamed, name_of(name), value)
    return renamed


def _add(tensors: dict[str, Tensor], name: str, value: Tensor) -> None:
    if name in tensors:
        raise ValueError(f"two tensors would become {name}; rename or remove one of them")
    tensors[name] = value


def _rename_part(tensors: dict[str, Tensor], part: str, to: str) -> dict[str, Tensor]:
    def name_of(name: str) -> str:
        return ".".join(to if word == part else word for word in name.split("."))

    return _rename(tensors, name_of)


def _from_charlesshang(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = _rename_part(tensors, "conv_offset_mask", "conv_offset")
    return _rename_part(renamed, "offset_mask_fc", "offset_fc")


def _from_detectron2(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`NAME_offset` next to a kernel `NAME.weight` that it fits is that kernel's branch."""

    def name_of(name: str) -> str:
        layer, _, field = name.rpartition(".")
        base = layer.removesuffix("_offset")
        kernel, branch = tensors.get(f"{base}.weight"), tensors.get(f"{layer}.weight")
        if base == layer or field not in _FIELDS or kernel is None or branch is None:
            return name
        if kernel.dim() != 4 or branch.dim() != 4 or kernel.shape[2:] != branch.shape[2:]:
            return name
        taps = prod(kernel.shape[2:])
        if not taps or all(branch.shape[0] % (fields * taps) for fields in (2, 3)):
            return name
        return f"{base}.conv_offset.{field}"

    return _rename(tensors, name_of)


def _from_4uiiurz1(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`conv` is the kernel, `p_conv` predicts all y, then all x, and `m_conv` the mask's logits."""
    layers = [
        name.removesuffix("p_conv.weight") for name in tensors if name.endswith("p_conv.weight")
    ]
    layers = [layer for layer in layers if f"{layer}conv.weight" in tensors]
    converted = dict(tensors)
    for layer in layers:
        for field in _FIELDS:
            if f"{layer}conv.{field}" in tensors:
                _add(converted, layer + field, converted.pop(f"{layer}conv.{field}"))
            if f"{layer}p_conv.{field}" not in tensors:
                continue
            parts = [_interleaved(layer, converted.pop(f"{layer}p_conv.{field}"))]
            if f"{layer}m_conv.{field}" in tensors:
                parts.append(converted.pop(f"{layer}m_conv.{field}"))
            _add(converted, f"{layer}conv_offset.{field}", torch.cat(parts))
    return converted


def _interleaved(layer: str, places: Tensor) -> Tensor:
    """Turn all y, then all x into y and x of each tap."""
    if places.dim() == 0 or places.shape[0] % 2 != 0:
        shape = list(places.shape)
        raise ValueError(f"{layer}p_conv must predict as many y as x, got a tensor of {shape}")
    planes = places.reshape(2, places.shape[0] // 2, *places.shape[1:])
    return planes.transpose(0, 1).flatten(0, 1)


_CONVERSIONS = {
    "charlesshang": _from_charlesshang,
    "detectron2": _from_detectron2,
    "4uiiurz1": _from_4uiiurz1,
}


def _refuse_dcnv4(tensors: Mapping[str, Tensor]) -> None:
    for name in tensors:
        layer, _, field = name.rpartition("offset_mask.")
        if field == "weight" and f"{layer}value_proj.weight" in tensors:
            raise ValueError(
                f"{layer or 'the layer'} is DCNv4's: its kernel has no weights a tap, so no layer "
                "here computes the same"
            )
