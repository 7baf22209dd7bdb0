# SPDX-License-Identifier: BSD-3-Clause
"""Results do not depend on how an operator runs: repeats, threads, memory, streams, graphs."""

import contextlib

import pytest
import torch
from hypothesis import strategies as st

from suites.claims.assertions import assert_agrees, assert_equals_reference, assert_same_bits
from suites.claims.claim import claim, require_supported
from suites.problems.evaluate import evaluate, run
from suites.problems.nms import NmsProblem
from suites.problems.problem import ConvProblem, RoIProblem
from suites.problems.strategies import conv_problems, nms_problems, pool_problems
from suites.problems.threads import limited_threads

ANY = st.one_of(conv_problems(), pool_problems(), nms_problems())
BUSY = ConvProblem(  # thousands of samples in one cell, so the order of summation matters
    batch=3, in_channels=16, out_channels=16, height=23, width=29, kernel=(3, 3), groups=1,
    stride=(1, 1), padding=(1, 1), dilation=(1, 1), deform_groups=2, offsets="clustered", seed=5,
)  # fmt: skip
FULL = BUSY.but(height=13, width=17, deform_groups=1)  # 221 samples in a cell of each list
DENSE = RoIProblem(
    batch=1, channels=5, height=8, width=6, bins=(7, 7), rois=("whole", "huge") * 20, seed=5
)
MANY = NmsProblem(batch=7, count=200, extent=24, max_out=150, scores="tied", seed=5)
# A matrix product of this size is split among threads on any CPU; of smaller ones, on some.
WIDE = ConvProblem(
    batch=1, in_channels=64, out_channels=64, height=32, width=32, kernel=(3, 3), groups=1,
    stride=(1, 1), padding=(1, 1), dilation=(1, 1), deform_groups=1, seed=5,
)  # fmt: skip


@pytest.mark.parametrize(
    "problem",
    [BUSY, BUSY.but(deform_groups=1), FULL, DENSE, DENSE.but(kind="psroi")],
    ids=["clustered conv", "one deform group", "full cells", "roi pool", "psroi pool"],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_run_gives_the_same_bits(target, problem, dtype):
    problem = problem.but(dtype=dtype)
    require_supported(target, problem)
    first = target.run(problem)
    for _ in range(4):
        assert_same_bits(target.run(problem), first)


@pytest.mark.threads
@pytest.mark.cpu_only
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "problem",
    [BUSY, WIDE, DENSE, DENSE.but(kind="psroi"), MANY],
    ids=["clustered conv", "wide conv", "roi pool", "psroi pool", "suppression"],
)
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_change_no_bit(target, problem, threads, dtype):
    problem = target.adapt_fixed(problem.but(dtype=dtype))
    require_supported(target, problem)
    alone = target.run(problem)
    with limited_threads(threads):
        together = target.run(problem)
    assert_same_bits(together, alone)


@pytest.mark.threads
@pytest.mark.cpu_only
@claim(ANY, 30)
def test_threads_change_no_bit_of_any_problem(target, problem):
    alone = target.run(problem)
    with limited_threads(3):
        together = target.run(problem)
    assert_same_bits(together, alone)


