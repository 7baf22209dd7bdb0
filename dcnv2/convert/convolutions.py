# SPDX-License-Identifier: BSD-3-Clause
"""`dcnv2.deformable`: make selected convolutions of any network deformable."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

import torch
from torch import nn

from dcnv2.nn import DeformConv2d, ModulatedDeformConv2dPack

Choice = str | Iterable[str] | Callable[[str, nn.Conv2d], bool]


def deformable(
    model: nn.Module,
    layers: Choice,
    deform_groups: int = 1,
    max_offset: float | None = None,
    report: Callable[[str], None] | None = print,
) -> nn.Module:
    """Replace selected convolutions by `ModulatedDeformConv2dPack`, in place.

    The outputs of the model stay the same. The new layers use the weight and bias of the old ones,
    as the same parameters, so existing optimizers remain valid. The branches `conv_offset` are new
    parameters that start at zero; add them to the optimizer (the paper trains them at a tenth of
    the rate). Masks are 2 * sigmoid, so they start at 1, and the network still computes the same
    outputs.

    Args:
        model: any module that contains nn.Conv2d.
        layers: the selection: one or several name patterns such as "layer4.*.conv2", which select
            among the 3x3 convolutions, or a function (name, convolution) -> bool, which is called
            for every convolution.
        deform_groups: G, number of channel groups with separate offsets and masks.
        max_offset: soft bound of the offsets in pixels (see `ModulatedDeformConv2dPack`).
        report: receives a text that lists replaced and unsupported layers; None for no report.

    Returns:
        `model`.

    Raises:
        ValueError: no selected layer can be made deformable.
    """
    wanted = _chooser(layers)
    made: list[str] = []
    refused: list[str] = []
    done: dict[int, nn.Module] = {}  # a layer in two places stays one layer
    for path, conv in _convolutions(model):
        if not wanted(path, conv):
            continue
        reason = _obstacle(conv, deform_groups)
        if reason is not None:
            refused.append(f"  {path}: {reason}")
            continue
        if id(conv) not in done:
            done[id(conv)] = _deformed(conv, deform_groups, max_offset)
        owner, _, name = path.rpartition(".")
        setattr(model.get_submodule(owner), name, done[id(conv)])
        made.append(f"  {path}: {conv.in_channels} to {conv.out_channels} channels")
    if not made:
        raise ValueError(_nothing(model, layers, refused))
    lines = [f"dcnv2.deformable: {len(made)} convolutions made deformable", *made]
    if report is not None:
        report("\n".join([*lines, *(["left alone:", *refused] if refused else [])]))
    return model


def _convolutions(model: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    """List the convolutions by name, without those that predict a deformable layer's offsets."""
    found = dict(model.named_modules(remove_duplicate=False))
    return [
        (path, module)
        for path, module in found.items()
        if isinstance(module, nn.Conv2d)
        and path
        and not isinstance(found[path.rpartition(".")[0]], DeformConv2d)
    ]


def _chooser(layers: Choice) -> Callable[[str, nn.Conv2d], bool]:
    if callable(layers):
        return layers
    patterns = [layers] if isinstance(layers, str) else list(layers)

    def choose(path: str, conv: nn.Conv2d) -> bool:
        return conv.kernel_size == (3, 3) and any(fnmatchcase(path, p) for p in patterns)

    return choose


def _obstacle(conv: nn.Conv2d, deform_groups: int) -> str | None:
    """Return why a convolution can't be made deformable, or None if it can."""
    kind = type(conv)
    if kind.forward is not nn.Conv2d.forward or kind._conv_forward is not nn.Conv2d._conv_forward:
        return f"{kind.__name__} does more than nn.Conv2d"
    if type(conv._parameters.get("weight")) is not nn.Parameter:
        return "its weight is computed or not there yet (a parametrization, or a lazy module)"
    if conv.padding_mode != "zeros":
        return f"padding mode {conv.padding_mode}: samples outside are zero"
    if conv.padding == "same" and any(
        d * (k - 1) % 2 for d, k in zip(conv.dilation, conv.kernel_size, strict=True)
    ):
        return "its padding is not the same on both sides"
    if conv.in_channels % deform_groups != 0:
        return f"deform_groups = {deform_groups} does not divide its {conv.in_channels} channels"
    return None


def _deformed(conv: nn.Conv2d, deform_groups: int, max_offset: float | None) -> nn.Module:
    padding: tuple[int, ...]
    if not isinstance(conv.padding, str):
        padding = conv.padding
    elif conv.padding == "valid":
        padding = (0, 0)
    else:
        sides = zip(conv.dilation, conv.kernel_size, strict=True)
        padding = tuple(dilation * (kernel - 1) // 2 for dilation, kernel in sides)
    with torch.device("meta"):
        ours = ModulatedDeformConv2dPack(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            padding,
            conv.dilation,
            conv.groups,
            deform_groups,
            conv.bias is not None,
            mask_scale=2.0,
            max_offset=max_offset,
        )
    for name in ("weight", "bias"):
        setattr(ours, name, getattr(conv, name))
    ours.conv_offset.to_empty(device=conv.weight.device).to(conv.weight.dtype)
    ours.conv_offset.reset_parameters()
    return ours.train(conv.training)


def _nothing(model: nn.Module, layers: Choice, refused: list[str]) -> str:
    if refused:
        return "\n".join(["none of the chosen convolutions can be made deformable:", *refused])
    names = [path for path, conv in _convolutions(model) if conv.kernel_size == (3, 3)]
    some = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") or "none"
    return f"layers = {layers!r} chooses no convolution; the model's 3x3 ones are {some}"
