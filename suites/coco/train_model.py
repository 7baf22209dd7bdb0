# SPDX-License-Identifier: BSD-3-Clause
"""Trains and evaluates one model of the smoke run, in a folder that shows how far it has come."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from dcnv2.engine.config import RunConfig, load_config
from dcnv2.engine.runtime.checkpoint import last_checkpoint, restore
from dcnv2.engine.runtime.checkpoint_files import load_meta
from dcnv2.engine.runtime.device import pick_device
from dcnv2.engine.runtime.files import write_atomically
from dcnv2.engine.training.trainer import train
from suites.coco.smoke_suite import Suite

# The row of a finished training, in its folder.
ROW = "smoke_row.json"


def label(model: str, seed: int) -> str:
    """Name of a training: its model, and the seed unless it is the first."""
    return f"{model}, seed {seed}" if seed else model


def run_folder(folder: Path, name: str, seed: int) -> Path:
    """Folder of a training; trainings with the first seed are in `folder` itself."""
    return (folder / f"seed_{seed}" if seed else folder) / name


def configure(
    suite: Suite, name: str, seed: int, folder: Path, words: Sequence[str] = ()
) -> RunConfig:
    """The configuration of one training."""
    home = run_folder(folder, name, seed)
    place = [f"--output={home.parent}", f"--name={name}", f"--train.seed={seed}"]
    return load_config(f"{suite.configs}/{name}", [*suite.words, *place, *words])


def run_model(
    suite: Suite, name: str, seed: int, folder: Path, words: Sequence[str]
) -> dict[str, Any]:
    """Train and evaluate one model, from its newest checkpoint if there is one.

    Returns:
        A row: parameters, steps, threads, minutes, share of a core, median step time, first and
        last loss, and COCO's numbers. A training that had finished has the row of that time.
    """
    config = configure(suite, name, seed, folder, words)
    home = config.folder
    if (row := finished_row(config)) is not None:
        return row
    began, worked = time.perf_counter(), time.thread_time()
    results = train(config, resume="auto")
    passed, worked = time.perf_counter() - began, time.thread_time() - worked
    metrics = pd.read_csv(home / "metrics.csv")
    steps_ms = metrics["data_ms"] + metrics["step_ms"]
    model, _ = restore(config, None, torch.device("cpu"))
    row = {
        "model": name,
        "seed": seed,
        "convolutions": config.model.backbone.convs[-1],
        "pooling": config.model.box.pool.kind,
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": config.train.steps,
        "threads": torch.get_num_threads(),
        "minutes": (steps_ms * metrics["step"].diff().fillna(metrics["step"])).sum() / 6e4,
        "cpu_share": worked / passed,
        "step_ms": metrics["step_ms"].median(),
        "first_loss": metrics["loss"].iloc[0],
        "last_loss": metrics["loss"].tail(3).mean(),
        **results.drop(columns=["step"]).iloc[0].to_dict(),
    }
    if pick_device(config.device).type != "cpu":
        del row["cpu_share"]  # the process waits while the GPU works
    write_atomically(home / ROW, json.dumps(row, default=float))
    return row


def finished_row(config: RunConfig) -> dict[str, Any] | None:
    """The row of a training that has been trained and evaluated to its end, else None."""
    path = config.folder / ROW
    row = json.loads(path.read_text()) if path.is_file() else None
    return row if row is not None and row["steps"] == config.train.steps else None


def state(home: Path) -> str:
    """How far the training in a folder has come, in words."""
    if (home / ROW).is_file():
        return "finished"
    checkpoint = last_checkpoint(home / "checkpoints")
    if checkpoint is None:
        return "not begun, or no step saved"
    return f"saved at step {load_meta(checkpoint)['step']}"
