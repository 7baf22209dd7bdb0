# SPDX-License-Identifier: BSD-3-Clause
"""The faults planted in the sources still fit them, and name claims that are there."""

import subprocess

import pytest

from suites.mutants import sources
from suites.mutants.patches import ROOT, Patch
from suites.mutants.patches_cpu import CPU
from suites.mutants.patches_cuda import CUDA
from suites.mutants.patches_index import INDEX
from suites.mutants.patches_shared import SHARED

CSRC = ROOT / "csrc"
ALL = [*SHARED, *CPU, *CUDA, *INDEX]


@pytest.mark.parametrize("patch", ALL, ids=lambda p: f"{p.path}: {p.name}")
def test_patch_fits_the_sources(patch):
    text = (CSRC / patch.path).read_text()
    assert patch.apply(text) != text
    for device in ("cpu", "cuda"):
        assert all((CSRC / source).is_file() for source in patch.sources(device))


@pytest.mark.parametrize("killer", sorted({patch.killer for patch in ALL}))
def test_killer_is_a_claim_of_the_suite(killer):
    file, _, function = killer.partition("::")
    assert f"def {function}(" in (ROOT / "suites" / "correctness" / file).read_text()


def test_each_library_has_faults_of_its_own_name():
    for device in ("cpu", "cuda"):
        names = [patch.name for patch in sources.patches(device)]
        assert len(names) == len(set(names)) >= 20


def test_a_text_that_is_not_there_once_is_an_error():
    patch = Patch("any", "geometry.h", "a", "b", "test_x.py::test_y")
    assert patch.apply("xay") == "xby"
    for text in ("xy", "xaya"):
        with pytest.raises(ValueError, match="wanted 1"):
            patch.apply(text)


def test_planting_leaves_the_sources_alone(tmp_path):
    patch = SHARED[0]
    before = (CSRC / patch.path).read_text()
    copy = patch.plant(tmp_path)
    assert (copy / patch.path).read_text() == patch.apply(before)
    assert (CSRC / patch.path).read_text() == before


@pytest.mark.parametrize(
    ("code", "output", "want"),
    [
        (0, "", ("**survived**", "")),
        (1, "E       AssertionError: output is off\n", ("killed", "output is off")),
        (-11, "", ("killed", "the process died with exit code -11")),
    ],
)
def test_fates(code, output, want):
    assert sources.fate(subprocess.CompletedProcess([], code, output, "")) == want


def test_a_run_that_judged_nothing_is_no_verdict():
    with pytest.raises(RuntimeError, match="no such option"):
        sources.fate(subprocess.CompletedProcess([], 4, "", "no such option"))
