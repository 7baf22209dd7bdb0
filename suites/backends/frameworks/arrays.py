# SPDX-License-Identifier: BSD-3-Clause
"""Messages between processes: a JSON header and the memory of arrays, without pickle.

A message is the length of its header (8 bytes, little-endian), the header, and the arrays' memory
in the order of the header. An array keeps its strides, so a layout arrives as it is.
"""

from __future__ import annotations

import ctypes
import json
import struct
from typing import BinaryIO

import numpy as np

_LENGTH = struct.Struct("<Q")


def send(file: BinaryIO, words: dict, arrays: dict[str, np.ndarray | None]) -> None:
    """Write a message.

    Args:
        file: to write to.
        words: anything that JSON has.
        arrays: by name; None stays None.
    """
    listed, memories = {}, []
    for name, array in arrays.items():
        if array is None:
            listed[name] = None
            continue
        memories.append(_memory(array))
        listed[name] = {
            "dtype": array.dtype.str,
            "shape": array.shape,
            "strides": array.strides,
            "bytes": len(memories[-1]),
        }
    header = json.dumps({"words": words, "arrays": listed}).encode()
    file.write(_LENGTH.pack(len(header)))
    file.write(header)
    for memory in memories:
        file.write(memory)
    file.flush()


def receive(file: BinaryIO) -> tuple[dict, dict[str, np.ndarray | None]]:
    """Read a message.

    Raises:
        EOFError: The other process has closed the pipe.
    """
    header = json.loads(_read(file, _LENGTH.unpack(_read(file, _LENGTH.size))[0]))
    arrays = {}
    for name, about in header["arrays"].items():
        if about is None:
            arrays[name] = None
            continue
        memory = _read(file, about["bytes"])
        shape, strides = about["shape"], about["strides"]
        arrays[name] = np.ndarray(shape, about["dtype"], memory, 0, strides)
    return header["words"], arrays


def _memory(array: np.ndarray) -> bytes:
    """The memory from an array's first element to its last; strides are not negative."""
    if not array.size:
        return b""
    steps = zip(array.shape, array.strides)
    span = array.itemsize + sum((size - 1) * stride for size, stride in steps)
    return ctypes.string_at(array.ctypes.data, span)


def _read(file: BinaryIO, count: int) -> bytearray:
    memory = bytearray(count)
    view = memoryview(memory)
    while view:
        got = file.readinto(view)
        if not got:
            raise EOFError("the other process has closed the pipe")
        view = view[got:]
    return memory
