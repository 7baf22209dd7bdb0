# SPDX-License-Identifier: BSD-3-Clause
"""Tiny tensors: one thread is faster than several that wait for one another."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
