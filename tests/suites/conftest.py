# SPDX-License-Identifier: BSD-3-Clause
"""Tiny tensors: one thread is faster than several that wait for one another."""

import functools

import pytest
import torch

from suites.sanitizers import cases


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="package")
def _expectations_once():
    """The problems of the sanitizers are run on several backends, and expected once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cases, "Expectation", functools.cache(cases.Expectation))
        yield
