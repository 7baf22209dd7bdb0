# SPDX-License-Identifier: BSD-3-Clause
"""Loaders whose batches depend only on the seed and the step.

Step s yields the same images with the same augmentation for any number of workers and ranks, and
after any resume.
"""

import logging
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from dcnv2.data.dataset import DetectionDataset
from dcnv2.data.images import BadImageError
from dcnv2.data.worker_signals import SignalSafeLoader

log = logging.getLogger("dcnv2")


class StepSampler(Sampler[Any]):
    """Yields the (index, seed) pairs of each step's batch, epoch after epoch, without end.

    Wide and tall images are never in one batch, which would need much padding. Each epoch contains
    every image; a group that does not fill its last batch repeats its first images.

    Args:
        aspect_ratios: Width / height of every image, [I].
        batch_size: Images per step, over all ranks.
        seed: Determines the order and the seeds of the images.
        start: First step.
        stop: Step to stop before, or None for no end.
        rank: Index of the share of each batch to yield.
        world_size: Number of shares.
        repeats: How often an epoch has each image, [I], at least 1, or None for once. Of a fraction
            such as 2.3, three times in 3 of 10 epochs on average; an epoch's length is fixed.

    Raises:
        ValueError: No images, or `batch_size` is not divisible by `world_size`.
    """

    def __init__(
        self,
        aspect_ratios: Sequence[float] | np.ndarray,
        batch_size: int,
        seed: int = 0,
        start: int = 0,
        stop: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        repeats: np.ndarray | None = None,
    ) -> None:
        if len(aspect_ratios) == 0:
            raise ValueError("the data set has no images to train on")
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(f"batch_size: {batch_size} is not divisible by {world_size} ranks")
        self.batch_size, self.seed = batch_size, seed
        self.start, self.stop = start, stop
        self.rank, self.world_size = rank, world_size
        tall = np.asarray(aspect_ratios) < 1
        self.groups = [g for g in (np.flatnonzero(~tall), np.flatnonzero(tall)) if len(g)]
        self.repeats = repeats
        self.batches = [math.ceil(self._images(group) / batch_size) for group in self.groups]
        self.steps_per_epoch = sum(self.batches)

    def __len__(self) -> int:
        if self.stop is None:
            raise TypeError("a sampler without `stop` has no length")
        return max(self.stop - self.start, 0)

    def _images(self, group: np.ndarray) -> float:
        return len(group) if self.repeats is None else float(self.repeats[group].sum())

    def _repeated(self, group: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Repeats each image the whole part of its factor, and once more or not."""
        if self.repeats is None:
            return group
        # One random number for all: the total differs by less than 1 from epoch to epoch.
        ends = np.floor(np.cumsum(self.repeats[group]) + generator.random()).astype(np.int64)
        return np.repeat(group, np.diff(ends, prepend=0))

    def epoch(self, number: int) -> np.ndarray:
        """Returns the image indices of an epoch's batches, int64 [steps_per_epoch, batch_size]."""
        generator = np.random.default_rng((self.seed, number))
        batches = []
        for group, count in zip(self.groups, self.batches, strict=True):
            images = generator.permutation(self._repeated(group, generator))
            batches.append(np.resize(images, count * self.batch_size))
        whole = np.concatenate(batches).reshape(-1, self.batch_size)
        return whole[generator.permutation(len(whole))]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        step, number = self.start, -1
        while self.stop is None or step < self.stop:
            if step // self.steps_per_epoch != number:
                number = step // self.steps_per_epoch
                batches = self.epoch(number)
            batch = batches[step % self.steps_per_epoch].tolist()
            seeds = np.random.SeedSequence((self.seed, step)).generate_state(self.batch_size)
            pairs = list(zip(batch, seeds.tolist(), strict=True))
            yield pairs[self.rank :: self.world_size]
            step += 1


class Seeded(Dataset[Any]):
    """Serves dataset[index] for a pair (index, seed), with random transforms seeded by that seed.

    The target contains the seed, for random numbers that the training draws later.

    Args:
        dataset: Yields pairs of image and target.
        skip_bad: Replace an image that turns out to be damaged by the next intact one, with a
            warning. The check of a data set reads only headers by default.
    """

    def __init__(self, dataset: DetectionDataset, skip_bad: bool = False) -> None:
        self.dataset, self.skip_bad = dataset, skip_bad

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, pair: tuple[int, int]) -> tuple[torch.Tensor, dict[str, Any]]:
        index, seed = pair
        states = random.getstate(), np.random.get_state()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            try:
                image, target = self._whole(index)
                return image, {**target, "seed": seed}
            finally:
                random.setstate(states[0])
                np.random.set_state(states[1])

    def _whole(self, index: int) -> tuple[torch.Tensor, dict[str, Any]]:
        for place in range(index, index + len(self)):
            try:
                return self.dataset[place % len(self)]
            except BadImageError as error:
                if not self.skip_bad:
                    raise
                log.warning("skipped %s; the next image replaces it", error)
        raise BadImageError("no image of the set can be read")


def collate(
    items: list[tuple[torch.Tensor, dict[str, Any]]],
) -> tuple[list[torch.Tensor], list[dict[str, Any]]]:
    """Returns the images and the targets of a batch, each as a list: sizes may differ."""
    images, targets = zip(*items, strict=True)
    return list(images), list(targets)


def train_loader(
    dataset: DetectionDataset,
    batch_size: int,
    *,
    seed: int = 0,
    start: int = 0,
    stop: int | None = None,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
    skip_bad: bool = False,
    repeats: np.ndarray | None = None,
) -> DataLoader[Any]:
    """Returns batches `(images, targets)` for the steps from `start` to before `stop`.

    Args:
        dataset: The training data, with its transforms.
        batch_size: Images per step, over all ranks.
        seed: See `StepSampler`, as for the others.
        start: First step; a resumed run passes the step at which it continues.
        stop: Step to stop before, or None for no end.
        workers: Number of loader processes; 0 loads in this process.
        rank: This process among those that share a batch.
        world_size: Number of those processes.
        pin_memory: Copy batches to page-locked memory, for CUDA.
        skip_bad: See `Seeded`.
        repeats: See `StepSampler`.
    """
    sampler = StepSampler(
        *(dataset.aspect_ratios(), batch_size, seed, start, stop, rank, world_size, repeats)
    )
    return SignalSafeLoader(
        Seeded(dataset, skip_bad),
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
    )


def eval_loader(
    dataset: DetectionDataset,
    batch_size: int = 1,
    *,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """Returns batches `(images, targets)` that hold each image once, over all ranks, in order."""
    return SignalSafeLoader(
        dataset,
        batch_size=batch_size,
        sampler=range(rank, len(dataset), world_size),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
    )
