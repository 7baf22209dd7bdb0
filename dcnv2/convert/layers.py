# SPDX-License-Identifier: BSD-3-Clause
"""`dcnv2.replace`: swap the deformable layers of other projects in a model for ours.

A layer is recognised by the name of its class and by its attributes, so no other project is
imported. A class with a known name but with an additional norm or branch computes something else,
and is not replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dcnv2.compat import basicsr, dcnv2_pytorch, detectron2, layers, mmcv
from dcnv2.compat.arguments import GROUP_NAMES
from dcnv2.nn import DeformConv2d
from dcnv2.ops import checks

PLAIN = ("DeformConv2d", "DeformConv")
MODULATED = ("ModulatedDeformConv2d", "ModulatedDeformConv", "DCNv2")
PLAIN_PACKS = ("DeformConv2dPack", "DeformConvPack")
MODULATED_PACKS = ("ModulatedDeformConv2dPack", "ModulatedDeformConvPack", "DCN", "DCNv2Pack")
BRANCHES = ("conv_offset", "conv_offset_mask")

# The attributes that a pool is built from, in the order of the arguments of its class.
_MMCV_POOL = ("spatial_scale", "sampling_ratio", "gamma")
_MMCV_PACK = ("output_size", "output_channels", "deform_fc_channels", *_MMCV_POOL)
_AUTHORS = ("group_size", "part_size", "sample_per_part", "trans_std")
_AUTHORS_POOL = ("spatial_scale", "pooled_size", "output_dim", "no_trans", *_AUTHORS)
POOLS: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    "DeformRoIPool": (mmcv.DeformRoIPool, ("output_size", *_MMCV_POOL)),
    "DeformRoIPoolPack": (mmcv.DeformRoIPoolPack, _MMCV_PACK),
    "ModulatedDeformRoIPoolPack": (mmcv.ModulatedDeformRoIPoolPack, _MMCV_PACK),
    "DCNv2Pooling": (dcnv2_pytorch.DCNv2Pooling, _AUTHORS_POOL),
    "DCNPooling": (dcnv2_pytorch.DCNPooling, (*_AUTHORS_POOL, "deform_fc_dim")),
}
_Children = dict[str, nn.Module | None]
KNOWN = (*PLAIN, *MODULATED, *PLAIN_PACKS, *MODULATED_PACKS, *POOLS)

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_is_full_backward_hook",
)


class _UnknownError(Exception):
    """Why a layer that looks deformable is not replaced."""


def replace(model: nn.Module, report: Callable[[str], None] | None = print) -> nn.Module:
    """Replace the deformable layers of other projects by ours, in place.

    Supported are torchvision's `DeformConv2d`; mmcv's deformable convolutions and RoI pooling, with
    and without their branches; detectron2's `DeformConv` and `ModulatedDeformConv`, also in its
    blocks; the layers of BasicSR, EDVR and chengdazhi, including `DCNv2Pack`; `DCN`, `DCNv2` and
    the pooling layers of CharlesShang's DCNv2 and its forks. Outputs stay the same. Parameters and
    their names stay the same too, so existing optimizers, weight averages and checkpoints remain
    valid. Subclasses with their own computation are not replaced.

    Args:
        model: any module; it may itself be a deformable layer.
        report: receives a text that lists replaced and kept layers, with reasons; None for no
            report.

    Returns:
        `model`, or its replacement if `model` itself is a deformable layer.
    """
    swapped: list[str] = []
    left: list[str] = []
    done: dict[int, nn.Module | None] = {}  # a layer in two places stays one layer
    root: _Children = {"": model}
    places: list[tuple[_Children, str, str]] = [(root, "", ""), *_places(model)]
    for owner, name, path in places:
        module = owner[name]
        if module is None:
            continue
        if id(module) not in done:
            try:
                done[id(module)] = ours = _ours(module)
            except _UnknownError as reason:
                done[id(module)] = ours = None
                left.append(f"  {path or 'model'}: {_title(module)}, {reason}")
            if ours is not None:
                swapped.append(f"  {path or 'model'}: {_title(module)} -> {_title(ours)}")
        replacement = done[id(module)]
        if replacement is not None:
            owner[name] = replacement
    if report is not None:
        report(_text(swapped, left))
    found = root[""]
    assert found is not None
    return found


def _text(swapped: list[str], left: list[str]) -> str:
    lines = [f"dcnv2.replace: {len(swapped)} layers swapped", *swapped]
    return "\n".join([*lines, *(["left alone:", *left] if left else [])])


def _places(
    module: nn.Module, prefix: str = "", seen: set[int] | None = None
) -> Iterator[tuple[_Children, str, str]]:
    """Yield (children of some module, name of one, its path), parents first; any may be shared."""
    seen = {id(module)} if seen is None else seen
    for name, child in list(module._modules.items()):
        if child is None:
            continue
        yield module._modules, name, prefix + name
        if id(child) not in seen:
            seen.add(id(child))
            yield from _places(child, f"{prefix}{name}.", seen)


def _title(module: nn.Module) -> str:
    return f"{type(module).__module__.split('.')[0]}'s {type(module).__name__}"


def _ours(module: nn.Module) -> nn.Module | None:
    """Build our layer for another project's; None for anything that is no deformable layer.

    Raises:
        _UnknownError: it looks like one, but isn't known.
    """
    name = type(module).__name__
    if type(module).__module__.split(".")[0] == "dcnv2":
        return None
    if name not in KNOWN:
        parent = next((c.__name__ for c in type(module).__mro__ if c.__name__ in KNOWN), None)
        if parent is None or type(module).__mro__[1].__module__.split(".")[0] == "dcnv2":
            return None
        raise _UnknownError(f"a subclass of {parent}, may compute something of its own")
    if name in POOLS:
        return _pool(module, *POOLS[name])
    if name in PLAIN_PACKS or name in MODULATED_PACKS:
        return _pack(module, _Geometry.of(module), name)
    return _bare(module, _Geometry.of(module), name in MODULATED)


@dataclass(frozen=True)
class _Geometry:
    """What a layer's attributes and weight say of it; deform_groups 0 is unknown."""

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    deform_groups: int

    @classmethod
    def of(cls, module: nn.Module) -> _Geometry:
        """Read a layer.

        Raises:
            _UnknownError: something is missing.
        """
        weight = module._parameters.get("weight")
        if not isinstance(weight, Tensor) or weight.dim() != 4:
            raise _UnknownError("has no weight of four dimensions")
        try:
            stride = checks.pair("stride", getattr(module, "stride"))  # noqa: B009 - may be absent
            padding = checks.pair("padding", getattr(module, "padding"))  # noqa: B009
            dilation = checks.pair("dilation", getattr(module, "dilation", 1))
        except (AttributeError, TypeError) as error:
            raise _UnknownError(f"its geometry is not known: {error}") from error
        groups = getattr(module, "groups", 1)
        deform_groups = next((getattr(module, n) for n in GROUP_NAMES if hasattr(module, n)), 0)
        kernel = (weight.shape[2], weight.shape[3])
        in_channels, out_channels = weight.shape[1] * groups, weight.shape[0]
        shape = (in_channels, out_channels, kernel, stride)
        return cls(*shape, padding, dilation, groups, deform_groups)


