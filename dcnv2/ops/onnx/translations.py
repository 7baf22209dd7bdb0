# SPDX-License-Identifier: BSD-3-Clause
"""Translations of our operators and torchvision's for both of PyTorch's ONNX exporters."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch

from . import nodes, roi_align
from .nodes import OPSET


def onnx_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the `custom_translation_table` for torch.onnx.export(dynamo=True).

    An export finds these translations by itself (see `running_export`); the table is for those who
    want to change or extend them.

    It has dcnv2's convolution and RoI poolings and, where torchvision is installed, its
    deform_conv2d. Needs the package onnxscript, as that exporter itself does. Deformable RoI
    pooling needs a fixed sampling_ratio.
    The export raises if opset_version is below 19, or below 22 for convolutions in bfloat16.
    """
    ours = torch.ops.dcnv2
    table: dict[Callable[..., Any], Callable[..., Any]] = {
        ours.deform_conv2d.default: _conv,
        ours.deform_roi_pool.default: _roi_pool,
        ours.deform_psroi_pool.default: _psroi_pool,
        ours.multiscale_roi_align.default: _multiscale_roi_align,
    }
    if _has_torchvision():
        table[torch.ops.torchvision.deform_conv2d.default] = _torchvision_conv
    build = _Script()
    return {operator: _scripted(translate, build) for operator, translate in table.items()}


def register_symbolics(opset: int = OPSET) -> None:
    """Register translations of the operators with torch.onnx.export(dynamo=False), from `opset` on.

    Importing `dcnv2.ops` did so from opset 19 on; a call brings them back after a registration of
    others. It has dcnv2's convolution and RoI poolings and torchvision's deform_conv2d. Deformable
    RoI pooling needs a fixed sampling_ratio.

    Raises:
        ValueError: opset is below 19, which has no DeformConv.
    """
    if opset < OPSET:
        raise ValueError(
            f"opset must be {OPSET} or later, because DeformConv is new in it; got {opset}"
        )
    from torch.onnx import register_custom_op_symbolic  # type: ignore[attr-defined]
    from torch.onnx.symbolic_helper import parse_args

    for name, translate, kinds in (
        ("dcnv2::deform_conv2d", _conv, (*"vvvvv", "is", "is", "is", "b")),
        ("dcnv2::deform_roi_pool", _roi_pool, ("v", "v", "v", "v", "is", "f", "i", "f")),
        ("dcnv2::deform_psroi_pool", _psroi_pool, ("v", "v", "v", "v", *"ifiiif")),
        (
            "dcnv2::multiscale_roi_align",
            _multiscale_roi_align,
            ("v", "v", "v", "is", "fs", "i", "b"),
        ),
        ("torchvision::deform_conv2d", _torchvision_conv, (*"vvvvviiiiiiiib",)),
    ):
        register_custom_op_symbolic(name, parse_args(*kinds)(_traced(translate)), opset)


# ---- translations; both exporters read the names of the parameters, and one their types


def _conv(
    build: Any,
    input: Any,
    offset: Any,
    weight: Any,
    bias: Any = None,
    mask: Any = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    allow_tf32: bool = False,
) -> Any:
    geometry = (stride, padding, dilation)
    return nodes.deform_conv(build, input, offset, weight, bias, mask, *geometry)


def _torchvision_conv(
    build: Any,
    input: Any,
    weight: Any,
    offset: Any,
    mask: Any,
    bias: Any,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    groups: int,
    offset_groups: int,
    use_mask: bool,
) -> Any:
    geometry = ((stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w))
    mask = mask if use_mask else build.none()  # without one, the operand exists but is empty
    return nodes.deform_conv(build, input, offset, weight, bias, mask, *geometry)


def _roi_pool(
    build: Any,
    input: Any,
    rois: Any,
    offset: Any = None,
    mask: Any = None,
    output_size: Sequence[int] = (7, 7),
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    gamma: float = 0.1,
) -> Any:
    options = (output_size, spatial_scale, sampling_ratio, gamma)
    return nodes.deform_roi_pool(build, input, rois, offset, mask, *options)


def _psroi_pool(
    build: Any,
    input: Any,
    rois: Any,
    offset: Any = None,
    mask: Any = None,
    output_size: int = 7,
    spatial_scale: float = 1.0,
    group_size: int = 1,
    part_size: int = 7,
    sample_per_part: int = 4,
    trans_std: float = 0.1,
) -> Any:
    options = (output_size, spatial_scale, group_size, part_size, sample_per_part, trans_std)
    return nodes.deform_psroi_pool(build, input, rois, offset, mask, *options)


