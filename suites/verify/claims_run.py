# SPDX-License-Identifier: BSD-3-Clause
"""Runs the correctness suite in this process, without pytest's own output."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dcnv2.harness import UsageError
from suites.claims.recorder import Case
from suites.claims.session import CheckedTarget

FOLDER = Path(__file__).resolve().parents[1] / "correctness"
# Options and plugins of the user's environment may select, reorder or repeat tests.
_ENVIRONMENT = {"PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
_EVERY_S = 10  # between lines of progress where the output is no terminal


@dataclass
class ClaimsRun:
    """What a run of the correctness suite recorded.

    Attributes:
        target: the implementation on its device, with the recorder; None if no claim was selected.
        cases: of all selected claims and their variants.
        interrupted: whether it was ended by Ctrl-C.
    """

    target: CheckedTarget | None = None
    cases: list[Case] = field(default_factory=list)
    interrupted: bool = False


class _Plugin:
    """Reports progress on stderr, and keeps what pytest knows about the run."""

    def __init__(self):
        self.run = ClaimsRun()
        self._count = self._done = self._failed = 0
        self._shown = time.monotonic()

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config):
        config.pluginmanager.unregister(name="terminalreporter")

    def pytest_collection_finish(self, session):
        self._count = len(session.items)
        for item in session.items:
            self.run.target = item.callspec.params["target"]

    def pytest_runtest_logreport(self, report):
        self._failed += report.failed
        if report.when == "teardown":
            self._done += 1
            self._show(report.nodeid)

    def _show(self, nodeid):
        claim = nodeid.partition("::test_")[2].partition("[")[0].replace("_", " ")
        left = self.run.target.session.budget.end - time.monotonic()
        time_left = f", {max(left, 0):.0f} s left" if left < 1e6 else ""
        line = f"{self._done} of {self._count} checks, {self._failed} failed{time_left}"
        if sys.stderr.isatty():
            print(f"\r{line}: {claim}"[:79].ljust(79), end="\r", file=sys.stderr, flush=True)
        elif time.monotonic() > self._shown + _EVERY_S:
            self._shown = time.monotonic()
            print(line, file=sys.stderr, flush=True)

    def pytest_sessionfinish(self, session):
        if sys.stderr.isatty():
            print("\r".ljust(79), end="\r", file=sys.stderr, flush=True)
        if self.run.target is not None:
            begun = self.run.target.session.recorder.cases
            self.run.cases = [begun.get(i.nodeid) or _not_begun(i) for i in session.items]

    def pytest_keyboard_interrupt(self, excinfo):
        self.run.interrupted = True


def _not_begun(item) -> Case:
    """The case of a check that an interrupted run did not reach."""
    claim = item.originalname.removeprefix("test_").replace("_", " ")
    return Case(claim, outcome="not reached")


def run_claims(
    spec: str,
    device: str,
    dtypes: Sequence[str] = (),
    budget: str = "none",
    only: str = "",
    junit: Path | None = None,
) -> ClaimsRun:
    """Check an implementation by the claims of the correctness suite.

    Args:
        spec: of the implementation, as `--backend` takes it.
        device: cpu or cuda.
        dtypes: the only ones to check; by default all.
        budget: a time such as 60s, or none.
        only: a part of the names of the claims to check; "gradients" are those about gradients.
        junit: file to write pytest's results to as JUnit XML.
    """
    words = [str(FOLDER), f"--rootdir={FOLDER}", "-c", os.devnull, "-p", "no:cacheprovider"]
    words += [f"--backend={spec}", f"--device={device}", f"--budget={budget}"]
    words += [f"--dtype={dtype}" for dtype in dtypes]
    if only:
        words += ["-k", re.sub(r"\W+", "_", only.strip())]
    if junit is not None:
        words.append(f"--junitxml={junit}")
    plugin = _Plugin()
    os.environ.update(_ENVIRONMENT)
    status = pytest.main(words, plugins=[plugin])
    if status in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR):
        raise UsageError("the correctness suite did not start; pytest says why above")
    return plugin.run
