# SPDX-License-Identifier: BSD-3-Clause
"""Recorded training steps: the same numbers as eager ones, in every order of sizes."""

import pytest
import torch
from rerun import Rerun

from dcnv2.engine.config import parse_values
from dcnv2.engine.config.loading import merge
from dcnv2.engine.runtime.distributed import Communicator
from dcnv2.engine.training.gradients import GradientBuffer
from dcnv2.engine.training.step_graphs import reason_against
from dcnv2.engine.training.train_step import TrainStep
from dcnv2.models import build_model
from dcnv2.models.graphs import EAGER_RUNS
from dcnv2.structures import RunLengthMasks

LAST = torch.channels_last
MODEL = {
    "num_classes": 3,
    "min_size": [64],
    "max_size": 96,
    "backbone": {"arch": "small", "channels": 16, "convs": ["plain", "plain", "plain", "dcnv2"]},
    "rpn": {"anchor_sizes": [[16, 32]], "post_nms_train": 20, "batch_per_image": 32},
    "box": {"hidden_channels": 16, "batch_per_image": 16},
    "mask": {"convs": [16], "deconv_channels": 16},
}
VARIANTS = {
    "masks": {},
    "boxes": {"model": {"mask": {"enabled": False}}},
    "hard examples": {"model": {"box": {"ohem": {"kind": "batch", "keep": 8}}}},
    "mimicking": {"model": {"mimic": {"enabled": True, "crop_size": 32}}},
    "accumulation": {"train": {"accumulate": 2}},
    "statistics": {"train": {"ema_decay": 0.9}, "optim": {"name": "adamw", "lr": 1e-3}},
}


def _config(changes, **values):
    options = {"model": MODEL, "optim": {"lr": 0.01, "warmup_steps": 0, "clip_norm": 5.0}}
    train = {"train": {"steps": 20, "batch_size": 4, "seed": 3}}
    return parse_values(merge(merge(merge(options, train), changes), values))


def _batch(step, sides=(64, 64), most=3):
    """Four pictures, a number of objects that changes with the step, and a crowd in one."""
    random = torch.Generator().manual_seed(step)
    images, targets = [], []
    for index in range(4):
        count = 2 + int(torch.randint(most, (), generator=random))
        corner = torch.randint(30, (count, 2), generator=random).float()
        boxes = torch.cat([corner, corner + 12 + torch.rand(count, 2, generator=random) * 16], 1)
        masks = torch.zeros(count, *sides, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
        target = {"boxes": boxes, "labels": torch.randint(1, 4, (count,), generator=random)}
        target |= {"masks": RunLengthMasks.from_dense(masks), "seed": 10 * step + index}
        if index == step % 3:
            target["iscrowd"] = torch.arange(count) == 0
        images.append(torch.randint(256, (3, *sides), generator=random, dtype=torch.uint8))
        targets.append(target)
    return images, targets


def _train(config, batches, graphs, device="cpu"):
    """Trains on batches; returns the losses, the weights, and how many recordings there are."""
    with pytest.MonkeyPatch.context() as patch:
        if not graphs:
            patch.setattr(TrainStep, "_recorder", lambda _: None)
        elif device == "cpu":
            patch.setattr(TrainStep, "_recorder", lambda _: Rerun)
        step = TrainStep(config, Communicator(torch.device(device)), pretrained=False)
    step.ddp_model.train()
    values = [step.update(*batch) for batch in batches]
    step.settle()
    kept = 0 if step.graphs is None else len(step.graphs._cache._kept)
    return [v["loss"] for v in values], {**step.model.state_dict()}, kept


def _assert_same(config, batches, device="cpu", recordings=1):
    losses, weights, _ = _train(config, batches, graphs=False, device=device)
    again, others, kept = _train(config, batches, graphs=True, device=device)
    assert kept >= recordings
    assert again == losses
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.slow
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_a_recorded_training_equals_an_eager_one(changes):
    _assert_same(_config(changes), [_batch(step) for step in range(EAGER_RUNS + 4)])


def test_sizes_take_turns():
    sides = [(64, 64), (64, 96), (64, 64)] * (EAGER_RUNS + 1)
    batches = [_batch(step, side) for step, side in enumerate(sides)]
    _assert_same(_config({"model": {"mask": {"enabled": False}}}), batches, recordings=2)


def test_objects_are_padded_to_few_sizes():
    model = build_model(_config({}).model)

    def slots(step, most):
        images, targets = _batch(step, most=most)
        for target in targets:
            target.pop("iscrowd", None)
        return model.prepare(images, targets, rounded=True)[1].boxes.shape[1]

    assert {slots(step, 6) for step in range(6)} == {8}
    assert {slots(step, 30) for step in range(6)} <= {8, 16, 32}


def test_gradients_have_places_of_their_own_that_begin_at_whole_vectors():
    parameters = [torch.nn.Parameter(torch.rand(count)) for count in (3, 64, 65)]
    parameters.append(torch.nn.Parameter(torch.rand(2, 3, 4, 5).to(memory_format=LAST)))
    parameters.append(torch.nn.Parameter(torch.rand(7), requires_grad=False))
    buffer = GradientBuffer(parameters)
    assert [*buffer.of] == parameters[:-1]
    for number, (parameter, place) in enumerate(buffer.of.items()):
        place.fill_(number + 1)
        assert place.stride() == parameter.stride()
        assert place.storage_offset() % 16 == 0
    assert [place.unique().item() for place in buffer.of.values()] == [1, 2, 3, 4]


def test_what_cannot_be_recorded_says_why():
    detector = build_model(_config({}).model)
    assert reason_against(detector, 1, None) is None
    assert "train.compile" in reason_against(detector, 1, "inductor")
    assert reason_against(detector, 2, None) is None
    detector.backbone.body.append_norm = torch.nn.BatchNorm2d(2)
    assert "BatchNorm" in reason_against(detector, 2, None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_a_recorded_training_equals_an_eager_one_on_a_gpu(changes, precision):
    config = _config(changes)
    config.train.precision, config.train.deterministic = precision, True
    _assert_same(config, [_batch(step) for step in range(EAGER_RUNS + 4)], "cuda")
