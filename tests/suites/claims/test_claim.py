# SPDX-License-Identifier: BSD-3-Clause
"""Claims: what is unsupported never passes, failures name the smallest problem, options count."""

import itertools
import math
import os
import signal

import pytest
import torch

import reference
from suites.backends.registry import get_backend
from suites.claims import isolation, tables
from suites.claims.assertions import (
    assert_agrees,
    assert_derivative,
    assert_equals_reference,
    assert_same_bits,
    assert_within,
    run_with,
)
from suites.claims.claim import claim, generation_settings, require_supported
from suites.claims.recorder import Case, Evaluation
from suites.claims.session import CheckedTarget, Profile, Session
from suites.problems.problem import ConvProblem
from suites.problems.strategies import conv_problems
from suites.tolerance.expectation import Expectation
from suites.tolerance.tolerance import identity_tolerance


class Reference:
    """The reference as a backend; `wrong` scales its results, `only` restricts it."""

    name = "reference"
    ours = False

    def __init__(self, wrong=1.0, only=None, safe=True):
        self.wrong, self.only, self.safe = wrong, only, safe

    def supports(self, problem, device):
        return None if self.only in (None, problem.dtype) else f"no {problem.dtype}"

    def operator(self, op):
        function = getattr(reference, op)

        def exact(**arguments):
            dtype = arguments["input"].dtype
            tensors = {k: t.double() for k, t in arguments.items() if isinstance(t, torch.Tensor)}
            return (self.wrong * function(**{**arguments, **tensors})).to(dtype)

        return exact


@pytest.fixture
def session():
    return _session()


def _session(**profile):
    made = Session(Profile(**profile))
    made.recorder.begin("here", Case("a claim", "reference-cpu"))
    return made


def _target(backend, session=None):
    return CheckedTarget(backend, "cpu", session or _session())


@claim(conv_problems(), 30)
def equals(target, problem):
    """A claim, not collected by pytest."""
    assert_equals_reference(target, problem, target.run(problem))


def test_claim_that_holds_counts_its_problems(session):
    equals(_target(Reference(only="float64"), session))
    case = session.recorder.current
    assert case.checked > 0
    assert sum(case.unsupported.values()) > 0
    assert case.checked + sum(case.unsupported.values()) == 30
    assert case.failing is None


def test_claim_that_checked_nothing_is_skipped_with_reasons(session):
    with pytest.raises(pytest.skip.Exception, match="no float32"):
        equals(_target(Reference(only="float128"), session))


def test_claim_that_fails_keeps_the_smallest_problem(session):
    with pytest.raises(AssertionError, match="tolerance"):
        equals(_target(Reference(wrong=1.02), session))
    assert isinstance(session.recorder.current.failing, ConvProblem)
    assert session.recorder.current.failing.layouts == ()


def test_shrinking_ends_after_a_while_and_reports_what_it_had():
    session = _session(shrink_s=0)
    seen = []

    @claim(conv_problems(), 30)
    def never(target, problem):
        seen.append(problem)
        raise AssertionError("never so")

    with pytest.raises(AssertionError, match="never so"):
        never(_target(Reference(), session))
    assert set(seen) == {session.recorder.current.failing}


def test_a_problem_that_fails_at_times_is_kept(session):
    times = itertools.count()

    @claim(conv_problems(), 5)
    def seldom(target, problem):
        run_with(target, problem, (), bias=None)
        assert next(times) != 2, "this time"

    with pytest.raises(Exception):  # noqa: B017  (Hypothesis has its own message)
        seldom(_target(Reference(), session))
    assert isinstance(session.recorder.current.failing, ConvProblem)
    assert session.recorder.current.evaluations == [Evaluation({"bias": None}, ())]


class Crashing(Reference):
    """Dies wherever there is a mask."""

    def operator(self, op):
        def crash(**arguments):
            if arguments["mask"] is not None:
                os.kill(os.getpid(), signal.SIGSEGV)
            return super(Crashing, self).operator(op)(**arguments)

        return crash


def test_crash_fails_one_claim_and_keeps_its_problem():
    session = _session(shrink=False)  # each crash costs a new process
    with pytest.raises(AssertionError, match="died with exit code -11"):
        equals(_target(Crashing(safe=False), session))
    assert session.recorder.current.failing.mask


