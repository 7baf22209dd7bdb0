# SPDX-License-Identifier: BSD-3-Clause
"""The suite detects mutants: a few here, all of them with `--mutants`."""

import subprocess
import sys

import pytest

from suites.mutants import MUTANTS
from suites.mutants.patches import ROOT

FEW = MUTANTS[::8]
CLAIMS = (
    "test_conv_definition.py",
    "test_pools.py::test_pool_equals_the_reference",
    "test_pools.py::test_corners_at_halves_are_rounded_away_from_zero",
    "test_pool_vectors.py",
    "test_multiscale.py",
    "test_suppression.py",
)


def test_mutants_have_distinct_names_and_are_many():
    assert len({mutant.key for mutant in MUTANTS}) == len(MUTANTS) >= 127


@pytest.fixture(scope="module")
def output():
    """The end of the suite's output on some mutants and on the naive implementations."""
    claims = [f"suites/correctness/{claim}" for claim in CLAIMS]
    chosen = [f"--mutant={mutant.key}" for mutant in FEW]
    # Naive loops take most of a minute for maps this wide, which no mutant here needs.
    claims += ["-k", "not 8000 and not 70000"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *claims, "--mutants", *chosen, "--profile=brief"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("mutant", FEW, ids=lambda m: m.key)
def test_mutant_is_detected(output, mutant):
    assert f"{mutant.key}: killed by" in output
