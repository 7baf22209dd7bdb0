# SPDX-License-Identifier: BSD-3-Clause
"""The report shows the error ratios, and how the suite itself was tested."""

import re

import pytest

from suites.claims import tables
from suites.claims.recorder import Case, Recorder
from suites.claims.tolerance_plot import plot_error_ratios
from suites.mutants import MUTANTS
from suites.mutants.tables import write_mutants
from suites.reporting import provenance
from suites.reporting.folders import REPORTS


@pytest.fixture
def ratios():
    recorder = Recorder()
    for result, ratios in (("output", [0.1, 0.3, 0.2]), ("grad_mask", [0.5])):
        recorder.error_ratios["mine-cpu", "deform_conv2d", "float32", result] = ratios
    return tables.error_ratio_table(recorder)


def test_error_ratios_have_a_row_a_dtype_and_a_cell_a_result(ratios):
    (row,) = tables.error_ratio_pivot(ratios).to_dict("records")
    assert (row["target"], row["dtype"]) == ("mine-cpu", "float32")
    assert (row["output"], row["grad_mask"]) == ("0.2 ... 0.3", "0.5 ... 0.5")
    assert row["largest"] == 0.5


def test_no_error_ratio_is_no_row():
    assert not len(tables.error_ratio_pivot(tables.error_ratio_table(Recorder())))


@pytest.mark.slow
def test_error_ratios_are_plotted(ratios, tmp_path):
    pytest.importorskip("matplotlib")
    assert plot_error_ratios(ratios, tmp_path / "ratios.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(("device", "place"), [("cpu", ""), ("cuda", "h200/")])
def test_correctness_says_what_the_suite_was_held_to(tmp_path, monkeypatch, device, place):
    monkeypatch.setattr(provenance, "_gpu", lambda: ("NVIDIA H200", "none"))
    monkeypatch.setattr(provenance, "measured_digest", lambda device: "x")
    recorder = Recorder()
    recorder.begin("here", Case("holds water", f"dcnv2-{device}", outcome="passed"))
    page = tables.write_report(recorder, tmp_path).read_text()
    for name in ("mutants", "package_mutants", f"{place}source_mutants", f"{place}sanitizers"):
        headline = (REPORTS / f"{name}.md").read_text().split("\n")[3:6]
        assert "\n".join([f"<!-- report: {name} -->", *headline]) in page
        up = "../../" if place else "../"
        assert f"[{name.rpartition('/')[2]}]({up}reports/{name}.md)" in page


def test_a_report_for_another_library_names_only_that_library(tmp_path):
    recorder = Recorder()
    recorder.begin("here", Case("holds water", "mine:dcn-cpu", outcome="passed"))
    page = tables.write_report(recorder, tmp_path).read_text()
    assert "<!-- report: mutants -->" in page
    assert "source_mutants" not in page


def test_what_was_skipped_here_is_not_unsupported():
    recorder = Recorder()
    for number, outcome in enumerate(("skipped", "unsupported")):
        case = Case(f"claim {number}", "mine-cpu", outcome=outcome)
        recorder.begin(str(number), case)
    table = tables.verdict_table(tables.verdicts(recorder))
    assert table["mine-cpu"].tolist() == ["skipped", "unsupported"]


def test_report_of_mutants_names_their_claims(tmp_path):
    recorder, some = Recorder(), MUTANTS[:2]
    recorder.kills[some[0].key] = [("holds water", "wet")]
    recorder.kills[some[1].key] = [("floats", "sank")]
    page = write_mutants(recorder, MUTANTS[:3], tmp_path).read_text()
    assert "**survived**" in page
    assert "holds water" in page
    assert re.search(r"\| deform_conv2d +\| 3 +\| 2 +\|", page)
