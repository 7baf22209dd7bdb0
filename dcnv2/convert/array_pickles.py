# SPDX-License-Identifier: BSD-3-Clause
"""Reads pickles of NumPy arrays, such as detectron2's `.pkl`, without running code from them."""

from __future__ import annotations

import codecs
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")


def load_arrays(path: Path) -> Any:
    """Reads a pickle of plain containers, numbers, texts and NumPy arrays.

    Raises:
        OSError: the file cannot be read.
        pickle.UnpicklingError: it holds anything else. Other exceptions: it is damaged.
    """
    with path.open("rb") as file:
        # Python 2 wrote the files of Caffe2's time; latin1 takes its bytes as they are.
        return _Unpickler(file, encoding="latin1").load()


class _Unpickler(pickle.Unpickler):
    """Admits what arrays are made of; plain containers need no admission."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns what the name in a pickle stands for.

        Raises:
            pickle.UnpicklingError: it is not admitted.
        """
        admitted = _admitted().get((module, name))
        if admitted is None:
            raise pickle.UnpicklingError(f"Unsupported global: {module}.{name}")
        return admitted


def _admitted() -> dict[tuple[str, str], Any]:
    import numpy as np

    array, number = np.zeros(1), np.float32(0)
    functions = {
        "_reconstruct": (array.__reduce__()[0], _MULTIARRAY),
        "scalar": (number.__reduce__()[0], _MULTIARRAY),
        "_frombuffer": (array.__reduce_ex__(5)[0], _NUMERIC),
    }
    return {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _bytes_of,
        ("__builtin__", "bytes"): _no_bytes,
        ("collections", "OrderedDict"): OrderedDict,
        **{(module, name): f for name, (f, modules) in functions.items() for module in modules},
    }


def _bytes_of(text: str, encoding: str = "latin1") -> bytes:
    """Python 3's bytes in pickles of protocol 2; no other codec is admitted."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"Unsupported global: the codec {encoding}")
    return codecs.encode(text, "latin1")


def _no_bytes() -> bytes:
    """Python 3's empty bytes in pickles of protocol 2."""
    return b""
