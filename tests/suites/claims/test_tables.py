# SPDX-License-Identifier: BSD-3-Clause
"""The report says what share of the price was spent, and what the suite itself was held to."""

import re

import pytest

from suites.claims import tables as summary
from suites.claims.recorder import Case, Ledger
from suites.claims.tolerance_plot import draw
from suites.mutants import MUTANTS
from suites.reporting import report as reporting


@pytest.fixture
def prices():
    ledger = Ledger()
    for result, shares in (("output", [0.1, 0.3, 0.2]), ("grad_mask", [0.5])):
        ledger.spent["mine-cpu", "deform_conv2d", "float32", result] = shares
    return summary.price_table(ledger)


def test_price_has_a_row_a_dtype_and_a_cell_a_result(prices):
    (row,) = summary.price_pivot(prices).to_dict("records")
    assert (row["target"], row["dtype"]) == ("mine-cpu", "float32")
    assert (row["output"], row["grad_mask"]) == ("0.2 ... 0.3", "0.5 ... 0.5")
    assert row["largest"] == 0.5


def test_no_price_spent_is_no_row():
    assert not len(summary.price_pivot(summary.price_table(Ledger())))


def test_picture_of_the_price_is_drawn(prices, tmp_path):
    pytest.importorskip("matplotlib")
    assert draw(prices, tmp_path / "price.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(("device", "place"), [("cpu", ""), ("cuda", "h200/")])
def test_correctness_says_what_the_suite_was_held_to(tmp_path, monkeypatch, device, place):
    monkeypatch.setattr(reporting, "_gpu", lambda: ("NVIDIA H200", "none"))
    monkeypatch.setattr(reporting, "measured_digest", lambda device: "x")
    ledger = Ledger()
    ledger.begin("here", Case("holds water", f"dcnv2-{device}", outcome="passed"))
    page = summary.write_report(ledger, tmp_path).read_text()
    for name in ("mutants", "package_mutants", f"{place}source_mutants", f"{place}sanitizers"):
        headline = (reporting.REPORTS / f"{name}.md").read_text().split("\n")[3:6]
        assert "\n".join([f"<!-- report: {name} -->", *headline]) in page
        up = "../../" if place else "../"
        assert f"[{name.rpartition('/')[2]}]({up}reports/{name}.md)" in page


def test_a_strangers_report_tells_of_no_library_but_theirs(tmp_path):
    ledger = Ledger()
    ledger.begin("here", Case("holds water", "mine:dcn-cpu", outcome="passed"))
    page = summary.write_report(ledger, tmp_path).read_text()
    assert "<!-- report: mutants -->" in page
    assert "source_mutants" not in page


def test_what_was_skipped_here_is_not_unsupported():
    ledger = Ledger()
    for number, outcome in enumerate(("skipped", "unsupported")):
        case = Case(f"claim {number}", "mine-cpu", outcome=outcome)
        ledger.begin(str(number), case)
    table = summary.verdict_table(summary.verdicts(ledger))
    assert table["mine-cpu"].tolist() == ["skipped", "unsupported"]


def test_a_run_of_all_claims_says_which_find_what(tmp_path):
    ledger, some = Ledger(), MUTANTS[:2]
    for number, claim in enumerate(("holds water", "floats", "sinks")):
        ledger.begin(str(number), Case(claim, "any"))
    ledger.kills[some[0].key] = [("holds water", "wet"), ("floats", "sank"), ("floats", "again")]
    ledger.kills[some[1].key] = [("floats", "sank")]
    page = summary.write_claims(ledger, some, "brief", tmp_path).read_text()
    assert re.search(r"\| floats +\| 2 +\| 1 +\|", page)
    assert re.search(r"\| holds water +\| 1 +\| 0 +\|", page)
    assert re.search(r"\| sinks +\| 0 +\| 0 +\|", page)
    assert "survived" not in page
    page = summary.write_mutants(ledger, MUTANTS[:3], tmp_path).read_text()
    assert "**survived**" in page
    assert re.search(r"\| deform_conv2d +\| 3 +\| 2 +\|", page)
