# SPDX-License-Identifier: BSD-3-Clause
"""Checkpoints that are whole or absent.

A checkpoint is a folder `step_00001234` with `model.safetensors` (weights), `optimizer.pt` and
`meta.json`. It is written under another name and renamed when complete, so a run that dies while
writing leaves the one before.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from dcnv2.engine.config import RunConfig
from dcnv2.models import build_model

PREFIX = "step_"


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    meta: dict,
    keep: int = 2,
) -> Path:
    """Writes the checkpoint of `step` and removes all but the newest `keep`.

    Args:
        folder: where checkpoints of the run live.
        step: number of updates done.
        model: its state_dict is saved contiguous, on the CPU.
        optimizer: its state is saved whole.
        meta: what else is needed to use the weights (JSON), such as class names.
        keep: how many checkpoints stay.

    Returns:
        The folder of the checkpoint.
    """
    final = folder / f"{PREFIX}{step:08d}"
    aside = folder / f".writing_{step:08d}_{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    save_file(weights, aside / "model.safetensors")
    torch.save(optimizer.state_dict(), aside / "optimizer.pt")
    (aside / "meta.json").write_text(json.dumps({"step": step, **meta}, indent=1))
    for file in aside.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    if final.exists():
        replaced = aside.with_name(aside.name + "_old")
        final.rename(replaced)
        aside.rename(final)
        shutil.rmtree(replaced)
    else:
        aside.rename(final)
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    for leftover in folder.glob(".writing_*"):
        shutil.rmtree(leftover)
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    return sorted(p for p in folder.glob(PREFIX + "*") if (p / "meta.json").is_file())


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint, or None."""
    found = list_checkpoints(folder)
    return found[-1] if found else None


def load_meta(checkpoint: Path) -> dict:
    """`meta.json` of a checkpoint: `step` and what was given to `save_checkpoint`."""
    path = checkpoint / "meta.json"
    if not path.is_file():
        raise FileNotFoundError(f"{checkpoint} is not a checkpoint: it has no meta.json")
    return json.loads(path.read_text())


def load_model(checkpoint: Path, model: nn.Module) -> None:
    """Loads the weights; every tensor must be there and fit.

    Raises:
        ValueError: the file is broken, or of another model; the message names the first tensor.
    """
    path = checkpoint / "model.safetensors"
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: broken file ({error})") from None
    own = model.state_dict()
    for name in sorted(weights.keys() | own.keys()):
        if name not in weights:
            raise ValueError(f"{path}: has no {name}, which the configured model has")
        if name not in own:
            raise ValueError(f"{path}: has {name}, which the configured model has not")
        if weights[name].shape != own[name].shape:
            raise ValueError(
                f"{path}: {name} is {list(weights[name].shape)}, the configured model has "
                f"{list(own[name].shape)}"
            )
    model.load_state_dict(weights)


def load_optimizer(checkpoint: Path, optimizer: torch.optim.Optimizer) -> None:
    """Loads the optimiser's state (momentum, moments, step counts)."""
    state = torch.load(checkpoint / "optimizer.pt", map_location="cpu", weights_only=True)
    optimizer.load_state_dict(state)


def restore(
    config: RunConfig, checkpoint: Path | None, device: torch.device
) -> tuple[nn.Module, dict]:
    """Builds the configured model with the weights of a checkpoint, in evaluation mode.

    Args:
        config: the run.
        checkpoint: its folder, or None for the run's newest.
        device: where the model goes.

    Returns:
        The model, and the checkpoint's meta data.

    Raises:
        FileNotFoundError: there is no such checkpoint, or none at all.
    """
    if checkpoint is None:
        checkpoint = last_checkpoint(config.folder / "checkpoints")
        if checkpoint is None:
            raise FileNotFoundError(f"{config.folder} has no checkpoint: train it first")
    meta = load_meta(checkpoint)
    model = build_model(config.model, pretrained=False)
    load_model(checkpoint, model)
    return model.to(device).eval(), meta
