# SPDX-License-Identifier: BSD-3-Clause
"""Deformable Convolution V2 for PyTorch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .convert.checkpoints import convert_state_dict
    from .convert.convolutions import deformable
    from .convert.layers import replace

__version__ = "0.1.0"

# Loaded on first access, so that `import dcnv2` by itself stays quick.
_HOMES = {
    "convert_state_dict": "convert.checkpoints",
    "deformable": "convert.convolutions",
    "replace": "convert.layers",
}

__all__ = ["__version__", "convert_state_dict", "deformable", "replace"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
