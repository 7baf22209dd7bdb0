# SPDX-License-Identifier: BSD-3-Clause
"""What the tests here share."""

import importlib.util

import pytest

from suites.peers.failures import RUNNER


@pytest.fixture(scope="module")
def run():
    """reports/verdicts/run.py as a module."""
    spec = importlib.util.spec_from_file_location("verdict_runner", RUNNER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
