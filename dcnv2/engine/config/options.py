# SPDX-License-Identifier: BSD-3-Clause
"""The settings of a run as plain dataclasses: nothing here imports torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dcnv2.models.config import ModelConfig


@dataclass
class DataConfig:
    """Where images and annotations are.

    Attributes:
        root: a folder of a data set in any format that `dcnv2 data check` recognises.
        train: the training split, or several to be concatenated; `folder::split` is one of
            another folder, and `package.module:function` a data set from Python.
        val: the split to evaluate on, or several, each of which is evaluated under its name; the
            first decides which checkpoint is the best.
        train_limit: train only on this many images of each split, the first by id.
        val_limit: evaluate only on this many images of each split, the first by id.
        flip: probability of a horizontal flip in training.
        augment: further transforms of torchvision.transforms.v2 for training, applied before the
            flip, by name and arguments: `{ColorJitter: {brightness: 0.2}}`.
        mosaic: probability of putting four images around a point of a canvas of twice the size,
            before the other augmentations.
        copy_paste: probability of pasting objects of another image, cut out by their masks, before
            the other augmentations.
        repeat_threshold: repeat images with rare classes in each epoch, by sqrt(threshold / share
            of images with the class) for classes below this share; LVIS has 0.001. None for no
            repetition.
        workers: loader processes per rank; 0 loads in the training process.
        on_bad: `raise` stops at invalid images or annotations; `skip` skips and logs them, also
            images that turn out to be damaged only when they are decoded.
    """

    root: str = "data/shapes"
    train: str | list[str] = "train"
    val: str | list[str] = "val"
    train_limit: int | None = None
    val_limit: int | None = None
    flip: float = 0.5
    augment: list[str | dict[str, dict[str, Any] | None]] = field(default_factory=list)
    mosaic: float = 0.0
    copy_paste: float = 0.0
    repeat_threshold: float | None = None
    workers: int = 2
    on_bad: Literal["raise", "skip"] = "raise"


def val_names(splits: str | list[str]) -> dict[str, str]:
    """Returns the validation splits by the names of their results: `night::val` is `night_val`."""
    splits = [splits] if isinstance(splits, str) else splits
    return {re.sub(r"[^\w.-]+", "_", split): split for split in splits}


@dataclass
class OptimConfig:
    """Optimiser and schedule.

    Attributes:
        lr: learning rate after the warm-up.
        lr_batch: batch size that `lr` is for: another `train.batch_size` scales the rate in
            proportion, which the log reports. None uses `lr` unscaled. If the command line
            changes only the batch size of a file, this is the file's batch size.
        offset_lr_factor: factor on the rate of convolutions that predict offsets (paper: 0.1).
        decay_norms: apply weight decay to norm layers too.
        schedule: `step` multiplies by `gamma` at each milestone, `cosine` goes to 0, `poly` goes to
            0 as a power of the remaining share of steps.
        milestones: in steps.
        milestone_epochs: in epochs, instead of `milestones`.
        poly_power: exponent of the `poly` schedule.
        warmup_factor: factor on the rate at the first step.
        clip_norm: maximum norm of the whole gradient, None for no limit.
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
    milestone_epochs: list[float] = field(default_factory=list)
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

    Options in epochs replace those in steps, which a run derives from them: an epoch has every
    training image once. A number of steps that is set later, by a file on top of its base or on the
    command line, replaces one in epochs.

    Attributes:
        steps: total number of updates.
        epochs: total number of epochs, instead of `steps`.
        batch_size: images per update, over all ranks and micro-batches.
        accumulate: micro-batches per update; the batch is split into this many passes.
        init: initial weights, loaded where name and shape match: a run folder, the name of a model
            of the package, a `.safetensors` file, a detector or ImageNet body of detectron2 or
            mmdetection, or an old `.pth` in maskrcnn-benchmark's format.
        precision: of the forward pass under autocast; `float16` scales the loss. It is slower than
            `bfloat16`: the host waits for the GPU in every update, as it does for `ema_decay`.
        channels_last: memory layout of weights and images.
        compile: backend of torch.compile for backbone and heads, such as `inductor`, or None.
        ema_decay: decay of a moving average of the weights, which is then evaluated and exported;
            such as 0.999.
        class_weights: factors on the classification loss by class name, as in `{worm: 2.0}`; 1 for
            all others and for the background.
        deterministic: restrict PyTorch to reproducible algorithms.
        on_nonfinite: whether a non-finite loss or gradient stops the run or skips the update.
        log_every: steps between rows in metrics.csv.
        checkpoint_every: steps between checkpoints; the last step always makes one.
        keep_checkpoints: number of newest checkpoints to keep, in addition to the best.
        eval_every: steps between evaluations; 0 evaluates only at the end.
        eval_epochs: epochs between evaluations, instead of `eval_every`.
        patience: number of evaluations in a row without a better result (mask AP, or box AP without
            masks, or recall of proposals) that end the run; None for no limit.
        timeout_minutes: how long ranks wait for each other before the run fails.
    """

    steps: int = 90000
    epochs: float | None = None
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
    class_weights: dict[str, float] = field(default_factory=dict)
    on_nonfinite: Literal["stop", "skip"] = "stop"
    log_every: int = 20
    checkpoint_every: int = 2500
    keep_checkpoints: int = 2
    eval_every: int = 0
    eval_epochs: float | None = None
    patience: int | None = None
    timeout_minutes: float = 30.0


@dataclass
class EvalConfig:
    """Evaluation and prediction.

    Attributes:
        batch_size: images per batch on each rank.
        draw_threshold: minimum score of detections that are drawn, and that count in the confusion
            matrix and in precision and recall by class. `predict` also has those below
            `model.box.score_threshold`, evaluations and their pictures do not.
        metric: COCO's twelve numbers, or Pascal VOC's mean AP at IoU 0.5: by area under the curve
            (`voc`), or at 11 recalls as until 2007 (`voc07`).
        tile: side of square tiles in pixels that larger images are cut into; objects are detected
            in the whole image and in each tile, and merged by NMS. None for no tiles.
        tile_overlap: least overlap of neighbouring tiles, as a share of their side. Objects that
            only tiles can show should be smaller than the overlap.
        flip: also detect in the mirrored image.
        scales: factors on `model.min_size` and `model.max_size`; detections of all are merged.
        max_detections: number of detections of a class and image that COCO's metrics count; COCO's
            own is 100. None counts as many as `model.box.detections_per_image`.
        evaluator: `pycocotools`, or `fast`: faster-coco-eval, with equal numbers.
        loss: also compute the loss on the validation images, each as a batch of its own. It takes
            about as long as their detection.
        expected: expected results as `{box_AP: [0.415, 0.01]}`: value and tolerance. If the result
            of the last step is outside, the command fails. Files with this one as their base do
            not inherit it; command-line words that change the model, the data or the schedule
            remove it.
    """

    batch_size: int = 1
    draw_threshold: float = 0.5
    tile: int | None = None
    tile_overlap: float = 0.25
    flip: bool = False
    scales: list[float] = field(default_factory=lambda: [1.0])
    metric: Literal["coco", "voc", "voc07"] = "coco"
    max_detections: int | None = 100
    evaluator: Literal["pycocotools", "fast"] = "pycocotools"
    loss: bool = False
    expected: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Published:
    """Published results for comparison, in points of AP on val2017."""

    box_AP: float | None = None  # noqa: N815
    mask_AP: float | None = None  # noqa: N815
    source: str = ""


@dataclass
class RunConfig:
    """The complete configuration of a run, whose folder is `output`/`name`."""

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
