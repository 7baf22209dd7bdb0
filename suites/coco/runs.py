# SPDX-License-Identifier: BSD-3-Clause
"""Trainings as a user starts them, in processes of their own, and what their folders tell."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file

from dcnv2.engine.runtime.checkpoint import WEIGHTS, last_checkpoint
from dcnv2.engine.runtime.signals import EXIT_STOPPED

# Of what a failed run said.
SHOWN_CHARACTERS = 2000


class Launch:
    """A run of `dcnv2 train` or the like, on one rank by itself or on several by torchrun.

    Args:
        options: have the `folder` of all runs, the `device`, and how many `seconds` a run may take.
        config: name of a configuration.
        words: values by key; `name` names the run's folder.
        overrides: further words, as on a command line.
        ranks: processes.
        program: the module that runs, and its first words.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        config: str,
        words: Mapping[str, object],
        overrides: Sequence[str] = (),
        ranks: int = 1,
        program: Sequence[str] = ("dcnv2", "train"),
    ) -> None:
        self.seconds = options.seconds
        self.folder = options.folder / str(words["name"])
        many = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        settings = {"output": options.folder, "device": options.device, **words}
        self.command = [
            *(sys.executable, *(many if ranks > 1 else ()), "-m", *program, config),
            *(f"--{key}={value}" for key, value in settings.items()),
            *overrides,
        ]

    def start(self, *words: str) -> subprocess.Popen:
        """Begins the run; what it says goes to a file beside its folder."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self._said().open("w") as said:
            return subprocess.Popen(
                [*self.command, *words],
                stdout=said,
                stderr=subprocess.STDOUT,
                # torchrun's default; set explicitly, it prints no warning.
                env={"OMP_NUM_THREADS": "1", **os.environ},
            )

    def finish(self, process: subprocess.Popen, wanted: int = 0) -> None:
        """Waits for the end.

        Raises:
            RuntimeError: another exit status than `wanted`, or out of time.
        """
        try:
            status = process.wait(self.seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            raise RuntimeError(f"{self._end()}\nnot done in {self.seconds:g} s") from None
        if status != wanted:
            raise RuntimeError(f"{self._end()}\nexit status {status}, wanted {wanted}")

    def run(self, *words: str) -> None:
        """Begins the run and waits for its end."""
        self.finish(self.start(*words))

    def _said(self) -> Path:
        return self.folder.with_suffix(".txt")

    def _end(self) -> str:
        return self._said().read_text()[-SHOWN_CHARACTERS:]


def end_in_the_middle(launch: Launch, step: int) -> int:
    """Starts a run and ends it by SIGTERM once `step` has been recorded; returns its exit status.

    Raises:
        RuntimeError: it ended by itself, or with another status than that of saved runs.
    """
    process = launch.start()
    try:
        until = time.monotonic() + launch.seconds
        while _steps(launch.folder) < step and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        launch.finish(process, EXIT_STOPPED)
    finally:
        process.kill()
    return EXIT_STOPPED


def _steps(folder: Path) -> int:
    """The last step of a table that may be about to be written."""
    path = folder / "metrics.csv"
    rows = path.read_text().split("\n")[1:-1] if path.exists() else []
    return int(rows[-1].partition(",")[0]) if rows else 0


def pace(folder: Path) -> dict[str, float]:
    """Medians of a run's records, without the first third: there libraries choose algorithms."""
    rows = pd.read_csv(folder / "metrics.csv")
    rows = rows[rows["step"] > rows["step"].iloc[-1] / 3]
    return {
        "images/s": rows["images_per_s"].median(),
        "step ms": rows["step_ms"].median(),
        "waiting for data": rows["data_ms"].sum() / (rows["data_ms"] + rows["step_ms"]).sum(),
        "GiB a rank": rows["memory_MiB"].iloc[-1] / 1024,
    }


def compare_runs(one: Path, other: Path) -> dict[str, float | bool]:
    """How far two runs are apart: `loss` and `rate`, largest relative differences over their steps;
    `same_steps`; `equal` of `tensors` of the newest weights, those that are equal to the bit."""
    rows, others = (pd.read_csv(folder / "metrics.csv") for folder in (one, other))
    files = (last_checkpoint(folder / "checkpoints") / WEIGHTS for folder in (one, other))
    weights, others_weights = map(load_file, files)
    same_steps = rows["step"].tolist() == others["step"].tolist()

    def apart(column: str) -> float:
        if not same_steps:
            return float("nan")
        return float(((others[column] - rows[column]).abs() / rows[column].abs()).max())

    equal = [torch.equal(value, others_weights[name]) for name, value in weights.items()]
    found = {"loss": apart("loss"), "rate": apart("lr"), "same_steps": same_steps}
    return {**found, "equal": sum(equal), "tensors": len(equal)}
