# SPDX-License-Identifier: BSD-3-Clause
"""The patches of the mutants fit the sources and name claims that exist."""

import argparse
import ast
import dataclasses
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from suites.mutants import sources
from suites.mutants.detector import DETECTOR
from suites.mutants.harness import HARNESS
from suites.mutants.package import PACKAGE
from suites.mutants.patch_files import read_patches
from suites.mutants.patches import ROOT, Patch, find_source
from suites.mutants.patches_cpu import CPU
from suites.mutants.patches_index import INDEX
from suites.mutants.patches_launch import LAUNCH
from suites.mutants.patches_nms import NMS_OF_CPU
from suites.mutants.patches_shared import SHARED
from suites.mutants.sources import COPY, CUDA, FUSED, NMS
from suites.reporting.interruption import INTERRUPTED

CSRC = ROOT / "csrc"
ALL = [*SHARED, *CPU, *CUDA, *COPY, *FUSED, *INDEX, *LAUNCH, *NMS_OF_CPU, *NMS]


@pytest.mark.parametrize("patch", ALL, ids=lambda p: f"{p.path}: {p.name}")
def test_patch_fits_the_sources(patch):
    text = (CSRC / find_source(patch.path)).read_text()
    assert patch.apply(text) != text
    for device in ("cpu", "cuda"):
        assert all((CSRC / source).is_file() for source in patch.sources(device))


@pytest.mark.parametrize(
    "patch", [*PACKAGE, *DETECTOR, *HARNESS], ids=lambda p: f"{p.path}: {p.name}"
)
def test_patch_fits_the_package_and_names_a_test(patch):
    text = (ROOT / patch.path).read_text()
    ast.parse(patch.apply(text))
    assert patch.apply(text) != text
    file, _, function = patch.detected_by.partition("::")
    assert f"def {function}(" in (ROOT / file).read_text()


@pytest.mark.parametrize("detected_by", sorted({patch.detected_by for patch in ALL}))
def test_detected_by_names_a_claim_of_the_suite(detected_by):
    file, _, function = detected_by.partition("::")
    assert f"def {function}(" in (ROOT / "suites" / "correctness" / file).read_text()


def test_mutants_of_each_library_have_distinct_names():
    for device in ("cpu", "cuda"):
        names = [patch.name for patch in sources.patches(device)]
        assert len(names) == len(set(names)) >= 20


def test_mutants_of_the_detector_are_many_and_have_distinct_names():
    names = [patch.name for patch in DETECTOR]
    assert len(names) == len(set(names)) >= 60


def test_mutants_of_tensor_core_kernels_run_on_their_path():
    assert {patch.kernels for patch in FUSED} == {"mma", "wgmma"}
    by_path = {p.kernels: p for p in FUSED}
    assert sources.backend(by_path["mma"], "cuda") == "dcnv2-mma"
    assert sources.backend(by_path["wgmma"], "emulated") == "emulated-wgmma"
    assert sources.backend(SHARED[0], "cuda") == sources.backend(CPU[0], "cpu") == "dcnv2"
    assert sources.backend(SHARED[0], "emulated") == "emulated-simt"


def test_mutants_are_chosen_by_name_or_by_file():
    first, other = SHARED[0], CPU[0]
    folder = sources.source_path(other).rpartition("/")[0]
    parser = argparse.ArgumentParser()
    chosen = sources.choose(parser, ALL, sources.source_path, [folder, first.name])
    assert {first, other} <= set(chosen)
    assert all(sources.source_path(p).startswith(folder) or p.name == first.name for p in chosen)
    assert sources.choose(parser, ALL, sources.source_path, None) == ALL
    with pytest.raises(SystemExit):
        sources.choose(parser, ALL, sources.source_path, ["no such mutant"])


def test_without_a_compiler_the_error_is_one_sentence(monkeypatch, capsys):
    def build(device):
        raise RuntimeError(f"the {device} library can't be built here: no nvcc")

    monkeypatch.setattr(sources, "build", build)
    with pytest.raises(SystemExit):
        sources.main(["--device", "cuda"])
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("mutants are compiled here: the cuda library can't be built here: no nvcc")


def test_paths_in_a_report_are_those_of_the_sources():
    assert all((ROOT / sources.source_path(patch)).is_file() for patch in ALL)


