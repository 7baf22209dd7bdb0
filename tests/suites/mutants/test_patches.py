# SPDX-License-Identifier: BSD-3-Clause
"""The faults planted in the sources still fit them, and name claims that are there."""

import argparse
import dataclasses
import subprocess

import pytest

from suites.mutants import packed, sources
from suites.mutants.patches import ROOT, Patch, find_source
from suites.mutants.patches_cpu import CPU
from suites.mutants.patches_cuda import CUDA
from suites.mutants.patches_fused import FUSED
from suites.mutants.patches_index import INDEX
from suites.mutants.patches_launch import LAUNCH
from suites.mutants.patches_package import PACKAGE
from suites.mutants.patches_shared import SHARED

CSRC = ROOT / "csrc"
ALL = [*SHARED, *CPU, *CUDA, *FUSED, *INDEX, *LAUNCH]


@pytest.mark.parametrize("patch", ALL, ids=lambda p: f"{p.path}: {p.name}")
def test_patch_fits_the_sources(patch):
    text = (CSRC / find_source(patch.path)).read_text()
    assert patch.apply(text) != text
    for device in ("cpu", "cuda"):
        assert all((CSRC / source).is_file() for source in patch.sources(device))


@pytest.mark.parametrize("patch", PACKAGE, ids=lambda p: f"{p.path}: {p.name}")
def test_patch_fits_the_package_and_names_a_test(patch):
    text = (ROOT / "dcnv2" / patch.path).read_text()
    assert patch.apply(text) != text
    file, _, function = patch.detected_by.partition("::")
    assert f"def {function}(" in (ROOT / file).read_text()


@pytest.mark.parametrize("detected_by", sorted({patch.detected_by for patch in ALL}))
def test_detected_by_names_a_claim_of_the_suite(detected_by):
    file, _, function = detected_by.partition("::")
    assert f"def {function}(" in (ROOT / "suites" / "correctness" / file).read_text()


def test_each_library_has_faults_of_its_own_name():
    for device in ("cpu", "cuda"):
        names = [patch.name for patch in sources.patches(device)]
        assert len(names) == len(set(names)) >= 20


def test_faults_of_tensor_core_kernels_are_judged_on_the_path_that_takes_them():
    assert {patch.kernels for patch in FUSED} == {"", "mma", "wgmma"}
    by_path = {p.kernels: p for p in FUSED}
    assert sources.backend(by_path["mma"], "cuda") == "dcnv2-mma"
    assert sources.backend(by_path["wgmma"], "emulated") == "emulated-wgmma"
    assert sources.backend(SHARED[0], "cuda") == sources.backend(CPU[0], "cpu") == "dcnv2"
    assert sources.backend(SHARED[0], "emulated") == "emulated-simt"


def test_faults_are_asked_for_by_name_or_by_file():
    chosen = [
        p for p in ALL if sources.asked(p, "csrc", ["csrc/cuda/offset_mask", "padding added"])
    ]
    assert {p.path for p in chosen} == {"cuda/offset_mask_epilogue.cuh", "geometry.h"}
    assert all(sources.asked(p, "csrc", None) for p in ALL)
    parser = argparse.ArgumentParser()
    assert sources.choose(parser, ALL, "csrc", None) == ALL
    with pytest.raises(SystemExit):
        sources.choose(parser, ALL, "csrc", ["no such fault"])


class Copies:
    """Stands for a build: each library is a text."""

    def __init__(self, folder):
        self.path = folder / "whole.so"
        self.path.write_text("whole")

    def with_fault(self, patch, device, folder):
        library = folder / "faulty.so"
        library.write_text(f"{device}: {patch.name}")
        return library


def test_packed_libraries_come_out_as_they_went_in(tmp_path, monkeypatch):
    for name in ("made", "unpacked", "refused"):
        (tmp_path / name).mkdir()
    file, some = tmp_path / "deep" / "faults.tar.xz", CUDA[:3]
    packed.pack(Copies(tmp_path), some, "cuda", file, tmp_path / "made", jobs=2)
    found = packed.Packed(file, "cuda", tmp_path / "unpacked")
    assert found.path.read_text() == "whole"
    for patch in some:
        with found.faulty(patch, "cuda") as library:
            assert library.read_text() == f"cuda: {patch.name}"
    with pytest.raises(ValueError, match=CUDA[3].name), found.faulty(CUDA[3], "cuda"):
        pass
    monkeypatch.setattr(packed, "csrc_digest", lambda *_: "others")
    with pytest.raises(ValueError, match="other sources"):
        packed.Packed(file, "cuda", tmp_path / "refused")


def test_a_text_that_is_not_there_once_is_an_error():
    patch = Patch("any", "geometry.h", "a", "b", "test_x.py::test_y")
    assert patch.apply("xay") == "xby"
    for text in ("xy", "xaya"):
        with pytest.raises(ValueError, match="wanted 1"):
            patch.apply(text)


def test_planting_leaves_the_sources_alone(tmp_path):
    patch = SHARED[0]
    before = (CSRC / find_source(patch.path)).read_text()
    copy = patch.plant(tmp_path)
    assert (copy / find_source(patch.path)).read_text() == patch.apply(before)
    assert (CSRC / find_source(patch.path)).read_text() == before


@pytest.mark.parametrize(
    ("code", "output", "want"),
    [
        (0, "", ("**survived**", "")),
        (1, "E       AssertionError: output is off\n", ("killed", "output is off")),
        (-11, "", ("killed", "the process died with exit code -11")),
    ],
)
def test_fates(code, output, want):
    assert sources.outcome_of(subprocess.CompletedProcess([], code, output, ""), CPU[0]) == want


def test_a_fault_that_the_library_must_name_is_not_killed_in_other_words():
    patch = dataclasses.replace(CPU[0], message="out of bricks")
    for said, want in (("dcnv2: out of bricks", "killed"), ("output is off", "**not reported**")):
        output = f"E       assert False\nE       RuntimeError: {said}\n"
        got, message = sources.outcome_of(subprocess.CompletedProcess([], 1, output, ""), patch)
        assert got.startswith(want)
        assert (said in message) == (want == "killed")


def test_a_run_that_judged_nothing_is_no_verdict():
    with pytest.raises(RuntimeError, match="no such option"):
        sources.outcome_of(subprocess.CompletedProcess([], 4, "", "no such option"), CPU[0])
