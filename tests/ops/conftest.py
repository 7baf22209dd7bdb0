# SPDX-License-Identifier: BSD-3-Clause
"""Runs a test on each path that a CPU has."""

import warnings

import pytest
import torch

from dcnv2.ops import fallback, library


@pytest.fixture(params=["portable", "compiled"])
def path(request):
    """Send the operators to one path for the length of a test."""
    if request.param == "compiled":
        if not library.LIBRARIES["cpu"].loaded:
            pytest.skip(library.LIBRARIES["cpu"].reason)
        yield request.param
        return
    with torch.library._scoped_library("dcnv2", "IMPL") as scoped:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a kernel is overridden
            for name, kernel in fallback.KERNELS.items():
                scoped.impl(name, kernel, "CPU", allow_override=True)
        yield request.param
