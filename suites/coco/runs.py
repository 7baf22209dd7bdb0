# SPDX-License-Identifier: BSD-3-Clause
"""Trainings as a user starts them, in processes of their own, and results from their folders."""

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

from dcnv2.engine.runtime.checkpoint import last_checkpoint
from dcnv2.engine.runtime.checkpoint_files import WEIGHTS
from dcnv2.engine.runtime.signals import EXIT_STOPPED

# Of the output of a failed run.
SHOWN_CHARACTERS = 2000


class Launch:
    """A run of `dcnv2 train` or a similar program, on one rank by itself or on several by torchrun.

    Args:
        options: Have the `folder` of all runs, the `device`, and the most `seconds` of a run.
        config: Name of a configuration.
        words: Values by key; `name` names the run's folder.
        overrides: Further words, as on a command line.
        ranks: Number of processes.
        program: The module that runs, and its first words.
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
        values = {"output": options.folder, "device": options.device, **words}
        self.command = [
            *(sys.executable, *(many if ranks > 1 else ()), "-m", *program, config),
            *(f"--{key}={value}" for key, value in values.items()),
            *overrides,
        ]

    def start(self, *words: str) -> subprocess.Popen:
        """Begin the run; its output goes to a text file next to its folder."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self._log().open("w") as log:
            return subprocess.Popen(
                [*self.command, *words],
                stdout=log,
                stderr=subprocess.STDOUT,
                # torchrun's default; it warns unless the variable is set.
                env={"OMP_NUM_THREADS": "1", **os.environ},
            )

    def finish(self, process: subprocess.Popen, expected: int = 0) -> None:
        """Wait for the end.

        Raises:
            RuntimeError: The exit status is not the expected one, or time is up.
        """
        try:
            status = process.wait(self.seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            raise RuntimeError(f"{self._end()}\nnot done in {self.seconds:g} s") from None
        if status != expected:
            raise RuntimeError(f"{self._end()}\nexit status {status}, expected {expected}")

    def run(self, *words: str) -> None:
        """Begin the run and wait for its end."""
        self.finish(self.start(*words))

    def _log(self) -> Path:
        return self.folder.with_suffix(".txt")

    def _end(self) -> str:
        return self._log().read_text()[-SHOWN_CHARACTERS:]


def interrupt(launch: Launch, step: int) -> int:
    """Start a run and send it SIGTERM once `step` is recorded; return its exit status.

    Raises:
        RuntimeError: It ended by itself, or with another status than that of saved runs.
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
    """The last recorded step; the file may be incomplete."""
    path = folder / "metrics.csv"
    rows = path.read_text().split("\n")[1:-1] if path.exists() else []
    return int(rows[-1].partition(",")[0]) if rows else 0


def pace(folder: Path) -> dict[str, float]:
    """Medians of a run's records, without the first third, in which libraries choose algorithms."""
    rows = pd.read_csv(folder / "metrics.csv")
    rows = rows[rows["step"] > rows["step"].iloc[-1] / 3]
    return {
        "images/s": rows["images_per_s"].median(),
        "step ms": rows["step_ms"].median(),
        "waiting for data": rows["data_ms"].sum() / (rows["data_ms"] + rows["step_ms"]).sum(),
        "GiB a rank": rows["memory_MiB"].iloc[-1] / 1024,
    }


def compare_runs(one: Path, other: Path) -> dict[str, float | bool]:
    """Differences of two runs.

    Returns:
        `loss` and `rate`: largest relative differences over the steps. `same_steps`: whether both
        recorded the same steps. `equal` of `tensors` of the newest weights are bit-identical.
    """
    rows, others = (pd.read_csv(folder / "metrics.csv") for folder in (one, other))
    files = (last_checkpoint(folder / "checkpoints") / WEIGHTS for folder in (one, other))
    weights, others_weights = map(load_file, files)
    same_steps = rows["step"].tolist() == others["step"].tolist()

    def difference(column: str) -> float:
        if not same_steps:
            return float("nan")
        return float(((others[column] - rows[column]).abs() / rows[column].abs()).max())

    equal = [torch.equal(value, others_weights[name]) for name, value in weights.items()]
    found = {"loss": difference("loss"), "rate": difference("lr"), "same_steps": same_steps}
    return {**found, "equal": sum(equal), "tensors": len(equal)}
