# SPDX-License-Identifier: BSD-3-Clause
"""The public functions: normalise options, apply autocast, check the operands, and dispatch.

Each first hands the call to operands that override it (`__torch_function__`): torch.fx, whose
proxies record it as one node, subclasses of tensors, and function modes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from . import autocast, autograd, checks, portable, precision, transforms
from .arguments import Boxes, Pair, is_scripting, number_boxes, script_pair


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Deformable convolution: v1 without a mask, v2 (modulated) with a mask.

    Equation 1 of arXiv 1811.11168: y(p) = sum_k w_k x(p + p_k + offset_k) mask_k. x is sampled
    bilinearly with zero padding: points with -1 < y < H and -1 < x < W contribute. The signature is
    torchvision's. The numbers of groups and of deform groups follow from the shapes.

    Args:
        input: [N, C, H, W], float32, float64, float16 or bfloat16.
        offset: [N, 2*G*kh*kw, Ho, Wo] for G deform groups, in pixels of the input, ordered
            [G, kh, kw, (y, x)]. In input's dtype; for a half input also float32.
        weight: [O, C/groups, kh, kw] in input's dtype.
        bias: [O] in input's dtype.
        stride: step between outputs: one number, or (y, x).
        padding: zeros around the input: one number, or (y, x).
        dilation: step between taps: one number, or (y, x).
        mask: [N, G*kh*kw, Ho, Wo], ordered [G, kh, kw], after the sigmoid. In input's dtype; for a
            half input also float32.

    Returns:
        [N, O, Ho, Wo] in input's dtype and memory format. Under autocast the result has autocast's
        dtype. The computation then uses that dtype, or the one of `set_autocast_compute_dtype`:
        input, weight and bias are cast to it; offset and mask keep their dtype or become float32.

    A NaN or infinite pixel reaches each sample that has it as a corner, also with weight zero.

    On CUDA, float32 has full accuracy unless PyTorch's setting for matrix products allows TF32
    (torch.set_float32_matmul_precision).

    Raises:
        TypeError: an argument has the wrong type, or an operand a dtype that does not fit.
        ValueError: a rank, shape, device or number does not fit; the message names it.
    """
    if is_scripting():
        return torch.ops.dcnv2.deform_conv2d(
            input,
            offset,
            weight,
            bias,
            mask,
            script_pair(stride),
            script_pair(padding),
            script_pair(dilation),
        )
    given = (input, offset, weight, bias, mask)
    if has_torch_function(given):
        call = (input, offset, weight, bias, stride, padding, dilation, mask)
        return handle_torch_function(deform_conv2d, given, *call)
    stride, padding = checks.pair("stride", stride), checks.pair("padding", padding)
    geometry = (stride, padding, checks.pair("dilation", dilation))
    if not autocast.is_enabled(input):
        return _deform_conv2d(input, offset, weight, bias, mask, *geometry)
    operands = autocast.cast_conv(input, offset, weight, bias, mask)
    out = _deform_conv2d(*operands, *geometry)
    return out.to(autocast.conv_dtype(input, weight, bias))


def _deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    *geometry: tuple[int, int],
) -> Tensor:
    """Check and dispatch; geometry is stride, padding, dilation."""
    checks.check_deform_conv2d(input, offset, weight, bias, mask, *geometry)
    if transforms.active_in_compilation():
        return portable.deform_conv2d(input, offset, weight, bias, mask, *geometry)
    allow_tf32 = input.is_cuda and input.dtype == torch.float32 and precision.allow_tf32()
    return autograd.operators().deform_conv2d(
        input, offset, weight, bias, mask, *geometry, allow_tf32
    )


def deform_roi_pool(
    input: Tensor,
    rois: Boxes,
    offset: Tensor | None = None,
    mask: Tensor | None = None,
    output_size: Pair = 7,
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    gamma: float = 0.1,
) -> Tensor:
    """Modulated deformable RoI pooling with the samples of RoIAlign.

    Section 3.2 of arXiv 1811.11168: each bin is the average of bilinear samples, shifted by its
    offset and multiplied by its mask. Boxes are not rounded. Samples are the cell centres of a
    regular grid in each bin; a sample outside [-1, H] x [-1, W] counts as zero. Results equal
    mmcv's. The gradient of the offset is the derivative of the result also where coordinates are
    clamped to the map; mmcv's is not.

    Args:
        input: [N, C, H, W], float32, float64, float16 or bfloat16.
        rois: [R, 5] of (batch index, x1, y1, x2, y2) in pixels of the image, or a list with boxes
            [R_i, 4] for each image. In input's dtype; for a half input also float32. No gradient.
        offset: [R, 2, ph, pw], channel 0 along x and 1 along y, in units of gamma times the box's
            width and height. Dtype as for rois.
        mask: [R, 1, ph, pw], multiplies the bins. Dtype as for rois.
        output_size: number of bins per axis: one number, or (ph, pw).
        spatial_scale: pixels of the input per pixel of the image.
        sampling_ratio: samples per bin and axis, at most 65536; 0 uses one per pixel of the bin,
            rounded up, separately for each box.
        gamma: scale of the offsets.

    Returns:
        [R, C, ph, pw] in input's dtype and memory format, also under autocast.

    Raises:
        TypeError: an argument has the wrong type, or an operand a dtype that does not fit.
        ValueError: a rank, shape, device, number or (on a CPU) batch index does not fit.
    """
    if is_scripting():
        return torch.ops.dcnv2.deform_roi_pool(
            input,
            join_boxes(rois),
            offset,
            mask,
            script_pair(output_size),
            spatial_scale,
            sampling_ratio,
            gamma,
        )
    given = _operands(input, rois, offset, mask)
    if has_torch_function(given):
        call = (input, rois, offset, mask, output_size, spatial_scale, sampling_ratio, gamma)
        return handle_torch_function(deform_roi_pool, given, *call)
    output_size = checks.pair("output_size", output_size)
    sampling_ratio = checks.whole("sampling_ratio", sampling_ratio)
    rois = join_boxes(rois)
    if autocast.is_enabled(input):
        rois, offset, mask = autocast.cast_coordinates(input, rois, offset, mask)
    options = (
        output_size,
        checks.real("spatial_scale", spatial_scale),
        sampling_ratio,
        checks.real("gamma", gamma),
    )
    checks.check_deform_roi_pool(input, rois, offset, mask, *options)
    checks.check_batch_index(input, rois)
    operators = portable if transforms.active_in_compilation() else autograd.operators()
    return operators.deform_roi_pool(input, rois, offset, mask, *options)


