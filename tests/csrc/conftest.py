# SPDX-License-Identifier: BSD-3-Clause
"""Skips these tests where the CPU library is not built, and fixes the number of threads."""

import pytest
import torch

from dcnv2.ops.library import LIBRARIES, Library


@pytest.fixture(scope="session", autouse=True)
def library() -> Library:
    """The loaded library; one that is there and does not load is no reason to skip."""
    found = LIBRARIES["cpu"]
    if not found.path.is_file():
        pytest.skip(f"the CPU library is not built: {found.reason}")
    assert found.loaded, found.reason
    return found


@pytest.fixture(autouse=True)
def two_threads():
    """Two threads, unless a test says otherwise; afterwards as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
