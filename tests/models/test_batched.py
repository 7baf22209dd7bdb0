# SPDX-License-Identifier: BSD-3-Clause
"""No part of a training step is done RoI by RoI: as many operators run for many as for few."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from toys import total, toy_config, toy_images, toy_targets

from dcnv2.models import build_model
from dcnv2.models.rpn import Proposals

pytestmark = pytest.mark.slow

# 12 boxes that overlap little, each near a dozen anchors and proposals.
BOXES = tuple((x, y, x + 15, y + 13) for x in (1, 17, 32) for y in (1, 16, 31, 46))


class Count(TorchDispatchMode):
    """Counts the operators that run."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls += 1
        return function(*args, **(kwargs or {}))


def _near_objects(model):
    """Adds proposals near the objects to those of an RPN that has learned nothing."""

    def add(_, inputs, outputs):
        proposals, losses = outputs
        near = inputs[2].boxes.repeat(1, 3, 1) + 0.5
        count = proposals.count + near.shape[1]
        boxes = torch.cat([near, proposals.boxes], dim=1)
        return Proposals(boxes, boxes[..., 0], count), losses

    model.rpn.register_forward_hook(add)


@pytest.mark.parametrize("ohem", ["none", "image"])
@pytest.mark.parametrize("topology", ["c5", "fpn"])
def test_operators_of_a_step_do_not_grow_with_rois_and_objects(shallow, topology, ohem):
    images = toy_images(sizes=((64, 64), (64, 64)))

    def calls(boxes, sampled, mimicked):
        torch.manual_seed(0)
        config = toy_config(arch="resnet50", topology=topology)
        config.box.batch_per_image, config.box.positive_fraction = sampled, 0.5
        config.box.ohem.kind = ohem
        config.mimic.enabled, config.mimic.crop_size = True, 32
        config.mimic.boxes_per_image = mimicked
        model = build_model(config)
        _near_objects(model)
        pooled = []
        for pool in (model.roi_heads.box_roi_pool, model.roi_heads.mask_roi_pool):
            pool.register_forward_hook(lambda _, __, out: pooled.append(len(out)))
        targets = toy_targets(images, boxes)
        with Count() as count:
            total(model(images, targets)).backward()
        return count.calls, pooled

    few, many = calls(BOXES[:1], 4, 1), calls(BOXES, 48, 20)
    assert few[1] == [8, 4, 2, 2]
    assert many[1][0] > 9 * 8
    assert many[1][1:] == [48, 40, 40]
    assert many[0] == few[0]
