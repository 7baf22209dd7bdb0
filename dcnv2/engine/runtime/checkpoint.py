# SPDX-License-Identifier: BSD-3-Clause
"""Checkpoints that are either complete or absent.

A checkpoint is a folder `step_00001234` with `model.safetensors` (weights), `average.safetensors`
(their moving average, if the run keeps one), `state.pt` (optimiser and loss scale), `meta.json`,
and `checksums.json` of all these. It is written under a temporary name, synced to the disk and then
renamed, so a run that dies while writing keeps the previous checkpoint. `best.json`, next to the
checkpoints, names the one with the best result.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dcnv2.engine.config import RunConfig
from dcnv2.models import build_model
from dcnv2.models.detector import Detector

log = logging.getLogger("dcnv2")

PREFIX = "step_"
WEIGHTS, AVERAGE, STATE = "model.safetensors", "average.safetensors", "state.pt"


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    state: Mapping[str, dict[str, Any]],
    meta: Mapping[str, Any],
    keep: int = 2,
    average: Mapping[str, Tensor] | None = None,
) -> Path:
    """Writes the checkpoint of `step`, and removes all but the newest `keep` and the best.

    Args:
        folder: the run's folder of checkpoints.
        step: number of updates done.
        model: its state_dict is saved contiguous, on the CPU.
        state: state_dicts by name, such as that of the optimiser; tensors and plain values.
        meta: what else using the weights requires (JSON), such as class names.
        keep: number of checkpoints to keep.
        average: a second state_dict of the model.

    Returns:
        The folder of the checkpoint.

    Raises:
        OSError: writing failed, for example on a full disk; older checkpoints are unchanged.
    """
    final = folder / f"{PREFIX}{step:08d}"
    folder.mkdir(parents=True, exist_ok=True)
    if final.exists():
        # A resumed run reaches the step of an older checkpoint again, in the same state.
        if damage(final) is None:
            return final
        shutil.rmtree(final)
    for leftover in folder.glob(".writing_*"):
        shutil.rmtree(leftover)
    aside = folder / f".writing_{step:08d}"
    aside.mkdir()
    try:
        _save_weights(model.state_dict(), aside / WEIGHTS)
        if average is not None:
            _save_weights(average, aside / AVERAGE)
        torch.save(dict(state), aside / STATE)
        (aside / "meta.json").write_text(json.dumps({"step": step, **meta}, indent=1))
        write_checksums(aside)
        for path in (*aside.iterdir(), aside):
            _sync(path)
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        # torch and safetensors raise their own types for errors of the file system.
        raise OSError(f"{final}: checkpoint not written: {error}") from error
    aside.rename(final)
    _sync(folder)
    prune(folder, keep)
    return final


def prune(folder: Path, keep: int) -> None:
    """Removes all checkpoints but the newest `keep` and the best."""
    best = best_checkpoint(folder)
    for old in list_checkpoints(folder)[:-keep]:
        if old != best:
            # Renamed first: a partly deleted checkpoint must not look complete.
            gone = old.with_name(f".writing_{old.name}_gone")
            old.rename(gone)
            shutil.rmtree(gone)


def list_checkpoints(folder: Path) -> list[Path]:
    """Returns the checkpoints that were written completely, oldest first."""
    return sorted(p for p in folder.glob(PREFIX + "*") if (p / "meta.json").is_file())


def last_checkpoint(folder: Path) -> Path | None:
    """Returns the newest checkpoint with correct checksums, or None; warns of damaged ones."""
    for path in reversed(list_checkpoints(folder)):
        fault = damage(path)
        if fault is None:
            return path
        log.warning("%s: %s; trying the one before", path, fault)
    return None


def mark_best(folder: Path, step: int, metric: str, value: float) -> bool:
    """Marks the checkpoint of `step` as the best if `value` exceeds the best so far."""
    path = folder / "best.json"
    before = json.loads(path.read_text()) if path.is_file() else None
    if math.isnan(value) or (before is not None and before["value"] >= value):
        return False
    aside = folder / ".best.json"
    aside.write_text(json.dumps({"step": step, "metric": metric, "value": value}))
    _sync(aside)
    aside.rename(path)
    return True


def best_checkpoint(folder: Path) -> Path | None:
    """Returns the checkpoint that `mark_best` marked, None if it does not exist."""
    path = folder / "best.json"
    if not path.is_file():
        return None
    best = folder / f"{PREFIX}{json.loads(path.read_text())['step']:08d}"
    return best if (best / "meta.json").is_file() else None


def write_checksums(checkpoint: Path) -> None:
    """Writes the SHA-256 of every file of a checkpoint to `checksums.json`."""
    sums = {file.name: _digest(file) for file in sorted(checkpoint.iterdir())}
    (checkpoint / "checksums.json").write_text(json.dumps(sums, indent=1))


def damage(checkpoint: Path) -> str | None:
    """Returns what is wrong with the files of a checkpoint, or None."""
    path = checkpoint / "checksums.json"
    if not path.is_file():
        return "it has no checksums.json"
    for name, digest in json.loads(path.read_text()).items():
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing"
        if _digest(file) != digest:
            return f"{name} does not match its checksum"
    return None


def load_meta(checkpoint: Path) -> dict[str, Any]:
    """Returns `meta.json` of a checkpoint: `step`, and `meta` of `save_checkpoint`."""
    path = checkpoint / "meta.json"
    if not path.is_file():
        raise FileNotFoundError(f"{checkpoint} is not a checkpoint: it has no meta.json")
    return json.loads(path.read_text())


def load_model(checkpoint: Path, model: nn.Module, name: str = WEIGHTS) -> None:
    """Loads the weights, of any floating-point dtype; names and shapes must match the model's.

    Raises:
        ValueError: the file is damaged or of another model; the message names the first tensor.
    """
    path = checkpoint / name
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged file ({error})") from None
    own = model.state_dict()
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
    """Returns the state_dicts that `save_checkpoint` wrote."""
    return torch.load(checkpoint / STATE, map_location="cpu", weights_only=True)


def restore(
    config: RunConfig, checkpoint: Path | None, device: torch.device
) -> tuple[Detector, dict[str, Any]]:
    """Builds the configured model with the weights of a checkpoint, in evaluation mode.

    Args:
        config: the run.
        checkpoint: its folder, or None for the run's newest. Averaged weights are preferred.
        device: device of the model.

    Returns:
        The model, and the checkpoint's metadata.

    Raises:
        FileNotFoundError: the checkpoint does not exist, or the run has none.
    """
    if checkpoint is None:
        checkpoint = last_checkpoint(config.folder / "checkpoints")
        if checkpoint is None:
            raise FileNotFoundError(f"{config.folder} has no checkpoint: train it first")
    meta = load_meta(checkpoint)
    model = build_model(config.model, pretrained=False)
    load_model(checkpoint, model, AVERAGE if (checkpoint / AVERAGE).is_file() else WEIGHTS)
    return model.to(device).eval(), meta


def _save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, path)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Flushes a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
