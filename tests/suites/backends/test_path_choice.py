# SPDX-License-Identifier: BSD-3-Clause
"""The rule that says which of CUDA's kernels a convolution takes, at its edges; without a GPU."""

import ctypes
import subprocess
from pathlib import Path

import pytest
import torch

from build_support.libraries import compiler
from suites.backends.emulator.build import cuda_headers
from suites.mutants.patches import ROOT

HEADERS, WHY = cuda_headers()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(HEADERS is None, reason=WHY)]

MOST = 2**31 - 1
NAMES = (
    "batch", "in_channels", "height", "width", "out_channels", "out_height", "out_width",
    "kernel_h", "kernel_w", "stride_h", "stride_w", "pad_h", "pad_w", "dilation_h", "dilation_w",
    "groups", "deform_groups",
)  # fmt: skip
USUAL = {"in_channels": 64, "height": 9, "width": 11, "out_channels": 48, "out_height": 7,
         "out_width": 10, "kernel_h": 3, "kernel_w": 2}  # fmt: skip
DTYPES = {"float64": 0, "float32": 1, "float16": 2, "bfloat16": 3}
SOURCE = """
#include "cuda/dispatch/paths.cpp"
extern "C" {  // of the runtime, which is not here
cudaError_t cudaGetDevice(int*) { return cudaErrorNoDevice; }
cudaError_t cudaDeviceGetAttribute(int*, cudaDeviceAttr, int) { return cudaErrorNoDevice; }
int chosen(const int64_t* geometry, int dtype, int capability) {
  dcnv2::cuda::ConvArgs a{};
  static_assert(sizeof(a.g) == 17 * sizeof(int64_t));
  a.g = *reinterpret_cast<const dcnv2::ConvGeometry*>(geometry);
  a.dtype = dcnv2::Dtype(dtype);
  return int(dcnv2::cuda::choose_path(a, capability).path);
}
}
"""


@pytest.fixture(scope="module")
def rule(tmp_path_factory):
    """The library's own source of the rule, built as for Hopper."""
    folder = tmp_path_factory.mktemp("rule")
    source, library = folder / "rule.cpp", folder / "rule.so"
    source.write_text(SOURCE)
    flags = ["-std=c++20", "-O0", "-fPIC", "-shared", "-w", "-DDCNV2_SM90A"]
    torch_headers = Path(torch.__file__).parent / "include"
    places = [f"-I{ROOT / 'csrc'}", f"-isystem{HEADERS}", f"-isystem{torch_headers}"]
    subprocess.run([*compiler(), *flags, *places, str(source), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


@pytest.fixture
def path(rule):
    def path(dtype="float16", capability=90, **sizes):
        geometry = [{**dict.fromkeys(NAMES, 1), **USUAL, **sizes}[name] for name in NAMES]
        numbers = (ctypes.c_int64 * 17)(*geometry)
        return ("simt", "mma", "wgmma")[rule.chosen(numbers, DTYPES[dtype], capability)]

    yield path
    rule.dcnv2_set_fastest_path(b"wgmma")


@pytest.mark.parametrize(
    ("dtype", "capability", "want"),
    [
        ("float64", 90, "simt"),
        ("float32", 90, "wgmma"),
        ("float16", 90, "wgmma"),
        ("bfloat16", 90, "wgmma"),
        ("float16", 75, "simt"),
        ("float16", 80, "mma"),
        ("float32", 80, "mma"),
        ("bfloat16", 89, "mma"),
        ("bfloat16", 100, "mma"),
    ],
)
def test_path_of_a_dtype_and_a_chip(path, dtype, capability, want):
    assert path(dtype, capability) == want


@pytest.mark.parametrize(("dtype", "vector"), [("float32", 4), ("float16", 8), ("bfloat16", 8)])
def test_channels_of_deform_groups_and_of_merged_groups_must_be_whole_vectors(path, dtype, vector):
    fitting = {"in_channels": 6 * vector, "out_channels": 2 * vector, "groups": 2}
    fitting["deform_groups"] = 3
    assert path(dtype, **fitting) != "simt"
    assert path(dtype, **{**fitting, "in_channels": 3 * vector}) != "simt"  # both groups together
    for wrong in ({"out_channels": 2 * vector + 2}, {"deform_groups": 4}):
        assert path(dtype, **{**fitting, **wrong}) == "simt"


@pytest.mark.parametrize(
    "at_most",
    [
        {"height": 1, "width": MOST},
        {"batch": MOST, "height": 1, "width": 1, "out_height": 1, "out_width": 1},
        {"out_width": 1, "stride_w": MOST - 2},
        {"out_height": 1, "stride_h": MOST - 3},
        {"out_height": 5, "kernel_h": 1, "dilation_h": MOST - 5},
        {"kernel_h": 1, "kernel_w": 2**20},
    ],
)
def test_what_the_kernels_count_fits_their_integers(path, at_most):
    assert path(**at_most) == "wgmma"
    grown = max(at_most, key=at_most.get)
    for more in (1, 2):
        assert path(**{**at_most, grown: at_most[grown] + more}) == "simt"


def test_output_pixels_fit_31_bits(path):
    assert path(out_height=2**16 - 1, out_width=2**15) == "wgmma"
    assert path(out_height=2**16, out_width=2**15) == "simt"


@pytest.mark.parametrize("limit", ["simt", "mma", "wgmma"])
def test_a_limit_is_kept_to_and_another_word_changes_nothing(path, rule, limit):
    assert rule.dcnv2_set_fastest_path(limit.encode()) == 0
    assert path() == limit
    assert rule.dcnv2_set_fastest_path(b"fast") == 1
    assert path() == limit
