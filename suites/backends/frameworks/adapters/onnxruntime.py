# SPDX-License-Identifier: BSD-3-Clause
"""onnxruntime: the operator DeformConv of ONNX's opset 19, on its CPU provider."""

from __future__ import annotations

import functools

REQUIREMENTS = ("onnxruntime==1.32.0", "onnx==1.23.2", "numpy==2.4.6")
DTYPES = ("float64", "float32", "float16")
GRADIENTS = False
THREADS = True
OPERANDS = ("input", "weight", "offset", "bias", "mask")  # ONNX's order


def deform_conv2d(
    operands, grad_output, *, stride, padding, dilation, groups, deform_groups, threads
):
    present = tuple(name for name in OPERANDS if operands[name] is not None)
    dtype, kernel = str(operands["input"].dtype), operands["weight"].shape[2:]
    window = (kernel, stride, padding, dilation, groups, deform_groups)
    given = {name: operands[name] for name in present}
    (output,) = _session(present, dtype, window, threads).run(None, given)
    return {"output": output}


@functools.lru_cache(maxsize=64)
def _session(present, dtype, window, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    graph = model(present, dtype, window).SerializeToString()
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def model(present, dtype, window):
    """A model of one DeformConv with these operands."""
    import numpy as np
    from onnx import helper

    kernel, stride, padding, dilation, groups, deform_groups = window
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    node = helper.make_node(
        "DeformConv",
        [name if name in present else "" for name in OPERANDS],
        ["output"],
        kernel_shape=kernel,
        strides=stride,
        pads=[*padding, *padding],
        dilations=dilation,
        group=groups,
        offset_group=deform_groups,
    )
    inputs = [
        helper.make_tensor_value_info(name, kind, [None] * (1 if name == "bias" else 4))
        for name in present
    ]
    outputs = [helper.make_tensor_value_info("output", kind, [None] * 4)]
    graph = helper.make_graph([node], "deform_conv2d", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
