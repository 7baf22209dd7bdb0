# SPDX-License-Identifier: BSD-3-Clause
"""Runs that take seconds: a tiny detector with every part on a few generated pictures."""

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from dcnv2.engine.config import RunConfig, parse_values
from dcnv2.engine.config.loading import merge
from dcnv2.engine.runtime.checkpoint import last_checkpoint

MODEL = {
    "num_classes": 8,
    "min_size": [64],
    "max_size": 64,
    "backbone": {"arch": "small", "channels": 16, "convs": ["plain", "plain", "plain", "dcnv2"]},
    "rpn": {
        "anchor_sizes": [[16, 32]],
        "batch_per_image": 32,
        "post_nms_train": 20,
        "post_nms_test": 20,
    },
    "box": {
        "hidden_channels": 16,
        "batch_per_image": 16,
        "pool": {"kind": "mdpool", "hidden_channels": 8},
    },
    "mask": {"convs": [16], "deconv_channels": 16},
    "mimic": {"enabled": True, "crop_size": 32},
}


def toy_config(root: Path, output: Path, name: str = "run", **changes: dict) -> RunConfig:
    """A run on a folder of `write_shapes`; `changes` go over its parts, such as `train={...}`."""
    values = {
        "name": name,
        "output": str(output),
        "device": "cpu",
        "model": MODEL,
        "data": {"root": str(root), "workers": 0},
        "optim": {"name": "adamw", "lr": 0.01, "warmup_steps": 2, "clip_norm": 10.0},
        "train": {"steps": 4, "batch_size": 2, "log_every": 3, "checkpoint_every": 2},
    }
    return parse_values(merge(values, changes))


def weights_of(config: RunConfig, name: str = "model.safetensors") -> dict[str, Tensor]:
    """The weights of a run's newest checkpoint, whatever becomes of the file, which is mapped."""
    weights = load_file(last_checkpoint(config.folder / "checkpoints") / name)
    return {key: value.clone() for key, value in weights.items()}


def rank_runs(root: Path, output: Path) -> dict[str, RunConfig]:
    """The runs of two ranks; the first three are compared with one rank."""
    boxes = {"mask": {"enabled": False}, "mimic": {"enabled": False}}
    sgd = {"name": "sgd", "lr": 0.01, "warmup_steps": 0}
    short = {"steps": 3, "checkpoint_every": 3}
    changes = {
        "whole": {"train": {"batch_size": 4}},
        "recorded": {"train": {"batch_size": 4}},
        "boxes": {"model": boxes, "optim": sgd},
        "empty": {"data": {"train": "hollow"}, "train": short},
        "stop": {"train": short},
        "skip": {"train": {**short, "on_nonfinite": "skip"}},
        "signal": {"train": short},
        "lost": {"train": short},
    }
    return {name: toy_config(root, output, name, **change) for name, change in changes.items()}


def killed_runs(root: Path, output: Path) -> tuple[RunConfig, RunConfig]:
    """A run that is left in peace, and the same again to be killed; a checkpoint every update."""
    train = {"steps": 50, "checkpoint_every": 1, "log_every": 1, "ema_decay": 0.9}
    train |= {"eval_every": 19}
    model = {"mimic": {"enabled": False}, "rpn": {"post_nms_test": 5}}
    first, second = (
        toy_config(root, output, name, train=train, model=model) for name in ("whole", "cut")
    )
    return first, second
