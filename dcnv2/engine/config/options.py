# SPDX-License-Identifier: BSD-3-Clause
"""The settings of a run as plain dataclasses: nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dcnv2.models.config import ModelConfig


@dataclass
class DataConfig:
    """Where images and annotations are.

    Attributes:
        root: a folder in COCO's or Pascal VOC's layout.
        train: the training split, or several to be concatenated; `folder::split` is one of
            another folder.
        val: the split to evaluate on.
        train_limit: train on the first that many images of each split alone, by id.
        val_limit: evaluate on the first that many images alone.
        flip: probability of a horizontal flip in training.
        augment: names of further transforms of torchvision.transforms.v2 in training, before the
            flip, with their arguments: `{ColorJitter: {brightness: 0.2}}`.
        workers: loader processes a rank; 0 loads in the training process.
        on_bad: `raise` refuses a set with useless images or annotations, `skip` leaves them out
            and logs them, also those that only reading a whole image tells.
    """

    root: str = "data/shapes"
    train: str | list[str] = "train"
    val: str = "val"
    train_limit: int | None = None
    val_limit: int | None = None
    flip: float = 0.5
    augment: list[str | dict[str, dict[str, Any] | None]] = field(default_factory=list)
    workers: int = 2
    on_bad: Literal["raise", "skip"] = "raise"


@dataclass
class OptimConfig:
    """Optimiser and schedule.

    Attributes:
        lr: rate at the full batch.
        lr_batch: images an update that `lr` is meant for: another `train.batch_size` scales it in
            proportion, and says so. None takes `lr` as it is. Where the command line changes the
            batch of a file and not the rate, it is the file's batch.
        offset_lr_factor: on the rate of convolutions that predict offsets (the paper's 0.1).
        decay_norms: weight decay on norm layers too.
        schedule: `step` multiplies by `gamma` at each milestone, `cosine` goes to 0, `poly` goes to
            0 as a power of the share of steps left.
        milestones: in steps.
        poly_power: of the `poly` schedule.
        warmup_factor: share of the rate at the first step.
        clip_norm: bound on the norm of the whole gradient, None for none.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.02
    lr_batch: int | None = None
    momentum: float = 0.9
    weight_decay: float = 1e-4
    offset_lr_factor: float = 0.1
    decay_norms: bool = True
    schedule: Literal["step", "cosine", "poly"] = "step"
    milestones: list[int] = field(default_factory=list)
    gamma: float = 0.1
    poly_power: float = 0.9
    warmup_steps: int = 500
    warmup_factor: float = 0.001
    clip_norm: float | None = None


@dataclass
class LossWeights:
    """Factors on the terms of the loss, by torchvision's names."""

    loss_classifier: float = 1.0
    loss_box_reg: float = 1.0
    loss_mask: float = 1.0
    loss_objectness: float = 1.0
    loss_rpn_box_reg: float = 1.0
    loss_mimic_cls: float = 0.1
    loss_mimic_cos: float = 0.1


@dataclass
class TrainConfig:
    """The loop.

    Attributes:
        steps: updates in all.
        batch_size: images an update, over all ranks and micro-batches.
        accumulate: micro-batches an update: as many images as before, in so many passes.
        init: weights to start from, as far as they fit: a run folder, a `.safetensors` file, or an
            old `.pth` of maskrcnn-benchmark's form.
        precision: of the forward pass under autocast; `float16` scales the loss.
        channels_last: memory layout of weights and images.
        compile: backend of torch.compile for backbone and heads, such as `inductor`; None for none.
        ema_decay: keep a moving average of the weights, and evaluate and ship that; such as 0.999.
        deterministic: have PyTorch take reproducible algorithms only.
        on_nonfinite: a loss or gradient that is not finite stops the run, or skips the update.
        log_every: steps between rows in metrics.csv.
        checkpoint_every: steps between checkpoints; the last step always makes one.
        keep_checkpoints: how many of the newest stay, beside the best.
        eval_every: steps between evaluations; 0 for none before the end.
        timeout_minutes: how long ranks wait for each other before the run ends.
    """

    steps: int = 90000
    batch_size: int = 16
    accumulate: int = 1
    init: str | None = None
    seed: int = 0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = False
    compile: str | None = None
    ema_decay: float | None = None
    deterministic: bool = False
    loss_weights: LossWeights = field(default_factory=LossWeights)
    on_nonfinite: Literal["stop", "skip"] = "stop"
    log_every: int = 20
    checkpoint_every: int = 2500
    keep_checkpoints: int = 2
    eval_every: int = 0
    timeout_minutes: float = 30.0


@dataclass
class EvalConfig:
    """Evaluation and prediction.

    Attributes:
        batch_size: images at a time, on each rank.
        draw_threshold: least score of detections that are drawn.
        metric: COCO's twelve numbers, or Pascal VOC's mean AP at IoU 0.5: by area under the curve
            (`voc`), or at 11 recalls as until 2007 (`voc07`).
        evaluator: `pycocotools`, or `fast`: faster-coco-eval, with equal numbers.
        expected: results that the run shall have, as `{box_AP: [0.415, 0.01]}`: a value and how
            far from it is allowed. Another result of the last step ends the command with an error.
            Files that name this one as their base don't take it over, and words on the command line
            that change the model, the data or the schedule take it away.
    """

    batch_size: int = 1
    draw_threshold: float = 0.5
    metric: Literal["coco", "voc", "voc07"] = "coco"
    evaluator: Literal["pycocotools", "fast"] = "pycocotools"
    expected: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Published:
    """What others report for the row, in points of AP on val2017, to measure against."""

    box_AP: float | None = None  # noqa: N815
    mask_AP: float | None = None  # noqa: N815
    source: str = ""


@dataclass
class RunConfig:
    """Everything a run needs; `name` names its folder under `output`."""

    name: str = "run"
    published: Published | None = None
    output: str = "runs"
    device: str = "auto"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return Path(self.output) / self.name
