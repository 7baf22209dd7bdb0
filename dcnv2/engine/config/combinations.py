# SPDX-License-Identifier: BSD-3-Clause
"""Options that must fit each other, checked when a configuration is read."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import PurePath
from typing import Any

from dcnv2.engine.config.options import RunConfig, val_names
from dcnv2.engine.config.ranges import ConfigError

METRIC = re.compile(
    r"([\w.-]+/)?((box|mask)_(AP(50|75|s|m|l)?|AR(\d+|s|m|l))|box_mAP50|images|image_ms|step"
    r"|loss(_\w+)?)"
)


def check_combinations(config: RunConfig) -> None:
    """Raises `ConfigError` at the first option that contradicts another or has a wrong length."""
    _check_folder(config)
    _check_training(config)
    _check_model(config)
    for name, band in config.eval.expected.items():
        if not METRIC.fullmatch(name):
            raise ConfigError(f"eval.expected: no result is named {name}; one is box_AP")
        if len(band) != 2 or band[1] < 0:
            raise ConfigError(
                f"eval.expected.{name}: wanted [value, tolerance] with a tolerance of at least 0, "
                f"got {band}"
            )


def schedule_warnings(config: RunConfig) -> list[str]:
    """Returns a text for each part of the schedule that the training never reaches."""
    steps, optim = config.train.steps, config.optim
    found = []
    if optim.warmup_steps >= steps:
        found.append(
            f"optim.warmup_steps: {optim.warmup_steps} of train.steps {steps}: "
            "the learning rate never reaches optim.lr"
        )
    late = [step for step in optim.milestones if step >= steps]
    if late and optim.schedule == "step":
        found.append(f"optim.milestones: {late} are never reached in train.steps {steps}")
    if config.train.eval_every > steps:
        found.append(
            f"train.eval_every: {config.train.eval_every} is more than train.steps {steps}: "
            "only the end is evaluated"
        )
    return found


def _check_folder(config: RunConfig) -> None:
    path = PurePath(config.name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in config.name:
        raise ConfigError(f"name: wanted the name of a folder below output, got {config.name!r}")
    if "\0" in config.output:
        raise ConfigError(f"output: wanted a folder, got {config.output!r}")


def _check_training(config: RunConfig) -> None:
    batch, parts = config.train.batch_size, config.train.accumulate
    if batch % parts:
        raise ConfigError(f"train.batch_size: {batch} is not divisible by train.accumulate {parts}")
    for key, unit in (("milestones", "steps"), ("milestone_epochs", "epochs")):
        milestones = getattr(config.optim, key)
        if any(later <= earlier for earlier, later in pairwise(milestones)):
            raise ConfigError(f"optim.{key}: wanted ascending {unit}, got {milestones}")
    if config.train.patience is not None and not (
        config.train.eval_every or config.train.eval_epochs
    ):
        raise ConfigError(
            "train.patience: counts evaluations: set train.eval_epochs or train.eval_every"
        )
    masks = config.model.mask.enabled and config.model.task == "detection"
    if config.data.copy_paste and not masks:
        raise ConfigError("data.copy_paste: cuts objects out by masks: the model has none")
    if config.train.class_weights and config.model.task == "proposals":
        raise ConfigError("train.class_weights: a proposal network has no classes")
    splits = [config.data.train] if isinstance(config.data.train, str) else config.data.train
    val = [config.data.val] if isinstance(config.data.val, str) else config.data.val
    for key, names in (("data.train", splits), ("data.val", val)):
        if not names or not all(name.strip() for name in names):
            raise ConfigError(f"{key}: wanted the name of a split, got {names}")
        if len(set(names)) < len(names):
            raise ConfigError(f"{key}: a split is named twice in {names}")
    if len(val_names(val)) < len(val):
        raise ConfigError(f"data.val: two results would have the same name: {val}")


def _check_model(config: RunConfig) -> None:
    model, rpn = config.model, config.model.rpn
    if rpn.negative_iou > rpn.positive_iou:
        raise ConfigError(
            f"model.rpn.negative_iou: wanted at most positive_iou = {rpn.positive_iou:g}, "
            f"got {rpn.negative_iou:g}"
        )
    lists: dict[str, list[Any]] = {
        "eval.scales": config.eval.scales,
        "model.min_size": list(model.min_size),
        "model.rpn.anchor_sizes": rpn.anchor_sizes,
        "model.rpn.aspect_ratios": list(rpn.aspect_ratios),
        **{f"model.rpn.anchor_sizes[{i}]": list(s) for i, s in enumerate(rpn.anchor_sizes)},
    }
    for key, values in lists.items():
        if not values:
            raise ConfigError(f"{key}: wanted at least one value, got none")
    if len({len(sizes) for sizes in rpn.anchor_sizes}) > 1:
        raise ConfigError(
            "model.rpn.anchor_sizes: wanted equally many sizes on each level, "
            f"got {rpn.anchor_sizes}"
        )
    for key in ("image_mean", "image_std"):
        values = list(getattr(model, key))
        if len(values) != 3:
            raise ConfigError(f"model.{key}: wanted a value for each of R, G, B, got {values}")
    if model.max_size < max(model.min_size):
        raise ConfigError(
            f"model.max_size: wanted at least min_size = {max(model.min_size)}, "
            f"got {model.max_size}"
        )