def deform_psroi_pool(
    input: Tensor,
    rois: Boxes,
    offset: Tensor | None = None,
    mask: Tensor | None = None,
    output_size: Pair = 7,
    spatial_scale: float = 1.0,
    group_size: int = 1,
    part_size: int | None = None,
    sample_per_part: int = 4,
    trans_std: float = 0.1,
) -> Tensor:
    """Deformable position-sensitive RoI pooling, as in the MXNet code of the papers' authors.

    Corners of boxes are rounded, then scaled. Samples are the upper left corners of a grid in each
    bin. Samples outside [-0.5, H - 0.5] x [-0.5, W - 0.5] are skipped, and the others averaged.
    `dcnv2.ops.portable` describes how the gradient differs from that of the authors' code.

    Args:
        input: [N, O*group_size^2, H, W], float32, float64, float16 or bfloat16. Channel
            (o*group_size + i)*group_size + j is read by the bins in cell (i, j) of the box.
        rois: as in `deform_roi_pool`; the end coordinates belong to the box.
        offset: [R, 2*classes, part, part], for each class first x, then y, in units of trans_std
            times the box's width and height; classes divides O. Dtype as for rois.
        mask: [R, 1, P, P], multiplies the bins. Dtype as for rois.
        output_size: P, number of bins per axis: one number, or the same number twice.
        spatial_scale: pixels of the input per pixel of the image.
        group_size: number of cells per axis with separate channels.
        part_size: number of cells per axis with separate offsets; None means P.
        sample_per_part: samples per bin and axis, at most 65536.
        trans_std: scale of the offsets.

    Returns:
        [R, O, P, P] in input's dtype and memory format, also under autocast.

    Raises:
        TypeError: an argument has the wrong type, or an operand a dtype that does not fit.
        ValueError: a rank, shape, device, number or (on a CPU) batch index does not fit.
    """
    if is_scripting():
        side, across = script_pair(output_size)
        if side != across:
            raise ValueError(f"output_size must be square, got {side} x {across}")
        return torch.ops.dcnv2.deform_psroi_pool(
            input,
            join_boxes(rois),
            offset,
            mask,
            side,
            spatial_scale,
            group_size,
            side if part_size is None else part_size,
            sample_per_part,
            trans_std,
        )
    given = _operands(input, rois, offset, mask)
    if has_torch_function(given):
        call = (input, rois, offset, mask, output_size, spatial_scale)
        more = (group_size, part_size, sample_per_part, trans_std)
        return handle_torch_function(deform_psroi_pool, given, *call, *more)
    size, width = checks.pair("output_size", output_size)
    if size != width:
        raise ValueError(f"output_size must be square, got {size} x {width}")
    rois = join_boxes(rois)
    if autocast.is_enabled(input):
        rois, offset, mask = autocast.cast_coordinates(input, rois, offset, mask)
    options = (
        size,
        checks.real("spatial_scale", spatial_scale),
        checks.whole("group_size", group_size),
        size if part_size is None else checks.whole("part_size", part_size),
        checks.whole("sample_per_part", sample_per_part),
        checks.real("trans_std", trans_std),
    )
    checks.check_deform_psroi_pool(input, rois, offset, mask, *options)
    checks.check_batch_index(input, rois)
    operators = portable if transforms.active_in_compilation() else autograd.operators()
    return operators.deform_psroi_pool(input, rois, offset, mask, *options)


def _operands(
    input: Tensor, rois: Boxes, offset: Tensor | None, mask: Tensor | None
) -> tuple[object, ...]:
    """Return everything that may override a pooling; `rois` may be of any type."""
    boxes = rois if isinstance(rois, (list, tuple)) else (rois,)
    return (input, *boxes, offset, mask)


def join_boxes(rois: Boxes) -> Tensor:
    """Return rois [R, 5]: joined from the boxes [R_i, 4] of each image, or the tensor as given.

    Raises:
        TypeError: `rois` is neither a tensor nor a list of tensors.
        ValueError: it is an empty list, or boxes are not [R_i, 4].
    """
    if isinstance(rois, Tensor):
        return rois
    if is_scripting():
        return number_boxes(rois)  # type: ignore[arg-type]
    wanted = "a tensor [R, 5] or a list with boxes [R_i, 4] for each image"
    if not isinstance(rois, (list, tuple)):
        raise TypeError(f"rois must be {wanted}, got {type(rois).__name__}")
    if not rois:
        raise ValueError(f"rois must be {wanted}, got an empty list")
    for number, boxes in enumerate(rois):
        if not isinstance(boxes, Tensor):
            raise TypeError(f"rois[{number}] must be a tensor, got {type(boxes).__name__}")
        if boxes.dim() != 2 or boxes.shape[1] != 4:
            raise ValueError(f"rois[{number}] must be boxes [R_i, 4], got {checks.shape(boxes)}")
    return number_boxes(list(rois))
