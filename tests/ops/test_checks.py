# SPDX-License-Identifier: BSD-3-Clause
"""Wrong operands are named, with what was wanted and what came, before any kernel runs."""

import re

import pytest
import torch

from dcnv2.ops import checks, deform_conv2d, deform_psroi_pool, deform_roi_pool

NAN, INF = float("nan"), float("inf")


def _conv(**changes):
    operands = {
        "input": torch.zeros(2, 6, 5, 7),
        "offset": torch.zeros(2, 24, 5, 6),
        "weight": torch.zeros(4, 3, 3, 2),
        "bias": torch.zeros(4),
        "mask": torch.zeros(2, 12, 5, 6),
        "padding": (1, 0),
    }
    return deform_conv2d(**(operands | changes))


def _roi(**changes):
    operands = {
        "input": torch.zeros(2, 6, 5, 7),
        "rois": torch.tensor([[0, 1, 1, 3, 3], [1, 0, 0, 2, 2.0]]),
        "offset": torch.zeros(2, 2, 3, 4),
        "mask": torch.zeros(2, 1, 3, 4),
        "output_size": (3, 4),
    }
    return deform_roi_pool(**(operands | changes))


def _psroi(**changes):
    operands = {
        "input": torch.zeros(2, 8, 5, 7),
        "rois": torch.tensor([[0, 1, 1, 3, 3], [1, 0, 0, 2, 2.0]]),
        "offset": torch.zeros(2, 4, 2, 2),
        "mask": torch.zeros(2, 1, 3, 3),
        "output_size": 3,
        "group_size": 2,
        "part_size": 2,
    }
    return deform_psroi_pool(**(operands | changes))


