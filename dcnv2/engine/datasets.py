# SPDX-License-Identifier: BSD-3-Clause
"""From the data part of a configuration to data sets and loaders."""

from __future__ import annotations

import logging
from collections.abc import Callable

from torch.utils.data import DataLoader

from dcnv2.data.coco import CocoDataset
from dcnv2.data.dataset import DetectionDataset
from dcnv2.data.loader import eval_loader, train_loader
from dcnv2.data.transforms import eval_transforms, train_transforms
from dcnv2.engine.config import DataConfig, RunConfig
from dcnv2.engine.device import pick_device

log = logging.getLogger("dcnv2")


def open_train(config: DataConfig, masks: bool) -> DetectionDataset:
    """The training split with its augmentation, crowd regions flagged for the detector."""
    transforms = train_transforms(config.flip, config.augment)
    return _open(config, config.train, transforms, masks, config.train_limit, crowd=True)


def open_val(config: DataConfig, masks: bool) -> DetectionDataset:
    """The validation split, images without objects included."""
    return _open(config, config.val, eval_transforms(), masks, config.val_limit)


def _open(
    config: DataConfig,
    split: str,
    transforms: Callable,
    masks: bool,
    limit: int | None,
    crowd: bool = False,
) -> DetectionDataset:
    dataset = CocoDataset(
        config.root,
        split,
        transforms,
        crowd=crowd,
        masks=masks,
        on_bad=config.on_bad,
        limit=limit,
    )
    for problem in dataset.problems:
        log.warning("left out %s", problem)
    return dataset


def train_batches(dataset: DetectionDataset, config: RunConfig, start: int) -> DataLoader:
    """The batches of updates `start` to the last; the same ones whenever a run starts there."""
    return train_loader(
        dataset,
        config.train.batch_size,
        seed=config.train.seed,
        start=start,
        stop=config.train.steps,
        workers=config.data.workers,
        pin_memory=pick_device(config.device).type == "cuda",
    )


def val_batches(dataset: DetectionDataset, config: RunConfig) -> DataLoader:
    """Each image once."""
    return eval_loader(dataset, config.eval.batch_size, workers=config.data.workers)
