# SPDX-License-Identifier: BSD-3-Clause
"""The output of sanitizers is read right, and the problems that they run are right."""

import pytest

from suites.mutants.patches import ROOT, find_source
from suites.mutants.patches_memory import MEMORY
from suites.sanitizers import cases, cuda, run
from suites.sanitizers.cuda import RACES, Run, hazards

SMALL = list(cases.all_problems())


@pytest.mark.parametrize(
    ("output", "want"),
    [
        ("==7==ERROR: AddressSanitizer: heap-buffer-overflow on address", "heap-buffer-overflow"),
        ("a.h:3:5: runtime error: nan is outside the range\n", "nan is outside the range"),
        ("144 passed in 50 s", ""),
    ],
)
def test_findings(output, want):
    assert run.finding(output) == want


def test_the_cause_comes_before_a_long_stack():
    cause = "==7==AddressSanitizer: CHECK failed: asan_interceptors.cpp:335 (0, 0)"
    stack = [f"    #{depth} 0x7f in frame" for depth in range(500)]
    failing = "FAILED test_pools.py::test_a_claim - AssertionError: off by 2"
    printed = run.digest("\n".join(["collected 9 items", cause, *stack, failing, *stack]))
    assert printed.index(cause) < printed.index(failing) < printed.index("#499")
    assert len(printed) < 4000
    assert run.digest("killed") == "---- the end of the output:\nkilled"


@pytest.mark.parametrize(
    ("code", "output", "right"),
    [
        (0, "33 problems checked, 0 wrong\n========= ERROR SUMMARY: 0 errors\n", True),
        (86, "33 problems checked, 0 wrong\n========= ERROR SUMMARY: 2 errors\n", False),
        (1, "33 problems checked, 1 wrong\n========= ERROR SUMMARY: 0 errors\n", False),
        (0, "========= ERROR SUMMARY: 0 errors\n", False),
        (0, "33 problems checked, 0 wrong\n", False),
        (
            0,
            "========= Warning: Detected overflow of tracked cuda::barrier structures.\n"
            "33 problems checked, 0 wrong\n========= ERROR SUMMARY: 0 errors\n",
            False,
        ),
    ],
)
def test_a_tool_counts_only_with_its_summary_and_the_problems(code, output, right):
    assert Run("memcheck", output, code).row()["right"] is right


KERNEL = (
    "void dcnv2::cuda::<unnamed>::forward_kernel<dcnv2::cuda::MmaSync<dcnv2::cuda::HalfProduct, "
    "(int)128, (int)64>, (bool)1>(dcnv2::cuda::<unnamed>::ForwardArgs)"
)
RACY = f"""44 problems checked, 0 wrong
========= Error: Race reported between Write access at {KERNEL}+0x1a0
=========     and Read access at {KERNEL}+0x8640 [2000 hazards]
=========     and Read access at {KERNEL}+0x8660 [500 hazards]
=========
dcnv2-mma, deform_conv2d, float16, offsets nan
========= Error: Race reported between Write access at {KERNEL}+0x1a0
=========     and Read access at {KERNEL}+0x8640 [1 hazards]
========= Warning: Race reported between Write access at sum(int *)+0x10 in /src/a b/pipeline.cuh:40
=========     and Write access at sum(int *)+0x280 in /src/a b/forward.cu:46 [4 hazards]
========= RACECHECK SUMMARY: 4 hazards displayed (3 errors, 1 warning)
"""


def test_hazards_are_grouped_by_kernel_and_places():
    short = "forward_kernel<MmaSync<HalfProduct, 128, 64>, 1>"
    assert hazards(RACY).to_numpy().tolist() == [
        [short, "error", "write 0x1a0", "read 0x8640", 2001],
        [short, "error", "write 0x1a0", "read 0x8660", 500],
        ["sum", "warning", "write pipeline.cuh:40", "write forward.cu:46", 4],
    ]
    assert not len(hazards("0 errors"))


def test_the_race_of_a_mutant_must_be_reported():
    patch = RACES[0]
    assert Run("racecheck", RACY, 86).mutant_row(patch)["right"]
    for said in ("", "RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)"):
        row = Run("racecheck", said, 0).mutant_row(patch)
        assert (row["right"], patch.name in row["checked"]) == (False, True)


def test_the_complete_output_of_a_tool_is_kept(tmp_path, capsys):
    long = Run("racecheck", RACY + "x" * 100_000, 86)
    (tmp_path / "sanitizer_memcheck.txt").write_text("of an earlier run")
    tables = run.report_wrong({"racecheck": long}, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["sanitizer_racecheck.txt"]
    assert (tmp_path / "sanitizer_racecheck.txt").read_text() == long.output
    assert len(tables["racecheck"]) == 3
    printed = capsys.readouterr().out
    assert "forward_kernel" in printed
    assert len(printed) < 2000


TOOL = """#!/bin/sh
case "$*" in
  --version) echo "Version 2026.1.0 (build 7)"; exit;;
esac
echo "33 problems checked, 0 wrong"
echo "========= ERROR SUMMARY: 0 errors"
"""


@pytest.fixture
def tool(tmp_path):
    path = tmp_path / "compute-sanitizer"
    path.write_text(TOOL)
    path.chmod(0o755)
    return path


def test_the_report_names_the_tool_and_its_version(tool, tmp_path, capsys):
    words = ["cuda", "--sanitizer", str(tool), "--report", str(tmp_path / "out")]
    tools = ("memcheck", "initcheck", "synccheck")  # racecheck would want a library built for it
    assert run.main([*words, *(w for name in tools for w in ("--tool", name))]) == 0
    page = (tmp_path / "out" / "sanitizers.md").read_text()
    assert page.count("2026.1.0") >= len(tools)
    assert "found" in capsys.readouterr().out


def test_the_package_s_tool_is_preferred_to_the_toolkit_s(tool, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    paths = {"purelib": str(tmp_path / "site")}
    monkeypatch.setattr(cuda.sysconfig, "get_paths", lambda: paths)
    assert cuda.find() == str(tool)
    assert cuda.find(str(tool)) == str(tool)
    package = tmp_path / "site/nvidia/cu13/bin/compute-sanitizer"
    package.parent.mkdir(parents=True)
    package.write_text(TOOL)
    package.chmod(0o755)
    assert cuda.find() == str(package)
    with pytest.raises(RuntimeError, match="no /none"):
        cuda.find("/none")


def test_a_tool_that_hangs_is_killed_with_its_children_and_its_output_kept():
    said, code = cuda._within(["sh", "-c", "echo begun; sleep 60 & wait"], {}, 0.5)
    assert said == "begun\n\nERROR: ended after 0 s\n"
    assert Run("memcheck", said, code).row()["right"] is False


@pytest.mark.parametrize("patch", [*MEMORY, *RACES], ids=lambda p: p.name)
def test_mutants_with_memory_errors_and_races_fit_the_sources(patch):
    text = (ROOT / "csrc" / find_source(patch.path)).read_text()
    assert patch.apply(text) != text


@pytest.mark.slow
def test_small_problems_are_right_on_a_cpu():
    assert [cases.check("dcnv2", p, "cpu") for _, p in SMALL] == [[]] * len(SMALL)


def test_small_problems_cover_every_path_and_kind_of_offset():
    assert {b for b, _ in SMALL} == {"dcnv2", "dcnv2-simt", "dcnv2-mma", "dcnv2-wgmma"}
    for kind in ("conv2d", "roi_pool", "psroi_pool"):
        drawn = {p.offsets for _, p in SMALL if p.op == f"deform_{kind}"}
        assert {"small", "nan", "infinite"} < drawn