def test_other_process_sends_all_that_it_records():
    sent = []
    for safe in (True, False):
        recorder = (session := _session()).recorder
        equals(_target(Reference(only="float64", safe=safe), session))
        generated = {space: dict(options) for space, options in recorder.generated.items()}
        sent.append((dict(recorder.error_ratios), generated, vars(recorder.current)))
    assert sent[0] == sent[1]
    assert sent[0][0]


def test_other_process_sends_what_failed_and_with_which_operands(session):
    @claim(conv_problems(), 3)
    def identity(target, problem):
        run_with(target, problem, (), bias=None)
        raise AssertionError("never so")

    with pytest.raises(AssertionError, match="never so"):
        identity(_target(Reference(safe=False), session))
    assert session.recorder.current.evaluations == [Evaluation({"bias": None}, ())]


def test_skip_in_another_process_is_a_skip(session):
    def check():
        require_supported(_target(Reference(only="float64"), session), ConvProblem(dtype="float16"))

    with pytest.raises(pytest.skip.Exception, match="no float16"):
        isolation.check_isolated(check, _target(Reference(safe=False), session))


def test_same_problems_are_generated_for_every_target(session):
    seen = []

    @claim(conv_problems(), 10)
    def look(target, problem):
        seen.append(problem)

    for backend in (Reference(), Reference(only="float64")):
        look(_target(backend, session))
    assert seen[:10] != seen[10:]
    assert [p for p in seen[:10] if p.dtype == "float64"] == seen[10:]


def test_require_supported_counts_or_skips(session):
    target = _target(Reference(only="float64"), session)
    require_supported(target, ConvProblem(dtype="float64"))
    assert session.recorder.current.checked == 1
    with pytest.raises(pytest.skip.Exception, match="no float16"):
        require_supported(target, ConvProblem(dtype="float64"), ConvProblem(dtype="float16"))
    assert session.recorder.current.checked == 0


def test_profile_scales_the_examples():
    assert generation_settings(40, Profile(factor=50)).max_examples == 2000


def test_missing_nan_and_additional_nan_have_different_messages(session):
    problem, target = ConvProblem(offsets="nan"), _target(Reference(), session)
    got = dict(Expectation(problem).truth)
    assert_equals_reference(target, problem, got)
    with pytest.raises(AssertionError, match="where the reference is NaN"):
        assert_equals_reference(target, problem, {**got, "output": got["output"].nan_to_num()})
    spoiled = got["output"].clone()
    spoiled.view(-1)[got["output"].view(-1).isfinite().nonzero()[0]] = float("nan")
    with pytest.raises(AssertionError, match="where the reference is a number"):
        assert_equals_reference(target, problem, {**got, "output": spoiled})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[:1], "shape"),
        (lambda t: t.float(), "dtype"),
        (lambda t: t * 1.001, "tolerance"),
    ],
)
def test_wrong_shape_dtype_or_value_is_named(session, change, message):
    problem, target = ConvProblem(), _target(Reference(), session)
    got = dict(Expectation(problem).truth)
    with pytest.raises(AssertionError, match=message):
        assert_equals_reference(target, problem, {**got, "grad_input": change(got["grad_input"])})


def test_missing_gradient_is_no_equality(session):
    problem, target = ConvProblem(), _target(Reference(), session)
    with pytest.raises(AssertionError):
        assert_equals_reference(target, problem, {"output": Expectation(problem).truth["output"]})


def test_identity_within_rounding():
    problem = ConvProblem(dtype="float32")
    results, allowed = Expectation(problem).truth, identity_tolerance(problem)
    assert_within(allowed, results, {n: t * (1 + 1e-7) for n, t in results.items()})
    with pytest.raises(AssertionError, match="grad_weight"):
        assert_within(allowed, results, {"grad_weight": results["grad_weight"] * 1.0001})


def test_same_bits_sees_one_bit_and_takes_nan_for_itself():
    a = {"output": torch.tensor([1.0, float("nan")])}
    assert_same_bits(a, {"output": a["output"].clone()})
    with pytest.raises(AssertionError, match="bits"):
        assert_same_bits(a, {"output": torch.tensor([1.0 + 2e-7, float("nan")])})


@pytest.mark.slow
def test_options_never_generated_are_listed(session):
    equals(_target(Reference(), session))
    missing = session.recorder.never_generated()
    assert "pooling, kind: roi" in missing
    assert "convolution, offsets: nan" in missing
    assert "convolution, dtype: float64" not in missing


