# SPDX-License-Identifier: BSD-3-Clause
"""What sanitizers say is understood, and what they are given to judge is sound."""

import itertools
import subprocess

import pytest

from suites import sanitizers, small_problems
from suites.mutants.patches import ROOT
from suites.mutants.patches_memory import MEMORY

SMALL = list(itertools.chain(small_problems.convolutions(), small_problems.poolings()))


@pytest.mark.parametrize(
    ("output", "want"),
    [
        ("==7==ERROR: AddressSanitizer: heap-buffer-overflow on address", "heap-buffer-overflow"),
        ("a.h:3:5: runtime error: nan is outside the range\n", "nan is outside the range"),
        ("144 passed in 50 s", ""),
    ],
)
def test_findings(output, want):
    assert sanitizers.finding(output) == want


def test_the_cause_comes_before_a_long_stack():
    cause = "==7==AddressSanitizer: CHECK failed: asan_interceptors.cpp:335 (0, 0)"
    stack = [f"    #{depth} 0x7f in frame" for depth in range(500)]
    failing = "FAILED test_pools.py::test_a_claim - AssertionError: off by 2"
    told = sanitizers.digest("\n".join(["collected 9 items", cause, *stack, failing, *stack]))
    assert told.index(cause) < told.index(failing) < told.index("#499")
    assert len(told) < 4000
    assert sanitizers.digest("killed") == "---- the end of the output:\nkilled"


@pytest.mark.parametrize(
    ("code", "output", "right"),
    [
        (0, "33 problems judged, 0 wrong\n========= ERROR SUMMARY: 0 errors\n", True),
        (86, "33 problems judged, 0 wrong\n========= ERROR SUMMARY: 2 errors\n", False),
        (1, "33 problems judged, 1 wrong\n========= ERROR SUMMARY: 0 errors\n", False),
        (0, "========= ERROR SUMMARY: 0 errors\n", False),
        (0, "33 problems judged, 0 wrong\n", False),
    ],
)
def test_a_tool_is_believed_only_with_its_summary_and_the_problems(code, output, right):
    verdict = sanitizers._verdict("memcheck", subprocess.CompletedProcess([], code, output))
    assert verdict["right"] is right


def test_a_tool_that_hangs_is_ended_with_its_words_and_what_it_started():
    command = ["sh", "-c", "echo begun; sleep 60 & wait"]
    run = sanitizers._within(command, {}, 0.5)
    assert run.stdout == "begun\n\nERROR: ended after 0 s\n"
    assert sanitizers._verdict("memcheck", run)["right"] is False


@pytest.mark.parametrize("patch", MEMORY, ids=lambda p: p.name)
def test_memory_faults_fit_the_sources(patch):
    text = (ROOT / "csrc" / patch.path).read_text()
    assert patch.apply(text) != text


def test_small_problems_are_judged_right_on_a_cpu():
    assert [small_problems.judge("dcnv2", p, "cpu") for _, p in SMALL] == [[]] * len(SMALL)


def test_small_problems_reach_every_path_and_strange_offset():
    assert {b for b, _ in SMALL} == {"dcnv2", "dcnv2-plain", "dcnv2-mma", "dcnv2-wgmma"}
    for kind in ("conv2d", "roi_pool", "psroi_pool"):
        drawn = {p.offsets for _, p in SMALL if p.op == f"deform_{kind}"}
        assert {"small", "nan", "infinite"} < drawn
