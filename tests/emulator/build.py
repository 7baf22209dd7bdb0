# SPDX-License-Identifier: BSD-3-Clause
"""Builds the emulated kernels: the CUDA sources, turned into C++ by a few replacements."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
LAUNCH = re.compile(r"([\w:]+(?:<[^;{}]*?>)?)\s*<<<(.*?)>>>\(", re.DOTALL)


def translate(text: str) -> str:
    """CUDA to C++: launches, and shared memory that a launch sizes."""
    text = text.replace("extern __shared__ __align__(kTileAlignment) char raw[];", "char* raw = emulator::dynamic_shared();")
    return LAUNCH.sub(r"emulator::bind(\1, emulator::config(\2))(", text)


def build(folder: Path, cuda_include: Path, flags=()) -> Path:
    src = folder / "csrc"
    for path in CSRC.rglob("*"):
        if path.suffix not in (".h", ".cuh", ".cu", ".cpp") or "cpu" in path.parts:
            continue
        to = src / path.relative_to(CSRC)
        to.parent.mkdir(parents=True, exist_ok=True)
        text = translate(path.read_text())
        if path.name == "ptx.cuh":
            text = (HERE / "include/ptx.cuh").read_text()
        if not to.exists() or to.read_text() != text:
            to.write_text(text)
    sources = [p for p in src.rglob("*.cu")] + [HERE / "emulator.cpp"]
    ops = src.parent / "ops" / "emulated" / "emulated_ops.cpp"
    ops.parent.mkdir(parents=True, exist_ok=True)
    text = (HERE / "emulated_ops.cpp").read_text()
    if not ops.exists() or ops.read_text() != text:
        ops.write_text(text)
    sources.append(ops)
    depends = [p for p in [*src.rglob("*"), *(HERE / "include").rglob("*")] if p.suffix in (".h", ".cuh")]
    common = ["g++", "-std=c++20", "-O2", "-g", "-fPIC", "-w", "-fno-strict-aliasing", "-x", "c++", "-include", "emulator.h"]
    common += [f"-I{HERE / 'include'}", f"-isystem{cuda_include}", "-DDCNV2_SM90A", *flags]

    def compile_one(path):
        out = folder / (path.stem + ("_f" if "fused" in path.parts else "") + ".o")
        newest = max(p.stat().st_mtime for p in [path, *depends])
        if not out.exists() or out.stat().st_mtime < newest:
            subprocess.run([*common, "-c", str(path), "-o", str(out)], check=True)
        return out

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, sources))
    library = folder / "libemulated.so"
    subprocess.run(["g++", "-shared", "-Wl,-Bsymbolic", *flags, *map(str, objects), "-o", str(library)], check=True)
    return library


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