def _multiscale_roi_align(
    build: Any,
    inputs: Sequence[Any],
    rois: Any,
    levels: Any,
    output_size: Sequence[int] = (7, 7),
    spatial_scales: Sequence[float] = (1.0,),
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Any:
    options = (output_size, spatial_scales, sampling_ratio, aligned)
    return roi_align.multiscale_roi_align(build, inputs, rois, levels, *options)


def _scripted(translate: Callable[..., Any], build: _Script) -> Callable[..., Any]:
    """A translation for the exporter of torch.export, which sees the parameters after `build`."""

    def call(*operands: Any, **options: Any) -> Any:
        return translate(build, *operands, **options)

    signature = inspect.signature(translate)
    _, *parameters = signature.parameters.values()
    call.__name__ = translate.__name__
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    return call


def _traced(translate: Callable[..., Any]) -> Callable[..., Any]:
    """A translation for the tracing exporter, which passes its graph."""

    @functools.wraps(translate)
    def call(graph: Any, *operands: Any) -> Any:
        return translate(_Graph(graph), *operands)

    return call


def _has_torchvision() -> bool:
    try:
        import torchvision  # noqa: F401 - defines its operators
    except ImportError:
        return False
    return hasattr(torch.ops.torchvision, "deform_conv2d")


class _Script:
    """Nodes for the exporter that reads the graph of torch.export."""

    def __init__(self) -> None:
        from onnxscript import opset19

        self._opset = opset19

    @property
    def opset(self) -> int:
        """Return the opset that nodes are built for: the asked one, but 18 for any before it."""
        from onnxscript import evaluator

        return int(evaluator.default().opset.version)  # type: ignore[attr-defined]

    def typed(self, value: Any, like: Any, sizes: Sequence[int | None]) -> Any:
        """Return a result unchanged: torch.export already set its sizes."""
        return value

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operator: Callable[..., Any] = getattr(self._opset, name)
        return operator

    def constant(self, values: torch.Tensor) -> Any:
        """Return a constant tensor."""
        from onnx.numpy_helper import from_array

        return self._opset.Constant(value=from_array(values.numpy()))

    @staticmethod
    def sizes(value: Any) -> list[int | None]:
        """Return a value's sizes, None for unknown ones."""
        return [size if isinstance(size, int) else None for size in value.shape]

    @staticmethod
    def dtype(value: Any) -> str:
        """Return a value's dtype by ONNX's name."""
        return str(value.dtype.name)

    @staticmethod
    def items(value: Any) -> Sequence[Any]:
        """Return the values of a list."""
        return value

    @staticmethod
    def none() -> None:
        """Return a missing operand."""

    @staticmethod
    def absent(value: Any) -> bool:
        """Return whether an optional operand is missing."""
        return value is None


class _Graph:
    """Nodes for the tracing exporter."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self.opset = int(graph.opset)

    def typed(self, value: Any, like: Any, sizes: Sequence[int | None]) -> Any:
        """Set the known type of a result; otherwise the example's sizes become constants."""
        value.setType(like.type().with_sizes(list(sizes)))
        return value

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def emit(*inputs: Any, **attributes: Any) -> Any:
            named = {}
            for key, value in attributes.items():
                first = value[0] if isinstance(value, (list, tuple)) else value
                kind = "f" if isinstance(first, float) else "s" if isinstance(first, str) else "i"
                named[f"{key}_{kind}"] = value
            while inputs and self.absent(inputs[-1]):
                inputs = inputs[:-1]
            return self._graph.op(name, *inputs, **named)

        return emit

    def constant(self, values: torch.Tensor) -> Any:
        """Return a constant tensor."""
        return self._graph.op("Constant", value_t=values)

    @staticmethod
    def items(value: Any) -> list[Any]:
        """Return the values of a list."""
        from torch.onnx.symbolic_helper import _unpack_list

        return _unpack_list(value)

    def none(self) -> Any:
        """Return a missing operand."""
        value = self._graph.op("prim::Constant")
        value.setType(torch._C.NoneType.get())
        return value

    @staticmethod
    def sizes(value: Any) -> list[int | None]:
        """Return a value's sizes, None for unknown ones."""
        found = value.type().sizes() if value.isCompleteTensor() else value.type().varyingSizes()
        return list(found)

    @staticmethod
    def dtype(value: Any) -> str:
        """Return a value's dtype by ONNX's name."""
        from torch.onnx import JitScalarType  # type: ignore[attr-defined]

        return str(JitScalarType.from_value(value).onnx_type().name)

    @staticmethod
    def absent(value: Any) -> bool:
        """Return whether an optional operand is missing."""
        return value is None or value.node().mustBeNone()
