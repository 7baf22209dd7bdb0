# SPDX-License-Identifier: BSD-3-Clause
"""Options in epochs, and the options in steps that they replace."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from dcnv2.engine.config.options import RunConfig
from dcnv2.engine.config.ranges import ConfigError

# Option in epochs -> option in steps.
REPLACES = {
    "train.epochs": "train.steps",
    "train.eval_epochs": "train.eval_every",
    "optim.milestone_epochs": "optim.milestones",
}


def in_steps(config: RunConfig, steps_per_epoch: int) -> RunConfig:
    """Returns the configuration with the numbers of steps that follow from those of epochs.

    Fractions of a step are rounded, to one step at least for lengths and intervals.
    """
    train, optim = config.train, config.optim

    def steps(epochs: float) -> int:
        return max(round(epochs * steps_per_epoch), 1)

    lengths: dict[str, Any] = {}
    if train.epochs is not None:
        lengths["steps"] = steps(train.epochs)
    if train.eval_epochs is not None:
        lengths["eval_every"] = steps(train.eval_epochs)
    if optim.milestone_epochs:
        milestones = [round(epochs * steps_per_epoch) for epochs in optim.milestone_epochs]
        optim = dataclasses.replace(optim, milestones=milestones)
    return dataclasses.replace(config, train=dataclasses.replace(train, **lengths), optim=optim)


def drop_replaced(values: dict[str, Any], later: Collection[str]) -> dict[str, Any]:
    """Returns values without the options in epochs that later options in steps replace.

    Args:
        values: of a file.
        later: dotted names that a file on top of it, or the command line, sets.

    Raises:
        ConfigError: `later` sets an option in both units.
    """
    for epochs, steps in REPLACES.items():
        if steps in later:
            if epochs in later:
                raise ConfigError(f"{epochs} and {steps}: wanted one of them")
            section, _, key = epochs.partition(".")
            if isinstance(values.get(section), dict):
                kept = {name: value for name, value in values[section].items() if name != key}
                values = {**values, section: kept}
    return values
