# SPDX-License-Identifier: BSD-3-Clause
"""Means of a step's values between two rows of metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Meter:
    """Sums and counts of values since the last row of metrics; checkpoints store them.

    The values of the newest step are read when the next ones come, since reading them may wait for
    the device.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self._newest: Mapping[str, float] = {}

    def add(self, values: Mapping[str, float]) -> None:
        """Adds the values of one step."""
        self._read()
        self._newest = values

    def _read(self) -> None:
        for key, value in self._newest.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
            self.counts[key] = self.counts.get(key, 0) + 1
        self._newest = {}

    def take(self) -> dict[str, float]:
        """Returns the means (of `skipped` the sum) and resets the meter."""
        self._read()
        values = {key: value / self.counts[key] for key, value in self.sums.items()}
        if "skipped" in values:
            values["skipped"] = self.sums["skipped"]
        self.sums, self.counts = {}, {}
        return values

    def state(self) -> dict[str, Any]:
        """Returns what `load` restores."""
        self._read()
        return {"sums": self.sums, "counts": self.counts}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state` returned."""
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])
