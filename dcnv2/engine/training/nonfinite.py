# SPDX-License-Identifier: BSD-3-Clause
"""Where the first value that is not finite came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class NonFiniteLossError(FloatingPointError):
    """A term of the loss, or the gradient, is NaN or infinite."""


def first_nonfinite_module(model: nn.Module, forward: Callable[[], Any]) -> str | None:
    """Names what first had a value that is not finite.

    Args:
        model: whose parameters and modules are looked at.
        forward: runs the model once more as it ran when the value was seen.

    Returns:
        A parameter, else the first innermost module, in the order in which they end, that gives
        such a value for inputs without one; None where all are sound.
    """
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            return f"parameter {name}"
    guilty: list[str] = []
    handles = []

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(_module: nn.Module, inputs: Any, output: Any) -> None:
            if not guilty and not _sound(output) and _sound(inputs):
                guilty.append(name)

        return look

    for name, module in model.named_modules():
        handles.append(module.register_forward_hook(watch(name or "the model")))
    try:
        with torch.no_grad():
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return f"module {guilty[0]}" if guilty else None


def nonfinite_gradients(model: nn.Module) -> list[str]:
    """Names of the parameters whose gradients are not finite."""
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and not parameter.grad.isfinite().all()
    ]


def _sound(value: Any) -> bool:
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
    elif hasattr(value, "tensors"):  # an ImageList
        yield value.tensors
