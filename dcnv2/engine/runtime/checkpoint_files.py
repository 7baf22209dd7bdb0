# SPDX-License-Identifier: BSD-3-Clause
"""The files of a checkpoint: reads them, and finds damage and values that are not finite."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dcnv2.engine.runtime.files import DamagedFileError, check_file, read_json

WEIGHTS, AVERAGE, STATE = "model.safetensors", "average.safetensors", "state.pt"
META, CHECKSUMS = "meta.json", "checksums.json"


def write_checksums(checkpoint: Path) -> None:
    """Writes the SHA-256 of every file of a checkpoint to `checksums.json`."""
    files = sorted(file for file in checkpoint.iterdir() if file.name != CHECKSUMS)
    sums = {file.name: _digest(file) for file in files}
    (checkpoint / CHECKSUMS).write_text(json.dumps(sums, indent=1))


def damage(checkpoint: Path) -> str | None:
    """Returns what is wrong with a checkpoint, or None: reads all its files.

    A checkpoint whose weights are NaN or infinite counts as damaged.
    """
    if not (checkpoint / CHECKSUMS).exists():
        return f"it has no {CHECKSUMS}"
    try:
        sums = read_json(checkpoint / CHECKSUMS)
        present = [name for name in (AVERAGE, STATE) if (checkpoint / name).exists()]
        for name in (WEIGHTS, META, *present):
            if name not in sums:
                raise DamagedFileError(checkpoint / CHECKSUMS, f"does not list {name}")
        for name, digest in sums.items():
            file = checkpoint / Path(name).name
            check_file(file)
            if _digest(file) != digest:
                raise DamagedFileError(file, "does not match its checksum")
        load_meta(checkpoint)
        for name in (WEIGHTS, AVERAGE):
            if name in sums:
                read_weights(checkpoint / name)
    except DamagedFileError as error:
        return f"{error.path.name}: {error.reason}"
    return None


def load_meta(checkpoint: Path) -> dict[str, Any]:
    """Returns `meta.json` of a checkpoint: `step`, and `meta` of `save_checkpoint`.

    Raises:
        FileNotFoundError: the path is not the folder of a checkpoint.
        DamagedFileError: the file is damaged.
    """
    path = checkpoint / META
    if not path.exists() and not path.is_symlink():
        raise FileNotFoundError(
            f"{checkpoint} is not a checkpoint: it has no {META}; wanted a folder step_..."
        )
    meta = read_json(path)
    step, classes = meta.get("step"), meta.get("classes", [])
    if type(step) is not int or step < 0:
        raise DamagedFileError(path, f"step: wanted a number of updates, got {step!r}")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise DamagedFileError(path, f"classes: wanted a list of names, got {classes!r}")
    ids = meta.get("category_ids", [0] * len(classes))  # older checkpoints have none
    if not isinstance(ids, list) or [type(value) for value in ids] != [int] * len(classes):
        raise DamagedFileError(path, f"category_ids: wanted a number for each class, got {ids!r}")
    return meta


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads a `.safetensors` file.

    Raises:
        DamagedFileError: the file is damaged, or a weight is NaN or infinite; the message names it.
    """
    check_file(path)
    try:
        weights = load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise DamagedFileError(path, f"damaged file ({error})") from None
    check_finite(weights, path)
    return weights


def check_finite(weights: Mapping[str, Any], path: Path) -> None:
    """Raises `DamagedFileError` at the first tensor that has a NaN or an infinite value."""
    for name, tensor in _tensors(weights):
        # PyTorch has no isfinite for floats of 8 bits.
        wide = tensor.float() if tensor.element_size() == 1 else tensor
        if tensor.is_floating_point() and not wide.isfinite().all():
            raise DamagedFileError(path, f"{name} has NaN or infinite values")


def load_model(checkpoint: Path, model: nn.Module, name: str = WEIGHTS) -> None:
    """Loads the weights, of any floating-point dtype; names and shapes must match the model's.

    Raises:
        ValueError: the file is damaged, not finite or of another model; the message names the first
            tensor.
    """
    path = checkpoint / name
    weights, own = read_weights(path), model.state_dict()
    for key in sorted(weights.keys() | own.keys()):
        if key not in weights:
            raise ValueError(f"{path}: lacks {key} of the configured model")
        if key not in own:
            raise ValueError(f"{path}: has {key}, which the configured model lacks")
        if weights[key].shape != own[key].shape:
            raise ValueError(
                f"{path}: {key} is {list(weights[key].shape)}, the configured model has "
                f"{list(own[key].shape)}"
            )
    model.load_state_dict(weights)


def load_state(checkpoint: Path) -> dict[str, dict[str, Any]]:
    """Returns the state_dicts that `save_checkpoint` wrote.

    Raises:
        DamagedFileError: the file is missing, damaged, or has values that are not finite.
    """
    path = checkpoint / STATE
    check_file(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch raise many types
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DamagedFileError(path, f"damaged file ({reason})") from None
    if not isinstance(state, dict):
        raise DamagedFileError(path, f"wanted states by name, got {type(state).__name__}")
    check_finite(state, path)
    return state


def _tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _tensors(entry, f"{name}.{key}" if name else str(key))


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    except OSError as error:
        raise DamagedFileError(path, error) from None
    return digest.hexdigest()
