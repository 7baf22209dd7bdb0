# SPDX-License-Identifier: BSD-3-Clause
"""Random numbers of the detector that depend only on the image, not on its batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dcnv2.models.detector import Detector


def set_seed(seed: int, device: torch.device | None = None) -> None:
    """Seeds the CPU's generator and that of one CUDA device.

    `torch.manual_seed` also queries every other kind of device, which takes a millisecond.
    """
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)


class PerImageRng:
    """Makes a detector draw scales, anchors and proposals of each image from the image's own seed.

    An image is then resized and sampled in the same way on every rank and in every micro-batch.

    Args:
        model: a detector; its samplers and its choice among several sizes are wrapped.
    """

    def __init__(self, model: Detector) -> None:
        self.seeds: Sequence[int] = ()
        self._device = next(model.parameters()).device
        self._resized = 0
        self._choose = model.transform.torch_choice
        model.transform.torch_choice = self._choose_size
        model.rpn.fg_bg_sampler = _PerImageSampler(model.rpn.fg_bg_sampler, self, 1)
        if model.roi_heads is not None:
            model.roi_heads.fg_bg_sampler = _PerImageSampler(model.roi_heads.fg_bg_sampler, self, 2)

    def seed_batch(self, image_seeds: Sequence[int], batch_seed: int) -> None:
        """Sets the seeds of the next batch's images, and the seed of all other random numbers."""
        self.seeds, self._resized = image_seeds, 0
        set_seed(batch_seed, self._device)

    def _choose_size(self, sizes: Sequence[int]) -> int:
        if len(sizes) == 1:
            return sizes[0]
        with torch.random.fork_rng(devices=[]):
            set_seed(self.seeds[self._resized])
            self._resized += 1
            return self._choose(sizes)


def per_image_rng(model: Detector) -> PerImageRng:
    """Returns the random numbers of a detector, which are made once."""
    sampler = model.rpn.fg_bg_sampler
    return sampler.rng if isinstance(sampler, _PerImageSampler) else PerImageRng(model)


class _PerImageSampler:
    """Calls one of torchvision's samplers image by image.

    Args:
        sampler: of positive and negative anchors or proposals.
        rng: has the images' seeds.
        stream: added to the seed, so that two samplers draw different numbers.
    """

    def __init__(self, sampler: Any, rng: PerImageRng, stream: int) -> None:
        self.sampler, self.rng, self.stream = sampler, rng, stream

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        positive, negative = [], []
        devices = [labels[0].device] if labels and labels[0].is_cuda else []
        with torch.random.fork_rng(devices=devices):
            for label, seed in zip(labels, self.rng.seeds, strict=True):
                set_seed(seed + self.stream, label.device)
                chosen = self.sampler([label])
                positive += chosen[0]
                negative += chosen[1]
        return positive, negative
