# SPDX-License-Identifier: BSD-3-Clause
"""Which trainings run, how far they are, and about how long the rest takes."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

# Start and evaluation of a training take about as long as this number of steps.
_OVERHEAD_STEPS = 40
_TERMINAL_S, _LOG_S = 1.0, 15.0


@dataclass
class Training:
    """One training whose progress is shown.

    Attributes:
        folder: Folder of the run, where it writes metrics.csv.
        steps: Number of its steps.
        cost: Time of a step relative to the other trainings.
    """

    folder: Path
    steps: int
    cost: float

    def position(self) -> tuple[int, float | None]:
        """The last recorded step, and milliseconds per step in the latest records."""
        path = self.folder / "metrics.csv"
        head, *lines = path.read_text().split("\n")[:-1] if path.exists() else [""]
        names = head.split(",")
        rows = [dict(zip(names, line.split(","), strict=False)) for line in lines]
        rows = [row for row in rows if len(row) == len(names)]
        if not rows:
            return 0, None
        times = [float(row["data_ms"]) + float(row["step_ms"]) for row in rows[-3:]]
        return int(rows[-1]["step"]), sum(times) / len(times)


class Progress:
    """Shows progress on standard error: one renewed line in a terminal, else a line now and then.

    Args:
        trainings: All trainings by name.
        jobs: How many run at a time.
    """

    def __init__(self, trainings: Mapping[str, Training], jobs: int) -> None:
        self.trainings, self.jobs = trainings, jobs
        self._numbers: dict[str, int] = {}
        self._shown_at = float("-inf")
        self._finished: set[str] = set()
        self._terminal = sys.stderr.isatty()

    def __call__(self, running: Collection[str], done: Collection[str]) -> None:
        """Show the state of the trainings, if it is time."""
        news = [name for name in running if name not in self._numbers]
        for name in news:
            self._numbers[name] = len(self._numbers) + 1
        for name in [name for name in done if name not in self._finished]:
            self._finished.add(name)
            self._print(f"{self._label(name)}: trained and evaluated", lasting=True)
        interval = _TERMINAL_S if self._terminal else _LOG_S
        if running and (news or time.monotonic() - self._shown_at >= interval):
            self._shown_at = time.monotonic()
            parts = [self._state(name) for name in running]
            self._print(f"{', '.join(parts)}; {self._time_left(running, done)}")

    def close(self) -> None:
        """End the line."""
        if self._terminal:
            print(file=sys.stderr)

    def _label(self, name: str) -> str:
        return f"[{self._numbers[name]}/{len(self.trainings)}] {name}"

    def _state(self, name: str) -> str:
        training = self.trainings[name]
        step, _ = training.position()
        if step >= training.steps:
            return f"{self._label(name)} is being evaluated"
        return f"{self._label(name)} step {step}/{training.steps}"

    def _time_left(self, running: Collection[str], done: Collection[str]) -> str:
        left = seconds_left(self.trainings, running, done, self.jobs)
        if left is None:
            return "time left: known after the first steps"
        return f"about {left / 60:.0f} min left" if left >= 90 else f"about {left:.0f} s left"

    def _print(self, text: str, lasting: bool = False) -> None:
        if not self._terminal:
            print(text, file=sys.stderr, flush=True)
            return
        text = text[: shutil.get_terminal_size().columns - 1]
        print(f"\r\x1b[K{text}", end="\n" if lasting else "", file=sys.stderr, flush=True)


def seconds_left(
    trainings: Mapping[str, Training], running: Collection[str], done: Collection[str], jobs: int
) -> float | None:
    """Time until all trainings have ended; None before any has recorded a step.

    A training without records gets the pace of the others, by its relative cost.
    """
    positions = {name: training.position() for name, training in trainings.items()}
    units = [pace / trainings[name].cost for name, (_, pace) in positions.items() if pace]
    if not units:
        return None
    unit_ms = sum(units) / len(units)

    def left_s(name: str) -> float:
        training, (step, pace) = trainings[name], positions[name]
        steps = max(training.steps - step, 0) + _OVERHEAD_STEPS
        return steps * (pace or unit_ms * training.cost) / 1e3

    slots = sorted(left_s(name) for name in running)
    slots = [0.0] * (jobs - len(slots)) + slots
    for name in trainings:
        if name not in running and name not in done:
            slots = sorted([slots[0] + left_s(name), *slots[1:]])
    return slots[-1]
