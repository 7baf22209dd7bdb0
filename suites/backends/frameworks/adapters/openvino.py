# SPDX-License-Identifier: BSD-3-Clause
"""OpenVINO: opset8.deformable_convolution on its CPU plugin, computed in float32."""

from __future__ import annotations

import functools

import numpy as np

REQUIREMENTS = ("openvino==2026.4.1", "numpy==2.4.6")
DTYPES = ("float32",)
GRADIENTS = False
THREADS = True
_OPERANDS = ("input", "offset", "weight", "mask")


def deform_conv2d(
    operands, grad_output, *, stride, padding, dilation, groups, deform_groups, threads
):
    given = {n: np.ascontiguousarray(operands[n]) for n in _OPERANDS if operands[n] is not None}
    bias = operands["bias"]
    if bias is not None:
        given["bias"] = bias.reshape(1, -1, 1, 1)
    shapes = tuple((name, array.shape) for name, array in given.items())
    compiled = _compiled(shapes, stride, padding, dilation, groups, deform_groups, threads)
    return {"output": compiled(list(given.values()))[0]}


@functools.lru_cache(maxsize=64)
def _compiled(shapes, stride, padding, dilation, groups, deform_groups, threads):
    import openvino
    from openvino import opset8

    window = (stride, padding, padding, dilation, groups, deform_groups)
    named = {name: opset8.parameter(list(shape), np.float32) for name, shape in shapes}
    output = convolution(named, *window)
    model = openvino.Model([output], list(named.values()))
    return openvino.Core().compile_model(model, "CPU", hints(threads))


def convolution(operands, stride, begin, end, dilation, groups, deform_groups):
    """The operator on nodes by name, mask and bias [1, channels, 1, 1] optional."""
    from openvino import opset8

    output = opset8.deformable_convolution(
        operands["input"],
        operands["offset"],
        operands["weight"],
        list(stride),
        list(begin),
        list(end),
        list(dilation),
        mask=operands.get("mask"),
        group=groups,
        deformable_group=deform_groups,
        bilinear_interpolation_pad=True,  # samples beyond the border count as zeros, as in ONNX
    )
    return opset8.add(output, operands["bias"]) if "bias" in operands else output


def hints(threads):
    """Options of a compilation: by default the plugin computes in bfloat16 where it can."""
    return {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