def _bare(module: nn.Module, geometry: _Geometry, modulated: bool) -> nn.Module:
    """A layer whose offsets are given with each input."""
    has_bias = module._parameters.get("bias") is not None
    shape = (geometry.in_channels, geometry.out_channels, geometry.kernel_size, geometry.stride)
    options = (geometry.padding, geometry.dilation, geometry.groups)
    ours: nn.Module
    with torch.device("meta"):
        if not geometry.deform_groups and not modulated:  # torchvision's
            ours = DeformConv2d(*shape, *options, has_bias)
        else:
            kind: Callable[..., nn.Module]
            if hasattr(module, "norm") or hasattr(module, "activation"):
                kind = detectron2.ModulatedDeformConv if modulated else detectron2.DeformConv
            else:
                kind = layers.ModulatedDeformConv if modulated else layers.PlainDeformConv
            ours = kind(*shape, *options, geometry.deform_groups or 1, bias=has_bias)
    for name in ("norm", "activation"):
        if hasattr(module, name):
            setattr(ours, name, getattr(module, name))
    return _adopt(ours, module, ("norm", "activation"))


def _pack(module: nn.Module, geometry: _Geometry, name: str) -> nn.Module:
    """A layer that predicts its offsets, by the very convolution that predicted them before."""
    branch = next((b for b in BRANCHES if isinstance(module._modules.get(b), nn.Conv2d)), None)
    if branch is None:
        raise _UnknownError(f"has no convolution {' or '.join(BRANCHES)}")
    fields, taps = (
        2 if name in PLAIN_PACKS else 3,
        geometry.kernel_size[0] * geometry.kernel_size[1],
    )
    channels = getattr(module, branch).out_channels
    groups = geometry.deform_groups or channels // (fields * taps)
    if channels != fields * groups * taps:
        raise _UnknownError(f"{branch} has {channels} channels, not {fields} * {groups} * {taps}")
    predictor = module._modules[branch]
    for option in ("kernel_size", "stride", "padding", "dilation"):
        if getattr(predictor, option) != getattr(geometry, option):
            raise _UnknownError(f"{branch} does not follow its {option}: it reads stray offsets")
    kind: type[nn.Module] = layers.ModulatedDeformConvPack
    if name in PLAIN_PACKS:
        kind = layers.PlainDeformConvPack
    elif name == "DCNv2Pack":
        kind = basicsr.DCNv2Pack
    elif branch == "conv_offset_mask":
        kind = dcnv2_pytorch.DCN
    shape = (geometry.in_channels, geometry.out_channels, geometry.kernel_size, geometry.stride)
    with torch.device("meta"):
        ours = kind(*shape, geometry.padding, geometry.dilation, deform_groups=groups)
    setattr(ours, "bias", module._parameters.get("bias"))  # noqa: B010 - or there is none
    setattr(ours, "groups", geometry.groups)  # noqa: B010
    return _adopt(ours, module, (branch,))


