# SPDX-License-Identifier: BSD-3-Clause
"""Reports of several machines come together on one page, and its failures still show."""

import json
import re
import sys

import pandas as pd
import pytest
import torch

from suites.peers import page
from suites.peers.failures import RUNNER
from suites.reporting.folders import REPORTS
from suites.reporting.provenance import PROVENANCE

DATA = sorted((REPORTS / "verdicts").glob("*.json"))


def _report(folder, target, gpu, verdict):
    folder.mkdir()
    script = f"{target.replace('-', '_')}_holds_water.json"
    row = {
        "claim": "holds water", "variant": "", "target": target, "verdict": verdict, "checked": 3,
        "unsupported": 0, "reasons": "", "failing": "Problem()" if verdict == "failed" else "",
        "script": script if verdict == "failed" else "", **dict.fromkeys(PROVENANCE, "x"),
        "gpu": gpu, "torchvision": "1.2", "version": "1.2+cu130",
    }  # fmt: skip
    pd.DataFrame([row]).to_csv(folder / "correctness.csv", index=False)
    (folder / "failures").mkdir()
    data = {"seen": "a leak", "seen_on": gpu, "check": "definition"}
    (folder / "failures" / script).write_text(json.dumps(data))
    return folder


def _seen_on(pages):
    data = {path.stem: json.loads(path.read_text()) for path in (pages / "verdicts").glob("*")}
    return {name: entries["seen_on"] for name, entries in data.items()}


def test_reports_of_two_machines_come_together(tmp_path):
    pages = tmp_path / "pages"
    pages.mkdir()
    cpu = _report(tmp_path / "a", "torchvision-cpu", "none", "failed")
    gpu = _report(tmp_path / "b", "torchvision-cuda", "NVIDIA H200", "passed")
    page.write([cpu], pages)
    text = page.write([gpu], pages).read_text()
    assert re.search(r"\| claim +\| torchvision 1.2 CPU +\| torchvision 1.2 H200 +\|", text)
    assert re.search(r"\| holds water +\| \*\*fails\*\* +\| holds +\|", text)
    assert re.search(r"\| torchvision 1.2 CPU +\| 0 +\| 1 +\| 0 +\| 0 +\| 0 +\|", text)
    assert re.search(r"\| torchvision 1.2 H200 +\| 1 +\| 0 +\| 0 +\| 0 +\| 0 +\|", text)
    other = _report(tmp_path / "d", "torchvision-cuda", "NVIDIA A100", "failed")
    page.write([other], pages)
    assert _seen_on(pages) == {
        "torchvision_1_2_cpu_holds_water": "none",
        "torchvision_1_2_a100_holds_water": "NVIDIA A100",
    }
    again = _report(tmp_path / "c", "torchvision-cpu", "none", "passed")
    text = page.write([again], pages).read_text()
    assert text.count("| **fails") == 1
    assert list(_seen_on(pages)) == ["torchvision_1_2_a100_holds_water"]
    assert "[data](verdicts/torchvision_1_2_a100_holds_water.json)" in text


def test_page_is_rendered_anew_from_its_rows_and_data_files(tmp_path):
    page.write([_report(tmp_path / "a", "torchvision-cpu", "none", "failed")], tmp_path)
    rows = (tmp_path / "verdicts.csv").read_text()
    (data,) = (tmp_path / "verdicts").glob("*.json")
    data.write_text(json.dumps({"seen": "a flood", "seen_on": "a CPU", "check": "threads"}))
    text = page.write([], tmp_path).read_text()
    assert "a flood; whether it shows depends on the CPU" in text
    assert (tmp_path / "verdicts.csv").read_text() == rows


def test_page_is_current():
    data = REPORTS / "verdicts"
    rows = pd.read_csv(REPORTS / "verdicts.csv", keep_default_na=False, dtype=str)
    assert (REPORTS / "verdicts.md").read_text() == page.text(rows, data)
    named = {page.data_file(name) for name in rows["script"]} - {""}
    assert named == {path.name for path in DATA}


@pytest.mark.slow
@pytest.mark.parametrize("data", DATA, ids=lambda path: path.stem)
def test_reported_failure_is_still_there(data, forked):
    pytest.importorskip(data.name.partition("_")[0])
    if json.loads(data.read_text())["device"] == "cuda" and not torch.cuda.is_available():
        pytest.skip("shown on a GPU")
    done = forked([sys.executable, RUNNER, data])
    assert done.returncode == 0, done.stdout + done.stderr
