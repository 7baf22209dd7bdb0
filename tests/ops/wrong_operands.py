# SPDX-License-Identifier: BSD-3-Clause
"""Operands that the operators refuse, and calls with them through Python and past it."""

import torch

import dcnv2.ops
from dcnv2.ops.operand_limits import LIMITS

NAN, INF = float("nan"), float("inf")
CONV, ROI, PSROI = "deform_conv2d", "deform_roi_pool", "deform_psroi_pool"
NMS = "batched_nms"
PYRAMID = "multiscale_roi_align"
ROIS = torch.tensor([[0, 1, 1, 3, 3], [1, 0, 0, 2, 2.0]])

# Arguments that fit together, in the order of the operators' schemas.
OPERANDS = {
    CONV: {
        "input": torch.zeros(2, 6, 5, 7),
        "offset": torch.zeros(2, 24, 5, 6),
        "weight": torch.zeros(4, 3, 3, 2),
        "bias": torch.zeros(4),
        "mask": torch.zeros(2, 12, 5, 6),
        "stride": (1, 1),
        "padding": (1, 0),
        "dilation": (1, 1),
    },
    ROI: {
        "input": torch.zeros(2, 6, 5, 7),
        "rois": ROIS,
        "offset": torch.zeros(2, 2, 3, 4),
        "mask": torch.zeros(2, 1, 3, 4),
        "output_size": (3, 4),
        "spatial_scale": 1.0,
        "sampling_ratio": 0,
        "gamma": 0.1,
    },
    PSROI: {
        "input": torch.zeros(2, 8, 5, 7),
        "rois": ROIS,
        "offset": torch.zeros(2, 4, 2, 2),
        "mask": torch.zeros(2, 1, 3, 3),
        "output_size": 3,
        "spatial_scale": 1.0,
        "group_size": 2,
        "part_size": 2,
        "sample_per_part": 4,
        "trans_std": 0.1,
    },
    NMS: {
        "boxes": torch.zeros(2, 5, 4),
        "scores": torch.zeros(2, 5),
        "groups": torch.zeros(2, 5, dtype=torch.int64),
        "iou_threshold": 0.5,
        "max_out": 3,
    },
    PYRAMID: {
        "inputs": [torch.zeros(2, 6, *size) for size in ((5, 7), (3, 4), (2, 2))],
        "rois": ROIS,
        "levels": torch.tensor([1, -1]),
        "output_size": (3, 4),
        "spatial_scales": [0.5, 0.25, 0.125],
        "sampling_ratio": 0,
        "aligned": True,
    },
}
OUTPUT_SIZES = {
    CONV: (2, 4, 5, 6),
    ROI: (2, 6, 3, 4),
    PSROI: (2, 2, 3, 3),
    PYRAMID: (2, 6, 3, 4),
}


def call(op, **changes):
    """Call a function of dcnv2.ops."""
    return getattr(dcnv2.ops, op)(**(OPERANDS[op] | changes))


def call_directly(op, backward=False, **changes):
    """Call torch.ops.dcnv2 past the checks of Python."""
    arguments = OPERANDS[op] | changes
    tf32 = [False] if op == CONV else []
    if not backward:
        return getattr(torch.ops.dcnv2, op)(*arguments.values(), *tf32)
    needs = [True] * (5 if tf32 else 3)
    arguments.pop("bias", None)
    grad_output = torch.zeros(OUTPUT_SIZES[op])
    operator = getattr(torch.ops.dcnv2, op + "_backward")
    return operator(grad_output, *arguments.values(), *tf32, needs)


def _beyond_limits():
    """Every option below and above its limit, alone or as either half of a pair."""
    for op, arguments in OPERANDS.items():
        for name, value in arguments.items():
            if isinstance(value, (torch.Tensor, list, bool)):
                continue
            least, most = LIMITS[name]
            whole = isinstance(least, int)
            beyond = (
                [least - 1, most + 1, 2**62] if whole else [-INF, INF, NAN, -2 * most, 2 * most]
            )
            beyond += [0.0, -1.0, least / 2] if not whole and least > 0 else []
            for wrong in beyond:
                pair = isinstance(value, tuple)
                for change in [(wrong, value[1]), (value[0], wrong)] if pair else [wrong]:
                    yield op, {name: change}, ValueError, f"{name} must be between "


meta = {"device": "meta"}


def _maps(second):
    """Maps of multiscale_roi_align with another second one."""
    first, _, third = OPERANDS[PYRAMID]["inputs"]
    return [first, second, third]


