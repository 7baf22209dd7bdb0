# SPDX-License-Identifier: BSD-3-Clause
"""ONNX's own evaluator, onnx.reference: DeformConv in loops of Python."""

from __future__ import annotations

from .onnxruntime import OPERANDS, model

REQUIREMENTS = ("onnx==1.23.2", "numpy==2.4.6")
DTYPES = ("float64", "float32", "float16")
GRADIENTS = False
THREADS = False
_MOST_STEPS = 2_000  # 2 s


def unsupported(problem):
    rows, columns = problem.out_size
    steps = problem.batch * problem.in_channels * rows * columns
    steps *= problem.out_channels // problem.groups
    return "more than 2,000 steps of Python" if steps > _MOST_STEPS else None


def deform_conv2d(
    operands, grad_output, *, stride, padding, dilation, groups, deform_groups, threads
):
    from onnx.reference import ReferenceEvaluator

    present = tuple(name for name in OPERANDS if operands[name] is not None)
    dtype, kernel = str(operands["input"].dtype), operands["weight"].shape[2:]
    window = (kernel, stride, padding, dilation, groups, deform_groups)
    evaluator = ReferenceEvaluator(model(present, dtype, window))
    (output,) = evaluator.run(None, {name: operands[name] for name in present})
    return {"output": output}
