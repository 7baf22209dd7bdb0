# SPDX-License-Identifier: BSD-3-Clause
"""Inference runtimes on a CPU: a layer, exported to ONNX by PyTorch, and run by one of them.

Weight and bias are constants of the model, so a runtime prepares them before any measurement.
"""

import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from dcnv2.export import openvino_extension
from suites.backends.frameworks.adapters import openvino
from suites.perf.layers import Layer

Run = Callable[[list[np.ndarray]], np.ndarray]
_INPUTS = ("input", "offset", "mask")
_OPSET = 19  # the first with DeformConv


class _Layer(torch.nn.Module):
    """A layer with constant weight and bias."""

    def __init__(self, layer: Layer, weight: Tensor, bias: Tensor):
        super().__init__()
        self.register_buffer("weight", weight.detach())
        self.register_buffer("bias", bias.detach())
        self._window = (layer.stride, layer.padding, layer.dilation)

    def forward(self, input: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        from dcnv2.ops import deform_conv2d

        return deform_conv2d(input, offset, self.weight, self.bias, *self._window, mask)


def runtime_call(load: Callable[[Path], Run]) -> Callable[[Layer, Mapping[str, Tensor]], Tensor]:
    """The call of an implementation that runs exported layers.

    Args:
        load: compiles a model in a file for inputs of its shapes, in torch's number of threads.
    """
    loaded = WeakTensorKeyDictionary()  # by the weight: a layer's operands keep theirs

    def call(layer: Layer, t: Mapping[str, Tensor]) -> Tensor:
        inputs = tuple(t[name].detach() for name in _INPUTS)
        if t["weight"] not in loaded:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "layer.onnx")
                _export(_Layer(layer, t["weight"], t["bias"]), inputs, path)
                loaded[t["weight"]] = load(path)
        return torch.from_numpy(loaded[t["weight"]]([value.numpy() for value in inputs]))

    return call


def _export(model: torch.nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapes become constants, as they should here
        torch.onnx.export(
            model, inputs, path, dynamo=False, opset_version=_OPSET, input_names=_INPUTS
        )


def load_onnxruntime(path: Path) -> Run:
    """A model for onnxruntime's CPU provider."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, dict(zip(_INPUTS, inputs, strict=True)))[0]


def load_openvino(path: Path) -> Run:
    """A model for OpenVINO's CPU plugin, in float32; results are valid until the next call."""
    from openvino import Core

    core = Core()
    core.add_extension(openvino_extension())
    options = openvino.hints(torch.get_num_threads())
    compiled = core.compile_model(core.read_model(path), "CPU", options)
    return lambda inputs: compiled(inputs, share_inputs=True, share_outputs=True)[0]
