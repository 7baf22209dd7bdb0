# SPDX-License-Identifier: BSD-3-Clause
"""Runs a test on each path that a device has, and puts back what it set."""

import warnings

import pytest
import torch

from dcnv2.ops import fallback, library, set_autocast_compute_dtype


def _portable(key):
    """Send the operators to the portable path on a dispatch key, for the length of a fixture."""
    with torch.library._scoped_library("dcnv2", "IMPL") as scoped:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a kernel is overridden
            for name, kernel in fallback.KERNELS.items():
                scoped.impl(name, kernel, key, allow_override=True)
        yield "portable"


def _paths(device, wanted):
    if wanted == "portable":
        yield from _portable(device.upper())
    elif not library.LIBRARIES[device].loaded:
        pytest.skip(library.LIBRARIES[device].reason)
    else:
        yield wanted


@pytest.fixture(params=["portable", "compiled"])
def path(request):
    """Send the operators on a CPU to one path for the length of a test."""
    yield from _paths("cpu", request.param)


@pytest.fixture(params=["portable", "compiled"])
def cuda_path(request):
    """Send the operators on a GPU to one path for the length of a test."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    yield from _paths("cuda", request.param)


@pytest.fixture
def compute_dtype():
    """Sets in which dtype convolutions compute under autocast, for the length of a test."""
    yield set_autocast_compute_dtype
    set_autocast_compute_dtype(None)
