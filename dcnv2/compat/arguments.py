# SPDX-License-Identifier: BSD-3-Clause
"""Shared by the modules of this package: aliases, overrides, and checks of group counts."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from dcnv2.ops import checks
from dcnv2.ops.arguments import is_scripting

GROUP_NAMES = ("deform_groups", "deformable_groups", "offset_groups", "offset_group")

F = TypeVar("F", bound=Callable[..., Any])


def takes_aliases(function: F) -> F:
    """Accept every project's name for the number of deform groups.

    Raises:
        TypeError: a call passes the number twice.
    """
    parameters = inspect.signature(function).parameters
    (own,) = (name for name in GROUP_NAMES if name in parameters)
    others = [name for name in GROUP_NAMES if name != own]

    def call(*arguments: Any, **options: Any) -> Any:
        for name in others:
            if name in options:
                if own in options:
                    raise TypeError(f"{own} was given twice: also as {name}")
                options[own] = options.pop(name)
        return function(*arguments, **options)

    return _wrapper(function, call)


def overridable(function: F) -> F:
    """Hand a call to operands that override it, as the functions of `dcnv2.ops` do.

    A function that reads shapes needs it, because the proxies of torch.fx have none.
    """
    has, handle = has_torch_function, handle_torch_function

    def call(*arguments: Any, **options: Any) -> Any:
        given = (*arguments, *options.values())
        if has(given):
            return handle(wrapper, given, *arguments, **options)
        return function(*arguments, **options)

    wrapper = _wrapper(function, call)
    return wrapper


def _wrapper(function: F, call: Callable[..., Any]) -> F:
    """Return `call` under the name and with the globals of the function that it wraps.

    TorchScript compiles the source of the function, but looks its names up in the wrapper.
    """
    assert isinstance(call, FunctionType)
    found = FunctionType(call.__code__, function.__globals__, closure=call.__closure__)
    return functools.wraps(function)(found)  # type: ignore[return-value]


@overridable
def check_groups(
    input: Tensor, offset: Tensor, weight: Tensor, groups: int, deform_groups: int
) -> None:
    """Check that the given group counts match the shapes.

    Raises:
        ValueError: they do not.
    """
    if not is_scripting():
        checks.check_rank("input", input, 4, "[N, C, H, W]")
        checks.check_rank("offset", offset, 4, "[N, 2*G*kh*kw, Ho, Wo]")
        checks.check_rank("weight", weight, 4, "[O, C/groups, kh, kw]")
    if input.shape[1] != groups * weight.shape[1]:
        raise ValueError(
            f"groups = {groups} and weight with C/groups = {weight.shape[1]} need an input of "
            f"{groups * weight.shape[1]} channels, got {input.shape[1]}"
        )
    taps = weight.shape[2] * weight.shape[3]
    if offset.shape[1] != 2 * deform_groups * taps:
        raise ValueError(
            f"offset must have 2*G*kh*kw = {2 * deform_groups * taps} channels for G = "
            f"{deform_groups} deform groups, got {offset.shape[1]}"
        )
