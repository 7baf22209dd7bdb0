# SPDX-License-Identifier: BSD-3-Clause
"""Two perf.csv files are compared problem by problem, and regressions are failures."""

import pandas as pd
import pytest

from suites.perf import compare

BASE = {
    "set": "cpu",
    "op": "deform_conv2d",
    "implementation": "dcnv2",
    "pass": "forward",
    "offsets": "2",
    "dtype": "fp32",
    "layout": "contiguous",
    "gpu": "none",
    "cpu": "AMD, 2 cores",
}


def _write(path, times, **more):
    rows = [
        {**BASE, "layer": layer, "cold_p50_ms": ms, **more}
        for layer, ms in zip("abcdefg", times, strict=False)
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return str(path)


@pytest.fixture
def old(tmp_path):
    return _write(tmp_path / "old.csv", [1.0, 2.0, 4.0])


def test_equal_problems_meet_and_their_mean_is_geometric(tmp_path, old, capsys):
    new = _write(tmp_path / "new.csv", [0.5, 2.0, 4.1, 9.0])
    assert compare.main([old, new]) == 0
    text = capsys.readouterr().out
    assert "3 problems, geometric mean of new / old 0.800, 0 slower" in text
    rows = compare.compare(compare.read_rows(old), compare.read_rows(new))
    assert rows.ratio.tolist() == pytest.approx([0.5, 1.0, 1.025])


def test_regressions_beyond_the_threshold_fail(tmp_path, old, capsys):
    new = _write(tmp_path / "new.csv", [1.08, 2.0, 4.0])
    assert compare.main([old, new]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "slower" in line]
    assert lines[0].split("|")[5].strip() == "a"
    assert compare.main([old, new, "--threshold", "10%"]) == 0
    assert compare.main([old, new, "--threshold", "0.07"]) == 1


@pytest.mark.parametrize(
    "key", ["set", "op", "implementation", "pass", "offsets", "dtype", "layout"]
)
def test_unequal_problems_do_not_meet(tmp_path, old, key, capsys):
    new = _write(tmp_path / "new.csv", [1.0], **{key: "other"})
    assert compare.main([old, new]) == 2
    assert "no problem in common" in capsys.readouterr().err


@pytest.mark.parametrize("more", [{"gpu": "NVIDIA H200"}, {"cpu": "AMD, 64 cores"}])
def test_different_machines_are_named(tmp_path, old, more, capsys):
    new = _write(tmp_path / "new.csv", [1.0], **more)
    assert compare.main([old, new]) == 2
    said = capsys.readouterr().err
    assert said == f"The machines differ: AMD, 2 cores and {next(iter(more.values()))}.\n"


def test_files_that_do_not_fit_are_named(tmp_path, old, capsys):
    empty, other, bare = (tmp_path / f"{name}.csv" for name in ("empty", "other", "bare"))
    empty.write_text("")
    other.write_text("a,b\n1,2\n")
    _write(bare, [float("nan")])
    for path, words in [
        (tmp_path / "none.csv", "does not exist"),
        (empty, "is empty"),
        (other, "is not a perf.csv: it lacks cold_p50_ms"),
        (bare, "has no times"),
    ]:
        assert compare.main([old, str(path)]) == 2
        assert words in capsys.readouterr().err


def test_a_problem_that_occurs_twice_is_refused(tmp_path, old, capsys):
    twice = pd.concat([pd.read_csv(old)] * 2)
    twice.to_csv(tmp_path / "twice.csv", index=False)
    assert compare.main([old, str(tmp_path / "twice.csv")]) == 2
    assert "two rows of one problem: cpu, deform_conv2d, dcnv2" in capsys.readouterr().err


def test_a_run_does_not_differ_from_itself():
    from suites.reporting.folders import REPORTS

    for report in (REPORTS / "perf.csv", REPORTS / "h200" / "perf.csv"):
        assert compare.main([str(report), str(report)]) == 0
