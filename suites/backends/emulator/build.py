# SPDX-License-Identifier: BSD-3-Clause
"""Builds the emulated library: all sources of csrc/cuda, turned into C++ by a few replacements."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from build_support.libraries import compiler
from build_support.toolkit import find_toolkit

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
OUT = ROOT / "build" / "emulator"
LIBRARY = "libemulated.so"
NAMESPACE = "dcnv2_emulated"  # of its operators, in torch.ops

_LAUNCH = re.compile(r"([\w:]+(?:<[^;{}]*?>)?)\s*<<<(.*?)>>>\(", re.DOTALL)
_SHARED = "extern __shared__ __align__(kTileAlignment) char raw[];"
# Kernels read the same bytes as several types, and the device's compiler lets them.
_FLAGS = ["-std=c++20", "-O1", "-fPIC", "-w", "-fno-strict-aliasing", "-x", "c++"]
_FLAGS += ["-DDCNV2_SM90A", "-DUSE_CUDA", "-include", "emulator.h"]


def translate(text: str) -> str:
    """CUDA as C++ for the host.

    Launches become calls, shared memory that a launch sizes becomes a pointer, and operators are
    registered for CPU tensors in a namespace of their own.
    """
    text = text.replace(_SHARED, "char* raw = emulator::dynamic_shared();")
    text = text.replace("LIBRARY_IMPL(dcnv2, CUDA,", f"LIBRARY_IMPL({NAMESPACE}, CPU,")
    return _LAUNCH.sub(r"emulator::bind(\1, emulator::config(\2))(", text)


def _translated(csrc: Path = ROOT / "csrc") -> dict[Path, str]:
    """The text of every file to compile or include, by its path below csrc."""
    texts = {}
    for path in [*csrc.glob("*.h"), *csrc.glob("cuda/**/*.*")]:
        texts[path.relative_to(csrc)] = translate(path.read_text())
    for path in [*HERE.glob("*.cpp"), *HERE.glob("include/**/*.*")]:
        texts[path.relative_to(HERE)] = path.read_text()
    instructions = Path("cuda/tensor_core/mma/ptx.cuh")  # defines those of all three files
    texts[instructions] = (HERE / "include/ptx.cuh").read_text()
    for name in ("ptx_mma.cuh", "ptx_wgmma.cuh"):
        texts[instructions.with_name(name)] = f'#include "{instructions}"\n'
    return texts


def cuda_headers() -> tuple[Path | None, str]:
    """The folder of CUDA's headers, or None and why there is none."""
    import torch

    if torch.version.cuda is None:
        return None, "torch has no CUDA, whose headers the kernels need"
    toolkit, why = find_toolkit(int(torch.version.cuda.split(".")[0]))
    return (toolkit.root / "include", "") if toolkit else (None, why)


def build() -> Path:
    """Compile the library unless it exists, and return its path.

    Raises:
        RuntimeError: if CUDA's headers are not found, or a source does not compile.
    """
    texts = _translated()
    recipe = repr((sorted((str(p), t) for p, t in texts.items()), _FLAGS))
    folder = OUT / hashlib.sha256(recipe.encode()).hexdigest()[:16]
    library = folder / LIBRARY
    if library.exists():
        return library
    objects = _compiled(texts, _sources(texts), folder)
    made = folder / f"{os.getpid()}.so"
    _link(objects.values(), made)
    made.replace(library)
    return library


def build_changed(csrc: Path, sources: Iterable[Path], folder: Path) -> Path:
    """The library with some sources of a changed copy of csrc/, all others as they are; its path.

    Args:
        csrc: the copy.
        sources: of it, the ones to compile.
        folder: for the objects and the library.

    Raises:
        RuntimeError: as `build`.
    """
    kept = build().parent
    objects = {source: kept / _object(source) for source in _sources(_translated())}
    changed = _compiled(_translated(csrc), sources, folder / "translated")
    library = folder / LIBRARY
    # If several sources define the same inline function, the linker takes the first.
    others = (made for source, made in objects.items() if source not in changed)
    _link([*changed.values(), *others], library)
    return library


def _sources(texts: dict[Path, str]) -> list[Path]:
    return sorted(p for p in texts if p.suffix in (".cu", ".cpp"))


def _object(source: Path) -> str:
    return str(source).replace("/", "_") + ".o"


def _compiled(texts: dict[Path, str], sources: Iterable[Path], folder: Path) -> dict[Path, Path]:
    """Objects in a folder, by their sources."""
    headers, why = cuda_headers()
    if headers is None:
        raise RuntimeError(f"the kernels can't be emulated: {why}")
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    places = [headers, _torch_folder() / "include"]
    includes = [f"-I{folder}", f"-I{folder / 'include'}", *(f"-isystem{p}" for p in places)]

    def compiled(source: Path) -> tuple[Path, Path]:
        made, place = folder / _object(source), str(folder / source)
        _run([*compiler(), *_FLAGS, *includes, "-c", place, "-o", str(made)])
        return source, made

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(pool.map(compiled, sources))


def _link(objects: Iterable[Path], library: Path) -> None:
    # Its own stand-ins for the CUDA runtime come before those of the process.
    words = ["-shared", "-Wl,-Bsymbolic", *map(str, objects)]
    words += [f"-L{_torch_folder() / 'lib'}", "-ltorch_cpu"]
    _run([*compiler(), *words, "-o", str(library)])


def _torch_folder() -> Path:
    import torch

    return Path(torch.__file__).parent


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
