# SPDX-License-Identifier: BSD-3-Clause
"""The measured implementations, and what each supports."""

import functools
import importlib.util
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from suites.backends.calling_conventions import CONVENTIONS, Operator
from suites.backends.frameworks.adapters import onnxruntime, openvino
from suites.perf.layers import Layer
from suites.perf.runtimes import load_onnxruntime, load_openvino, runtime_call

# Size of the float32 columns beyond which the portable path's time is the allocator's.
_PORTABLE_LIMIT_BYTES = 256 * 2**20

Operands = Mapping[str, Tensor]


@dataclass(frozen=True)
class Implementation:
    """One way to run a layer.

    `call` takes a layer and its operands by name; `unsupported` returns the reason why a layer in a
    dtype label cannot run on a device, or None; `layouts` are those that it is measured in.
    `packages` must be importable, which the command `install` achieves.
    """

    name: str
    call: Callable[[Layer, Operands], Tensor]
    unsupported: Callable[[Layer, str, str], str | None]
    layouts: tuple[str, ...] = ("contiguous",)
    deformable: bool = True
    gradients: bool = True
    packages: tuple[str, ...] = ()
    install: str = ""

    @property
    def missing(self) -> str | None:
        """None, or which package it lacks here and how to install it."""
        lacking = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if not lacking:
            return None
        return f"{self.name} needs {' and '.join(lacking)}, not installed here: {self.install}"

    @property
    def operands(self) -> tuple[str, ...]:
        """The operands that it reads; each gets a gradient."""
        sampling = ("offset", "mask") if self.deformable else ()
        return ("input", *sampling, "weight", "bias")


def _dcnv2(layer: Layer, t: Operands) -> Tensor:
    from dcnv2.ops import deform_conv2d

    options = (layer.stride, layer.padding, layer.dilation)
    return deform_conv2d(t["input"], t["offset"], t["weight"], t["bias"], *options, t["mask"])


def _portable(layer: Layer, t: Operands) -> Tensor:
    from dcnv2.ops import portable

    options = (layer.stride, layer.padding, layer.dilation)
    operands = (t["input"], t["offset"], t["weight"], t["bias"], t["mask"])
    return portable.deform_conv2d(*operands, *options)


@functools.cache
def torchvision_conv() -> Operator:
    """torchvision's operator, called with input, offset, weight, bias, mask and the options."""
    from torchvision.ops import deform_conv2d

    return CONVENTIONS["torchvision"].adapt(deform_conv2d)


@functools.cache
def mmcv_conv() -> Operator:
    """mmcv's operator, called as torchvision's."""
    from mmcv.ops import modulated_deform_conv2d

    return CONVENTIONS["mmcv"].adapt(modulated_deform_conv2d)


def _peer(operator: Callable[[], Operator]) -> Callable[[Layer, Operands], Tensor]:
    def call(layer: Layer, t: Operands) -> Tensor:
        operands = (t["input"], t["offset"], t["weight"], t["bias"], t["mask"])
        return operator()(*operands, layer.stride, layer.padding, layer.dilation)

    return call


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
    return _dcnv2_unsupported(layer, dtype, device)


def _runtime_unsupported(layer: Layer, dtype: str, device: str) -> str | None:
    if device.startswith("cuda"):
        return "the runtimes are measured on a CPU"
    return None if dtype == "fp32" else "the runtimes are measured in float32"


_ONNX = {"unsupported": _runtime_unsupported, "gradients": False}
IMPLEMENTATIONS = {
    implementation.name: implementation
    for implementation in (
        Implementation("dcnv2", _dcnv2, _dcnv2_unsupported, ("contiguous", "channels_last")),
        Implementation("portable", _portable, _portable_unsupported),
        Implementation("torchvision", _peer(torchvision_conv), _torchvision_unsupported),
        Implementation(
            "mmcv",
            _peer(mmcv_conv),
            _torchvision_unsupported,
            packages=("mmcv",),
            install="suites/peers/build_mmcv.py says how to build it",
        ),
        Implementation(
            "onnxruntime",
            runtime_call(load_onnxruntime),
            packages=("onnx", "onnxruntime"),
            install=f"pip install onnx {onnxruntime.REQUIREMENTS[0]}",
            **_ONNX,
        ),
        Implementation(
            "openvino",
            runtime_call(load_openvino),
            packages=("onnx", "openvino"),
            install=f"pip install onnx {openvino.REQUIREMENTS[0]}",
            **_ONNX,
        ),
        # A practical lower bound: the same multiply-adds without sampling.
        Implementation("conv2d", _conv2d, _dcnv2_unsupported, ("channels_last",), deformable=False),
    )
}
