# SPDX-License-Identifier: BSD-3-Clause
"""Values as bytes for another process: tensors with their layouts, and functions of any kind.

Pickle sends a function by its name, which a closure or a decorated function does not have. Such a
function is sent as its code and the values that it closes over; its module is imported there.
"""

from __future__ import annotations

import builtins
import importlib
import io
import marshal
import pickle
from types import CellType, FunctionType, SimpleNamespace
from typing import Any

import torch
from _pytest.assertion import rewrite


def _find(function: FunctionType) -> Any:
    """What another process would find under a function's name."""
    found = importlib.import_module(function.__module__)
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    return found


def _make_function(code, module, name, defaults, keyword_defaults, closure) -> FunctionType:
    names = vars(importlib.import_module(module))
    # pytest rewrites assertions of test modules to calls of these.
    names.setdefault("@py_builtins", builtins)
    names.setdefault("@pytest_ar", rewrite)
    cells = tuple(CellType(value) for value in closure)
    function = FunctionType(marshal.loads(code), names, name, defaults, cells)
    function.__kwdefaults__ = keyword_defaults
    return function


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, FunctionType) or _find(value) is value:
            return NotImplemented
        code, closure = marshal.dumps(value.__code__), value.__closure__ or ()
        cells = tuple(cell.cell_contents for cell in closure)
        about = (value.__module__, value.__name__, value.__defaults__, value.__kwdefaults__)
        return _make_function, (code, *about, cells)


def to_bytes(value: Any) -> bytes:
    """A value for `from_bytes`, in this process or another."""
    file = io.BytesIO()
    torch.save(value, file, pickle_module=SimpleNamespace(Pickler=_Pickler, __name__=__name__))
    return file.getvalue()


def from_bytes(data: bytes) -> Any:
    """The value, with its tensors on the CPU, so that receiving it does not use the GPU."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=False)
