# SPDX-License-Identifier: BSD-3-Clause
"""On a GPU: the numbers of the CPU, the same bits each time, and no check that would wait."""

import pytest
import torch
from op_cases import CONV_OPTIONS, conv_operands, gradients, pool_operands

from dcnv2.ops import deform_conv2d, deform_psroi_pool, deform_roi_pool

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("cuda_path")]


def _conv(input, offset, weight, bias, mask):
    return deform_conv2d(input, offset, weight, bias, **CONV_OPTIONS, mask=mask)


def _roi(input, rois, offset, mask):
    return deform_roi_pool(input, rois, offset, mask, (3, 4), 0.5)


def _psroi(input, rois, offset, mask):
    return deform_psroi_pool(input, rois, offset, mask, 3, 0.5, 2, 2, 2, 0.2)


CASES = {
    "conv": (_conv, conv_operands),
    "roi": (_roi, lambda: pool_operands(8, (2, 3, 4), (1, 3, 4))),
    "psroi": (_psroi, lambda: pool_operands(8, (4, 2, 2), (1, 3, 3))),
}


every_operator = pytest.mark.parametrize(("op", "make"), CASES.values(), ids=list(CASES))


def _on_gpu(operands):
    return [t.detach().cuda().requires_grad_(t.requires_grad) for t in operands]


def _run(op, operands):
    out = op(*operands)
    return [out, *gradients(out, [t for t in operands if t.requires_grad])]


@every_operator
def test_values_and_gradients_are_those_of_the_cpu(op, make):
    operands = make()
    wanted = [t.detach() for t in _run(op, operands)]
    results = [t.detach().cpu() for t in _run(op, _on_gpu(operands))]
    torch.testing.assert_close(results, wanted, rtol=1e-11, atol=1e-11)


@every_operator
def test_every_run_gives_the_same_bits(op, make):
    operands = _on_gpu(make())
    first = _run(op, operands)
    for _ in range(5):
        torch.testing.assert_close(_run(op, operands), first, rtol=0, atol=0)


@pytest.mark.parametrize("op", [_roi, _psroi])
@pytest.mark.parametrize("image", [-1.0, 2.0, float("nan")])
def test_a_box_of_no_image_gives_nan_unchecked(op, image):
    input, rois, _, _ = _on_gpu(pool_operands(8, (2, 3, 4), (1, 3, 4)))
    rois[1, 0] = image
    out = op(input, rois, None, None)
    assert out[1].isnan().all()
    assert out[[0, 2, 3]].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_casts_values_and_keeps_places(dtype):
    operands = _on_gpu(conv_operands(dtype=torch.float32))
    with torch.autocast("cuda", dtype=dtype):
        out = _conv(*operands)
    assert out.dtype == dtype
    out.sum().backward()
    assert all(t.grad.dtype == torch.float32 for t in operands)


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
