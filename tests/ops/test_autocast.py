# SPDX-License-Identifier: BSD-3-Clause
"""Mixed dtypes under autocast, where values are cast and places are not rounded.

The correctness suite has every mixture of float32 and a half type.
"""

import pytest
import torch
from op_cases import CONV_OPTIONS, conv_operands, pool_operands

from dcnv2.ops import deform_conv2d, deform_roi_pool

pytestmark = pytest.mark.usefixtures("path")


def _conv(operands):
    input, offset, weight, bias, mask = operands
    return deform_conv2d(input, offset, weight, bias, **CONV_OPTIONS, mask=mask)


@pytest.mark.parametrize("which", range(5))
def test_halves_of_the_other_kind_work_too(which):
    operands = list(conv_operands(dtype=torch.float32))
    operands[which] = operands[which].detach().half().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = _conv(operands)
    assert out.dtype == torch.bfloat16
    out.sum().backward()
    assert operands[which].grad.dtype == torch.float16


@pytest.mark.parametrize("which", [0, 2, 3])
def test_float64_values_are_left_alone(which):
    operands = list(conv_operands(dtype=torch.float32))
    operands[which] = operands[which].detach().double()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = _conv(operands)
    assert out.dtype == torch.float64
    torch.testing.assert_close(out.float(), _conv(conv_operands(dtype=torch.float32)))


def test_float32_offsets_are_not_rounded():
    width = 600
    input = torch.arange(width, dtype=torch.float32).remainder(5).expand(1, 1, 1, width)
    offset = torch.full((1, 2, 1, width), 100.3)  # bfloat16 makes 100.5 of it
    offset[:, 0] = 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = deform_conv2d(input, offset, torch.ones(1, 1, 1, 1))
    wanted = deform_conv2d(input, offset, torch.ones(1, 1, 1, 1))
    torch.testing.assert_close(out.float(), wanted, rtol=0, atol=0.02)


@pytest.mark.parametrize("which", range(1, 5))
def test_outside_autocast_a_wrong_mix_is_an_error(which):
    operands = list(conv_operands(dtype=torch.float32))
    operands[which] = operands[which].detach().bfloat16()
    name = ["input", "offset", "weight", "bias", "mask"][which]
    with pytest.raises(TypeError, match=f"{name} must have input's dtype"):
        _conv(operands)
    with torch.autocast("cpu", enabled=False), pytest.raises(TypeError, match=name):
        _conv(operands)


def test_autocast_rounds_nothing_inside_the_operator():
    operands = conv_operands(dtype=torch.float32)
    input, rois, offset, mask = pool_operands(4, (2, 3, 4), (1, 3, 4), torch.float32)
    outside = deform_roi_pool(input, rois, offset, mask, (3, 4), 0.5)
    options = tuple(CONV_OPTIONS.values())
    raw = torch.ops.dcnv2.deform_conv2d(*operands, *options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(
            deform_roi_pool(input, rois, offset, mask, (3, 4), 0.5), outside, rtol=0, atol=0
        )
        torch.testing.assert_close(
            torch.ops.dcnv2.deform_conv2d(*operands, *options), raw, rtol=0, atol=0
        )
