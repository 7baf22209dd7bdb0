# SPDX-License-Identifier: BSD-3-Clause
"""The detector as a whole: transform, backbone, RPN, RoI heads and, in training, mimicking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dcnv2.models.backbone import Backbone
from dcnv2.models.box_mask_heads import BoxMaskHeads
from dcnv2.models.detection_graphs import find_recorded
from dcnv2.models.detections import PaddedDetections, split
from dcnv2.models.graphs import RecordingCache, recorder_on
from dcnv2.models.mimic import FeatureMimicking
from dcnv2.models.roi_heads import RoIPooler
from dcnv2.models.rpn import ProposalNetwork
from dcnv2.models.targets import Targets, check_targets, pack_targets
from dcnv2.models.transfer import is_tracing
from dcnv2.models.transform import ImageBatch, Transform


class Detector(nn.Module):
    """Mask R-CNN, Faster R-CNN or a proposal network, called as torchvision's detectors are.

    Args:
        transform: resizes and normalises.
        backbone: maps by name.
        rpn: proposals.
        roi_heads: None makes a proposal network: its detections are the proposals, all of class 1.
        mimic: the training-only branch, or None.
    """

    roi_heads: Any  # BoxMaskHeads or None

    def __init__(
        self,
        transform: Transform,
        backbone: Backbone,
        rpn: ProposalNetwork,
        roi_heads: BoxMaskHeads | None,
        mimic: FeatureMimicking | None = None,
    ) -> None:
        super().__init__()
        self.transform, self.backbone, self.rpn = transform, backbone, rpn
        self.roi_heads, self.mimic = roi_heads, mimic
        self._recordings: Any = None  # RecordingCache of RecordedDetections

    def forward(
        self,
        images: Sequence[Tensor],
        targets: Sequence[dict[str, Any]] | None = None,
        paste_masks: bool = True,
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses by name in training, detections in evaluation.

        Args:
            images: [3, H, W] of any sizes, bytes or floats in [0, 1], on the detector's device.
            targets: in training, `boxes` [K, 4] (x1, y1, x2, y2) in pixels, `labels` int64 [K] from
                1, `masks` uint8 [K, H, W] or `RunLengthMasks`; where given, `iscrowd` [K] (such
                objects are neither learned nor taken for background), `image_id` (named in
                errors), and `seed`, which the random numbers of the image follow from (otherwise
                from PyTorch's generator). On the CPU a training step never waits for its device;
                for targets on the device it does.
            paste_masks: paste predicted masks into planes of the image's size, as torchvision's
                detectors do; otherwise they are as predicted, which takes far less memory.

        Returns:
            A dict of scalars, or one dict an image with `boxes`, `labels`, `scores`, `masks`
            ([K, 1, H, W] in [0, 1], or [K, 1, M, M] over each box), best first, in pixels of the
            image given.

        Raises:
            ValueError: training without targets, or a box without area.
        """
        if self.training:
            return self.losses(*self.prepare(images, targets))
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        batch, _ = self.transform(images)
        detections = self._detect(batch)
        return self._in_image_pixels(detections, batch.image_sizes, sizes, paste_masks)

    def prepare(
        self,
        images: Sequence[Tensor],
        targets: Sequence[dict[str, Any]] | None,
        rounded: bool = False,
    ) -> tuple[ImageBatch, Targets]:
        """What the host does for a training step: checks, resizes and pads a batch.

        Args:
            images: see `forward`.
            targets: see `forward`.
            rounded: round numbers of objects up, so that few sizes occur.

        Returns:
            The padded batch and its targets, both on the images' device.
        """
        masks = self.roi_heads is not None and self.roi_heads.has_mask()
        seeded = [
            {**target, "seed": int(target["seed"]) if "seed" in target else _any_seed()}
            for target in check_targets(images, targets, masks)
        ]
        batch, resized = self.transform(images, seeded)
        packed = pack_targets(resized, masks, rounded)
        return batch, packed.to(batch.tensors.device)

    def losses(self, batch: ImageBatch, targets: Targets) -> dict[str, Tensor]:
        """Losses by name of what `prepare` returns; what follows depends on no value of it."""
        features = self.backbone(batch.tensors)
        proposals, losses = self.rpn(batch, features, targets)
        heads = self.roi_heads
        if heads is not None:
            losses.update(heads.losses(features, proposals, targets))
            if self.mimic is not None:
                losses.update(self.mimic(batch, features, proposals, targets, self.backbone, heads))
        return losses

    def record_detections(self, wanted: bool = True) -> None:
        """Have a GPU run recorded kernels for sizes of batches that come again and again.

        Detections stay the same. The recordings keep the memory that a batch takes.

        Args:
            wanted: False forgets them.
        """
        self._recordings = None
        device, heads = self.transform.mean.device, self.roi_heads
        if wanted and device.type == "cuda" and heads is not None and not self.asks_device():
            self._recordings = RecordingCache(self, recorder_on(device))

    def __getstate__(self) -> dict[str, Any]:
        # Recordings belong to the tensors of this detector, not to those of a copy.
        return {**self.__dict__, "_recordings": None}

    def asks_device(self) -> bool:
        """Whether the host has to know values of the device, so that nothing can be recorded."""
        poolers = [module for module in self.modules() if isinstance(module, RoIPooler)]
        return any(len(pooler.pools) > 1 for pooler in poolers)

    def _detect(self, batch: ImageBatch) -> list[dict[str, Tensor]]:
        if self.roi_heads is not None and batch.tensors.is_cuda and not is_tracing():
            found = self._padded_detections(batch).split()
            if found is not None:
                return found
            self.roi_heads.room *= 2
        features = self.backbone(batch.tensors)
        proposals, _ = self.rpn(batch, features)
        if self.roi_heads is not None:
            return self.roi_heads.detect(features, proposals, batch.limits)
        labels = torch.ones_like(proposals.scores, dtype=torch.int64)
        columns = {"boxes": proposals.boxes, "scores": proposals.scores, "labels": labels}
        return split(columns, proposals.count)

    def _padded_detections(self, batch: ImageBatch) -> PaddedDetections:
        def detect(batch: ImageBatch) -> PaddedDetections:
            features = self.backbone(batch.tensors)
            proposals, _ = self.rpn(batch, features)
            return self.roi_heads.detect_padded(features, proposals, batch.limits)

        recorded = None
        if self._recordings is not None and not torch.is_grad_enabled():
            heads = self.roi_heads
            options = heads.score_thresh, heads.nms_thresh, heads.detections_per_img, heads.room
            recorded = find_recorded(self._recordings, batch, options, detect)
        return detect(batch) if recorded is None else recorded.run(batch)

    def dense_parts(self) -> list[nn.Module]:
        """What torch.compile gains by: the backbone and the heads, without the choice of boxes."""
        heads = self.roi_heads
        parts: list[Any] = [self.backbone, self.rpn.head]
        if heads is not None:
            parts += [heads.box_head, heads.box_predictor, heads.mask_head, heads.mask_predictor]
        return [part for part in parts if part is not None]

    def _in_image_pixels(
        self,
        detections: list[dict[str, Tensor]],
        input_sizes: list[tuple[int, int]],
        sizes: list[tuple[int, int]],
        paste_masks: bool,
    ) -> list[dict[str, Tensor]]:
        as_predicted = [{} if paste_masks else _pop_masks(found) for found in detections]
        detections = self.transform.postprocess(detections, input_sizes, sizes)
        return [{**found, **masks} for found, masks in zip(detections, as_predicted, strict=True)]


def _pop_masks(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"masks": found.pop("masks")} if "masks" in found else {}


def _any_seed() -> int:
    return int(torch.randint(2**31, ()))
