# SPDX-License-Identifier: BSD-3-Clause
"""Non-maximum suppression of a whole batch: the public function and the checks of its operands."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from . import checks
from .arguments import is_scripting

DTYPES = (torch.float32, torch.float64)


def batched_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, max_out: int
) -> tuple[Tensor, Tensor]:
    """Greedy non-maximum suppression of all images, levels and classes in one call.

    The boxes of an image are visited by descending score, equal scores by ascending index. A box is
    kept unless its intersection over union with a kept box of its group exceeds the threshold. The
    result has a fixed size and the host does not wait for the device, so the call can be compiled
    and captured in a CUDA graph.

    The kept boxes are those of `torchvision.ops.nms` on the same device, called for every image
    and group: the intersection over union has the same rounding, which decides if it is within a
    rounding of the threshold. The portable path rounds as on a CPU. (torchvision's `batched_nms`
    moves the groups apart, which rounds the coordinates.) An intersection over union that is NaN,
    as any box with a NaN coordinate has, suppresses nothing.

    Args:
        boxes: [N, K, 4] of (x1, y1, x2, y2), float32 or float64.
        scores: [N, K] in boxes' dtype. A score of -inf means that there is no box: padding. NaN
            counts as the highest score, as in `torch.sort`.
        groups: [N, K], int64: class, level, or any number of both. Boxes of different groups do not
            suppress each other.
        iou_threshold: between 0 and 1; boxes that overlap more are suppressed.
        max_out: D, the most boxes that are kept of an image.

    Returns:
        indices: [N, D] int64, the kept boxes by descending score, then -1.
        counts: [N] int64, how many there are.

    Raises:
        TypeError: an operand is not a tensor, or has a dtype that does not fit.
        ValueError: a shape, device or number does not fit; the message names it.
    """
    if is_scripting():
        return torch.ops.dcnv2.batched_nms(boxes, scores, groups, iou_threshold, max_out)
    given = (boxes, scores, groups)
    if has_torch_function(given):
        return handle_torch_function(batched_nms, given, *given, iou_threshold, max_out)
    iou_threshold = checks.real("iou_threshold", iou_threshold)
    max_out = checks.whole("max_out", max_out)
    check_batched_nms(boxes, scores, groups, iou_threshold, max_out)
    return torch.ops.dcnv2.batched_nms(boxes, scores, groups, iou_threshold, max_out)


def check_batched_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float, max_out: int
) -> None:
    """Raise if the operands of batched_nms do not fit together.

    Raises:
        TypeError: an operand is not a tensor, or its dtype does not fit.
        ValueError: a shape, device or number does not fit.
    """
    checks.check_rank("boxes", boxes, 3, "[N, K, 4]")
    if boxes.dtype not in DTYPES:
        raise TypeError(f"boxes must be float32 or float64, got {boxes.dtype}")
    if boxes.shape[2] != 4:
        raise ValueError(f"boxes must be [N, K, 4] of (x1, y1, x2, y2), got {checks.shape(boxes)}")
    for name, tensor, dtype in (("scores", scores, boxes.dtype), ("groups", groups, torch.int64)):
        checks.check_rank(name, tensor, 2, "[N, K]")
        if tensor.dtype != dtype:
            raise TypeError(f"{name} must be {dtype}, got {tensor.dtype}")
        if tensor.shape != boxes.shape[:2]:
            raise ValueError(
                f"{name} must be [N, K] = {checks.shape(boxes[..., 0])}, got {checks.shape(tensor)}"
            )
        if tensor.device != boxes.device:
            raise ValueError(
                f"{name} must be on the device of boxes, {boxes.device}, got {tensor.device}"
            )
    checks.limited("iou_threshold", iou_threshold)
    checks.limited("max_out", max_out)
