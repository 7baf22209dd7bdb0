# SPDX-License-Identifier: BSD-3-Clause
"""PyTorch's setting for float32 products reaches the operator, eager and compiled."""

import op_cases
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dcnv2.ops import deform_conv2d, precision


@pytest.fixture
def matmul():
    settings = torch.backends.cuda.matmul
    before = settings.fp32_precision
    yield settings
    settings.fp32_precision = before


class _Flags(TorchDispatchMode):
    """Records whether TF32 was allowed in the convolution and in its backward pass."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.dcnv2.deform_conv2d.default:
            self.seen.append(args[8] if len(args) > 8 else False)
        if func is torch.ops.dcnv2.deform_conv2d_backward.default:
            self.seen.append(args[8])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("value", ["tf32", "ieee"])
def test_the_setting_of_matrix_products_is_read(matmul, value):
    matmul.fp32_precision = value
    assert precision.allow_tf32() == (value == "tf32")


@pytest.mark.slow
def test_a_compiled_function_follows_the_setting(matmul):
    @torch.compile(fullgraph=True, backend="eager")
    def allowed(x):
        return x + 1 if precision.allow_tf32() else x

    for value, wanted in (("ieee", 0), ("tf32", 1), ("ieee", 0)):
        matmul.fp32_precision = value
        assert allowed(torch.zeros(())).item() == wanted, value


def test_the_cpu_operator_never_allows_tf32(matmul):
    matmul.fp32_precision = "tf32"
    operands = op_cases.conv_operands(dtype=torch.float32)
    with _Flags() as flags:
        deform_conv2d(*operands[:4], **op_cases.CONV_OPTIONS, mask=operands[4]).sum().backward()
    assert flags.seen == [False, False]


def test_the_backward_has_the_setting_of_the_forward():
    operands = op_cases.conv_operands(dtype=torch.float32)
    options = op_cases.CONV_OPTIONS.values()
    with _Flags() as flags:
        torch.ops.dcnv2.deform_conv2d(*operands, *options, True).sum().backward()
    assert flags.seen == [True, True]
