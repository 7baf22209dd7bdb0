# SPDX-License-Identifier: BSD-3-Clause
"""Float32 under autocast, where that is asked for: float32's numbers in autocast's dtypes."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from op_cases import CONV_OPTIONS, conv_operands, gradients
from torch.utils.checkpoint import CheckpointError, checkpoint

from dcnv2.ops import deform_conv2d, get_autocast_compute_dtype

pytestmark = pytest.mark.usefixtures("path")

HALVES = [torch.float16, torch.bfloat16]


def _conv(input, offset, weight, bias, mask):
    return deform_conv2d(input, offset, weight, bias, **CONV_OPTIONS, mask=mask)


def _under_autocast(operands, half=torch.bfloat16):
    with torch.autocast("cpu", dtype=half):
        return _conv(*operands)


def _run(function, operands, *arguments):
    out = function(operands, *arguments)
    return [out, *gradients(out, operands)]


def _cast_by_hand(operands, dtype, half=torch.bfloat16):
    """The operator outside autocast: values in a dtype, places in float32, a result in half."""
    input, offset, weight, bias, mask = operands
    input, weight, bias = (t.to(dtype) for t in (input, weight, bias))
    return _conv(input, offset.float(), weight, bias, mask.float()).to(half)


def _same_bits(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("half", HALVES)
def test_every_mix_of_dtypes_gives_float32s_result_and_gradients_rounded_once(half, compute_dtype):
    """The same bits, so neither the parameters nor their gradients saw the half type."""
    base = conv_operands(dtype=torch.float32)
    compute_dtype(torch.float32)
    for dtypes in itertools.product([torch.float32, half], repeat=5):
        operands = [t.detach().to(d).requires_grad_() for t, d in zip(base, dtypes, strict=True)]
        found = _run(_under_autocast, operands, half)
        assert [t.dtype for t in found] == [half, *dtypes]
        _same_bits(found, _run(_cast_by_hand, operands, torch.float32, half))


@pytest.mark.parametrize("half", HALVES)
def test_the_default_is_autocasts_own_dtype(half, compute_dtype):
    operands = conv_operands(dtype=torch.float32)
    wanted = _run(_cast_by_hand, operands, half, half)
    assert get_autocast_compute_dtype() is None
    _same_bits(_run(_under_autocast, operands, half), wanted)
    compute_dtype(torch.float32)
    assert get_autocast_compute_dtype() == torch.float32
    assert not _run(_under_autocast, operands, half)[3].equal(wanted[3])
    compute_dtype(None)
    _same_bits(_run(_under_autocast, operands, half), wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, "float32"])
def test_no_other_dtype_is_taken(dtype, compute_dtype):
    with pytest.raises(ValueError, match=r"torch\.float32 or None, got"):
        compute_dtype(dtype)
    assert get_autocast_compute_dtype() is None


@pytest.mark.parametrize("which", [0, 2, 3])
def test_float64_values_are_left_alone(which, compute_dtype):
    operands = list(conv_operands(dtype=torch.float32))
    operands[which] = operands[which].detach().double().requires_grad_()
    wanted = _run(_under_autocast, operands)
    compute_dtype(torch.float32)
    found = _run(_under_autocast, operands)
    assert found[0].dtype == torch.float64
    _same_bits(found, wanted)


def test_outside_autocast_nothing_changes(compute_dtype):
    operands = conv_operands(dtype=torch.bfloat16)
    wanted = _run(lambda t: _conv(*t), operands)
    compute_dtype(torch.float32)
    _same_bits(_run(lambda t: _conv(*t), operands), wanted)


def test_results_and_gradients_stay_channels_last(compute_dtype):
    operands = conv_operands(dtype=torch.float32)
    last = [
        t.detach().to(memory_format=torch.channels_last).requires_grad_() if t.dim() == 4 else t
        for t in operands
    ]
    compute_dtype(torch.float32)
    for result in _run(_under_autocast, last):
        assert result.dim() == 1 or result.is_contiguous(memory_format=torch.channels_last)


def test_every_thread_follows(compute_dtype):
    """Autograd's too, which run a checkpoint's forward again."""
    operands = conv_operands(dtype=torch.float32)
    compute_dtype(torch.float32)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(_run, _under_autocast, operands).result()
    _same_bits(found, _run(_under_autocast, operands))


@pytest.mark.slow
def test_a_compiled_function_follows(compute_dtype):
    torch._dynamo.reset()
    compiled = torch.compile(_under_autocast, fullgraph=True, backend="aot_eager")
    operands = conv_operands(dtype=torch.float32)
    for dtype in (None, torch.float32, None):
        compute_dtype(dtype)
        _same_bits(_run(compiled, operands), _run(_under_autocast, operands))


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_computes_again_in_the_same_dtype(reentrant, compute_dtype):
    operands = conv_operands(dtype=torch.float32)
    compute_dtype(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = checkpoint(_conv, *operands, use_reentrant=reentrant)
    out.sum().backward()
    found = [t.grad for t in operands]
    _same_bits(found, list(torch.autograd.grad(_under_autocast(operands).sum(), operands)))


def test_a_change_before_a_checkpoint_computes_again_is_an_error(compute_dtype):
    operands = conv_operands(dtype=torch.float32)
    compute_dtype(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = checkpoint(_conv, *operands, use_reentrant=False)
    compute_dtype(None)
    with pytest.raises(CheckpointError, match="different metadata"):
        out.sum().backward()
