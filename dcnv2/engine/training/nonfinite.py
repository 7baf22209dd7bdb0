# SPDX-License-Identifier: BSD-3-Clause
"""Finds where the first NaN or infinite value came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class NonFiniteLossError(FloatingPointError):
    """A term of the loss, or the gradient, is NaN or infinite."""


def first_nonfinite_module(model: nn.Module, forward: Callable[[], Any]) -> str | None:
    """Names the origin of a non-finite value.

    Args:
        model: whose parameters and modules are inspected.
        forward: runs the model again as it ran when the value was found.

    Returns:
        The first non-finite parameter; otherwise the first innermost module, in the order in which
        they finish, that returns a non-finite value for finite inputs; None if there is neither.
    """
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            return f"parameter {name}"
    found: list[str] = []
    handles = []

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def check(_module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and not _all_finite(output) and _all_finite(inputs):
                found.append(name)

        return check

    for name, module in model.named_modules():
        handles.append(module.register_forward_hook(watch(name or "the model")))
    try:
        with torch.no_grad():
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return f"module {found[0]}" if found else None


def _all_finite(value: Any) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in _tensors(value))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _tensors(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _tensors(entry)
    elif dataclasses.is_dataclass(value):
        yield from _tensors(vars(value))
    elif hasattr(value, "tensors"):  # torchvision's ImageList
        yield value.tensors
