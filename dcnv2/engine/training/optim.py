# SPDX-License-Identifier: BSD-3-Clause
"""Optimiser, its parameter groups, and the learning-rate schedule."""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_right
from typing import Any

import torch
from torch import Tensor, nn

from dcnv2.engine.config import OptimConfig

# Where one launch updates all parameters; on a CPU it would change nothing but the rounding.
FUSED_DEVICES = ("cuda",)
NORM_TYPES = (nn.GroupNorm, nn.LayerNorm, nn.modules.batchnorm._BatchNorm)


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """Splits the trainable parameters by learning rate and weight decay.

    Convolutions that predict offsets (and modulation) get `offset_lr_factor` times the rate (DCNv2
    paper, section 3.2); the fc layers of deformable RoI pooling do not.

    Returns:
        Groups for a torch optimiser, each with a `name`; empty groups are left out.
    """
    offsets: set[int] = set()
    norms: set[int] = set()
    for module in model.modules():
        branch = getattr(module, "conv_offset", None)
        if isinstance(branch, nn.Module):
            offsets.update(id(p) for p in branch.parameters())
        if isinstance(module, NORM_TYPES):
            norms.update(id(p) for p in module.parameters(recurse=False))
    members: dict[str, list[nn.Parameter]] = {"main": [], "offset": [], "norm": []}
    for parameter in model.parameters():
        if parameter.requires_grad:
            name = "norm" if id(parameter) in norms else "main"
            members["offset" if id(parameter) in offsets else name].append(parameter)
    rates = {"main": 1.0, "offset": config.offset_lr_factor, "norm": 1.0}
    norm_decay = config.weight_decay if config.decay_norms else 0.0
    decays = {"main": config.weight_decay, "offset": config.weight_decay, "norm": norm_decay}
    return [
        {
            "name": name,
            "params": params,
            "lr": config.lr * rates[name],
            "weight_decay": decays[name],
        }
        for name, params in members.items()
        if params
    ]


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Returns SGD with momentum, or AdamW, over `parameter_groups`; on CUDA in one launch."""
    groups = parameter_groups(model, config)
    parameters = [parameter for group in groups for parameter in group["params"]]
    fused = all(parameter.device.type in FUSED_DEVICES for parameter in parameters)
    if config.name != "sgd":
        return torch.optim.AdamW(groups, lr=config.lr, fused=fused)
    optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=fused)
    if fused and config.momentum:
        # A first step that is skipped would leave them without a value.
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def skips_on_device(optimizer: torch.optim.Optimizer) -> bool:
    """Whether `step_unless` needs no answer from the device."""
    return all(group["fused"] for group in optimizer.param_groups)


def step_unless(optimizer: torch.optim.Optimizer, nonfinite: Tensor) -> None:
    """Does a step where bool [] `nonfinite` is not set, without asking the device.

    The optimiser has to be a fused one, which takes the flag as from `torch.GradScaler`.
    """
    flagged: Any = optimizer
    flagged.grad_scale, flagged.found_inf = None, nonfinite.float()
    optimizer.step()
    del flagged.grad_scale, flagged.found_inf


def lr_factor(step: int, total_steps: int, config: OptimConfig) -> float:
    """Returns the factor on the learning rate of the update with index `step` (from 0).

    Linear warm-up from `warmup_factor` to 1; then `gamma` per milestone passed, or a half cosine or
    a power law from 1 to 0 over the remaining steps.
    """
    warmup = config.warmup_steps
    if step < warmup:
        return config.warmup_factor + (1 - config.warmup_factor) * step / warmup
    if config.schedule == "step":
        return config.gamma ** bisect_right(config.milestones, step)
    progress = min((step - warmup) / max(total_steps - warmup, 1), 1.0)
    if config.schedule == "poly":
        return (1 - progress) ** config.poly_power
    return 0.5 * (1 + math.cos(math.pi * progress))


def scale_lr(config: OptimConfig, batch_size: int) -> tuple[OptimConfig, str]:
    """Returns the options with the learning rate for this batch size, and a text that explains it.

    If `lr_batch`, the batch size that `lr` is for, is set, the rate is scaled in proportion to the
    batch size (Goyal et al., arXiv 1706.02677).
    """
    if config.lr_batch is None:
        return config, f"learning rate {config.lr:g} as configured, for {batch_size} images a step"
    lr = config.lr * batch_size / config.lr_batch
    text = f"learning rate {lr:g} = {config.lr:g} x {batch_size} / {config.lr_batch} images a step"
    return dataclasses.replace(config, lr=lr), text


def set_lr(
    optimizer: torch.optim.Optimizer, step: int, total_steps: int, config: OptimConfig
) -> None:
    """Sets the learning rate of update `step` in all groups.

    It depends only on the step, so resuming needs no scheduler state.
    """
    factor = lr_factor(step, total_steps, config)
    for group in optimizer.param_groups:
        scale = config.offset_lr_factor if group["name"] == "offset" else 1.0
        group["lr"] = config.lr * scale * factor


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Loads what an optimiser has gathered; its options stay those of the configuration.

    Raises:
        ValueError: the state is that of another kind of optimiser, or of other parameters.
    """
    own = optimizer.state_dict()
    names = [[group["name"] for group in s["param_groups"]] for s in (state, own)]
    if names[0] != names[1]:
        raise ValueError(f"its groups of parameters are {names[0]}, here they are {names[1]}")
    for saved, group in zip(state["param_groups"], own["param_groups"], strict=True):
        if ("momentum" in saved) != ("momentum" in group):  # SGD has it, AdamW has betas
            raise ValueError("optim.name is that of another optimiser")
        if len(saved["params"]) != len(group["params"]):
            raise ValueError(f"optimiser: other parameters in the group {group['name']}")
    optimizer.load_state_dict({**state, "param_groups": own["param_groups"]})
