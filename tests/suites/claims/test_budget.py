# SPDX-License-Identifier: BSD-3-Clause
"""A budget puts the claims that find most faults first, and says what it did not reach."""

import math

import pytest

from suites.backends.registry import get_backend
from suites.claims.budget import Budget, in_order, seconds
from suites.claims.claim import claim
from suites.claims.session import CheckedTarget, Profile, Session
from suites.problems.strategies import conv_problems


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("90", 90), ("60s", 60), ("1.5min", 90), ("2 h", 7200), ("none", math.inf)],
)
def test_times_have_units(text, wanted):
    assert seconds(text) == wanted


@pytest.mark.parametrize("text", ["", "0", "0s", "-5s", "fast", "5 days", "nan", "1e3"])
def test_what_is_no_time_is_an_error(text):
    with pytest.raises(ValueError, match="wanted a time such as 60s"):
        seconds(text)


def test_every_claim_has_a_check_before_the_next_variants():
    checks = [
        *(("unlisted", ""), ("equals the reference", "float16")),
        *(("equals the reference", "float32"), ("bias is added once", "")),
    ]
    assert [checks[index] for index in in_order(checks)] == [
        *(("equals the reference", "float32"), ("bias is added once", "")),
        *(("unlisted", ""), ("equals the reference", "float16")),
    ]


def test_no_claim_begins_after_the_end():
    assert Budget(1e-9).over
    unlimited = Budget()
    unlimited.begin_claim()
    assert not unlimited.over
    assert not unlimited.claim_over


def test_a_claim_ends_in_time_and_counts_what_was_not_reached():
    session = Session(Profile(), Budget(1e-9))
    target = CheckedTarget(get_backend("portable"), "cpu", session)

    @claim(conv_problems(dtype="float32"), 10)
    def test_nothing(target, problem):
        pass

    test_nothing(target)
    case = session.recorder.current
    assert case.checked == 1
    assert case.not_reached == 9
