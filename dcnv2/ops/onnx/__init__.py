# SPDX-License-Identifier: BSD-3-Clause
"""The operators in ONNX: as nodes, as translations for both exporters, and how these find them."""

from .translations import onnx_translations, register_symbolics

__all__ = ["onnx_translations", "register_symbolics"]

register_symbolics()  # for torch.onnx.export(dynamo=False)
