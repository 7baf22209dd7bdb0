# SPDX-License-Identifier: BSD-3-Clause
"""Detection on a batch as a CUDA graph, from the resized images to padded detections."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from copy import copy

import torch

from dcnv2.models.detections import PaddedDetections
from dcnv2.models.graphs import OperandBuffers, Recording, RecordingCache
from dcnv2.models.transform import ImageBatch

Detect = Callable[[ImageBatch], PaddedDetections]


class RecordedDetections:
    """Detection on batches of one size.

    Args:
        recording: empty.
        buffers: memory of the operands.
        batch: of the size.
        detect: what is recorded.
    """

    def __init__(
        self, recording: Recording, buffers: OperandBuffers, batch: ImageBatch, detect: Detect
    ) -> None:
        self._recording, self._batch = recording, copy(batch)
        self._batch.tensors = buffers.copy("tensors", batch.tensors)
        self._batch.limits = buffers.copy("limits", batch.limits)
        # Weights that autocast keeps in another type live no longer than its context.
        dtype, enabled = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
        with torch.autocast("cuda", dtype, enabled=enabled, cache_enabled=False):
            self._found = recording.record(lambda: detect(self._batch))

    def run(self, batch: ImageBatch) -> PaddedDetections:
        """Detections of a batch, in memory that the next run overwrites."""
        # Operands may come from inference mode; those of a recording outlive it.
        with torch.inference_mode(False), torch.no_grad():
            self._batch.tensors.copy_(batch.tensors)
            self._batch.limits.copy_(batch.limits)
            self._recording.run()
        return self._found


def find_recorded(
    recordings: RecordingCache[RecordedDetections],
    batch: ImageBatch,
    options: Hashable,
    detect: Detect,
) -> RecordedDetections | None:
    """The recording for a batch; None if it is to run eagerly.

    Args:
        recordings: those that there are.
        batch: resized images.
        options: what else the kernels depend on.
        detect: what is recorded, if the size of the batch comes again.
    """
    autocast = torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda")
    key = (batch.tensors.shape, batch.tensors.dtype, autocast, options)

    def record(recording: Recording) -> RecordedDetections:
        with torch.inference_mode(False), torch.no_grad():
            return RecordedDetections(recording, recordings.buffers, batch, detect)

    return recordings.find(key, record)
