# SPDX-License-Identifier: BSD-3-Clause
"""Random draws of the detector that depend on the image alone, not on its batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dcnv2.models.detector import Detector


def set_seed(seed: int, device: torch.device | None = None) -> None:
    """Seeds the CPU's generator and that of a CUDA device alone.

    `torch.manual_seed` looks for every kind of device, which takes a millisecond.
    """
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)


class PerImageRng:
    """Has a detector draw scales and samples for each image from a seed of the image's own.

    An image is then resized to the same size, and has the same anchors and proposals sampled,
    whichever rank, micro-batch and place in it an update's images are split to.

    Args:
        model: a detector; its samplers and its choice among several sizes are wrapped.
    """

    def __init__(self, model: Detector) -> None:
        self.seeds: Sequence[int] = ()
        self._device = next(model.parameters()).device
        self._resized = 0
        self._choose = model.transform.torch_choice
        model.transform.torch_choice = self._choose_size
        model.rpn.fg_bg_sampler = _Sampler(model.rpn.fg_bg_sampler, self, 1)
        if model.roi_heads is not None:
            model.roi_heads.fg_bg_sampler = _Sampler(model.roi_heads.fg_bg_sampler, self, 2)

    def begin(self, seeds: Sequence[int], rest: int) -> None:
        """Sets the seeds of the next batch's images, and that of all other draws."""
        self.seeds, self._resized = seeds, 0
        set_seed(rest, self._device)

    def _choose_size(self, sizes: Sequence[int]) -> int:
        if len(sizes) == 1:
            return sizes[0]
        with torch.random.fork_rng(devices=[]):
            set_seed(self.seeds[self._resized])
            self._resized += 1
            return self._choose(sizes)


class _Sampler:
    """A sampler of torchvision's, called image by image."""

    def __init__(self, sampler: Any, draws: PerImageRng, use: int) -> None:
        self.sampler, self.draws, self.use = sampler, draws, use

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        positive, negative = [], []
        devices = [labels[0].device] if labels and labels[0].is_cuda else []
        with torch.random.fork_rng(devices=devices):
            for label, seed in zip(labels, self.draws.seeds, strict=True):
                set_seed(seed + self.use, label.device)
                chosen = self.sampler([label])
                positive += chosen[0]
                negative += chosen[1]
        return positive, negative
