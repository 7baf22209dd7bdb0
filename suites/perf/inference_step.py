# SPDX-License-Identifier: BSD-3-Clause
"""Inference on one batch by a configured detector, ready to be timed.

The weights are random, so no box would reach the score threshold. As in a trained detector, a share
of the proposals gets the score of an object, and the detections are as many as the configuration
allows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from suites.perf.step_case import TORCHVISION, StepCase, running
from suites.perf.training_step import random_batch, spread_offsets

# Of the proposals of an image: 300 of 1000 are candidates.
OBJECT_SHARE = 0.3
# Added to a logit: a score close to 1, whatever the random weights say.
CERTAIN = 12.0
MOST_ROIS = 2**14


class InferenceStep:
    """Detects objects in one batch per call, masks pasted into the images.

    Attributes:
        facts: `parameters_M`, and `input`: the size of the images.
    """

    def __init__(self, case: StepCase, device: torch.device):
        self.case, self.device = case, device
        self.model, config = case.build(device)
        self.model.eval()
        self.images = random_batch(case.batch, case.source, config.model.num_classes, device)[0]
        first = self.model.transform(self.images[:1])[0].tensors
        with running(case.operator):
            spread_offsets(self.model, first.to(memory_format=torch.channels_last))
        score_like_trained(self.model)
        if case.config != TORCHVISION:
            self.model.record_detections()
        parameters = sum(p.numel() for p in self.model.parameters())
        self.facts = {"parameters_M": parameters / 1e6, "input": "x".join(map(str, case.source))}

    @torch.inference_mode()
    def __call__(self) -> Tensor:
        """Detect, and return the sum of all scores; reading it waits for the device."""
        with running(self.case.operator), self.case.autocast(self.device):
            results = self.model(self.images)
        return torch.cat([result["scores"] for result in results]).sum()


def score_like_trained(model: nn.Module) -> None:
    """Make a share of the RoIs an object of a random class, and all others background."""
    predictor = model.roi_heads.box_predictor
    forward = predictor.forward
    random = torch.Generator().manual_seed(0)
    draws = torch.rand(MOST_ROIS, generator=random).to(predictor.cls_score.weight.device)

    def score(features: Tensor) -> tuple[Tensor, Tensor]:
        logits, deltas = forward(features)
        rois, classes = logits.shape
        draw = draws[:rois]
        label = (draw / OBJECT_SHARE * (classes - 1)).long() + 1
        label = label.where(draw < OBJECT_SHARE, 0)
        return logits.scatter_add(
            1, label[:, None], torch.full_like(logits[:, :1], CERTAIN)
        ), deltas

    # A hook would keep detections from being recorded.
    predictor.forward = score
