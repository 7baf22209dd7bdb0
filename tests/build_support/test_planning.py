# SPDX-License-Identifier: BSD-3-Clause
"""What setup.py finds on a machine, and what it reports where something is missing."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from build_support import compiler, libraries, toolkit, torch_install

ROOT = Path(__file__).resolve().parents[2]


def _digest(folder, library):
    return "0" * 12


def _program(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def programs(monkeypatch, tmp_path):
    """A folder that comes first on PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    for name in ("CXX", "CUDA_HOME", "DCNV2_BUILD_CUDA", "TORCH_CUDA_ARCH_LIST"):
        monkeypatch.delenv(name, raising=False)
    return folder


def test_cxx_may_be_several_words(programs, monkeypatch):
    _program(programs, "launcher", 'exec "$@"')
    monkeypatch.setenv("CXX", "launcher g++")
    assert compiler.compiler() == ["launcher", "g++"]


def test_a_cxx_that_does_not_exist_is_an_error_that_names_it(programs, monkeypatch):
    monkeypatch.setenv("CXX", "g++-mistyped -O1")
    with pytest.raises(ValueError, match="'g\\+\\+-mistyped' is not found; correct CXX"):
        libraries.plan(ROOT, _digest)


def test_a_broken_compiler_leaves_both_libraries_out(programs):
    _program(programs, "c++", 'echo "c++: fatal error: no licence" >&2; exit 1')
    planned, skipped = libraries.plan(ROOT, _digest)
    assert planned == []
    assert {*skipped} == {"cpu", "cuda"}
    assert "fails on a three-line C++20 program (c++: fatal error: no licence)" in skipped["cpu"]


def test_a_cuda_library_that_is_asked_for_and_can_t_be_built_is_an_error(programs, monkeypatch):
    _program(programs, "c++", "exit 1")
    monkeypatch.setenv("DCNV2_BUILD_CUDA", "1")
    with pytest.raises(RuntimeError, match=r"DCNV2_BUILD_CUDA=1, but .*exit status 1"):
        libraries.plan(ROOT, _digest)


def test_an_nvcc_that_fails_leaves_the_cuda_library_out(programs, monkeypatch, tmp_path):
    nvcc = tmp_path / "cuda/bin/nvcc"
    nvcc.parent.mkdir(parents=True)
    _program(nvcc.parent, "nvcc", 'test "$1" = --version && echo "release 13.0" && exit\n'
             'echo "error: unsupported GNU version" >&2; exit 1')  # fmt: skip
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    found = torch_install.TorchInstall(tmp_path, "2.11.0", "13.0")
    monkeypatch.setattr(libraries, "find_torch", lambda: found)
    planned, skipped = libraries.plan(ROOT, _digest)
    assert [library.name for library in planned] == ["dcnv2_cpu"]
    assert "error: unsupported GNU version" in skipped["cuda"]


def _environment_with(monkeypatch, folder, version):
    """An isolated build's view: torch can't be imported, and its files are in `folder`."""
    monkeypatch.setattr(torch_install.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(torch_install.sysconfig, "get_path", lambda name: str(folder))
    monkeypatch.setattr(torch_install.site, "getusersitepackages", lambda: str(folder))
    if version:
        (folder / "torch").mkdir()
        text = f"from typing import Optional\n__version__ = {version!r}\ncuda: Optional[str] = None"
        (folder / "torch/version.py").write_text(text)


def test_torch_is_found_without_importing_it(monkeypatch, tmp_path):
    _environment_with(monkeypatch, tmp_path, "2.10.0a0+gitabc")
    found = torch_install.find_torch()
    assert found == torch_install.TorchInstall(tmp_path / "torch", "2.10.0a0+gitabc", None)


@pytest.mark.parametrize(
    ("version", "sentence"),
    [(None, "run `pip install torch`, then"), ("2.9.1", "torch 2.10 or newer is needed")],
    ids=["missing", "too old"],
)
def test_without_a_usable_torch_one_sentence_says_what_to_type(
    monkeypatch, tmp_path, version, sentence
):
    _environment_with(monkeypatch, tmp_path, version)
    with pytest.raises(RuntimeError, match=sentence):
        torch_install.find_torch()


def test_an_old_setuptools_ends_with_one_sentence():
    code = (
        "import runpy, setuptools; setuptools.__version__ = '65.5.0'; "
        f"runpy.run_path({str(ROOT / 'setup.py')!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "setuptools 65.5.0 is too old" in done.stderr


def test_a_checkout_is_built_for_the_gpus_present(programs):
    _program(programs, "nvidia-smi", "printf '9.0\\n9.0\\n8.6\\n7.5\\n'")
    assert toolkit.arch_list(for_wheel=False) == "8.6;9.0a"
    assert toolkit.arch_list(for_wheel=True) == toolkit.WHEEL_ARCH_LIST


def test_without_a_gpu_a_checkout_is_built_for_one_architecture_with_ptx(programs):
    _program(programs, "nvidia-smi", "exit 9")
    assert toolkit.arch_list(for_wheel=False) == "8.0+PTX"


@pytest.mark.parametrize("for_wheel", [False, True])
def test_a_list_of_architectures_that_is_asked_for_wins(programs, monkeypatch, for_wheel):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.9 9.0+PTX")
    assert toolkit.arch_list(for_wheel) == "8.9;9.0+PTX"


def test_the_packages_of_a_build_are_no_more_than_setuptools():
    """An isolated build must not download a torch of its own."""
    (line,) = [
        text for text in (ROOT / "pyproject.toml").read_text().split("\n")
        if text.startswith("requires = ")
    ]  # fmt: skip
    assert line.startswith('requires = ["setuptools>=77"]')


def test_the_digest_needs_no_torch():
    """setup.py reads it where torch can't be imported."""
    assert "torch" not in runpy.run_path(str(ROOT / "dcnv2/csrc_digest.py"))
