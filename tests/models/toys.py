# SPDX-License-Identifier: BSD-3-Clause
"""Toy detectors and batches for the tests in this folder."""

import torch

from dcnv2.models import (
    BackboneConfig,
    BoxHeadConfig,
    MaskHeadConfig,
    ModelConfig,
    PoolConfig,
    RPNConfig,
)
from dcnv2.models.rpn import Proposals
from dcnv2.models.targets import Targets, pack_targets

CONV_OF_POOL = {"align": "plain", "dpool": "dcnv1", "mdpool": "dcnv2"}


def toy_config(pool="mdpool", arch="small", topology="c5", norm="group", **backbone) -> ModelConfig:
    """A detector of three classes for images of 64 pixels, all parts narrow."""
    conv = CONV_OF_POOL[pool]
    channels = 16 if arch == "small" else 32
    levels = 5 if topology == "fpn" and arch != "small" else 1
    # Few where conv5 runs on every RoI.
    sampled, proposed, kept = (4, 8, 8) if topology == "c4" else (16, 20, 100)
    return ModelConfig(
        num_classes=3,
        min_size=[64],
        max_size=80,
        backbone=BackboneConfig(
            arch=arch,
            topology=topology,
            norm=norm,
            channels=channels,
            convs=("plain", conv, conv, conv),
            **backbone,
        ),
        rpn=RPNConfig(
            anchor_sizes=[[16, 32]] * levels,
            pre_nms_train=50,
            pre_nms_test=50,
            post_nms_train=20,
            post_nms_test=proposed,
        ),
        box=BoxHeadConfig(
            pool=PoolConfig(kind=pool, hidden_channels=8),
            hidden_channels=16,
            batch_per_image=sampled,
            detections_per_image=kept,
        ),
        mask=MaskHeadConfig(
            pool=PoolConfig(kind=pool, hidden_channels=8), convs=(16,), deconv_channels=16
        ),
    )


def toy_images(seed=0, sizes=((64, 48), (56, 64))) -> list[torch.Tensor]:
    """Float images [3, H, W]."""
    random = torch.Generator().manual_seed(seed)
    return [torch.rand(3, *size, generator=random) for size in sizes]


def toy_target(boxes, height, width) -> dict[str, torch.Tensor]:
    """A target whose objects fill their boxes; classes go round."""
    masks = torch.zeros(len(boxes), height, width, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.arange(len(boxes)) % 3 + 1,
        "masks": masks,
    }


def toy_targets(images, boxes=((5, 7, 30, 40), (10, 20, 45, 50))) -> list[dict]:
    """The same boxes for every image."""
    return [toy_target(list(boxes), *image.shape[1:]) for image in images]


def total(losses) -> torch.Tensor:
    """The unweighted sum of a loss dict."""
    return torch.stack(list(losses.values())).sum()


def padded_proposals(proposals) -> Proposals:
    """Proposals of images, one [R_i, 4] each."""
    counts = torch.tensor([[len(boxes)] for boxes in proposals])
    boxes = torch.nn.utils.rnn.pad_sequence(proposals, batch_first=True)
    return Proposals(boxes, boxes[..., 0], counts)


def packed_targets(targets) -> Targets:
    """Boxes and labels of targets in pixels of the network's input."""
    return pack_targets([{**target, "seed": 7} for target in targets], masks=False)
