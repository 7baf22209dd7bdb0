# SPDX-License-Identifier: BSD-3-Clause
"""Parameters and operations that are counted, against what torchvision states of its models."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.models.detection import (
    FasterRCNN_ResNet50_FPN_Weights,
    MaskRCNN_ResNet50_FPN_Weights,
)

from dcnv2.models import BackboneConfig, ModelConfig, RPNConfig
from dcnv2.models.cost import model_cost
from dcnv2.models.resnet import ARCHS, ResNet

# One of them in the tests for every change: building all takes seconds.
THEIRS = [
    pytest.param(arch, marks=[pytest.mark.slow] * (arch != "resnet50"))
    for arch in ARCHS
    if arch in list_models()
]
CLASSIFIER = 2048 * 1000  # products of the fc layer that a detector has not


@pytest.mark.parametrize("arch", THEIRS)
def test_bodies_cost_what_torchvision_states(arch):
    stated = next(iter(get_model_weights(arch))).meta
    with torch.device("meta"):
        body = ResNet(BackboneConfig(arch=arch, norm="batch", topology="fpn"))
        with FlopCounterMode(display=False) as counter:
            body(torch.empty(1, 3, 224, 224))
    parameters = sum(p.numel() for p in body.parameters())
    assert parameters + CLASSIFIER + 1000 == stated["num_params"]
    gigamacs = (counter.get_total_flops() / 2 + CLASSIFIER) / 1e9
    assert gigamacs == pytest.approx(stated["_ops"], abs=0.001)


@pytest.mark.parametrize(
    ("weights", "masks"),
    [(MaskRCNN_ResNet50_FPN_Weights, True), (FasterRCNN_ResNet50_FPN_Weights, False)],
)
def test_detectors_have_torchvisions_number_of_parameters(weights, masks):
    config = ModelConfig(
        num_classes=90,
        backbone=BackboneConfig(topology="fpn"),
        rpn=RPNConfig(anchor_sizes=[[32], [64], [128], [256], [512]]),
    )
    config.mask.enabled = masks
    assert model_cost(config).parameters == weights.COCO_V1.meta["num_params"]


@pytest.mark.parametrize("conv", ["plain", "dcnv2"])
@pytest.mark.parametrize("arch", THEIRS)
def test_parameters_are_named_and_shaped_as_torchvisions(arch, conv):
    with torch.device("meta"):
        theirs = get_model(arch).state_dict()
        config = BackboneConfig(arch=arch, norm="batch", convs=("plain", conv, conv, conv))
        ours = ResNet(config).state_dict()
    wanted = {name: value.shape for name, value in theirs.items() if not name.startswith("fc.")}
    got = {name: value.shape for name, value in ours.items() if ".conv_offset." not in name}
    assert got == wanted


@pytest.mark.slow
def test_operations_grow_with_the_image_and_with_each_part():
    def cost(**changes):
        config = ModelConfig(backbone=BackboneConfig(channels=64), min_size=[320], max_size=533)
        for name, value in changes.items():
            part, _, field = name.partition("__")
            setattr(getattr(config, part) if field else config, field or part, value)
        return model_cost(config)

    base = cost()
    assert (base.height, base.width) == (320, 544)
    assert cost(mask__enabled=False).macs < base.macs
    assert cost(rpn__post_nms_test=500).macs < base.macs
    assert cost(min_size=[640], max_size=1067).macs > 1.5 * base.macs
    # Mimicking adds its classifier and nothing in inference.
    config = ModelConfig(backbone=BackboneConfig(channels=64), min_size=[320], max_size=533)
    config.mimic.enabled = True
    mimic = model_cost(config)
    assert mimic.macs == base.macs
    assert mimic.parameters == base.parameters + 1024 * 81 + 81
