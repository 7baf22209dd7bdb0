# SPDX-License-Identifier: BSD-3-Clause
"""Every option of a detector reaches the part that it is for, and levels are those of the maps."""

import math
from types import MappingProxyType

import pytest
import torch
from torch import nn
from toys import packed_targets, padded_proposals, toy_config, toy_images

from dcnv2.models import BackboneConfig, BoxHeadConfig, PoolConfig, RPNConfig, build_model
from dcnv2.models import rpn as rpn_module
from dcnv2.models.layers import FrozenBatchNorm2d, conv3x3, make_pool
from dcnv2.models.roi_heads import RoIPooler
from dcnv2.models.rpn import ProposalNetwork
from dcnv2.models.sampling import draw
from dcnv2.models.transform import ImageBatch, Transform


class _Pyramid:
    """What a pooler knows of a feature pyramid."""

    roi_levels = ("c2", "c3", "c4", "c5")
    rpn_levels, rpn_channels, out_channels = roi_levels, 1, 1
    strides = MappingProxyType({"c2": 4, "c3": 8, "c4": 16, "c5": 32})


@pytest.mark.parametrize(
    ("side", "level"),
    [(8, "c2"), (111, "c2"), (113, "c3"), (223, "c3"), (225, "c4"), (447, "c4"), (449, "c5")],
)
def test_a_roi_is_pooled_from_the_map_of_its_size(side, level):
    """FPN, equation 1: level 4 from sqrt(w h) = 224 on, one less for half of that."""
    pooler = RoIPooler(_Pyramid(), PoolConfig(kind="align"), 2)
    features = {
        name: torch.full((1, 1, 1024 // stride, 1024 // stride), float(stride))
        for name, stride in _Pyramid.strides.items()
    }
    half, double = side / 2, 2 * side  # of the same area, but another shape
    for box in ([9, 9, 9 + side, 9 + side], [9, 9, 9 + half, 9 + double]):
        pooled = pooler(features, [torch.tensor([box], dtype=torch.float32)])
        assert pooled.unique().tolist() == [_Pyramid.strides[level]]


@pytest.mark.parametrize("kind", ["align", "dpool"])
def test_rois_of_all_levels_are_pooled_where_they_are_and_in_their_order(kind):
    """Maps hold the x coordinate of their pixels, so the mean over a box is its middle."""
    pooler = RoIPooler(_Pyramid(), PoolConfig(kind=kind, hidden_channels=0), 1)
    features = {}
    for name, stride in _Pyramid.strides.items():
        x = (torch.arange(1024 // stride) + 0.5) * stride
        both = torch.stack([x, x + 1000])  # one image is 1000 pixels to the right
        features[name] = both[:, None, None].expand(-1, 1, 1024 // stride, -1)
    boxes = [[500, 60, 900, 460], [40, 60, 80, 100], [100, 300, 500, 800], [64, 64, 200, 200]]
    boxes = torch.tensor(boxes, dtype=torch.float32)
    middles = (boxes[:, 0] + boxes[:, 2]) / 2
    pooled = pooler(features, [boxes, boxes.flip(0)]).flatten()
    torch.testing.assert_close(pooled, torch.cat([middles, middles.flip(0) + 1000]))


@pytest.mark.parametrize("kind", ["dcnv1", "dcnv2"])
def test_options_of_deformable_convolutions_reach_them(kind):
    config = BackboneConfig(deform_groups=2, max_offset=1.5, mask_scale=1.75)
    conv = conv3x3(config, kind, 4, 6, stride=2, dilation=3, groups=2)
    assert (conv.deform_groups, conv.max_offset) == (2, 1.5)
    assert getattr(conv, "mask_scale", 1.75) == 1.75
    assert (conv.stride, conv.padding, conv.dilation, conv.groups) == ((2, 2), (3, 3), (3, 3), 2)
    nn.init.constant_(conv.conv_offset.bias, 1e6)
    assert conv.predict(torch.rand(1, 4, 9, 9))[0].max() == 1.5


@pytest.mark.parametrize("kind", ["dpool", "mdpool", "dpsroi", "mdpsroi"])
def test_options_of_deformable_pooling_reach_it(kind):
    config = PoolConfig(kind=kind, sampling_ratio=3, gamma=0.25, hidden_channels=24)
    pool = make_pool(config, 5, 4, 0.125)
    assert pool.spatial_scale == 0.125
    assert 3 in (getattr(pool, "sampling_ratio", None), getattr(pool, "sample_per_part", None))
    assert 0.25 in (getattr(pool, "gamma", None), getattr(pool, "trans_std", None))
    assert any(getattr(part, "out_features", None) == 24 for part in pool.modules())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_frozen_norms_have_the_eps_of_batch_norm(dtype):
    """Small variances, as of channels that are nearly constant in ImageNet's nets."""
    channels = 4
    statistics = {
        "weight": torch.tensor([1.0, 2.0, 0.5, -1.0]),
        "bias": torch.tensor([0.0, 1.0, -1.0, 0.5]),
        "running_mean": torch.tensor([0.5, -0.5, 0.25, 0.0]),
        "running_var": torch.tensor([0.0, 1e-6, 1e-4, 1.0]),
    }
    frozen, batch = FrozenBatchNorm2d(channels), nn.BatchNorm2d(channels).eval()
    frozen.load_state_dict(statistics)
    batch.load_state_dict({**statistics, "num_batches_tracked": torch.tensor(0)})
    x = torch.rand(2, channels, 3, 3)
    got = frozen(x.to(dtype)).float()
    rounding = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(got, batch(x), rtol=rounding, atol=rounding * 300)


RPN = RPNConfig(
    anchor_sizes=[[16]] * 4,
    aspect_ratios=[0.5, 1.0],
    pre_nms_train=11,
    pre_nms_test=12,
    post_nms_train=13,
    post_nms_test=14,
    nms=0.61,
    positive_iou=0.62,
    negative_iou=0.23,
    batch_per_image=17,
    positive_fraction=0.375,
)


def _packed(*boxes):
    """One image with these objects."""
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return packed_targets([{"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64)}])


def _with_iou(*shares):
    """Boxes whose IoU with (0, 0, 10, 10) are these."""
    return torch.tensor([[0, 0, 10, 10 * share] for share in shares])


def test_options_of_the_rpn_reach_it():
    rpn = ProposalNetwork(RPN, _Pyramid())
    assert rpn.train().limits == (11, 13)
    assert rpn.eval().limits == (12, 14)
    assert rpn.levels == _Pyramid.rpn_levels
    assert rpn.anchor_generator.sizes == ((16,),) * 4
    assert rpn.anchor_generator.aspect_ratios == ((0.5, 1.0),) * 4
    anchors = _with_iou(1, 0.63, 0.61, 0.24, 0.22)
    labels, _ = rpn.assign(anchors, _packed((0, 0, 10, 10)))
    assert labels.tolist() == [[1, 1, -1, -1, 0]]


def test_the_rpn_proposes_no_more_than_asked_for_and_no_near_copies():
    rpn = ProposalNetwork(RPN, _Pyramid()).eval()
    limits = torch.tensor([[2000.0, 10.0]])
    apart = torch.tensor([[0.0, 0, 10, 10]]) + 20 * torch.arange(40)[:, None] * torch.tensor(
        [1, 0, 1, 0]
    )
    logits, deltas = torch.linspace(3, -3, 80).reshape(2, 1, 40, 1).unbind(), torch.zeros(1, 40, 4)
    found = rpn.propose(logits, [deltas, deltas], torch.cat([apart, apart]), limits)
    assert found.count.tolist() == [[14]]
    assert found.boxes[0, :, 0].tolist() == [*range(0, 240, 20), 0, 20], (
        "12 of each level, best first"
    )
    near = _with_iou(1, 0.62, 0.6)
    found = rpn.propose([logits[0][:, :3]], [deltas[:, :3]], near, limits)
    assert found.boxes[0, : found.count].tolist() == near[[0, 2]].tolist()


def test_the_rpn_learns_from_as_many_anchors_as_asked_for(monkeypatch):
    rpn, seen = ProposalNetwork(RPN, _Pyramid()), []
    monkeypatch.setattr(
        rpn_module, "draw", lambda *operands: seen.append(operands[2:]) or draw(*operands)
    )
    maps = {level: torch.zeros(1, 1, 4, 4) for level in _Pyramid.rpn_levels}
    rpn(ImageBatch(torch.zeros(1, 3, 16, 16), [(16, 16)]), maps, _packed((0, 0, 10, 10)))
    assert seen == [(17, 0.375)]


def test_the_best_anchor_of_an_object_is_positive_however_little_it_overlaps():
    """Otherwise small objects have no positive anchor (Faster R-CNN, section 3.1.2)."""
    rpn = ProposalNetwork(RPN, _Pyramid())
    anchors = torch.tensor([[0, 0, 10, 10], [0, 0, 20, 20], [50, 50, 60, 60]], dtype=torch.float32)
    labels, matched = rpn.assign(anchors, _packed((0, 0, 4, 4), (50, 50, 60, 60)))
    assert labels.tolist() == [[1, 0, 1]]
    assert matched.tolist() == [[0, 0, 1]]


def test_options_of_the_box_head_reach_it():
    config = toy_config()
    config.box = BoxHeadConfig(
        pool=PoolConfig(kind="align"),
        hidden_channels=16,
        pool_size=3,
        positive_iou=0.55,
        batch_per_image=18,
        positive_fraction=0.125,
        score_threshold=0.07,
        nms=0.45,
        detections_per_image=19,
    )
    config.image_mean, config.image_std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    config.min_size, config.max_size = [48, 56], 72
    model = build_model(config, pretrained=False)
    heads = model.roi_heads
    objects = _packed((0, 0, 10, 10))
    labels, _ = heads.match(_with_iou(0.56, 0.54)[None], objects)
    assert labels.tolist() == [[1, 0]], "the best one of an object may be background"
    many = torch.cat([_with_iou(*[0.9] * 30), _with_iou(*[0.1] * 30)])
    samples = heads.sample(padded_proposals([many]), objects)
    assert samples.drawn.count.item() == samples.labels.shape[1] == 18
    assert samples.labels.sum() == samples.drawn.positives.item() == 2
    assert (heads.score_thresh, heads.nms_thresh, heads.detections_per_img) == (0.07, 0.45, 19)
    assert heads.box_roi_pool.output_size == 3
    assert heads.box_predictor.cls_score.out_features == config.num_classes + 1
    transform = model.transform
    assert (list(transform.min_size), transform.max_size) == ([48, 56], 72)
    assert (transform.image_mean, transform.image_std) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])


def test_the_ratio_of_masks_to_the_input_is_that_of_x_and_that_of_y():
    """They differ by the rounding of the resized image's sides."""
    transform = Transform([50], 1000, [0.0] * 3, [1.0] * 3)
    target = {"boxes": torch.tensor([[1.0, 2.0, 30.0, 90.0]]), "masks": torch.ones(1, 101, 37)}
    image, target = transform.resize(torch.rand(3, 101, 37), target)
    height, width = image.shape[-2:]
    assert 37 / width != 101 / height
    assert target["mask_ratio"] == pytest.approx((37 / width, 101 / height))
    assert target["masks"].shape == (1, 101, 37), "masks are left as they are"


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_detections_than_asked_for(limit):
    config = toy_config("align")
    config.box.detections_per_image, config.box.score_threshold = limit, 0.0
    model = build_model(config, pretrained=False).eval()
    with torch.no_grad():
        results = model(toy_images())
    assert [len(result["boxes"]) for result in results] == [limit, limit]
    assert all(math.isfinite(score) for score in results[0]["scores"].tolist())