@pytest.mark.slow
def test_options_that_no_target_supports_are_not_missing(session):
    targets = [
        _target(Reference(only="float64"), session),
        _target(Reference(only="float16"), session),
    ]
    assert "convolution, dtype: float16" in session.recorder.never_generated(targets)
    missing = session.recorder.never_generated(targets[:1])
    assert "convolution, dtype: float64" in missing
    assert "convolution, batch: 65" in missing
    assert "pooling, kind: roi" in missing
    assert not {"convolution, dtype: float16", "pooling, dtype: float16"} & set(missing)


class OnePath(Reference):
    """For half types, and channels in eights."""

    dtypes = ("float16", "bfloat16")

    def supports(self, problem, device):
        if problem.dtype not in self.dtypes or problem.op != "deform_conv2d":
            return "no"
        return "odd channels" if problem.in_channels % 8 else None

    def adapt(self, problem):
        if problem.op != "deform_conv2d":
            return problem
        return problem.but(
            in_channels=8 * problem.in_channels, out_channels=8 * problem.out_channels
        )


@pytest.mark.slow
def test_generated_problems_follow_the_targets_preferences_where_the_claim_allows(session):
    target = _target(OnePath(), session)
    equals(target)
    assert (
        session.recorder.current.checked,
        sum(session.recorder.current.unsupported.values()),
    ) == (30, 0)
    session.recorder.begin("there", Case("a claim about float64", "reference-cpu"))
    fixed = claim(conv_problems(dtype="float64"), 5)(lambda target, problem: None)
    with pytest.raises(pytest.skip.Exception):
        fixed(target)
    missing = session.recorder.never_generated([target])
    assert "convolution, input channels: odd lot" not in missing
    assert not [option for option in missing if option.startswith("pooling")]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_others_may_differ_from_themselves_by_their_rounding_alone(dtype):
    problem = ConvProblem(dtype=dtype, offsets="zero")  # all of its slopes are at kinks
    other = _target(Reference())
    mine = {
        name: t.to(problem.operand_dtype(name)) for name, t in Expectation(problem).truth.items()
    }
    near = {name: t * (1 + torch.finfo(t.dtype).eps) for name, t in mine.items()}
    assert_agrees(other, problem, near, mine)
    holed = {**mine, "output": mine["output"].where(mine["output"] > 0, math.nan)}
    assert_agrees(other, problem, holed, holed)
    with pytest.raises(AssertionError, match="output: NaN in"):
        assert_agrees(other, problem, holed, mine)
    for name in mine:
        with pytest.raises(AssertionError, match=f"{name}: both sides differ"):
            assert_agrees(other, problem, {**mine, name: 1.1 * mine[name]}, mine)


class Square(torch.autograd.Function):
    """x^2 / 2, whose gradient is another one in its last bits on every run."""

    runs = itertools.count()

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square() / 2

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0] * (1 + 1e-12 * next(Square.runs))


def test_only_ours_have_a_gradient_that_repeats():
    leaf = torch.linspace(1, 2, 5, dtype=torch.float64, requires_grad=True)
    assert_derivative(_target(Reference()), Square.apply, leaf)
    with pytest.raises(RuntimeError, match="not reentrant"):
        assert_derivative(_target(get_backend("portable")), Square.apply, leaf)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        assert_derivative(_target(Reference()), lambda x: Square.apply(x) + x.detach(), leaf)


def test_ours_may_not_differ_from_themselves():
    problem = ConvProblem(dtype="bfloat16")
    mine = Expectation(problem).truth
    changed = {**mine, "grad_mask": mine["grad_mask"] + 1e-15}
    with pytest.raises(AssertionError, match="grad_mask differs in the bits of"):
        assert_agrees(_target(get_backend("portable")), problem, changed, mine)


def test_summary_and_tables(session, tmp_path):
    session.recorder.current.outcome = "failed"
    session.recorder.current.failing = ConvProblem()
    session.recorder.begin("there", Case("another claim", "other-cpu", outcome="unsupported"))
    rows = tables.verdicts(session.recorder)
    table = tables.verdict_table(rows)
    assert table.loc[table["claim"] == "a claim", "reference-cpu"].item() == "**fails**"
    assert table.loc[table["claim"] == "another claim", "other-cpu"].item() == "unsupported"
    path = tables.write_report(session.recorder, tmp_path)
    assert "Smallest failing problems" in path.read_text()
    assert (tmp_path / "correctness.csv").exists()
