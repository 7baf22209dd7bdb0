# SPDX-License-Identifier: BSD-3-Clause
"""The types of options and boxes, and what TorchScript does with them.

TorchScript compiles a function from its source, and knows neither Sequence nor most of what
`dcnv2.ops.checks` is written in. A function that it compiles has a branch for it that only sorts
the arguments; the compiled library then checks them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    Pair = int | Sequence[int]
    Boxes = Tensor | Sequence[Tensor]
else:
    Pair = int | tuple[int, int] | list[int]
    Boxes = Tensor | list[Tensor]

# True in TorchScript, where it also keeps the other branch from being compiled.
is_scripting = torch.jit.is_scripting  # type: ignore[attr-defined]


def script_pair(value: Pair) -> list[int]:
    """Return (y, x) of an option, in TorchScript."""
    if isinstance(value, int):
        return [value, value]
    if isinstance(value, list):  # TorchScript indexes no union of both types
        return [value[0], value[1]]
    return [value[0], value[1]]


def number_boxes(boxes: list[Tensor]) -> Tensor:
    """Join the boxes [R_i, 4] of each image to rois [R, 5]; traced without their numbers."""
    numbered: list[Tensor] = []
    for number, of_image in enumerate(boxes):
        index = torch.full_like(of_image[:, :1], number)
        numbered.append(torch.cat([index, of_image], dim=1))
    return torch.cat(numbered)
