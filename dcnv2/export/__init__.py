# SPDX-License-Identifier: BSD-3-Clause
"""Export to ONNX: convolutions as the standard DeformConv, RoI poolings as standard operators.

torch.export, AOTInductor, torch.compile and both ONNX exporters need nothing from here: the
operators tell them what they must know (`dcnv2.ops.schema`, `dcnv2.ops.onnx`).

    torch.onnx.export(model, (x,), "model.onnx", dynamo=True)

The opset must be 19 or later. torchvision's operator becomes a DeformConv as well, with
dynamo=True by onnxscript 0.7.
"""

from dcnv2.export.openvino import openvino_extension
from dcnv2.ops.onnx import onnx_translations, register_symbolics

__all__ = ["onnx_translations", "openvino_extension", "register_symbolics"]
