# SPDX-License-Identifier: BSD-3-Clause
"""The library's operators under opcheck, autocast and torch.compile."""

import itertools

import pytest
import torch

from suites.claims.assertions import assert_equals_reference, assert_same_bits
from suites.claims.claim import claim, require_supported
from suites.problems.evaluate import call, evaluate
from suites.problems.nms import NmsProblem
from suites.problems.problem import ConvProblem, RoIProblem
from suites.problems.strategies import conv_problems

pytestmark = pytest.mark.library
SMALL = [
    ConvProblem(batch=1, height=4, width=5, dtype="float32"),
    ConvProblem(batch=1, height=4, width=5, dtype="float32", bias=False, mask=False),
    RoIProblem(dtype="float32"),
    RoIProblem(kind="psroi", bins=(2, 2), dtype="float32", mask=False),
    RoIProblem(kind="psroi", bins=(2, 2), dtype="float32", offsets="none"),
]


def _operator(name):
    import dcnv2.ops  # noqa: F401 - defines torch.ops.dcnv2

    return getattr(torch.ops.dcnv2, name).default


def _arguments(problem, device):
    """Positional arguments of the operator's schema."""
    operands, options = problem.operands(device), problem.options()
    if problem.op == "deform_psroi_pool":
        options["part_size"] = options["part_size"] or problem.bins[0]
    order = ("input", "offset", "weight", "bias", "mask")
    names = order if problem.op == "deform_conv2d" else problem.operand_names
    allow_tf32 = [False] if problem.op == "deform_conv2d" else []
    return [operands[name] for name in names], [*options.values(), *allow_tf32]


@pytest.mark.parametrize("problem", SMALL, ids=lambda p: f"{p.op}-{p.mask}-{p.offsets}")
def test_opcheck(target, problem):
    require_supported(target, problem)
    tensors, options = _arguments(problem, target.device)
    differentiable = [
        t if t is None or name == "rois" else t.requires_grad_()
        for name, t in zip(problem.operand_names, tensors, strict=True)
    ]
    operator = _operator(problem.op)
    torch.library.opcheck(operator, (*differentiable, *options))


@pytest.mark.parametrize("problem", SMALL, ids=lambda p: f"{p.op}-{p.mask}-{p.offsets}")
def test_opcheck_of_the_backward(target, problem):
    require_supported(target, problem)
    tensors, options = _arguments(problem, target.device)
    names = problem.operand_names
    needed = [t is not None for name, t in zip(names, tensors, strict=True) if name != "rois"]
    if problem.op == "deform_conv2d":
        tensors.pop(3)  # the bias
    operator = _operator(problem.op + "_backward")
    arguments = (problem.grad_output(target.device), *tensors, *options, needed)
    torch.library.opcheck(operator, arguments)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@claim(lambda dtype: conv_problems(dtype=dtype, layouts=("contiguous",)), 4)
def test_autocast_takes_every_mixture_of_dtypes(target, problem, dtype):
    """Results have autocast's dtype, gradients their operand's; offsets are never rounded."""
    problem = problem.but(bias=True, mask=True)
    operands, grad = problem.operands(target.device), problem.grad_output(target.device)
    function, expectation = target.backend.operator(problem.op), target.session.expectation(problem)
    want, tolerances = expectation.truth, expectation.tolerances
    for widened in itertools.product((False, True), repeat=3):
        names = [n for n, wide in zip(("input", "weight", "bias"), widened, strict=True) if wide]
        given = {n: t.float() if n in names else t for n, t in operands.items()}

        def autocast_call(**arguments):
            with torch.autocast(target.device, problem.operand_dtype("input")):
                return function(**arguments)

        got = evaluate(autocast_call, problem, given, grad)
        assert got["output"].dtype == problem.operand_dtype("input")
        for name, tensor in given.items():
            assert got[f"grad_{name}"].dtype == tensor.dtype, name
        for name, result in got.items():
            ratio = tolerances[name].error_ratio(result, want[name])
            target.session.recorder.record_error_ratio(target, problem, name, ratio)
            assert ratio <= 1, f"{name}: error {ratio:.3g} times the tolerance, float32: {names}"


@pytest.mark.parametrize("kind", ["roi", "psroi"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_autocast_of_pools_takes_every_mixture_of_dtypes(target, dtype, kind):
    """A pool keeps its input's dtype, and no coordinate is rounded to a half type."""
    # Coordinates on such a wide map need more bits than a half type has.
    base = RoIProblem(kind=kind, bins=(2, 2), width=600, dtype=dtype)
    half = torch.bfloat16 if dtype == "float32" else base.operand_dtype("input")
    for other in itertools.product((dtype, "float32", str(half)[6:]), repeat=3):
        dtypes = tuple(zip(("rois", "offset", "mask"), other, strict=True))
        problem = base.but(dtypes=dtypes)
        require_supported(target, problem)
        operands, function = problem.operands(target.device), target.backend.operator(problem.op)
        leaves = {n: t if n == "rois" else t.requires_grad_() for n, t in operands.items()}
        with torch.autocast(target.device, half):
            out = call(function, problem, leaves)
        names = problem.differentiable
        grads = torch.autograd.grad(
            out, [leaves[n] for n in names], problem.grad_output(target.device)
        )
        got = {
            "output": out.detach(),
            **{f"grad_{n}": g for n, g in zip(names, grads, strict=True)},
        }
        assert_equals_reference(target, problem, got)


def test_compiled_equals_eager_for_any_size(target):
    """One graph, without a break, for all sizes of batch and image."""
    # No two sizes are equal: dynamo would unify them.
    problem = ConvProblem(dtype="float32", padding=(4, 3), seed=4)
    require_supported(target, problem)
    torch.compiler.reset()
    graphs = []

    def counting(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def conv(input, offset, weight, bias, mask, **options):
        out = target.backend.operator("deform_conv2d")(
            input, offset * 0.5, weight, bias, mask=mask.sigmoid(), **options
        )
        return out.relu()

    compiled = torch.compile(conv, backend=counting, fullgraph=True, dynamic=True)
    for batch, height, width in ((5, 19, 23), (7, 29, 31), (3, 37, 17)):
        case = problem.but(batch=batch, height=height, width=width)
        operands, grad = case.operands(target.device), case.grad_output(target.device)
        eager = evaluate(conv, case, operands, grad)
        assert_same_bits(evaluate(compiled, case, operands, grad), eager)
    assert len(graphs) == 1


@pytest.mark.parametrize("problem", SMALL, ids=lambda p: f"{p.op}-{p.mask}-{p.offsets}")
def test_compiled_gradients_equal_eager_ones(target, problem):
    """Forward and backward traced ahead of time, with dynamic shapes."""
    require_supported(target, problem)
    torch.compiler.reset()
    function = target.backend.operator(problem.op)
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True, dynamic=True)
    operands, grad = problem.operands(target.device), problem.grad_output(target.device)
    eager = evaluate(function, problem, operands, grad)
    assert_same_bits(evaluate(compiled, problem, operands, grad), eager)


def test_suppression_is_a_proper_operator_and_compiles(target):
    problem = NmsProblem(dtype="float32", scores="absent")
    require_supported(target, problem)
    torch.compiler.reset()
    operands = problem.operands(target.device)
    arguments = (*operands.values(), *problem.options().values())
    torch.library.opcheck(_operator("batched_nms"), arguments)
    function = target.backend.operator("batched_nms")
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True, dynamic=True)
    assert_same_bits(
        {"output": call(compiled, problem, operands)}, {"output": call(function, problem, operands)}
    )
