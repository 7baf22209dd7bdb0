# SPDX-License-Identifier: BSD-3-Clause
"""What the tests here share."""

import importlib.util
import subprocess
import types

import forked_runner
import pytest

from suites.peers import failures
from suites.peers.failures import RUNNER


@pytest.fixture(scope="module")
def run():
    """reports/verdicts/run.py as a module."""
    spec = importlib.util.spec_from_file_location("verdict_runner", RUNNER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def forked(monkeypatch):
    """Data files are run in forked processes, also as they are written."""
    light = types.SimpleNamespace(run=forked_runner.run, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(failures, "subprocess", light)
    return forked_runner.run
