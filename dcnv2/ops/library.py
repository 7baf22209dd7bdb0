# SPDX-License-Identifier: BSD-3-Clause
"""Finds and loads the two compiled libraries, and records the outcome.

Nothing here makes an import fail: without a library the operators take the portable path, and
`dcnv2 doctor` reports why. One environment variable is read, once, at import:

DCNV2_BACKEND: `auto` (the default) loads the libraries that were built; `portable` loads none, so
that every operator takes the portable path.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import torch

FOLDER = Path(__file__).resolve().parent.parent / "lib"
BACKENDS = ("auto", "portable")


@dataclass(frozen=True)
class Library:
    """A compiled library and whether it was loaded; `device` is the device type that it serves."""

    device: str
    path: Path
    loaded: bool
    reason: str = ""  # why it was not loaded, a clause without a full stop
    info: dict[str, str] = field(default_factory=dict)  # provenance of the build, see build_info.h


def backend() -> str:
    """Return DCNV2_BACKEND.

    Raises:
        ValueError: the value is unknown.
    """
    wanted = os.environ.get("DCNV2_BACKEND", "auto")
    if wanted not in BACKENDS:
        raise ValueError(f"DCNV2_BACKEND must be one of {', '.join(BACKENDS)}, got '{wanted}'")
    return wanted


def unsupported_reason(device: str, path: Path) -> str | None:
    """Return why a library must not be loaded, or None. Loading and the doctor share this rule."""
    if backend() == "portable":
        return "DCNV2_BACKEND=portable asks for the portable path"
    if device == "cuda" and torch.version.cuda is None:
        return f"this torch ({torch.__version__}) has no CUDA"
    if not path.is_file():
        return f"{path.name} was not built"
    if device == "cuda" and (built := cuda_major(path)) is not None:
        own = str(torch.version.cuda).split(".")[0]
        if own != built:
            return f"{path.name} was built for CUDA {built}, and this torch is of CUDA {own}"
    return None


def cuda_major(path: Path) -> str | None:
    """Return the major version of the CUDA runtime that a library links to, without loading it."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            found = re.search(rb"\0libcudart\.so\.(\d+)", text)  # in ELF's string table
            return found[1].decode() if found else None
    except (OSError, ValueError):  # unreadable or empty: loading it reports the error
        return None


def load(device: str, folder: Path = FOLDER) -> Library:
    """Load the library of a device type if it exists; a broken library does not raise."""
    path = folder / f"libdcnv2_{device}.so"
    reason = unsupported_reason(device, path)
    if reason is not None:
        return Library(device, path, loaded=False, reason=reason)
    try:
        torch.ops.load_library(path)
    except Exception as error:  # of any kind: a broken library must not break the import
        text = " ".join(str(error).split())
        return Library(device, path, loaded=False, reason=f"{path.name} did not load: {text}")
    return Library(device, path, loaded=True, info=build_info(path))


def build_info(path: Path) -> dict[str, str]:
    """Return the provenance that a library reports (build_info.h), or {} if it reports none."""
    try:
        function = ctypes.CDLL(str(path)).dcnv2_build_info
    except (OSError, AttributeError):
        return {}
    function.restype = ctypes.c_char_p
    return json.loads(function().decode())


def conv_path(dtype: str, capability: tuple[int, int]) -> tuple[str, str]:
    """Return which kernels the CUDA library runs for convolutions, and why no faster ones.

    Args:
        dtype: "float64", "float32", "float16" or "bfloat16".
        capability: the device's compute capability.

    Returns:
        "wgmma", "mma" or "simt"; and a clause, empty for the fastest.
    """
    function = ctypes.CDLL(str(LIBRARIES["cuda"].path)).dcnv2_conv_path
    function.restype = ctypes.c_char_p
    major, minor = capability
    path, _, reason = function(dtype.encode(), 10 * major + minor).decode().partition(": ")
    return path, reason


def limit_conv_path(fastest: str) -> None:
    """Limit convolutions on CUDA to these kernels or slower ones, so that tests reach them all.

    Args:
        fastest: "simt", "mma" or "wgmma" (no limit).

    Raises:
        ValueError: the name is unknown.
    """
    if ctypes.CDLL(str(LIBRARIES["cuda"].path)).dcnv2_set_fastest_path(fastest.encode()):
        raise ValueError(f"fastest must be simt, mma or wgmma, got '{fastest}'")


def missing_arch(arch_list: str, capability: tuple[int, int]) -> str | None:
    """Return why code built for `arch_list` cannot run on a device, or None if it can.

    Args:
        arch_list: as TORCH_CUDA_ARCH_LIST writes it, such as "8.0;9.0a;9.0+PTX".
        capability: the device's compute capability.
    """
    for entry in arch_list.split(";"):
        version, _, ptx = entry.partition("+")
        number = version.rstrip("af")
        if number.count(".") != 1 or not number.replace(".", "").isdigit():
            continue  # "unknown": the library was built by hand
        major, minor = (int(part) for part in number.split("."))
        if version.endswith("a"):
            fits = capability == (major, minor)
        else:
            fits = capability[0] == major and capability[1] >= minor
            fits = fits or (
                bool(ptx) and not version.endswith("f") and capability >= (major, minor)
            )
        if fits:
            return None
    wanted = ".".join(str(part) for part in capability)
    return f"no kernel image for compute capability {wanted} among {arch_list}"


LIBRARIES = {device: load(device) for device in ("cpu", "cuda")}
_warned: set[str] = set()  # device types


def warn_portable_fallback(device: str) -> None:
    """Warn once that operators fall back to plain PyTorch although a library serves the device.

    There is no warning for a device type that no library serves, or if the user asked for the
    portable path.

    Args:
        device: the type of the device.
    """
    found = LIBRARIES.get(device)
    if found is None or found.loaded or device in _warned or backend() == "portable":
        return
    _warned.add(device)
    warnings.warn(
        f"dcnv2 runs plain PyTorch on {device}, several times slower than its compiled kernels: "
        f"{found.reason}; `dcnv2 doctor` says more",
        RuntimeWarning,
        stacklevel=2,
    )
