# SPDX-License-Identifier: BSD-3-Clause
"""What a fused kernel includes: a reader of one kernel should not have to know all of csrc/cuda."""

import functools
import re

import pytest
from style_files import ROOT

CSRC = ROOT / "csrc"
MMA = ("mma_sync", "wgmma", "wgmma_tf32")
# Lines of own files that a translation unit of each kernel includes, at most.
MAX_LINES = {
    "fused_forward": 2050,
    "fused_grad_input": 2150,
    "fused_grad_offset_mask": 2650,
    "fused_grad_weight": 2050,
}
UNITS = [(kernel, mma) for kernel in MAX_LINES for mma in MMA]


@functools.cache
def _included(path):
    """The files of csrc/ that one includes by itself."""
    names = re.findall(r'^\s*#\s*include\s+"(.+)"', path.read_text(), re.MULTILINE)
    return [CSRC / name for name in names]


def _closure(path):
    found, waiting = set(), [path]
    while waiting:
        if (file := waiting.pop()) not in found:
            found.add(file)
            waiting += _included(file)
    return found


@pytest.mark.parametrize(("kernel", "mma"), UNITS)
def test_a_fused_kernel_includes_few_lines_and_one_instruction(kernel, mma):
    files = _closure(CSRC / f"cuda/tensor_core/{kernel}_{mma}.cu")
    names = {path.stem for path in files}
    assert names & {*MMA} == {mma}
    assert f"{kernel}.cuh" in {path.name for path in files}
    lines = sum(len(path.read_text().splitlines()) for path in files)
    assert lines <= MAX_LINES[kernel], f"{kernel}_{mma}.cu includes {lines} lines"


def test_each_fused_kernel_has_a_unit_for_each_instruction():
    folder = CSRC / "cuda/tensor_core"
    kernels = {path.stem for path in folder.glob("fused_*.cuh")}
    assert kernels == {*MAX_LINES}
    units = {path.stem for path in folder.glob("fused_*.cu") if path.stem.endswith(MMA)}
    assert units == {f"{kernel}_{mma}" for kernel, mma in UNITS}
