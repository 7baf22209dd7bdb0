# SPDX-License-Identifier: BSD-3-Clause
"""Opens the data sets of a configuration and their loaders."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from textwrap import shorten
from typing import Any

import numpy as np
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from dcnv2.data.annotations import DataProblem
from dcnv2.data.concat import concatenate
from dcnv2.data.dataset import DetectionDataset
from dcnv2.data.folders import open_dataset
from dcnv2.data.loader import StepSampler, eval_loader, train_loader
from dcnv2.data.mixing import mixing_transforms
from dcnv2.data.repeat_factors import repeat_factors
from dcnv2.data.set_checks import box_format, emptiness, unused_classes
from dcnv2.data.transforms import eval_transforms, train_transforms
from dcnv2.engine.config import DataConfig, RunConfig
from dcnv2.engine.config.options import val_names
from dcnv2.engine.runtime.distributed import Communicator

log = logging.getLogger("dcnv2")


def open_train(config: DataConfig, masks: bool) -> DetectionDataset:
    """Opens the training splits with augmentation; crowd regions are flagged for the detector.

    Raises:
        ValueError: no images, no objects, or boxes of another format, whatever `on_bad` is.
    """
    train_transforms(config.flip, config.augment)  # names a wrong one before files are read
    splits = [config.train] if isinstance(config.train, str) else config.train
    parts = [_open(config, split, None, masks, config.train_limit, crowd=True) for split in splits]
    dataset = parts[0] if len(parts) == 1 else concatenate(parts)
    dataset.transforms = augmentation(dataset, config)
    _reject(emptiness(dataset))
    if unused := unused_classes(dataset):
        log.warning("%s: no object of %s", dataset.source, shorten(", ".join(unused), 200))
    return dataset


def augmentation(dataset: DetectionDataset, config: DataConfig) -> Callable[..., Any]:
    """Returns the transforms of a training on a data set, with those that mix its images."""
    transforms = train_transforms(config.flip, config.augment)
    mixing = mixing_transforms(dataset, config.mosaic, config.copy_paste)
    return v2.Compose([*mixing, transforms]) if mixing else transforms


def open_val_sets(config: DataConfig, masks: bool) -> dict[str, DetectionDataset]:
    """Opens every validation split by its name, see `open_val`."""
    return {name: _open_val(config, split, masks) for name, split in val_names(config.val).items()}


def open_val(config: DataConfig, masks: bool) -> DetectionDataset:
    """Opens the validation split, of several the first, including images without objects.

    If bad images are to be skipped, every image is decoded: each evaluation must have all images
    of the set, so that a damaged one cannot be replaced later as in training.

    Raises:
        ValueError: no images, or boxes of another format, whatever `on_bad` is.
    """
    return _open_val(config, next(iter(val_names(config.val).values())), masks)


def _open_val(config: DataConfig, split: str, masks: bool) -> DetectionDataset:
    decode = config.on_bad == "skip"
    dataset = _open(config, split, eval_transforms(), masks, config.val_limit, decode=decode)
    for problem in emptiness(dataset):
        if problem.kind == "no images":
            _reject([problem])
        # As in COCO's test sets, whose detections are evaluated elsewhere.
        log.warning("%s: average precision is undefined", problem)
    return dataset


def _open(
    config: DataConfig,
    split: str,
    transforms: Callable[..., Any] | None,
    masks: bool,
    limit: int | None,
    crowd: bool = False,
    decode: bool = False,
) -> DetectionDataset:
    folder, between, name = split.rpartition("::")
    dataset = open_dataset(
        folder if between else config.root,
        name,
        transforms=transforms,
        crowd=crowd,
        masks=masks,
        on_bad=config.on_bad,
        limit=limit,
        decode=decode,
    )
    for problem in dataset.problems:
        log.warning("skipped %s", problem)
    for note in dataset.notes:
        log.warning("%s: %s", dataset.source, note)
    _reject(box_format(dataset))
    return dataset


def _reject(problems: Sequence[DataProblem]) -> None:
    if problems:
        raise ValueError("\n".join(map(str, problems)))


def train_batches(
    dataset: DetectionDataset, config: RunConfig, start: int, comm: Communicator
) -> DataLoader[Any]:
    """Returns this rank's share of the batches from update `start` to the last.

    A run that is resumed at `start` gets the batches of an uninterrupted run.

    Raises:
        ValueError: the batch size is not divisible by ranks x micro-batches.
    """
    shares = comm.world_size * config.train.accumulate
    if config.train.batch_size % shares:
        raise ValueError(
            f"train.batch_size: {config.train.batch_size} is not divisible by "
            f"{comm.world_size} ranks x {config.train.accumulate} micro-batches"
        )
    return train_loader(
        dataset,
        config.train.batch_size,
        seed=config.train.seed,
        start=start,
        stop=config.train.steps,
        workers=config.data.workers,
        rank=comm.rank,
        world_size=comm.world_size,
        pin_memory=comm.device.type == "cuda",
        skip_bad=config.data.on_bad == "skip",
        repeats=_repeats(dataset, config),
    )


def steps_per_epoch(dataset: DetectionDataset, config: RunConfig) -> int:
    """Returns the number of updates in which every training image is used."""
    ratios, repeats = dataset.aspect_ratios(), _repeats(dataset, config)
    return StepSampler(ratios, config.train.batch_size, repeats=repeats).steps_per_epoch


def _repeats(dataset: DetectionDataset, config: RunConfig) -> np.ndarray | None:
    threshold = config.data.repeat_threshold
    return None if threshold is None else repeat_factors(dataset.table, threshold)


def val_batches(
    dataset: DetectionDataset, config: RunConfig, comm: Communicator
) -> DataLoader[Any]:
    """Returns batches that hold each image once over all ranks."""
    return eval_loader(
        dataset,
        config.eval.batch_size,
        workers=config.data.workers,
        rank=comm.rank,
        world_size=comm.world_size,
    )
