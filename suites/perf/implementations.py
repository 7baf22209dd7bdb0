# SPDX-License-Identifier: BSD-3-Clause
"""The implementations that are measured, and what each of them can run."""

import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from suites.perf.layers import Layer

# Of the columns, float32: beyond it the portable path measures the allocator.
_PORTABLE_LIMIT_BYTES = 256 * 2**20

Operands = Mapping[str, Tensor]


@dataclass(frozen=True)
class Implementation:
    """One way to run a layer.

    `call` takes a layer and its operands by name; `unsupported` gives the reason why a layer of a
    dtype label can't run on a device, or None; `layouts` are those that it is measured in.
    """

    name: str
    call: Callable[[Layer, Operands], Tensor]
    unsupported: Callable[[Layer, str, str], str | None]
    layouts: tuple[str, ...] = ("contiguous",)
    deformable: bool = True

    @property
    def operands(self) -> tuple[str, ...]:
        """The operands that it reads, which are those that get a gradient."""
        moved = ("offset", "mask") if self.deformable else ()
        return ("input", *moved, "weight", "bias")


def _dcnv2(layer: Layer, t: Operands) -> Tensor:
    from dcnv2.ops import deform_conv2d

    options = (layer.stride, layer.padding, layer.dilation)
    return deform_conv2d(t["input"], t["offset"], t["weight"], t["bias"], *options, t["mask"])


def _portable(layer: Layer, t: Operands) -> Tensor:
    from dcnv2.ops import portable

    options = (layer.stride, layer.padding, layer.dilation)
    operands = (t["input"], t["offset"], t["weight"], t["bias"], t["mask"])
    return portable.deform_conv2d(*operands, *options)


def _torchvision(layer: Layer, t: Operands) -> Tensor:
    from torchvision.ops import deform_conv2d

    options = (layer.stride, layer.padding, layer.dilation)
    return deform_conv2d(t["input"], t["offset"], t["weight"], t["bias"], *options, t["mask"])


def _mmcv(layer: Layer, t: Operands) -> Tensor:
    from mmcv.ops import modulated_deform_conv2d

    operands = (t["input"], t["offset"], t["mask"], t["weight"], t["bias"])
    options = (layer.stride, layer.padding, layer.dilation, layer.groups, layer.deform_groups)
    return modulated_deform_conv2d(*operands, *options)


def _conv2d(layer: Layer, t: Operands) -> Tensor:
    options = (layer.stride, layer.padding, layer.dilation, layer.groups)
    return torch.nn.functional.conv2d(t["input"], t["weight"], t["bias"], *options)


def has_compiled_kernels(device: str) -> bool:
    """Whether `dcnv2.ops` runs compiled code on a device, not the portable path."""
    import dcnv2.ops  # noqa: F401

    key = "CUDA" if device.startswith("cuda") else "CPU"
    return torch._C._dispatch_has_kernel_for_dispatch_key("dcnv2::deform_conv2d", key)


def _dcnv2_unsupported(layer: Layer, dtype: str, device: str) -> str | None:
    if dtype == "tf32" and not device.startswith("cuda"):
        return "TF32 is a mode of CUDA devices"
    return None


def _portable_unsupported(layer: Layer, dtype: str, device: str) -> str | None:
    columns = layer.taps * layer.in_channels * layer.batch * math.prod(layer.out_size)
    if 4 * columns > _PORTABLE_LIMIT_BYTES:
        return "the portable path is measured on small layers only"
    return _dcnv2_unsupported(layer, dtype, device)


def _torchvision_unsupported(layer: Layer, dtype: str, device: str) -> str | None:
    if dtype == "bf16":
        return "torchvision has no bfloat16"
    if dtype == "fp16" and not device.startswith("cuda"):
        return "torchvision's CPU kernels have no float16"
    return _dcnv2_unsupported(layer, dtype, device)


def _mmcv_unsupported(layer: Layer, dtype: str, device: str) -> str | None:
    if importlib.util.find_spec("mmcv") is None:
        return "mmcv is not installed"
    return _torchvision_unsupported(layer, dtype, device)


IMPLEMENTATIONS = {
    implementation.name: implementation
    for implementation in (
        Implementation("dcnv2", _dcnv2, _dcnv2_unsupported, ("channels_last", "contiguous")),
        Implementation("portable", _portable, _portable_unsupported),
        Implementation("torchvision", _torchvision, _torchvision_unsupported),
        Implementation("mmcv", _mmcv, _mmcv_unsupported),
        # The limit: the same multiply-adds without sampling.
        Implementation("conv2d", _conv2d, _dcnv2_unsupported, ("channels_last",), deformable=False),
    )
}
