# SPDX-License-Identifier: BSD-3-Clause
"""Shared by the modules of this package: aliases of arguments, and checks of group counts."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

GROUP_NAMES = ("deform_groups", "deformable_groups", "offset_groups", "offset_group")

F = TypeVar("F", bound=Callable[..., Any])


def takes_aliases(function: F) -> F:
    """Accept every project's name for the number of deform groups.

    Raises:
        TypeError: a call passes the number twice.
    """
    parameters = inspect.signature(function).parameters
    (own,) = (name for name in GROUP_NAMES if name in parameters)

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        for name in GROUP_NAMES:
            if name != own and name in options:
                if own in options:
                    raise TypeError(f"{own} was given twice: also as {name}")
                options[own] = options.pop(name)
        return function(*arguments, **options)

    return call  # type: ignore[return-value]


def check_groups(
    input: Tensor, offset: Tensor, weight: Tensor, groups: int, deform_groups: int
) -> None:
    """Check that the given group counts match the shapes.

    Raises:
        ValueError: they do not.
    """
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