def _pool(module: nn.Module, kind: type[nn.Module], names: tuple[str, ...]) -> nn.Module:
    try:
        values = [getattr(module, name) for name in names]
    except AttributeError as error:
        raise _UnknownError(f"its options are not known: {error}") from error
    with torch.device("meta"):
        ours = kind(*values)
    return _adopt(ours, module, tuple(ours._modules))


def _adopt(ours: nn.Module, module: nn.Module, children: tuple[str, ...]) -> nn.Module:
    """Give our layer what the other one holds: parameters, children, hooks and mode.

    Raises:
        _UnknownError: it holds something else too, or lacks something.
    """
    held = {name for name, child in module._modules.items() if child is not None}
    values = {name for name, value in module._parameters.items() if value is not None}
    values |= set(module._buffers)
    needed = {name for name, value in ours._parameters.items() if value is not None}
    optional = {"norm", "activation"}
    if not held <= set(children) or not set(children) - optional <= held or values != needed:
        names = ", ".join(sorted(held | values))
        raise _UnknownError(f"holds {names}: not just what its kind does")
    for name in needed:
        setattr(ours, name, module._parameters[name])
    for name in held:
        setattr(ours, name, module._modules[name])
    for name in _HOOKS:
        setattr(ours, name, getattr(module, name))
    ours.training = module.training  # only its own: a frozen norm inside stays in evaluation
    return ours
