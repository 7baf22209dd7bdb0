# SPDX-License-Identifier: BSD-3-Clause
"""Adapters from the argument orders of other implementations to our argument names.

All arguments are positional: many implementations are `Function.apply`, which takes no keywords.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass

from torch import Tensor

from suites.problems.problem import Problem

Operator = Callable[..., Tensor]


def _torchvision_call(function: Callable) -> Operator:
    def conv(input, offset, weight, bias, mask, stride, padding, dilation):
        return function(input, offset, weight, bias, stride, padding, dilation, mask)

    return conv


def _unit_mask(offset: Tensor) -> Tensor:
    return offset.new_ones(offset.shape[0], offset.shape[1] // 2, *offset.shape[2:])


def _deform_groups(offset: Tensor, weight: Tensor) -> int:
    return offset.shape[1] // (2 * weight.shape[2] * weight.shape[3])


def _mmcv_call(function: Callable) -> Operator:
    """mmcv and BasicSR. No mask means a unit mask."""

    def conv(input, offset, weight, bias, mask, stride, padding, dilation):
        mask = _unit_mask(offset) if mask is None else mask
        groups = input.shape[1] // weight.shape[1]
        shared = (stride, padding, dilation, groups, _deform_groups(offset, weight))
        return function(input, offset, mask, weight, bias, *shared)

    return conv


def _charlesshang_call(function: Callable) -> Operator:
    """CharlesShang's dcn_v2_conv and its forks: no groups, always a bias and a mask."""

    def conv(input, offset, weight, bias, mask, stride, padding, dilation):
        mask = _unit_mask(offset) if mask is None else mask
        bias = weight.new_zeros(weight.shape[0]) if bias is None else bias
        shared = (stride, padding, dilation, _deform_groups(offset, weight))
        return function(input, offset, mask, weight, bias, *shared)

    return conv


def _v1_call(function: Callable) -> Operator:
    """The first version's operator, as mmcv, BasicSR and detectron2 have it: no bias, no mask."""

    def conv(input, offset, weight, bias, mask, stride, padding, dilation):
        _refuse(mask=mask, bias=bias)
        groups = input.shape[1] // weight.shape[1]
        shared = (stride, padding, dilation, groups, _deform_groups(offset, weight))
        return function(input, offset, weight, *shared)

    return conv


def _tvdcn_call(function: Callable) -> Operator:
    """tvdcn: the weight comes second."""

    def conv(input, offset, weight, bias, mask, stride, padding, dilation):
        groups = input.shape[1] // weight.shape[1]
        return function(input, weight, offset, mask, bias, stride, padding, dilation, groups)

    return conv


def _refuse(**operands: Tensor | None) -> None:
    """Refuse to drop an operand: the result would be compared with one that has it."""
    for name, operand in operands.items():
        if operand is not None:
            raise ValueError(f"this calling convention has no {name}")


def _roi_pool_call(function: Callable) -> Operator:
    """mmcv's deform_roi_pool, which has no mask."""

    def pool(input, rois, offset, mask, output_size, spatial_scale, sampling_ratio, gamma):
        _refuse(mask=mask)
        shared = (output_size, spatial_scale, sampling_ratio, gamma)
        return function(input, rois, offset, *shared)

    return pool


def _psroi_pool_call(function: Callable) -> Operator:
    """The position-sensitive pooling of the paper's authors; it has no mask."""

    def pool(
        input, rois, offset, mask, output_size, spatial_scale, group_size, part_size,
        sample_per_part, trans_std,
    ):  # fmt: skip
        _refuse(mask=mask)
        shared = (group_size, part_size or output_size, sample_per_part, trans_std)
        return function(input, rois, offset, output_size, spatial_scale, *shared)

    return pool


@dataclass(frozen=True)
class Convention:
    """An order of arguments, and the operator that has it."""

    op: str
    adapt: Callable[[Callable], Operator]
    signature: str
    unsupported_args: tuple[str, ...] = ()  # what it has no argument for

    @property
    def arguments(self) -> list[str]:
        """The names of the arguments, in order."""
        return self.signature.split()


_WINDOW = "stride padding dilation"
_POOLED = "input rois offset output_size spatial_scale"
CONVENTIONS = {
    "torchvision": Convention(
        *("deform_conv2d", _torchvision_call, f"input offset weight bias {_WINDOW} mask")
    ),
    "mmcv": Convention(
        *("deform_conv2d", _mmcv_call),
        f"input offset mask weight bias {_WINDOW} groups deform_groups",
    ),
    "charlesshang": Convention(
        *("deform_conv2d", _charlesshang_call),
        f"input offset mask weight bias {_WINDOW} deformable_groups",
        ("groups",),
    ),
    "v1": Convention(
        *("deform_conv2d", _v1_call, f"input offset weight {_WINDOW} groups deform_groups"),
        ("mask", "bias"),
    ),
    "tvdcn": Convention(
        *("deform_conv2d", _tvdcn_call, f"input weight offset mask bias {_WINDOW} groups")
    ),
    "roi_pool": Convention(
        *("deform_roi_pool", _roi_pool_call, f"{_POOLED} sampling_ratio gamma"), ("mask",)
    ),
    "psroi_pool": Convention(
        *("deform_psroi_pool", _psroi_pool_call),
        f"{_POOLED} group_size part_size sample_per_part trans_std",
        ("mask",),
    ),
}


def convention_of(function: Callable) -> str:
    """The convention whose argument names a signature has; torchvision's if it is not known.

    Raises:
        ValueError: the third and fourth names belong to no convention.
    """
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return "torchvision"
    if "rois" in names:
        return "roi_pool" if "gamma" in names else "psroi_pool"
    if len(names) < 4:
        return "torchvision"
    if names[1] == "weight" and "groups" in names:
        return "tvdcn"
    if names[2] == "mask":
        return "mmcv" if "groups" in names else "charlesshang"
    if names[3] in ("bias", "stride"):
        return "torchvision" if names[3] == "bias" else "v1"
    raise ValueError(
        f"unknown calling convention of {', '.join(names)}: name it, as in "
        f"module:function@NAME with one of {', '.join(CONVENTIONS)}"
    )


def missing_argument(problem: Problem, unsupported: Collection[str]) -> str | None:
    """Why a problem is not supported by a function without these arguments, or None.

    Args:
        problem: a problem of the function's operator.
        unsupported: some of mask, bias and groups.
    """
    used = {
        "groups": getattr(problem, "groups", 1) > 1,
        "mask": problem.mask,
        "bias": getattr(problem, "bias", False),
    }
    return next((f"no {name}" for name in used if used[name] and name in unsupported), None)