CASES = [
    # deform_conv2d
    (CONV, {"input": [1]}, TypeError, "input must be a tensor [N, C, H, W], got list"),
    (CONV, {"input": torch.zeros(6, 5, 7)}, ValueError,
     "input must have 4 dimensions [N, C, H, W], got [6, 5, 7]"),
    (CONV, {"input": torch.zeros(2, 6, 5, 7).long()}, TypeError,
     "input must be float32, float64, float16 or bfloat16, got torch.int64"),
    (CONV, {"input": torch.zeros(2, 0, 5, 7)}, ValueError,
     "input must have at least one channel, got [2, 0, 5, 7]"),
    (CONV, {"input": torch.zeros(2, 6, 0, 7)}, ValueError,
     "input of 0 x 7 is too small for kernel 3 x 2, stride 1 x 1, padding 1 x 0, dilation 1 x 1: "
     "the output would be 0 x 6"),
    (CONV, {"dilation": (3, 1)}, ValueError, "= [2, 24, 1, 6], got [2, 24, 5, 6]"),
    (CONV, {"dilation": (4, 1)}, ValueError, "the output would be -1 x 6"),
    (CONV, {"offset": None}, TypeError,
     "offset must be a tensor [N, 2*G*kh*kw, Ho, Wo], got NoneType"),
    (CONV, {"offset": torch.zeros(2, 24, 5)}, ValueError, "offset must have 4 dimensions"),
    (CONV, {"offset": torch.zeros(2, 23, 5, 6)}, ValueError,
     "offset must have 2*G*kh*kw = G*12 channels (dim 1) for a whole number G of deform groups, "
     "got 23"),
    (CONV, {"offset": torch.zeros(2, 0, 5, 6)}, ValueError, "got 0"),
    (CONV, {"offset": torch.zeros(2, 48, 5, 6)}, ValueError,
     "offset has 48 channels, so G = 4 deform groups, which must divide input's C = 6"),
    (CONV, {"offset": torch.zeros(3, 24, 5, 6)}, ValueError,
     "offset must be [N, 2*G*kh*kw, Ho, Wo] = [2, 24, 5, 6], got [3, 24, 5, 6]"),
    (CONV, {"offset": torch.zeros(2, 24, 6, 5)}, ValueError, "got [2, 24, 6, 5]"),
    (CONV, {"offset": torch.zeros(2, 24, 5, 6).half()}, TypeError,
     "offset must have input's dtype torch.float32, got torch.float16"),
    (CONV, {"offset": torch.zeros(2, 24, 5, 6, **meta)}, ValueError,
     "offset must be on input's device cpu, got meta"),
    (CONV, {"weight": torch.zeros(4, 3, 3)}, ValueError,
     "weight must have 4 dimensions [O, C/groups, kh, kw], got [4, 3, 3]"),
    (CONV, {"weight": torch.zeros(4, 3, 0, 2)}, ValueError,
     "weight must have a kernel of at least 1 x 1, got [4, 3, 0, 2]"),
    (CONV, {"weight": torch.zeros(4, 4, 3, 2)}, ValueError,
     "weight must have C/groups channels (dim 1) that divide input's C = 6, got 4 in "
     "[4, 4, 3, 2]"),
    (CONV, {"weight": torch.zeros(4, 0, 3, 2)}, ValueError, "got 0 in [4, 0, 3, 2]"),
    (CONV, {"weight": torch.zeros(5, 3, 3, 2)}, ValueError,
     "weight must have output channels (dim 0) divisible by groups = C / weight.shape[1] "
     "= 6 / 3 = 2, got 5"),
    (CONV, {"weight": torch.zeros(0, 3, 3, 2)}, ValueError, "= 6 / 3 = 2, got 0"),
    (CONV, {"weight": torch.zeros(4, 3, 3, 2).double()}, TypeError,
     "weight must have input's dtype torch.float32, got torch.float64"),
    (CONV, {"weight": torch.zeros(4, 3, 3, 2, **meta)}, ValueError,
     "weight must be on input's device cpu, got meta"),
    (CONV, {"bias": torch.zeros(4, 1)}, ValueError,
     "bias must have 1 dimension [O], got [4, 1]"),
    (CONV, {"bias": torch.zeros(3)}, ValueError, "bias must be [O] = [4], got [3]"),
    (CONV, {"bias": torch.zeros(4).half()}, TypeError, "bias must have input's dtype"),
    (CONV, {"bias": torch.zeros(4, **meta)}, ValueError, "bias must be on input's device"),
    (CONV, {"mask": torch.zeros(2, 12, 5)}, ValueError,
     "mask must have 4 dimensions [N, G*kh*kw, Ho, Wo], got [2, 12, 5]"),
    (CONV, {"mask": torch.zeros(2, 6, 5, 6)}, ValueError,
     "mask must be [N, G*kh*kw, Ho, Wo] = [2, 12, 5, 6], got [2, 6, 5, 6]"),
    (CONV, {"mask": torch.zeros(1, 12, 5, 6)}, ValueError,
     "mask must be [N, G*kh*kw, Ho, Wo] = [2, 12, 5, 6], got [1, 12, 5, 6]"),
    (CONV, {"mask": torch.zeros(2, 12, 6, 5)}, ValueError,
     "mask must be [N, G*kh*kw, Ho, Wo] = [2, 12, 5, 6], got [2, 12, 6, 5]"),
    (CONV, {"mask": torch.zeros(2, 12, 5, 6).double()}, TypeError,
     "mask must have input's dtype torch.float32, got torch.float64"),
    (CONV, {"mask": torch.zeros(2, 12, 5, 6, **meta)}, ValueError, "mask must be on input's"),
    (CONV, {"stride": (1, 0)}, ValueError,
     "stride must be between 1 and 2147483647, got 1 x 0"),
    (CONV, {"padding": (0, -1)}, ValueError,
     "padding must be between 0 and 2147483647, got 0 x -1"),
    (CONV, {"stride": 1.0}, TypeError, "stride must be one whole number or two (y, x), got 1.0"),
    (CONV, {"padding": (1, 2, 3)}, TypeError, "padding must be one whole number or two"),
    (CONV, {"padding": (1, 0.5)}, TypeError, "padding must be a whole number, got 0.5"),
    # deform_roi_pool
    (ROI, {"input": torch.zeros(6, 5, 7)}, ValueError, "input must have 4 dimensions"),
    (ROI, {"input": torch.zeros(2, 6, 0, 7)}, ValueError,
     "input must have at least one channel and pixel, got [2, 6, 0, 7]"),
    (ROI, {"input": torch.zeros(2, 6, 5, 7).int()}, TypeError, "input must be float32"),
    (ROI, {"rois": torch.zeros(2, 4)}, ValueError,
     "rois must have 5 columns (batch index, x1, y1, x2, y2), got [2, 4]"),
    (ROI, {"rois": torch.zeros(5)}, ValueError,
     "rois must have 2 dimensions [R, 5] of (batch index, x1, y1, x2, y2), got [5]"),
    (ROI, {"rois": torch.zeros(2, 5).double()}, TypeError,
     "rois must have input's dtype torch.float32, got torch.float64"),
    (ROI, {"rois": torch.zeros(2, 5, **meta)}, ValueError, "rois must be on input's device"),
    (ROI, {"rois": torch.tensor([[1, 0, 0, 2, 2.0], [2, 0, 0, 2, 2]])}, ValueError,
     "rois must have batch indices (column 0) in [0, 2), got 2.0 in row 1"),
    (ROI, {"rois": torch.tensor([[-1, 0, 0, 2, 2.0], [0, 0, 0, 2, 2]])}, ValueError,
     "got -1.0 in row 0"),
    (ROI, {"rois": torch.tensor([[0, 0, 0, 2, 2.0], [NAN, 0, 0, 2, 2]])}, ValueError,
     "got nan in row 1"),
    (ROI, {"input": torch.zeros(0, 6, 5, 7)}, ValueError,
     "rois must be empty where input has no image, got [2, 5]"),
    (ROI, {"rois": 3}, TypeError,
     "rois must be a tensor [R, 5] or a list with boxes [R_i, 4] for each image, got int"),
    (ROI, {"rois": []}, ValueError, "got an empty list"),
    (ROI, {"rois": [torch.zeros(1, 4), torch.zeros(1, 5)]}, ValueError,
     "rois[1] must be boxes [R_i, 4], got [1, 5]"),
    (ROI, {"rois": [torch.zeros(1, 4), None]}, TypeError,
     "rois[1] must be a tensor, got NoneType"),
    (ROI, {"offset": torch.zeros(2, 2, 4, 3)}, ValueError,
     "offset must be [R, 2, ph, pw] = [2, 2, 3, 4], got [2, 2, 4, 3]"),
    (ROI, {"offset": torch.zeros(2, 2, 3)}, ValueError, "offset must have 4 dimensions"),
    (ROI, {"offset": torch.zeros(2, 2, 3, 4).double()}, TypeError, "offset must have input's"),
    (ROI, {"offset": torch.zeros(2, 2, 3, 4, **meta)}, ValueError, "offset must be on input's"),
    (ROI, {"mask": torch.zeros(2, 2, 3, 4)}, ValueError,
     "mask must be [R, 1, ph, pw] = [2, 1, 3, 4], got [2, 2, 3, 4]"),
    (ROI, {"mask": torch.zeros(2, 1, 3, 4).double()}, TypeError, "mask must have input's dtype"),
    (ROI, {"mask": torch.zeros(2, 1, 3, 4, **meta)}, ValueError, "mask must be on input's"),
    (ROI, {"spatial_scale": 0}, ValueError,
     "spatial_scale must be between 1.17549e-38 and 3.40282e+38, got 0.0"),
    (ROI, {"sampling_ratio": 0.5}, TypeError, "sampling_ratio must be a whole number, got 0.5"),
    # deform_psroi_pool
    (PSROI, {"input": torch.zeros(2, 6, 5, 7)}, ValueError,
     "input must have channels (dim 1) divisible by group_size^2 = 4, got 6"),
    (PSROI, {"offset": torch.zeros(2, 3, 2, 2)}, ValueError,
     "offset must have 2*classes channels (dim 1), where classes divides the "
     "C / group_size^2 = 2 output channels, got 3"),
    (PSROI, {"offset": torch.zeros(2, 6, 2, 2)}, ValueError, "2 output channels, got 6"),
    (PSROI, {"offset": torch.zeros(2, 4, 3, 3)}, ValueError,
     "offset must be [R, 2*classes, part, part] = [2, 4, 2, 2], got [2, 4, 3, 3]"),
    (PSROI, {"mask": torch.zeros(2, 1, 2, 2)}, ValueError,
     "mask must be [R, 1, P, P] = [2, 1, 3, 3], got [2, 1, 2, 2]"),
    (PSROI, {"rois": torch.tensor([[0, 1, 1, 3, 3], [7, 0, 0, 2, 2.0]])}, ValueError,
     "rois must have batch indices (column 0) in [0, 2), got 7.0 in row 1"),
    # multiscale_roi_align
    (PYRAMID, {"inputs": torch.zeros(2, 6, 5, 7)}, TypeError,
     "inputs must be a list of 1 to 8 maps [N, C, H, W], got Tensor"),
    (PYRAMID, {"inputs": []}, ValueError, "inputs must be a list of 1 to 8 maps"),
    (PYRAMID, {"inputs": 9 * [torch.zeros(2, 6, 5, 7)]}, ValueError, "[N, C, H, W], got 9"),
    (PYRAMID, {"inputs": _maps(None)}, TypeError,
     "inputs[1] must be a tensor [N, C, H, W], got NoneType"),
    (PYRAMID, {"inputs": _maps(torch.zeros(6, 3, 4))}, ValueError,
     "inputs[1] must have 4 dimensions [N, C, H, W], got [6, 3, 4]"),
    (PYRAMID, {"inputs": _maps(torch.zeros(2, 6, 3, 4).half())}, TypeError,
     "inputs[1] must have input's dtype torch.float32, got torch.float16"),
    (PYRAMID, {"inputs": _maps(torch.zeros(2, 6, 3, 4, **meta))}, ValueError,
     "inputs[1] must be on input's device cpu, got meta"),
    (PYRAMID, {"inputs": _maps(torch.zeros(2, 6, 0, 4))}, ValueError,
     "inputs[1] must have at least one channel and pixel, got [2, 6, 0, 4]"),
    (PYRAMID, {"inputs": _maps(torch.zeros(2, 5, 3, 4))}, ValueError,
     "inputs must have the same N and C, got [2, 6, 5, 7] and [2, 5, 3, 4]"),
    (PYRAMID, {"inputs": _maps(torch.zeros(3, 6, 3, 4))}, ValueError, "and [3, 6, 3, 4]"),
    (PYRAMID, {"rois": torch.zeros(2, 4)}, ValueError, "rois must have 5 columns"),
    (PYRAMID, {"rois": torch.zeros(2, 3, 5)}, ValueError,
     "rois must be [R, 5] or boxes [N, K, 4], got [2, 3, 5]"),
    (PYRAMID, {"rois": torch.tensor([[2, 0, 0, 2, 2.0], [9, 0, 0, 2, 2]])}, ValueError,
     "rois must have batch indices (column 0) in [0, 2), got 2.0 in row 0"),
    (PYRAMID, {"levels": [0, 1]}, TypeError,
     "levels must be a tensor of whole numbers, got list"),
    (PYRAMID, {"levels": torch.zeros(2)}, TypeError,
     "levels must hold whole numbers, got torch.float32"),
    (PYRAMID, {"levels": torch.zeros(3).long()}, ValueError, "levels must be [R] = [2], got [3]"),
    (PYRAMID, {"levels": torch.zeros(2, 1).long()}, ValueError, "levels must have 1 dimension"),
    (PYRAMID, {"levels": torch.zeros(2, **meta).long()}, ValueError,
     "levels must be on input's device cpu, got meta"),
    (PYRAMID, {"levels": torch.tensor([0, 3])}, ValueError,
     "levels must be less than the 3 maps, got 3 in row 1"),
    (PYRAMID, {"spatial_scales": [0.5, 0.25]}, ValueError,
     "spatial_scales must hold a number for each of 3 maps, got 2"),
    (PYRAMID, {"spatial_scales": [0.5, 0.25, 0.0]}, ValueError,
     "spatial_scales must be between 1.17549e-38 and 3.40282e+38, got 0.5 x 0.25 x 0.0"),
    (PYRAMID, {"spatial_scales": [0.5, 0.25, "x"]}, TypeError,
     "spatial_scales must be a number, got 'x'"),
    (PYRAMID, {"counts": torch.tensor([1, 1])}, ValueError,
     "counts must be None unless rois are boxes [N, K, 4]"),
    (PYRAMID, {"rois": torch.zeros(2, 1, 4), "counts": torch.ones(3).long()}, ValueError,
     "counts must be [N] = [2], got [3]"),
    (PSROI, {"output_size": (3, 4)}, ValueError, "output_size must be square, got 3 x 4"),
    (PSROI, {"group_size": 1.5}, TypeError, "group_size must be a whole number, got 1.5"),
    # batched_nms
    (NMS, {"boxes": None}, TypeError, "boxes must be a tensor [N, K, 4], got NoneType"),
    (NMS, {"boxes": torch.zeros(5, 4)}, ValueError,
     "boxes must have 3 dimensions [N, K, 4], got [5, 4]"),
    (NMS, {"boxes": torch.zeros(2, 5, 5)}, ValueError,
     "boxes must be [N, K, 4] of (x1, y1, x2, y2), got [2, 5, 5]"),
    (NMS, {"boxes": torch.zeros(2, 5, 4).half()}, TypeError,
     "boxes must be float32 or float64, got torch.float16"),
    (NMS, {"scores": torch.zeros(2, 5).double()}, TypeError,
     "scores must be torch.float32, got torch.float64"),
    (NMS, {"scores": torch.zeros(2, 5, 1)}, ValueError,
     "scores must have 2 dimensions [N, K], got [2, 5, 1]"),
    (NMS, {"scores": torch.zeros(2, 6)}, ValueError,
     "scores must be [N, K] = [2, 5], got [2, 6]"),
    (NMS, {"scores": torch.zeros(2, 5, **meta)}, ValueError,
     "scores must be on the device of boxes, cpu, got meta"),
    (NMS, {"groups": torch.zeros(2, 5)}, TypeError,
     "groups must be torch.int64, got torch.float32"),
    (NMS, {"groups": torch.zeros(1, 5).long()}, ValueError,
     "groups must be [N, K] = [2, 5], got [1, 5]"),
    (NMS, {"groups": torch.zeros(2, 5, **meta).long()}, ValueError, "groups must be on the device"),
    (NMS, {"iou_threshold": None}, TypeError, "iou_threshold must be a number, got None"),
    (NMS, {"max_out": 1.5}, TypeError, "max_out must be a whole number, got 1.5"),
]  # fmt: skip
CASES += [
    (CONV, {"input": torch.zeros(1).expand(1, 6, 2**31, 7)}, ValueError,
     "input must have sizes of at most 2147483646, got [2147483648, 7]"),
    (CONV, {"weight": torch.zeros(1).expand(4, 3, 2**31, 2)}, ValueError,
     "weight must have sizes of at most 2147483647, got [4, 3, 2147483648, 2]"),
    (ROI, {"input": torch.zeros(1).expand(2, 6, 5, 2**31)}, ValueError,
     "input must have sizes of at most 2147483646, got [5, 2147483648]"),
    (ROI, {"spatial_scale": None}, TypeError,
     "spatial_scale must be a number, got None"),
    (PSROI, {"trans_std": "wide"}, TypeError,
     "trans_std must be a number, got 'wide'"),
    *_beyond_limits(),
]  # fmt: skip


def ids(cases):
    """Name each case by its operator and what it changes."""
    return [f"{op}-{next(iter(changes))}" for op, changes, *_ in cases]
