# SPDX-License-Identifier: BSD-3-Clause
"""Makes torch.onnx.export(dynamo=True) find the translations without a table.

PyTorch has no place to register a translation before an export, except its own tables, which need
onnxscript (two seconds to import). But an export runs an operator's fake before it looks for the
operator's translation. The fakes of `dcnv2.ops.schema` therefore call `add_translations`, which
adds what is missing to the registry of the export that is running, as PyTorch does with a
`custom_translation_table`.
"""

from __future__ import annotations

import sys
from typing import Any

import torch

from .translations import onnx_translations


def add_translations() -> None:
    """Add the translations that the running export lacks; nothing outside of one."""
    if not torch.onnx.is_in_onnx_export() or (registry := _registry()) is None:
        return
    for operator, translation in onnx_translations().items():
        if not registry.is_registered(operator):
            registry.register_op(operator, translation)


def _registry() -> Any:
    """Return the registry of the export by torch.export that is running.

    The exporter holds it in a local variable only. If a later PyTorch does not, it reports that it
    has no translation of the operator, as without this module.
    """
    frame = sys._getframe()
    while (frame := frame.f_back) is not None:  # type: ignore[assignment]
        if frame.f_globals.get("__name__", "").startswith("torch.onnx."):
            registry = frame.f_locals.get("registry")
            if hasattr(registry, "register_op"):
                return registry
    return None