meta = {"device": "meta"}
CASES = [
    # deform_conv2d
    (_conv, {"input": [1]}, TypeError, "input must be a tensor [N, C, H, W], got list"),
    (_conv, {"input": torch.zeros(6, 5, 7)}, ValueError,
     "input must have 4 dimensions [N, C, H, W], got [6, 5, 7]"),
    (_conv, {"input": torch.zeros(2, 6, 5, 7).long()}, TypeError,
     "input must be float32, float64, float16 or bfloat16, got torch.int64"),
    (_conv, {"input": torch.zeros(2, 0, 5, 7)}, ValueError,
     "input must have at least one channel, got [2, 0, 5, 7]"),
    (_conv, {"input": torch.zeros(2, 6, 0, 7)}, ValueError,
     "input of 0 x 7 is too small for kernel 3 x 2, stride 1 x 1, padding 1 x 0, dilation 1 x 1: "
     "the output would be 0 x 6"),
    (_conv, {"dilation": (3, 1)}, ValueError, "= [2, 24, 1, 6], got [2, 24, 5, 6]"),
    (_conv, {"dilation": (4, 1)}, ValueError, "the output would be -1 x 6"),
    (_conv, {"offset": None}, TypeError,
     "offset must be a tensor [N, 2*G*kh*kw, Ho, Wo], got NoneType"),
    (_conv, {"offset": torch.zeros(2, 24, 5)}, ValueError, "offset must have 4 dimensions"),
    (_conv, {"offset": torch.zeros(2, 23, 5, 6)}, ValueError,
     "offset must have 2*G*kh*kw = G*12 channels (dim 1) for a whole number G of deform groups, "
     "got 23"),
    (_conv, {"offset": torch.zeros(2, 0, 5, 6)}, ValueError, "got 0"),
    (_conv, {"offset": torch.zeros(2, 48, 5, 6)}, ValueError,
     "offset has 48 channels, so G = 4 deform groups, which must divide input's C = 6"),
    (_conv, {"offset": torch.zeros(3, 24, 5, 6)}, ValueError,
     "offset must be [N, 2*G*kh*kw, Ho, Wo] = [2, 24, 5, 6], got [3, 24, 5, 6]"),
    (_conv, {"offset": torch.zeros(2, 24, 6, 5)}, ValueError, "got [2, 24, 6, 5]"),
    (_conv, {"offset": torch.zeros(2, 24, 5, 6).half()}, TypeError,
     "offset must have input's dtype torch.float32, got torch.float16"),
    (_conv, {"offset": torch.zeros(2, 24, 5, 6, **meta)}, ValueError,
     "offset must be on input's device cpu, got meta"),
    (_conv, {"weight": torch.zeros(4, 3, 3)}, ValueError,
     "weight must have 4 dimensions [O, C/groups, kh, kw], got [4, 3, 3]"),
    (_conv, {"weight": torch.zeros(4, 3, 0, 2)}, ValueError,
     "weight must have a kernel of at least 1 x 1, got [4, 3, 0, 2]"),
    (_conv, {"weight": torch.zeros(4, 4, 3, 2)}, ValueError,
     "weight must have C/groups channels (dim 1) that divide input's C = 6, got 4 in "
     "[4, 4, 3, 2]"),
    (_conv, {"weight": torch.zeros(4, 0, 3, 2)}, ValueError, "got 0 in [4, 0, 3, 2]"),
    (_conv, {"weight": torch.zeros(5, 3, 3, 2)}, ValueError,
     "weight must have output channels (dim 0) divisible by groups = C / weight.shape[1] "
     "= 6 / 3 = 2, got 5"),
    (_conv, {"weight": torch.zeros(0, 3, 3, 2)}, ValueError, "= 6 / 3 = 2, got 0"),
    (_conv, {"weight": torch.zeros(4, 3, 3, 2).double()}, TypeError,
     "weight must have input's dtype torch.float32, got torch.float64"),
    (_conv, {"weight": torch.zeros(4, 3, 3, 2, **meta)}, ValueError,
     "weight must be on input's device cpu, got meta"),
    (_conv, {"bias": torch.zeros(4, 1)}, ValueError,
     "bias must have 1 dimension [O], got [4, 1]"),
    (_conv, {"bias": torch.zeros(3)}, ValueError, "bias must be [O] = [4], got [3]"),
    (_conv, {"bias": torch.zeros(4).half()}, TypeError, "bias must have input's dtype"),
    (_conv, {"bias": torch.zeros(4, **meta)}, ValueError, "bias must be on input's device"),
    (_conv, {"mask": torch.zeros(2, 12, 5)}, ValueError,
     "mask must have 4 dimensions [N, G*kh*kw, Ho, Wo], got [2, 12, 5]"),
    (_conv, {"mask": torch.zeros(2, 6, 5, 6)}, ValueError,
     "mask must be [N, G*kh*kw, Ho, Wo] = [2, 12, 5, 6], got [2, 6, 5, 6]"),
    (_conv, {"mask": torch.zeros(1, 12, 5, 6)}, ValueError,
     "mask must be [N, G*kh*kw, Ho, Wo] = [2, 12, 5, 6], got [1, 12, 5, 6]"),
    (_conv, {"mask": torch.zeros(2, 12, 6, 5)}, ValueError,
     "mask must be [N, G*kh*kw, Ho, Wo] = [2, 12, 5, 6], got [2, 12, 6, 5]"),
    (_conv, {"mask": torch.zeros(2, 12, 5, 6).double()}, TypeError,
     "mask must have input's dtype torch.float32, got torch.float64"),
    (_conv, {"mask": torch.zeros(2, 12, 5, 6, **meta)}, ValueError, "mask must be on input's"),
    (_conv, {"stride": (1, 0)}, ValueError, "stride must be positive, got 1 x 0"),
    (_conv, {"dilation": -1}, ValueError, "dilation must be positive, got -1 x -1"),
    (_conv, {"padding": (0, -1)}, ValueError, "padding must not be negative, got 0 x -1"),
    (_conv, {"stride": 1.0}, TypeError, "stride must be one whole number or two (y, x), got 1.0"),
    (_conv, {"padding": (1, 2, 3)}, TypeError, "padding must be one whole number or two"),
    (_conv, {"padding": (1, 0.5)}, TypeError, "padding must be a whole number, got 0.5"),
    # deform_roi_pool
    (_roi, {"input": torch.zeros(6, 5, 7)}, ValueError, "input must have 4 dimensions"),
    (_roi, {"input": torch.zeros(2, 6, 0, 7)}, ValueError,
     "input must have at least one channel and pixel, got [2, 6, 0, 7]"),
    (_roi, {"input": torch.zeros(2, 6, 5, 7).int()}, TypeError, "input must be float32"),
    (_roi, {"rois": torch.zeros(2, 4)}, ValueError,
     "rois must have 5 columns (batch index, x1, y1, x2, y2), got [2, 4]"),
    (_roi, {"rois": torch.zeros(5)}, ValueError,
     "rois must have 2 dimensions [R, 5] of (batch index, x1, y1, x2, y2), got [5]"),
    (_roi, {"rois": torch.zeros(2, 5).double()}, TypeError,
     "rois must have input's dtype torch.float32, got torch.float64"),
    (_roi, {"rois": torch.zeros(2, 5, **meta)}, ValueError, "rois must be on input's device"),
    (_roi, {"rois": torch.tensor([[1, 0, 0, 2, 2.0], [2, 0, 0, 2, 2]])}, ValueError,
     "rois must have batch indices (column 0) in [0, 2), got 2.0 in row 1"),
    (_roi, {"rois": torch.tensor([[-1, 0, 0, 2, 2.0], [0, 0, 0, 2, 2]])}, ValueError,
     "got -1.0 in row 0"),
    (_roi, {"rois": torch.tensor([[0, 0, 0, 2, 2.0], [NAN, 0, 0, 2, 2]])}, ValueError,
     "got nan in row 1"),
    (_roi, {"input": torch.zeros(0, 6, 5, 7)}, ValueError,
     "rois must be empty where input has no image, got [2, 5]"),
    (_roi, {"rois": 3}, TypeError,
     "rois must be a tensor [R, 5] or a list with boxes [R_i, 4] for each image, got int"),
    (_roi, {"rois": []}, ValueError, "got an empty list"),
    (_roi, {"rois": [torch.zeros(1, 4), torch.zeros(1, 5)]}, ValueError,
     "rois[1] must be boxes [R_i, 4], got [1, 5]"),
    (_roi, {"rois": [torch.zeros(1, 4), None]}, TypeError,
     "rois[1] must be a tensor, got NoneType"),
    (_roi, {"offset": torch.zeros(2, 2, 4, 3)}, ValueError,
     "offset must be [R, 2, ph, pw] = [2, 2, 3, 4], got [2, 2, 4, 3]"),
    (_roi, {"offset": torch.zeros(2, 2, 3)}, ValueError, "offset must have 4 dimensions"),
    (_roi, {"offset": torch.zeros(2, 2, 3, 4).double()}, TypeError, "offset must have input's"),
    (_roi, {"offset": torch.zeros(2, 2, 3, 4, **meta)}, ValueError, "offset must be on input's"),
    (_roi, {"mask": torch.zeros(2, 2, 3, 4)}, ValueError,
     "mask must be [R, 1, ph, pw] = [2, 1, 3, 4], got [2, 2, 3, 4]"),
    (_roi, {"mask": torch.zeros(2, 1, 3, 4).double()}, TypeError, "mask must have input's dtype"),
    (_roi, {"mask": torch.zeros(2, 1, 3, 4, **meta)}, ValueError, "mask must be on input's"),
    (_roi, {"output_size": (3, 0)}, ValueError, "output_size must be positive, got 3 x 0"),
    (_roi, {"spatial_scale": INF}, ValueError,
     "spatial_scale must be finite and positive, got inf"),
    (_roi, {"spatial_scale": 0}, ValueError, "spatial_scale must be finite and positive, got 0.0"),
    (_roi, {"gamma": NAN}, ValueError, "gamma must be finite, got nan"),
    (_roi, {"sampling_ratio": -1}, ValueError,
     "sampling_ratio must be 0 (adaptive) or more, got -1"),
    (_roi, {"sampling_ratio": 0.5}, TypeError, "sampling_ratio must be a whole number, got 0.5"),
    # deform_psroi_pool
    (_psroi, {"input": torch.zeros(2, 6, 5, 7)}, ValueError,
     "input must have channels (dim 1) divisible by group_size^2 = 4, got 6"),
    (_psroi, {"offset": torch.zeros(2, 3, 2, 2)}, ValueError,
     "offset must have 2*classes channels (dim 1), where classes divides the "
     "C / group_size^2 = 2 output channels, got 3"),
    (_psroi, {"offset": torch.zeros(2, 6, 2, 2)}, ValueError, "2 output channels, got 6"),
    (_psroi, {"offset": torch.zeros(2, 4, 3, 3)}, ValueError,
     "offset must be [R, 2*classes, part, part] = [2, 4, 2, 2], got [2, 4, 3, 3]"),
    (_psroi, {"mask": torch.zeros(2, 1, 2, 2)}, ValueError,
     "mask must be [R, 1, P, P] = [2, 1, 3, 3], got [2, 1, 2, 2]"),
    (_psroi, {"rois": torch.tensor([[0, 1, 1, 3, 3], [7, 0, 0, 2, 2.0]])}, ValueError,
     "rois must have batch indices (column 0) in [0, 2), got 7.0 in row 1"),
    (_psroi, {"output_size": (3, 4)}, ValueError, "output_size must be square, got 3 x 4"),
    (_psroi, {"output_size": 0}, ValueError, "output_size must be positive, got 0"),
    (_psroi, {"group_size": 0}, ValueError, "group_size must be positive, got 0"),
    (_psroi, {"part_size": 0}, ValueError, "part_size must be positive, got 0"),
    (_psroi, {"sample_per_part": 0}, ValueError, "sample_per_part must be positive, got 0"),
    (_psroi, {"group_size": 1.5}, TypeError, "group_size must be a whole number, got 1.5"),
    (_psroi, {"trans_std": INF}, ValueError, "trans_std must be finite, got inf"),
    (_psroi, {"spatial_scale": -1}, ValueError,
     "spatial_scale must be finite and positive, got -1.0"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "changes", "error", "message"),
    CASES,
    ids=[f"{call.__name__[1:]}-{next(iter(changes))}" for call, changes, *_ in CASES],
)
def test_a_wrong_operand_is_named(call, changes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call(**changes)


@pytest.mark.parametrize("call", [_conv, _roi, _psroi])
def test_right_operands_pass(call):
    call()


def test_checks_hold_for_fake_tensors_and_ask_for_no_values():
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        with pytest.raises(ValueError, match="offset must be"):
            _conv(offset=torch.zeros(3, 24, 5, 6))
        out = _roi(rois=torch.full((2, 5), 9.0))
        assert out.shape == (2, 6, 3, 4)


def test_output_size_is_conv2ds():
    for height in range(1, 9):
        for kernel, stride, padding, dilation in ((3, 2, 1, 1), (2, 3, 0, 2), (1, 1, 2, 5)):
            size = checks.output_size(
                (height, 20), (kernel, 4), (stride, 1), (padding, 0), (dilation, 2)
            )
            if size[0] < 1:
                continue
            out = torch.nn.functional.conv2d(
                torch.zeros(1, 1, height, 20), torch.zeros(1, 1, kernel, 4), None,
                (stride, 1), (padding, 0), (dilation, 2),
            )  # fmt: skip
            assert out.shape[2:] == size