def test_mutants_are_read_from_a_diff(tmp_path):
    place = tmp_path / "some.diff"
    lines = ["# title", "--- a.py", "@@ first @@ t.py::f", "-x", "-y", "+z", ""]
    lines += ["@@ second @@ t.py::g @@ cuda=a.cu,b.cu kernels=mma"]
    place.write_text("\n".join([*lines, "-w"]))
    assert read_patches("some", tmp_path) == [
        Patch("first", "a.py", "x\ny\n", "z\n", "t.py::f"),
        Patch("second", "a.py", "w\n", "", "t.py::g", cuda=("a.cu", "b.cu"), kernels="mma"),
    ]
    place.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"some\.diff: second replaces no line"):
        read_patches("some", tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "x",
        "-x",
        "+x",
        "--- a\n@@ first",
        "@@ first @@ t.py::f",
        "--- a\n@@ first @@ t.py::f @@ cpu=a",
    ],
)
def test_lines_of_no_form_are_named(tmp_path, line):
    (tmp_path / "some.diff").write_text(f"\n{line}\n")
    with pytest.raises(ValueError, match=r"some\.diff:[23]: not a line of a mutant"):
        read_patches("some", tmp_path)


def test_a_text_that_is_not_in_the_file_exactly_once_is_an_error():
    patch = Patch("any", "geometry.h", "a", "b", "test_x.py::test_y")
    assert patch.apply("xay") == "xby"
    for text in ("xy", "xaya"):
        with pytest.raises(ValueError, match="wanted 1"):
            patch.apply(text)


def test_a_mutant_leaves_the_sources_unchanged(tmp_path):
    patch = SHARED[0]
    before = (CSRC / find_source(patch.path)).read_text()
    copy = patch.mutate(tmp_path)
    assert (copy / find_source(patch.path)).read_text() == patch.apply(before)
    assert (CSRC / find_source(patch.path)).read_text() == before


@pytest.mark.parametrize(
    ("code", "output", "want"),
    [
        (0, "", ("**survived**", "")),
        (1, "E       AssertionError: output is off\n", ("killed", "output is off")),
        (1, "E       /srv/a/b.py:3: wrong\n", ("killed", "b.py:3: wrong")),
        (1, "E       no file '/tmp/x-1/y/z.json'\n", ("killed", "no file 'z.json'")),
        (1, "E       1 / 2 of a/b differ\n", ("killed", "1 / 2 of a/b differ")),
        (-11, "", ("killed", "the process died with exit code -11")),
    ],
)
def test_outcomes(code, output, want):
    assert sources.outcome_of(subprocess.CompletedProcess([], code, output, ""), CPU[0]) == want


def test_a_mutant_that_the_library_must_report_is_not_killed_by_another_message():
    patch = dataclasses.replace(CPU[0], message="out of bricks")
    for said, want in (("dcnv2: out of bricks", "killed"), ("output is off", "**not reported**")):
        output = f"E       assert False\nE       RuntimeError: {said}\n"
        got, message = sources.outcome_of(subprocess.CompletedProcess([], 1, output, ""), patch)
        assert got.startswith(want)
        assert (said in message) == (want == "killed")


def test_a_surviving_mutant_fails_the_command(tmp_path, capsys):
    row = {"device": "cpu", "mutant": "any", "outcome": "killed", "seconds": 1}
    assert sources.conclude([row], 1, "any_mutants", "Any", tmp_path, library="cpu") == 0
    assert re.search(r"\| cpu +\| 1 +\| 1 +\|", (tmp_path / "any_mutants.md").read_text())
    assert sources.conclude([row, {**row, "outcome": "**survived**"}], 2, "any", "Any", None) == 1
    assert "1 of 2 killed" in capsys.readouterr().out
    assert sources.conclude([], 1, "any", "Any", None) == 1


def test_an_interrupted_run_reports_the_mutants_before(tmp_path, capsys):
    def row_of(patch):
        if patch is CPU[2]:
            raise KeyboardInterrupt("ended by SIGTERM")
        return {"device": "cpu", "mutant": patch.name, "file": "", "outcome": "killed"} | {
            "seconds": 1,
            "message": "",
        }

    with ThreadPoolExecutor(1) as pool:
        rows = sources.gather(pool, row_of, CPU[:5])
    assert [row["mutant"] for row in rows] == [patch.name for patch in CPU[:2]]
    assert "ended by SIGTERM: 2 of 5 mutants were run" in capsys.readouterr().out
    assert sources.conclude(rows, 5, "any_mutants", "Any", tmp_path) == 1
    assert (tmp_path / "any_mutants.md").read_text().startswith(f"# Any{INTERRUPTED}")


def test_a_run_without_a_claim_is_an_error():
    with pytest.raises(RuntimeError, match="no such option"):
        sources.outcome_of(subprocess.CompletedProcess([], 4, "", "no such option"), CPU[0])
