# SPDX-License-Identifier: BSD-3-Clause
"""Parameter groups and schedules."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from dcnv2.engine.config import OptimConfig
from dcnv2.engine.training.optim import (
    build_optimizer,
    lr_factor,
    parameter_groups,
    restore_optimizer,
    set_lr,
)
from dcnv2.nn import ModulatedDeformConv2dPack, ModulatedDeformRoIPoolPack


@pytest.fixture
def net():
    conv = nn.Conv2d(3, 8, 1)
    conv.requires_grad_(False)
    return nn.ModuleDict(
        {
            "frozen": conv,
            "deform": ModulatedDeformConv2dPack(8, 8, 3, bias=False),
            "norm": nn.GroupNorm(2, 8),
            "pool": ModulatedDeformRoIPoolPack(2, 8, hidden_channels=4),
        }
    )


def test_every_trainable_parameter_is_in_one_group(net):
    groups = parameter_groups(net, OptimConfig(lr=1.0, weight_decay=0.5, decay_norms=False))
    by_name = {group["name"]: group for group in groups}
    members = [id(p) for group in groups for p in group["params"]]
    assert sorted(members) == sorted(id(p) for p in net.parameters() if p.requires_grad)
    offsets = by_name["offset"]
    assert {id(p) for p in offsets["params"]} == {
        id(p) for p in net["deform"].conv_offset.parameters()
    }
    assert (offsets["lr"], offsets["weight_decay"]) == (0.1, 0.5)
    assert (by_name["norm"]["lr"], by_name["norm"]["weight_decay"]) == (1.0, 0.0)
    pooling = {id(p) for p in net["pool"].parameters()}
    assert pooling < {id(p) for p in by_name["main"]["params"]}
    assert by_name["main"]["lr"] == 1.0


def test_norms_decay_by_default(net):
    groups = parameter_groups(net, OptimConfig(weight_decay=0.5))
    assert {group["weight_decay"] for group in groups} == {0.5}


def test_step_schedule_warms_up_and_drops_at_milestones():
    config = OptimConfig(warmup_steps=4, warmup_factor=0.2, milestones=[10, 20], gamma=0.1)
    factors = [lr_factor(step, 30, config) for step in (0, 2, 4, 9, 10, 19, 20, 29)]
    assert factors == pytest.approx([0.2, 0.6, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_cosine_schedule_falls_from_one_to_near_zero():
    config = OptimConfig(schedule="cosine", warmup_steps=10, warmup_factor=0.0)
    factors = [lr_factor(step, 110, config) for step in range(110)]
    assert factors[10] == 1
    assert factors[60] == pytest.approx(0.5)
    assert 0 < factors[109] < 0.001
    assert all(a > b for a, b in pairwise(factors[10:]))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_rates_keep_their_ratio_along_the_schedule(net, name):
    config = OptimConfig(name=name, lr=0.5, milestones=[2], warmup_steps=0)
    optimizer = build_optimizer(net, config)
    for step, rate in ((0, 0.5), (2, 0.05)):
        set_lr(optimizer, step, 4, config)
        rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
        assert rates["main"] == pytest.approx(rate)
        assert rates["offset"] == pytest.approx(0.1 * rate)


def test_sgd_step_moves_offsets_a_tenth(net):
    config = OptimConfig(lr=1.0, momentum=0.0, weight_decay=0.0)
    optimizer = build_optimizer(net, config)
    before = [p.clone() for p in net.parameters()]
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    moved = {
        name: (old - new).max().item()
        for (name, new), old in zip(net.named_parameters(), before, strict=True)
    }
    assert moved["deform.conv_offset.weight"] == pytest.approx(0.1)
    assert moved["deform.weight"] == pytest.approx(1.0)
    assert moved["pool.offset_fc.4.weight"] == pytest.approx(1.0)
    assert moved["frozen.weight"] == 0


def _after_a_step(net, config):
    optimizer = build_optimizer(net, config)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer.state_dict()


def test_a_restored_optimizer_has_the_options_of_its_configuration(net):
    """Otherwise `--resume --optim.weight_decay=0` would have no effect."""
    state = _after_a_step(net, OptimConfig(weight_decay=0.5, momentum=0.9))
    optimizer = build_optimizer(net, OptimConfig(weight_decay=0.25, momentum=0.8))
    restore_optimizer(optimizer, state)
    for group in optimizer.param_groups:
        assert (group["weight_decay"], group["momentum"]) == (0.25, 0.8)
        for parameter in group["params"]:
            assert torch.count_nonzero(optimizer.state[parameter]["momentum_buffer"])


@pytest.mark.parametrize(("before", "now"), [("sgd", "adamw"), ("adamw", "sgd")])
def test_the_state_of_another_optimizer_is_refused(net, before, now):
    """PyTorch loads it, and would even train on with it."""
    state = _after_a_step(net, OptimConfig(name=before))
    with pytest.raises(ValueError, match=r"optim\.name is that of another optimiser"):
        restore_optimizer(build_optimizer(net, OptimConfig(name=now)), state)


@pytest.mark.parametrize("part", ["group", "parameter"])
def test_the_state_of_other_parameters_is_refused(net, part):
    state = _after_a_step(net, OptimConfig())
    if part == "group":
        del state["param_groups"][0]
    else:
        state["param_groups"][0]["params"].pop()
    with pytest.raises(ValueError, match=r"groups of parameters are|other parameters in the group"):
        restore_optimizer(build_optimizer(net, OptimConfig()), state)
