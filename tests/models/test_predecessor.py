# SPDX-License-Identifier: BSD-3-Clause
"""Faults of the repository that this one follows, where no other test would find them."""

import json
import math

import pytest
import torch
from torch import nn
from toys import (
    packed_targets,
    padded_proposals,
    total,
    toy_config,
    toy_images,
    toy_target,
    toy_targets,
)

from dcnv2.data.shapes import write_shapes
from dcnv2.engine.config import DataConfig, RunConfig
from dcnv2.engine.inference.predict import prediction_sheet
from dcnv2.engine.runtime.datasets import open_val
from dcnv2.models import BackboneConfig, build_model
from dcnv2.models.backbone import build_backbone
from dcnv2.models.transform import ImageBatch

pytestmark = pytest.mark.usefixtures("shallow")

HEADS = [
    pytest.param({"arch": "small"}, id="small"),
    pytest.param({"arch": "resnet50", "topology": "c5", "norm": "frozen"}, id="c5"),
    pytest.param({"arch": "resnet50", "topology": "c4", "norm": "frozen"}, id="c4"),
    pytest.param({"arch": "resnet50", "topology": "fpn", "norm": "frozen"}, id="fpn"),
]


def _mimicking(**form):
    torch.manual_seed(0)
    config = toy_config("align", **form)
    config.mimic.enabled, config.mimic.crop_size = True, 32
    return config


@pytest.mark.slow
@pytest.mark.parametrize("form", HEADS)
def test_mimicking_works_with_every_head_and_keeps_no_weights_twice(form):
    model = build_model(_mimicking(**form))
    images = toy_images()
    total(model(images, toy_targets(images))).backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    state = model.state_dict()
    pointers = [value.data_ptr() for value in state.values() if value.numel()]
    assert len(set(pointers)) == len(pointers)
    assert {name for name in state if name.startswith("mimic.")} == {
        "mimic.classifier.weight",
        "mimic.classifier.bias",
    }


@pytest.mark.parametrize("masks", [True, False])
def test_mimicking_sees_whole_patches_of_positives_alone(masks):
    config = _mimicking()
    config.mask.enabled = masks
    model = build_model(config)
    image = torch.rand(3, 64, 64)
    batch = ImageBatch(image[None], [(64, 64)])
    near = torch.tensor([[5.5, 7.25, 30, 40], [6, 7, 31, 39.5]])
    background = torch.tensor([[50.0, 2, 60, 9]]).repeat(20, 1)
    seen = []
    model.roi_heads.box_roi_pool.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    model.mimic(
        batch,
        model.backbone(batch.tensors),
        padded_proposals([torch.cat([background, near])]),
        packed_targets(toy_targets([image], ((5, 7, 30, 40),))),
        model.backbone,
        model.roi_heads,
    )
    patches, context = seen
    assert patches.tolist() == [[index, 0.0, 0.0, 32.0, 32.0] for index in range(2)]
    assert sorted(context[:, 1:].tolist()) == sorted(near.tolist())


def test_mimicking_keeps_fractions_of_pixels_and_small_boxes():
    model = build_model(_mimicking())
    target = toy_target([(10, 10, 14, 14)], 64, 64)
    proposal = torch.tensor([[10.25, 9.75, 13.75, 14.25]])
    operands = padded_proposals([proposal]), packed_targets([target]), model.roi_heads
    boxes, labels, drawn = model.mimic.sample(*operands)
    assert torch.equal(boxes[drawn], proposal)
    assert labels[drawn].tolist() == [1]
    ramp = torch.arange(64.0).expand(3, 64, 64)
    crop = model.mimic.crop(
        ImageBatch(ramp[None], [(64, 64)]), torch.nn.functional.pad(proposal, (1, 0))
    )
    # Pixel centres lie at halves: the mean over the patch is its middle, less one half.
    assert crop.mean().item() == pytest.approx(12 - 0.5, abs=1e-3)


@pytest.mark.parametrize("conv", ["plain", "dcnv1", "dcnv2"])
@pytest.mark.parametrize("arch", ["resnet50", "resnext101_32x8d"])
def test_convolutions_are_drawn_to_keep_the_size_of_activations(arch, conv):
    torch.manual_seed(0)
    body = build_backbone(BackboneConfig(arch=arch, convs=(conv,) * 4, norm="group")).body
    checked = 0
    for name, weight in body.named_parameters():
        if weight.ndim == 4 and "conv_offset" not in name:
            fan_out = weight.shape[0] * weight.shape[2] * weight.shape[3]
            # torchvision's own rule: groups are not counted.
            assert weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05), name
            checked += 1
    assert checked == 1 + 4 * 3 + 4


def test_training_and_test_resize_alike():
    config = toy_config()
    config.min_size, config.max_size = [48], 96
    model = build_model(config)
    image = torch.rand(3, 60, 80)
    sizes = [model.train(mode).transform([image])[0].image_sizes for mode in (True, False)]
    assert sizes == [[(48, 64)], [(48, 64)]]


def test_small_proposals_are_kept():
    """A least side of 16 pixels would leave the small objects of COCO without a proposal."""
    model = build_model(toy_config()).eval()
    small = torch.tensor([[4.0, 4, 6, 6.5], [20, 20, 50, 50]])
    logits, deltas = [torch.zeros(1, 2, 1)], [torch.zeros(1, 2, 4)]
    found = model.rpn.propose(logits, deltas, small, torch.tensor([[64.0, 64.0]]))
    assert found.count.tolist() == [[2]]


def test_an_image_of_crowds_alone_trains():
    model = build_model(toy_config())
    images = toy_images(sizes=((64, 64),))
    target = toy_targets(images, ((5, 7, 30, 40),))[0]
    target["iscrowd"] = torch.tensor([1])
    losses = model(images, [target])
    total(losses).backward()
    assert all(loss.isfinite() for loss in losses.values())


def test_pictures_of_predictions_leave_the_detector_as_it_was(tmp_path):
    root = write_shapes(tmp_path, train=1, val=2, size=64)
    config = RunConfig(model=toy_config(), data=DataConfig(root=str(root)))
    model = build_model(config.model).eval()
    before = {k: v for k, v in vars(model.roi_heads).items() if isinstance(v, int | float)}
    prediction_sheet(model, open_val(config.data, True), [0, 1], config, torch.device("cpu"))
    after = {k: v for k, v in vars(model.roi_heads).items() if isinstance(v, int | float)}
    assert before["detections_per_img"] == 100
    assert after == before


def test_images_without_objects_are_evaluated(tmp_path):
    root = write_shapes(tmp_path, train=1, val=3, size=64)
    path = root / "annotations" / "instances_val.json"
    document = json.loads(path.read_text())
    bare = document["images"][1]["id"]
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] != bare]
    path.write_text(json.dumps(document))
    dataset = open_val(DataConfig(root=str(root)), True)
    assert [len(dataset.target(index)["labels"]) > 0 for index in range(3)] == [True, False, True]


@pytest.mark.parametrize("pool", ["dpool", "mdpool", "dpsroi", "mdpsroi"])
def test_the_last_layer_that_predicts_offsets_has_no_activation(pool):
    config = toy_config()
    config.box.pool.kind = pool
    branch = build_model(config).roi_heads.box_roi_pool.pools[0].offset_fc
    assert isinstance(branch[-1], nn.Linear)
    assert not branch[-1].weight.any()
    assert not branch[-1].bias.any()
