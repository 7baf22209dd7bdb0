# SPDX-License-Identifier: BSD-3-Clause
"""Without a compiler the package installs, takes the portable path, and warns once."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from check_pip_compiler import copy_sources

SMOKE = Path(__file__).with_name("check_install.py")


@pytest.mark.slow
def test_a_wheel_is_built_and_works_where_there_is_no_compiler(tmp_path):
    sources, site = tmp_path / "sources", tmp_path / "site"
    sources.mkdir()
    copy_sources(sources)
    lacking = {key: value for key, value in os.environ.items() if key not in ("CXX", "CUDA_HOME")}
    lacking |= {"PATH": str(tmp_path), "PYTHONPATH": str(site)}

    def run(*words):
        command = [sys.executable, *map(str, words)]
        return subprocess.run(command, env=lacking, cwd=tmp_path, capture_output=True, text=True)

    options = ("--no-build-isolation", "--no-deps", "--wheel-dir", tmp_path)
    built = run("-m", "pip", "wheel", *options, sources)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".so")]
        archive.extractall(site)
    smoke = run("-P" if sys.version_info >= (3, 11) else "-s", SMOKE, "portable")
    assert smoke.returncode == 0, smoke.stdout + smoke.stderr
    assert "portable path" in smoke.stdout
    assert "libdcnv2_cpu.so was not built: there is no C++ compiler" in smoke.stdout
    assert smoke.stderr.count("dcnv2 runs plain PyTorch on cpu") == 1
