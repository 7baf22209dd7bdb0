# SPDX-License-Identifier: BSD-3-Clause
"""Without a compiler the package installs, takes the portable path, and warns once."""

import sys
from pathlib import Path

import pytest

SMOKE = Path(__file__).with_name("check_install.py")


@pytest.mark.slow
def test_a_wheel_is_built_and_works_where_there_is_no_compiler(installation):
    assert not [name for name in installation.names if name.endswith(".so")]
    alone = "-P" if sys.version_info >= (3, 11) else "-s"
    smoke = installation.run(alone, SMOKE, "portable")
    assert smoke.returncode == 0, smoke.stdout + smoke.stderr
    assert "portable path" in smoke.stdout
    assert "libdcnv2_cpu.so was not built: there is no C++ compiler" in smoke.stdout
    assert smoke.stderr.count("dcnv2 runs plain PyTorch on cpu") == 1