@contextlib.contextmanager
def _garbage_in_new_memory(device):
    """PyTorch fills every new tensor with NaN, or with the largest integer."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    before = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = True
    if device == "cuda":  # memory that the allocator reuses without filling is NaN too
        blocks = [torch.full((1 << n,), float("nan"), device=device) for n in range(6, 22)]
        del blocks
    try:
        yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = before
        torch.use_deterministic_algorithms(False)


@pytest.mark.tensors
@claim(ANY, 60)
def test_garbage_in_new_memory_is_never_read(target, problem):
    want = target.run(problem)
    with _garbage_in_new_memory(target.device):
        got = target.run(problem)
    assert_agrees(target, problem, got, want)


@pytest.mark.tensors
@claim(ANY, 40)
def test_operands_are_left_as_they_were(target, problem):
    """Also the memory between their elements; and no result shares memory with an operand."""
    operands, grad = problem.operands(target.device), problem.grad_output(target.device)
    given = [t for t in (*operands.values(), grad) if t is not None]
    stores = [t.untyped_storage() for t in given]
    before = [_bytes(store.clone()) for store in stores]
    got = evaluate(target.backend.operator(problem.op), problem, operands, grad)
    changed = [not torch.equal(_bytes(a), b) for a, b in zip(stores, before, strict=True)]
    assert not any(changed), f"changed operands, in order: {changed}"
    taken = {store.data_ptr() for store in stores if store.nbytes()}
    used = {r.untyped_storage().data_ptr() for r in got.values() if r.numel()}
    assert not taken & used, "a result shares memory with an operand"


def _bytes(store):
    return torch.empty(0, dtype=torch.uint8, device=store.device).set_(store)


@pytest.mark.ours
@claim(ANY, 15)
def test_deterministic_mode_is_no_error(target, problem):
    torch.use_deterministic_algorithms(True)
    try:
        got = target.run(problem)
    finally:
        torch.use_deterministic_algorithms(False)
    assert_equals_reference(target, problem, got)


# ---- CUDA


@pytest.mark.cuda_only
@claim(ANY, 15)
def test_side_stream_waits_for_its_own_work(target, problem):
    """The stream writes the operands after a long kernel; another stream would read garbage."""
    stream, function = torch.cuda.Stream(), target.backend.operator(problem.op)
    operands, grad = problem.operands("cuda"), problem.grad_output("cuda")
    want = evaluate(function, problem, operands, grad)
    given = {**operands, "grad_output": grad}
    late = {n: None if t is None else torch.full_like(t, 0.0) for n, t in given.items()}
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(20_000_000)
        for name, tensor in late.items():
            if tensor is not None:
                tensor.copy_(given[name])
        late_grad = late.pop("grad_output")
        got = evaluate(function, problem, late, late_grad)
    stream.synchronize()
    assert_agrees(target, problem, got, want)


@pytest.mark.cuda_only
@claim(ANY, 12)
def test_graph_replay_equals_eager(target, problem):
    function = target.backend.operator(problem.op)
    operands, grad = problem.operands("cuda"), problem.grad_output("cuda")
    eager = evaluate(function, problem, operands, grad)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        evaluate(function, problem, operands, grad)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = evaluate(function, problem, operands, grad)
    for result in captured.values():
        result.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert_agrees(target, problem, captured, eager)


@pytest.mark.cuda_only
@claim(ANY, 12)
def test_device_need_not_be_the_current_one(target, problem):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    got = run(target.backend.operator(problem.op), problem, "cuda:1")
    assert torch.cuda.current_device() == 0
    assert all(result.device.index == 1 for result in got.values())
    got = {name: result.to("cuda:0") for name, result in got.items()}
    assert_agrees(target, problem, got, target.run(problem))


@pytest.mark.cuda_only
def test_input_of_more_than_2_31_elements(target):
    """Few outputs of a large input: only the input's indices need more than 32 bits."""
    if torch.cuda.mem_get_info()[1] < 40 * 2**30:
        pytest.skip("needs a GPU with 40 GiB")
    problem = ConvProblem(
        batch=2, in_channels=256, out_channels=8, height=2100, width=2101, kernel=(1, 1), groups=1,
        stride=(8, 8), padding=(0, 0), dilation=(1, 1), deform_groups=1, dtype="float16",
        bias=False, mask=False, layouts=(),
    )  # fmt: skip
    require_supported(target, problem)
    conv, half = target.backend.operator(problem.op), {"dtype": torch.float16, "device": "cuda"}
    shape = (problem.batch, problem.in_channels, problem.height, problem.width)
    torch.manual_seed(0)
    x, weight = torch.randn(shape, **half), torch.randn(8, 256, 1, 1, **half)
    offset = torch.randn(problem.offset_shape, **half)
    grad = torch.randn(problem.output_shape(), **half)

    def results(images):
        leaves = [t.detach().requires_grad_() for t in (x[images], offset[images], weight)]
        out = conv(*leaves, None, mask=None, **problem.options())
        return out.detach(), *torch.autograd.grad(out, leaves[:2], grad[images])

    whole = results(slice(None))
    second = results(slice(1, 2))
    torch.cuda.synchronize()
    for both, alone in zip(whole, second, strict=True):
        torch.testing.assert_close(both[1:], alone)
