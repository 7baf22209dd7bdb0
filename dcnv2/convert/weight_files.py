# SPDX-License-Identifier: BSD-3-Clause
"""Reads and writes the files of `dcnv2 convert`: whole or not at all, and running no code."""

from __future__ import annotations

import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from dcnv2.convert.array_pickles import load_arrays
from dcnv2.convert.checkpoints import convert_state_dict, sources_of, unwrap
from dcnv2.convert.detectors.origins import origin_of
from dcnv2.convert.file_formats import looks_like

_ARRAYS = ("_reconstruct", "scalar")
_CODE = re.compile(r"(?:Unsupported global|Trying to load unsupported GLOBAL|reduce|class).*")


def convert_file(source: str | Path, target: str | Path) -> str:
    """Convert a checkpoint file; returns what was done, in lines.

    Args:
        source: `.safetensors`, or what torch.save wrote.
        target: `.safetensors`, or `.pth` and the like for torch.save; another file.

    Raises:
        OSError: a file or a folder is missing, or cannot be read or written.
        ValueError: as `load_weights`, `convert_state_dict` and `save_weights`; or it is a detector
            without anything to rename, which becomes a run in a folder.
    """
    source, target = Path(source), Path(target)
    _check_paths(source, target)
    before = load_weights(source)
    try:
        after = convert_state_dict(before)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    origin = origin_of(before)
    if origin is not None and origin.project is not None and after.keys() == before.keys():
        raise ValueError(
            f"{source} is {origin.text}, and has no deformable layers to rename: "
            f"for a run give a folder: `dcnv2 convert {source} {target.with_suffix('')}`"
        )
    save_weights(after, target)
    renamed = [f"  {name}" for name in after if name not in before]
    if origin is not None and origin.project is not None:
        renamed.append(f"{source} looks like {origin.text}: {origin.taken}")
    known = ", ".join(sources_of(before)) or "no deformable layers"
    count = sum(name not in before for name in after)
    lines = [f"{source}: {len(before)} tensors, {known}", f"{target}: {count} new names"]
    return "\n".join([*lines, *renamed])


def _check_paths(source: Path, target: Path) -> None:
    """Check a conversion's paths before anything large is read.

    Raises:
        FileNotFoundError: the source or the target's folder is missing.
        ValueError: one of them is no regular file, or both are the same file.
    """
    if source.exists() and not source.is_file():
        raise ValueError(f"{source} is not a regular file")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent} is not a folder: create it, then convert again")
    if not target.exists():
        return
    if not target.is_file():
        raise ValueError(f"{target} is not a regular file")
    if source.exists() and target.samefile(source):
        raise ValueError(f"{target} is the source itself: choose another name for the result")


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Read names and tensors from a file without running any code that it contains.

    Args:
        path: as of `load_checkpoint`.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: as `load_checkpoint`, or it holds no tensors.
    """
    state = load_checkpoint(path)
    try:
        return unwrap(state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def load_checkpoint(path: str | Path) -> Mapping[str, Any]:
    """Read a file, with what it holds besides weights, without running any code that it contains.

    Args:
        path: `.safetensors`, what torch.save wrote, or a `.pkl` of NumPy arrays, which are
            returned as tensors. What mmengine logs in its checkpoints is left out.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is damaged or of another kind, or holds other objects, which could run code.
    """
    path = Path(path)
    try:
        state = _load(path)
    except OSError:
        raise
    except UnpicklingError as error:
        found = _CODE.search(str(error))
        if found is None:
            raise _unreadable(path, error) from error
        if "ultralytics" in found[0]:
            raise ValueError(
                f"{path} looks like a YOLO of Ultralytics, pickled whole: dcnv2 has no such head"
            ) from error
        raise ValueError(
            f"{path} holds more than tensors and is not read, as that could run code: if you "
            f"trust it, save only its state_dict ({_first_sentence(found[0])})"
        ) from error
    except Exception as error:  # torch and safetensors raise most kinds for damaged files
        raise _unreadable(path, error) from error
    if not isinstance(state, Mapping):
        raise ValueError(f"{path} holds a {type(state).__name__}, not a state_dict")
    return state


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if path.suffix == ".pkl" and not zipfile.is_zipfile(path):
        content = load_arrays(path)
        if not isinstance(content, int):  # the magic number of torch.save before 1.6
            return _as_tensors(content)
    with warnings.catch_warnings(), torch.serialization.safe_globals(_LOGS):
        warnings.simplefilter("ignore")  # of formats that it then refuses
        return torch.load(path, map_location="cpu", weights_only=True)


class _Unread:
    """Stands for an object that is not read: nothing of it is kept, nothing is run."""

    def __new__(cls, *_: Any) -> _Unread:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


# mmengine's checkpoints hold histories of their losses, made of these.
_LOGS: Any = [
    (_Unread, name)
    for name in (
        "mmengine.logging.history_buffer.HistoryBuffer",
        "builtins.getattr",
        "numpy.ndarray",
        "numpy.dtype",
        *(f"numpy.{core}.multiarray.{made}" for core in ("core", "_core") for made in _ARRAYS),
    )
]


def _as_tensors(content: Any) -> Any:
    """Turn the arrays of numbers in nested containers into tensors."""
    import numpy as np

    if isinstance(content, Mapping):
        return {name: _as_tensors(value) for name, value in content.items()}
    if isinstance(content, np.ndarray) and content.dtype.kind in "fiub":
        native = content.astype(content.dtype.newbyteorder("="))
        return torch.from_numpy(np.ascontiguousarray(native).reshape(content.shape))
    return content


def _unreadable(path: Path, error: Exception) -> ValueError:
    likely = looks_like(path)
    if likely is not None:
        return ValueError(f"{path} is no file of weights: it looks like {likely}")
    text = str(error).rpartition("WeightsUnpickler error:")[2]
    reason = f"{type(error).__name__}: {_first_sentence(text)}".removesuffix(": ")
    return ValueError(f"{path} is damaged, or not a file of torch.save or safetensors ({reason})")


def _first_sentence(text: str) -> str:
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line.partition(". ")[0].rstrip(".")


def save_weights(tensors: Mapping[str, Tensor], target: Path) -> None:
    """Write tensors to a file, which appears when it is complete.

    Args:
        tensors: by name.
        target: `.safetensors`, or `.pth` and the like for torch.save.

    Raises:
        ValueError: a tensor has no values, or no place in safetensors.
        OSError: the file cannot be written.
    """
    for name, value in tensors.items():
        if value.is_meta:
            raise ValueError(f"{name} is on the meta device, so it has no values to convert")
        dense = value.layout == torch.strided and not value.is_quantized
        if target.suffix == ".safetensors" and not dense:
            raise ValueError(f"{name} is sparse or quantized: write a .pth instead of {target}")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        _save(tensors, part, target.suffix)
        part.replace(target)
    except OSError:
        raise
    except Exception as error:  # a full disk is a RuntimeError of torch, a SafetensorError, ...
        raise OSError(f"{target} cannot be written ({_first_sentence(str(error))})") from error
    finally:
        part.unlink(missing_ok=True)


def _save(tensors: Mapping[str, Tensor], path: Path, suffix: str) -> None:
    if suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file({name: value.contiguous().clone() for name, value in tensors.items()}, path)
    else:
        with path.open("wb") as file:  # by itself torch names no reason for a failed write
            torch.save(dict(tensors), file)
