# SPDX-License-Identifier: BSD-3-Clause
"""Export to ONNX: convolutions as the standard DeformConv, RoI poolings as standard operators.

torch.export, AOTInductor and torch.compile need nothing from here: the operators tell them what
they must know (`dcnv2.ops.schema`). For ONNX say what stands for them, to either exporter:

    torch.onnx.export(model, (x,), "model.onnx", dynamo=True, opset_version=19,
                      custom_translation_table=dcnv2.export.onnx_translations())

    dcnv2.export.register_symbolics()  # once
    torch.onnx.export(model, (x,), "model.onnx", dynamo=False, opset_version=19)

torchvision's operator becomes a DeformConv as well. The opset must be 19 or later.
"""

from .onnx import onnx_translations, register_symbolics

__all__ = ["onnx_translations", "register_symbolics"]
