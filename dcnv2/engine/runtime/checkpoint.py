# SPDX-License-Identifier: BSD-3-Clause
"""Checkpoints that are either complete or absent.

A checkpoint is a folder `step_00001234` with `model.safetensors` (weights), `average.safetensors`
(their moving average, if the run keeps one), `state.pt` (optimiser and loss scale), `meta.json`,
and `checksums.json` of all these. It is written under a temporary name, synced to the disk and then
renamed, so a run that dies while writing keeps the previous checkpoint. `best.json`, next to the
checkpoints, names the one with the best result.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import reprlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from dcnv2.engine.config import RunConfig, pretrained
from dcnv2.engine.config.loading import PRETRAINED, is_weights_file
from dcnv2.engine.runtime.checkpoint_files import (
    AVERAGE,
    META,
    STATE,
    WEIGHTS,
    check_finite,
    damage,
    load_meta,
    load_model,
    write_checksums,
)
from dcnv2.engine.runtime.files import (
    DamagedFileError,
    read_json,
    remove,
    set_aside,
    write_atomically,
)
from dcnv2.models import build_model
from dcnv2.models.detector import Detector

log = logging.getLogger("dcnv2")

PREFIX, BEST = "step_", "best.json"


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
        DamagedFileError: a weight is NaN or infinite; nothing was written.
    """
    final = folder / checkpoint_name(step)
    for weights in (model.state_dict(), average or {}):
        check_finite(weights, final)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(final):
            # A resumed run reaches the step of an older checkpoint again, in the same state.
            if damage(final) is None:
                return final
            remove(final)
        for leftover in folder.glob(".writing_*"):
            remove(leftover)
        aside = folder / f".writing_{step:08d}"
        aside.mkdir()
    except OSError as error:
        raise OSError(f"{final}: checkpoint not written: {error}") from error
    try:
        _save_weights(model.state_dict(), aside / WEIGHTS)
        if average is not None:
            _save_weights(average, aside / AVERAGE)
        with (aside / STATE).open("wb") as file:  # by itself torch names no reason for a failure
            torch.save(dict(state), file)
        (aside / META).write_text(json.dumps({"step": step, **meta}, indent=1))
        write_checksums(aside)
        for path in (*aside.iterdir(), aside):
            _sync(path)
        aside.rename(final)
        _sync(folder)
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        # torch and safetensors raise their own types for errors of the file system.
        raise OSError(f"{final}: checkpoint not written: {error}") from error
    prune(folder, keep)
    return final


def prune(folder: Path, keep: int) -> None:
    """Removes all checkpoints but the newest `keep` and the best.

    Removes none while `best.json` is damaged, since any of them may be the best.
    """
    try:
        best = _read_best(folder)
        for old in list_checkpoints(folder)[:-keep]:
            if best is None or old.name != checkpoint_name(best["step"]):
                # Renamed first: a partly deleted checkpoint must not look complete.
                remove(old.rename(old.with_name(f".writing_{old.name}_gone")))
    except (OSError, DamagedFileError) as error:
        log.warning("older checkpoints are not removed: %s", error)


def list_checkpoints(folder: Path) -> list[Path]:
    """Returns the run's checkpoints, damaged ones included, oldest first.

    Raises:
        DamagedFileError: `folder` exists, but is not a folder.
        OSError: it cannot be read.
    """
    if not os.path.lexists(folder):
        return []
    if not folder.is_dir():
        raise DamagedFileError(folder, "not a folder, or a link to a missing one")
    found = [path for path in folder.iterdir() if re.fullmatch(rf"{PREFIX}\d+", path.name)]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """Returns the number of updates in a checkpoint's name."""
    return int(checkpoint.name.removeprefix(PREFIX))


def last_checkpoint(folder: Path) -> Path | None:
    """Returns the newest intact checkpoint, or None; warns of damaged ones."""
    for path in reversed(list_checkpoints(folder)):
        fault = damage(path)
        if fault is None:
            return path
        log.warning("%s: %s; trying the one before", path, fault)
    return None


def mark_best(folder: Path, step: int, metric: str, value: float) -> bool:
    """Marks the checkpoint of `step` as the best if `value` exceeds the best so far.

    A step without a checkpoint is not marked. Values of another metric are not compared.

    Args:
        folder: the run's folder of checkpoints.
        step: number of updates done.
        metric: such as `box_AP`.
        value: from 0 to 1, or NaN, which is never the best.

    Returns:
        Whether the checkpoint was marked.
    """
    path = folder / BEST
    try:
        before = _read_best(folder)
    except DamagedFileError as error:
        log.warning("%s; kept as %s; only later results are compared", error, set_aside(path))
        before = None
    if math.isnan(value) or not (folder / checkpoint_name(step) / META).is_file():
        return False
    if before is not None and before["metric"] == metric and before["value"] >= value:
        return False
    write_atomically(path, json.dumps({"step": step, "metric": metric, "value": value}))
    return True


