# SPDX-License-Identifier: BSD-3-Clause
"""The documented table of GPUs says what a wheel holds and what the dispatch chooses."""

import re
from pathlib import Path

import pytest

from build_support.toolkit import OLDEST_ARCH, WHEEL_ARCH_LIST
from dcnv2.ops import library

PAGE = Path(__file__).resolve().parents[2] / "docs" / "environment.md"
ROWS = re.findall(r"^\| (\d+)\.(\d) \| .+? \| (.+?) \| (.+?) \|$", PAGE.read_text(), re.MULTILINE)
TABLE = {(int(major), int(minor)): (code, kernels) for major, minor, code, kernels in ROWS}


def _code(capability):
    """The entry of a wheel that runs on a GPU: machine code rather than PTX."""
    entries = WHEEL_ARCH_LIST.split(";")
    for entry in sorted(entries, key=lambda entry: "PTX" in entry):
        if library.missing_arch(entry, capability) is None:
            version, _, ptx = entry.partition("+")
            return f"PTX of {version}" if ptx else version
    return None


def test_the_table_has_every_generation_since_the_last_that_torch_supports():
    assert [*TABLE] == [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)]


@pytest.mark.parametrize("capability", TABLE, ids=str)
def test_code_in_a_wheel_is_what_the_build_asks_for(capability):
    code, kernels = TABLE[capability]
    found = _code(capability)
    if found is None:
        assert capability < OLDEST_ARCH
        assert code.startswith("none")
        assert kernels == "plain PyTorch"
    else:
        assert code == found


@pytest.mark.skipif(not library.LIBRARIES["cuda"].path.is_file(), reason="no CUDA library")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("capability", TABLE, ids=str)
def test_kernels_are_those_that_the_dispatch_chooses(capability, dtype):
    _, kernels = TABLE[capability]
    path, _ = library.conv_path(dtype, capability)
    assert path == ("simt" if kernels == "plain PyTorch" else kernels)
