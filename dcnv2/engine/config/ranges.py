# SPDX-License-Identifier: BSD-3-Clause
"""The range of every numeric option, checked when a configuration is read."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dcnv2.engine.config.options import RunConfig


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the option or the file."""


@dataclass(frozen=True)
class Range:
    """An interval of numbers; an open end excludes its bound."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        low = f"{'more than' if self.open_low else 'at least'} {self.low:g}"
        high = f"{'less than' if self.open_high else 'at most'} {self.high:g}"
        parts = [text for text, end in ((low, self.low), (high, self.high)) if math.isfinite(end)]
        return " and ".join(parts) or "a finite number"


FINITE = Range()
LARGEST = 2**63 - 1
"""Largest number of any option: whole ones go to code that keeps them in 64 bits."""
COUNT = Range(1)
NOT_NEGATIVE = Range(0)
POSITIVE = Range(0, open_low=True)
EPOCHS = Range(0, 1e6, open_low=True)
SHARE = Range(0, 1)
BELOW_ONE = Range(0, 1, open_high=True)
POSITIVE_SHARE = Range(0, 1, open_low=True)
SIDE = Range(1, 2**15)  # of an image, in pixels
SAMPLES = Range(0, 64)  # along a side of a bin
PROCESSES = Range(0, 1024)
SEED = Range(0, 2**32 - 1)  # NumPy's generators take 32 bits

_POOL = {"sampling_ratio": SAMPLES, "gamma": NOT_NEGATIVE, "hidden_channels": NOT_NEGATIVE}
_MODEL = {
    "num_classes": COUNT,
    "backbone.channels": COUNT,
    "backbone.freeze_at": Range(0, 5),
    "backbone.deform_groups": COUNT,
    "backbone.mask_scale": POSITIVE,
    "backbone.max_offset": POSITIVE,
    "rpn.anchor_sizes": SIDE,
    "rpn.aspect_ratios": Range(0.01, 100),
    "rpn.pre_nms_train": COUNT,
    "rpn.pre_nms_test": COUNT,
    "rpn.post_nms_train": COUNT,
    "rpn.post_nms_test": COUNT,
    "rpn.nms": SHARE,
    "rpn.positive_iou": SHARE,
    "rpn.negative_iou": SHARE,
    "rpn.batch_per_image": COUNT,
    "rpn.positive_fraction": POSITIVE_SHARE,
    **{f"box.pool.{name}": valid for name, valid in _POOL.items()},
    "box.pool_size": COUNT,
    "box.convs": COUNT,
    "box.hidden_channels": COUNT,
    "box.positive_iou": SHARE,
    "box.batch_per_image": COUNT,
    "box.positive_fraction": POSITIVE_SHARE,
    "box.score_threshold": SHARE,
    "box.nms": SHARE,
    "box.detections_per_image": COUNT,
    "box.smooth_l1_beta": NOT_NEGATIVE,
    "box.ohem.keep": COUNT,
    **{f"mask.pool.{name}": valid for name, valid in _POOL.items()},
    "mask.pool_size": COUNT,
    "mask.convs": COUNT,
    "mask.deconv_channels": COUNT,
    "mimic.boxes_per_image": COUNT,
    "mimic.crop_size": COUNT,
    "mimic.min_side": NOT_NEGATIVE,
    "min_size": SIDE,
    "max_size": SIDE,
    "size_divisible": SIDE,
    "image_mean": FINITE,
    "image_std": POSITIVE,
}
RANGES = {
    **{f"model.{name}": valid for name, valid in _MODEL.items()},
    "data.train_limit": COUNT,
    "data.val_limit": COUNT,
    "data.flip": SHARE,
    "data.mosaic": SHARE,
    "data.copy_paste": SHARE,
    "data.repeat_threshold": POSITIVE_SHARE,
    "data.workers": PROCESSES,
    "optim.lr": NOT_NEGATIVE,
    "optim.lr_batch": COUNT,
    "optim.momentum": BELOW_ONE,
    "optim.weight_decay": NOT_NEGATIVE,
    "optim.offset_lr_factor": NOT_NEGATIVE,
    "optim.milestones": NOT_NEGATIVE,
    "optim.milestone_epochs": NOT_NEGATIVE,
    "optim.gamma": NOT_NEGATIVE,
    "optim.poly_power": POSITIVE,
    "optim.warmup_steps": NOT_NEGATIVE,
    "optim.warmup_factor": SHARE,
    "optim.clip_norm": POSITIVE,
    "train.steps": COUNT,
    "train.epochs": EPOCHS,
    "train.batch_size": COUNT,
    "train.accumulate": COUNT,
    "train.seed": SEED,
    "train.ema_decay": BELOW_ONE,
    "train.loss_weights.loss_classifier": NOT_NEGATIVE,
    "train.loss_weights.loss_box_reg": NOT_NEGATIVE,
    "train.loss_weights.loss_mask": NOT_NEGATIVE,
    "train.loss_weights.loss_objectness": NOT_NEGATIVE,
    "train.loss_weights.loss_rpn_box_reg": NOT_NEGATIVE,
    "train.loss_weights.loss_mimic_cls": NOT_NEGATIVE,
    "train.loss_weights.loss_mimic_cos": NOT_NEGATIVE,
    "train.class_weights": NOT_NEGATIVE,
    "train.log_every": COUNT,
    "train.checkpoint_every": COUNT,
    "train.keep_checkpoints": COUNT,
    "train.eval_every": NOT_NEGATIVE,
    "train.eval_epochs": EPOCHS,
    "train.patience": COUNT,
    "train.timeout_minutes": POSITIVE,
    "eval.batch_size": COUNT,
    "eval.draw_threshold": SHARE,
    "eval.tile": Range(32, 2**15),
    "eval.tile_overlap": Range(0, 0.9),
    "eval.scales": Range(0.1, 10),
    "eval.max_detections": COUNT,
    "eval.expected": FINITE,
    "published.box_AP": FINITE,
    "published.mask_AP": FINITE,
}


def check_ranges(config: RunConfig) -> None:
    """Raises `ConfigError` at the first number that is not finite or outside its range."""
    for key, valid in RANGES.items():
        value: Any = config
        for name in key.split("."):
            value = getattr(value, name, None)
        for number in _numbers(value):
            if not abs(number) <= LARGEST:
                wanted = "a finite number" if isinstance(number, float) else "at most 64 bits"
                raise ConfigError(f"{key}: wanted {wanted}, got {reprlib.repr(number)}")
            if number not in valid:
                raise ConfigError(f"{key}: wanted {valid}, got {number}")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, list | tuple | dict):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _numbers(entry)
