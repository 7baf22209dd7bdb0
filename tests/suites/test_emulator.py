# SPDX-License-Identifier: BSD-3-Clause
"""CUDA's kernels, every path of them, on a machine without a GPU."""

import itertools

import pytest

from suites.backends import get_backend
from suites.emulator.build import cuda_headers, translate
from suites.small_problems import convolutions, judge, poolings

NO_HEADERS = cuda_headers()[1]
CASES = [
    (backend.replace("dcnv2", "emulated") if "-" in backend else "emulated-plain", problem)
    for backend, problem in itertools.chain(convolutions(), poolings())
]


def test_a_launch_becomes_a_call():
    launch = "copy<T, k()>\n    <<<ceil_div(n, 8), 8, 0, stream>>>(a, b);"
    config = "emulator::config(ceil_div(n, 8), 8, 0, stream)"
    assert translate(launch) == f"emulator::bind(copy<T, k()>, {config})(a, b);"


@pytest.mark.parametrize("path", ["plain", "mma", "wgmma"])
def test_every_path_has_problems(path):
    taken = [problem for backend, problem in CASES if backend == f"emulated-{path}"]
    assert taken
    assert not [p for p in taken if get_backend(f"emulated-{path}").supports(p, "cpu")]


@pytest.mark.skipif(bool(NO_HEADERS), reason=NO_HEADERS)
@pytest.mark.parametrize(
    ("backend", "problem"), CASES, ids=lambda value: getattr(value, "op", value)
)
def test_kernels_of_cuda_keep_to_the_price(backend, problem):
    assert not judge(backend, problem, "cpu")
