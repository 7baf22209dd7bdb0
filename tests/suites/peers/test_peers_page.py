# SPDX-License-Identifier: BSD-3-Clause
"""Reports of several machines come together on one page, and its failures still show."""

import json
import re
import subprocess
import sys
from importlib import metadata

import pandas as pd
import pytest
import torch

from suites.backends.frameworks.environments import FRAMEWORKS, outside_environment
from suites.peers import page
from suites.peers.failures import FRAMEWORK_RUNNER, RUNNER
from suites.peers.notes import FAULTS, Fault
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
    data = {path.stem: json.loads(path.read_text()) for path in (pages / "verdicts").glob("*.json")}
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


def test_answers_on_conventions_stand_side_by_side(tmp_path):
    for name, slope in (("a", "left"), ("b", "right")):
        folder = _report(tmp_path / name, f"lib{name}-cpu", "none", "passed")
        rows = [{"question": "slope", "answer": slope}, {"question": "empty batch", "answer": "ok"}]
        pd.DataFrame(rows).to_csv(folder / "conventions.csv", index=False)
        text = page.write([folder], tmp_path).read_text()
    assert re.search(r"\| implementation +\| slope +\| empty batch +\|", text)
    assert re.search(r"\| liba 1.2 CPU +\| left +\| ok +\|", text)
    assert re.search(r"\| libb 1.2 CPU +\| right +\| ok +\|", text)


def test_a_fault_is_reported_only_while_its_failure_is_there(tmp_path, monkeypatch):
    fault = Fault("torchvision", "holds water", "", "It leaks", "A hole.")
    monkeypatch.setattr(page, "FAULTS", (fault,))
    failing = _report(tmp_path / "a", "torchvision-cpu", "none", "failed")
    text = page.write([failing], tmp_path).read_text()
    link = "[data](verdicts/torchvision_1_2_cpu_holds_water.json)"
    assert f"CPU: It leaks.** A hole. Seen: a leak. Smallest case: {link}." in text
    right = _report(tmp_path / "b", "torchvision-cpu", "none", "passed")
    assert "It leaks" not in page.write([right], tmp_path).read_text()


def test_a_claim_of_earlier_reports_has_its_present_name(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "RENAMED", {"holds water": "keeps water"})
    text = page.write([_report(tmp_path / "a", "x-cpu", "none", "passed")], tmp_path).read_text()
    assert "| keeps water |" in text
    assert "holds water" not in text


def test_the_library_of_a_function_is_its_package(tmp_path):
    folder = _report(tmp_path / "a", "tvdcn.ops:deform_conv2d-cpu", "none", "passed")
    assert list(page.read(folder)["implementation"]) == ["tvdcn 1.2 CPU"]


def test_every_fault_of_a_judged_implementation_is_in_the_reports():
    rows = pd.read_csv(REPORTS / "verdicts.csv", keep_default_na=False, dtype=str)
    text = (REPORTS / "verdicts.md").read_text()
    judged = tuple(rows["implementation"].unique())
    listed = [fault for fault in FAULTS if any(n.startswith(fault.implementation) for n in judged)]
    assert listed
    texts = [f"{fault.title}.** {fault.text}" for fault in listed]
    assert [words for words in texts if words not in text] == []


def test_page_is_current():
    data = REPORTS / "verdicts"
    rows = pd.read_csv(REPORTS / "verdicts.csv", keep_default_na=False, dtype=str)
    answers = page.read_csv(data / "conventions.csv")
    assert (REPORTS / "verdicts.md").read_text() == page.text(rows, answers, data)
    named = {page.data_file(name) for name in rows["script"]} - {""}
    assert named == {path.name for path in DATA}


def _runner(case):
    """The Python that has the library of a data file, if there is one, and the runner."""
    if "needs" in case:
        environment = FRAMEWORKS[case["library"].partition(".")[2]]
        return environment.executable if environment.built else None, FRAMEWORK_RUNNER
    package = case["library"].partition(".")[0]
    try:
        here = metadata.version(package)
    except metadata.PackageNotFoundError:
        here = ""
    release = case["version"].partition("+")[0]
    return sys.executable if here.partition("+")[0] == release else None, RUNNER


@pytest.mark.slow
@pytest.mark.parametrize("data", DATA, ids=lambda path: path.stem)
def test_reported_failure_is_still_there(data, forked):
    case = json.loads(data.read_text())
    if case["device"] == "cuda" and not torch.cuda.is_available():
        pytest.skip("shown on a GPU")
    python, runner = _runner(case)
    if python is None:
        pytest.skip(f"{case['library']} {case['version']} is not installed")
    if runner == FRAMEWORK_RUNNER:
        words = {"env": outside_environment(), "capture_output": True, "text": True}
        done = subprocess.run([python, runner, data], **words)
    else:
        done = forked([python, runner, data])
    assert done.returncode == 0, done.stdout + done.stderr
