# SPDX-License-Identifier: BSD-3-Clause
"""Builds a CUDA wheel with the toolkit from pip packages only, and loads it.

    python check_pip_compiler.py

Installs the compiler packages of torch's CUDA version next to torch, hides every other toolkit,
builds for TORCH_CUDA_ARCH_LIST (by default one architecture), and loads both libraries. Exits with
1 and the reason if something is wrong. No GPU is needed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "pyproject.toml",
    "setup.py",
    "build_support",
    "csrc",
    "dcnv2",
    "reference",
    "suites",
)
PACKAGES = ("nvidia-cuda-nvcc", "nvidia-cuda-crt", "nvidia-nvvm", "nvidia-cuda-cccl")
PIP = (sys.executable, "-m", "pip")
LOAD = """
from dcnv2.ops import library
for found in library.LIBRARIES.values():
    print(found)
raise SystemExit(not all(found.loaded for found in library.LIBRARIES.values()))
"""


def hide_toolkits(folder):
    """Hide CUDA_HOME and nvcc; links replace the other programs in a folder of an nvcc on PATH."""
    os.environ.pop("CUDA_HOME", None)
    path = []
    for index, programs in enumerate(os.environ["PATH"].split(os.pathsep)):
        if not Path(programs, "nvcc").exists():
            path.append(programs)
            continue
        links = Path(folder, str(index))
        links.mkdir(parents=True)
        for program in Path(programs).iterdir():
            if program.name != "nvcc":
                (links / program.name).symlink_to(program.absolute())
        path.append(str(links))
    os.environ["PATH"] = os.pathsep.join(path)
    if found := shutil.which("nvcc"):
        raise RuntimeError(f"{found} is still found")


def copy_sources(folder):
    """Copy the files that a build reads, without the products of earlier builds."""
    made = shutil.ignore_patterns("__pycache__", "lib")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=made)
        else:
            shutil.copy2(ROOT / name, folder)


def main():
    """Install, build and load; return the exit status."""
    if torch.version.cuda is None:
        print(f"torch {torch.__version__} has no CUDA", file=sys.stderr)
        return 1
    wanted = [f"{name}=={torch.version.cuda}.*" for name in PACKAGES]
    subprocess.run([*PIP, "install", "--quiet", *wanted], check=True)
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", "9.0a")
    os.environ["DCNV2_BUILD_CUDA"] = "1"
    sys.path.insert(0, str(ROOT))
    from build_support.toolkit import find_toolkit

    with tempfile.TemporaryDirectory() as folder:
        hide_toolkits(Path(folder, "path"))
        toolkit, origin = find_toolkit(int(torch.version.cuda.split(".")[0]))
        print(f"toolkit: {origin}", flush=True)
        if toolkit is None or not origin.startswith("pip packages"):
            return 1
        sources, out = Path(folder, "sources"), Path(folder, "out")
        sources.mkdir()
        copy_sources(sources)
        options = ["--no-build-isolation", "--no-deps", "--wheel-dir", str(out)]
        subprocess.run([*PIP, "wheel", "--quiet", *options, str(sources)], check=True)
        (wheel,) = out.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(out)
        return subprocess.run([sys.executable, "-c", LOAD], cwd=out).returncode


if __name__ == "__main__":
    sys.exit(main())
