# SPDX-License-Identifier: BSD-3-Clause
"""On a GPU: float32 under autocast, and operands that stayed on the CPU.

The correctness suite has the numbers, the same bits each time, and boxes of no image.
"""

import pytest
import torch
from op_cases import CONV_OPTIONS, conv_operands, gradients

from dcnv2.ops import deform_conv2d

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("cuda_path")]


def _conv(input, offset, weight, bias, mask):
    return deform_conv2d(input, offset, weight, bias, **CONV_OPTIONS, mask=mask)


def _on_gpu(operands):
    return [t.detach().cuda().requires_grad_(t.requires_grad) for t in operands]


def _run(op, operands):
    out = op(*operands)
    return [out, *gradients(out, [t for t in operands if t.requires_grad])]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_computes_in_float32_where_that_is_asked_for(dtype, compute_dtype):
    operands = _on_gpu(conv_operands(dtype=torch.float32))
    wanted = _run(lambda *t: _conv(*t).to(dtype), operands)
    compute_dtype(torch.float32)
    with torch.autocast("cuda", dtype=dtype):
        out = _conv(*operands)
    torch.testing.assert_close([out, *gradients(out, operands)], wanted, rtol=0, atol=0)


@pytest.mark.parametrize("which", range(1, 5))
def test_an_operand_that_stayed_on_the_cpu_is_named(which):
    operands = _on_gpu(conv_operands())
    operands[which] = operands[which].cpu()
    name = ["input", "offset", "weight", "bias", "mask"][which]
    with pytest.raises(ValueError, match=f"{name} must be on input's device cuda:0, got cpu"):
        _conv(*operands)