def best_checkpoint(folder: Path) -> Path | None:
    """Returns the checkpoint that `mark_best` marked, None if it does not exist."""
    try:
        best = _read_best(folder)
    except DamagedFileError as error:
        log.warning("%s", error)
        return None
    path = folder / checkpoint_name(best["step"]) if best is not None else None
    return path if path is not None and (path / META).is_file() else None


def find_checkpoint(config: RunConfig, choice: str | Path | None) -> Path:
    """Returns the folder of a checkpoint of a run.

    Args:
        config: the run.
        choice: `last` or None for the newest intact one, `best` for the one with the best result,
            a folder (`./best` is a folder of that name): of a checkpoint, or of a run, whose newest
            intact one it stands for, or the name of a model of the package.

    Raises:
        FileNotFoundError: the run has no such checkpoint.
        DamagedFileError: `best.json` is damaged.
    """
    folder = config.folder / "checkpoints"
    if choice == "best":
        best = _read_best(folder)
        if best is None:
            raise FileNotFoundError(
                f"{config.folder}: no evaluation marked a best checkpoint; use the last"
            )
        return folder / checkpoint_name(best["step"])
    if choice in (None, "last"):
        return newest_checkpoint(config.folder)
    return as_checkpoint(choice)


def as_checkpoint(place: str | Path) -> Path:
    """Returns the folder of a checkpoint: itself, or the newest of a run or model of the package.

    Raises:
        FileNotFoundError: the run has no intact one.
        ValueError: it is a file of weights.
    """
    path = Path(place)
    if is_weights_file(path):
        raise ValueError(
            f"{path} looks like a file of weights, not a checkpoint: `dcnv2 convert {path} FOLDER` "
            "makes a run of a detector of detectron2 or mmdetection"
        )
    if not path.exists() and str(place) in pretrained():
        path = PRETRAINED / path
    return newest_checkpoint(path) if (path / "config.yaml").is_file() else path


def newest_checkpoint(run: Path) -> Path:
    """Returns the newest intact checkpoint of a run's folder; raises if it has none."""
    folder = run / "checkpoints"
    found = last_checkpoint(folder)
    if found is None:
        damaged = len(list_checkpoints(folder))
        what = f"only damaged checkpoints ({damaged})" if damaged else "no checkpoint"
        raise FileNotFoundError(f"{run} has {what}: train it first")
    return found


def restore(
    config: RunConfig, checkpoint: str | Path | None, device: torch.device
) -> tuple[Detector, dict[str, Any]]:
    """Builds the configured model with the weights of a checkpoint, in evaluation mode.

    Args:
        config: the run.
        checkpoint: see `find_checkpoint`. Averaged weights are preferred.
        device: device of the model.

    Returns:
        The model, and the checkpoint's metadata.

    Raises:
        FileNotFoundError: the checkpoint does not exist, or the run has no intact one.
        ValueError: the checkpoint is damaged or of another model.
    """
    checkpoint = find_checkpoint(config, checkpoint)
    meta = load_meta(checkpoint)
    if "classes" not in meta:
        raise DamagedFileError(checkpoint / META, "lacks the names of the classes")
    fault = damage(checkpoint)
    if fault is not None:
        raise ValueError(
            f"{checkpoint}: {fault}; without --checkpoint the newest intact one is used"
        )
    model = build_model(config.model, pretrained=False)
    load_model(checkpoint, model, AVERAGE if (checkpoint / AVERAGE).is_file() else WEIGHTS)
    return model.to(device).eval(), meta


def checkpoint_name(step: int) -> str:
    """Returns the name of the folder of a checkpoint."""
    return f"{PREFIX}{step:08d}"


def _read_best(folder: Path) -> dict[str, Any] | None:
    """Returns `step`, `metric` and `value` of the best checkpoint, None before an evaluation."""
    path = folder / BEST
    if not os.path.lexists(path):
        return None
    best = read_json(path)
    step, metric, value = (best.get(key) for key in ("step", "metric", "value"))
    if not (
        type(step) is int
        and isinstance(metric, str)
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 <= value <= 1
    ):
        raise DamagedFileError(
            path, f"wanted step, metric and a value from 0 to 1, got {reprlib.repr(best)}"
        )
    return best


def _save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, path)


def _sync(path: Path) -> None:
    """Flushes a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
