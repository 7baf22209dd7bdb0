# SPDX-License-Identifier: BSD-3-Clause
"""Exports a model by either exporter and runs it with onnxruntime, for the tests in this folder."""

import sys
import warnings

import onnx
import onnxruntime
import pytest
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NotImplementedByRuntime

DYNAMIC = torch.export.Dim.DYNAMIC
EXPORTERS = [("dynamo", 19), ("dynamo", 22), ("trace", 19)]


def export_onnx(model, example, axes, path, exporter, opset, **options):
    """Write a model, by PyTorch alone: importing our operators is enough.

    Args:
        model: takes the tensors of `example`.
        axes: dynamic axes by the names of the inputs, in order.
        options: more ones of torch.onnx.export.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both exporters warn of their own insides
        if exporter == "dynamo":
            shapes = tuple(dict.fromkeys(dynamic, DYNAMIC) for dynamic in axes.values())
            torch.onnx.export(
                model, example, path, dynamo=True, opset_version=opset, verbose=False,
                input_names=list(axes), dynamic_shapes=shapes,
                **options,
            )  # fmt: skip
        else:
            torch.onnx.export(
                model, example, path, dynamo=False, opset_version=opset,
                input_names=list(axes), dynamic_axes=axes, **options,
            )  # fmt: skip


def operators(path, opset):
    """Names of the operators in a model, which must all be standard ones of `opset`."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": opset}
    return [node.op_type for node in model.graph.node]


def runner(path):
    """A function of tensors that gives tensors, by onnxruntime on a CPU."""
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except NotImplementedByRuntime as error:
        if sys.version_info >= (3, 11):
            raise
        pytest.skip(f"the last onnxruntime for Python 3.10 has no DeformConv on a CPU: {error}")
    names = [entry.name for entry in session.get_inputs()]

    def run(*inputs):
        feed = {name: t.detach().numpy() for name, t in zip(names, inputs, strict=True)}
        return [torch.from_numpy(out) for out in session.run(None, feed)]

    return run
