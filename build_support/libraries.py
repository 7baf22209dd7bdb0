# SPDX-License-Identifier: BSD-3-Clause
"""Compile csrc/ into the two shared libraries that dcnv2.ops loads, with ninja.

Both use PyTorch's stable C ABI only, so one build serves every torch >= 2.10 and every Python.
"""

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .toolkit import DEFAULT_ARCH_LIST, Toolkit, find_toolkit, gencode_flags

_TARGET = "0x020a000000000000"  # torch 2.10: the oldest whose stable ABI has all that we call
_NVCC_FLAGS = ["--expt-relaxed-constexpr", "-Xcompiler=-fPIC,-fvisibility=hidden,-Wall"]
_WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unknown-pragmas"]


@dataclass
class Library:
    """One shared library: its name, its sources and how they are compiled."""

    name: str
    sources: list[Path]
    cxx_flags: list[str]
    link_flags: list[str]
    info_flags: list[str]  # of build_info.cpp alone, so that a new digest recompiles only that
    toolkit: Toolkit | None = None
    nvcc_flags: list[str] = field(default_factory=list)


def compiler() -> str | None:
    """The C++ compiler: CXX if set, else the first of c++, g++, clang++ on PATH."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    return next((path for name in names if (path := shutil.which(name.split()[0]))), None)


def plan(root: Path, digest: Callable[..., str]) -> tuple[list[Library], list[str]]:
    """The libraries that can be built here, and for each one that can't a sentence that says why.

    Args:
        root: The checkout.
        digest: dcnv2.csrc_digest's, which tells the digest of a library's sources.

    Raises:
        RuntimeError: DCNV2_BUILD_CUDA=1 asks for the CUDA library and it can't be built.
        ValueError: DCNV2_BUILD_CUDA or TORCH_CUDA_ARCH_LIST has a value that makes no sense.
    """
    if compiler() is None:
        return [], ["no C++ compiler (CXX, c++, g++, clang++): operators take the portable path"]
    torch_dir = Path(torch.__file__).parent
    flags = ["-std=c++20", "-O3", f"-I{root / 'csrc'}"]
    common = [
        *flags,
        "-fPIC",
        f"-isystem{torch_dir / 'include'}",
        f"-DTORCH_TARGET_VERSION={_TARGET}",
    ]

    def info(library: str) -> str:
        return _text_macro("DCNV2_CSRC_DIGEST", digest(root / "csrc", library))

    link = ["-shared", f"-L{torch_dir / 'lib'}", "-ltorch_cpu", "-Wl,--no-undefined"]
    hidden = ["-fvisibility=hidden", *_WARNINGS]
    sources = sorted((root / "csrc/cpu").rglob("*.cpp"))
    # No floating-point operation traps: loops with rounding or comparisons can be vectorised.
    cpu_flags = [*common, *hidden, "-fno-trapping-math"]
    cpu = Library("dcnv2_cpu", sources, cpu_flags, link, [info("cpu")])

    wanted = os.environ.get("DCNV2_BUILD_CUDA", "auto")
    if wanted not in ("auto", "0", "1"):
        raise ValueError(f"DCNV2_BUILD_CUDA must be auto, 0 or 1, not '{wanted}'")
    toolkit, why = None, "DCNV2_BUILD_CUDA=0"
    if wanted != "0":
        toolkit, why = _cuda_toolkit()
        if toolkit is None and wanted == "1":
            raise RuntimeError(f"DCNV2_BUILD_CUDA=1, but the CUDA library can't be built: {why}")
    if toolkit is None:
        return [cpu], [f"built without CUDA: {why}"]

    archs = os.environ.get("TORCH_CUDA_ARCH_LIST") or DEFAULT_ARCH_LIST
    hopper = ["-DDCNV2_SM90A"] if "compute_90a" in " ".join(gencode_flags(archs)) else []
    cuda = Library(
        "dcnv2_cuda",
        sorted(p for p in (root / "csrc/cuda").rglob("*.c*") if p.suffix in (".cu", ".cpp")),
        [*common, *hidden, *hopper, "-DUSE_CUDA", f"-isystem{toolkit.root / 'include'}"],
        [*link, "-ltorch_cuda", str(toolkit.runtime_library())],
        [info("cuda"), _text_macro("DCNV2_ARCH_LIST", archs.replace(" ", ";"))],
        toolkit,
        [*flags, *_NVCC_FLAGS, *gencode_flags(archs)],
    )
    return [cpu, cuda], []


def _text_macro(name: str, text: str) -> str:
    """A macro that is a string literal, quoted for the shell: a list of architectures has ';'."""
    return shlex.quote(f'-D{name}="{text}"')


def _cuda_toolkit() -> tuple[Toolkit | None, str]:
    if torch.version.cuda is None:
        return None, f"torch {torch.__version__} has no CUDA"
    return find_toolkit(int(torch.version.cuda.split(".")[0]))


def build(libraries: list[Library], build_dir: Path, out_dir: Path) -> None:
    """Compile and link what is out of date, MAX_JOBS at a time, into `out_dir`/lib<name>.so."""
    build_dir.mkdir(parents=True, exist_ok=True)
    out_dir.mkdir(parents=True, exist_ok=True)
    (build_dir / "build.ninja").write_text(_ninja_text(libraries, build_dir, out_dir))
    jobs = os.environ.get("MAX_JOBS") or str(os.cpu_count() or 1)
    subprocess.run([_ninja(), "-C", str(build_dir), "-j", jobs], check=True)


def _ninja() -> str:
    try:
        import ninja
    except ImportError:
        return "ninja"
    return str(Path(ninja.BIN_DIR) / "ninja")


def _ninja_text(libraries: list[Library], build_dir: Path, out_dir: Path) -> str:
    lines = [
        "ninja_required_version = 1.5",
        f"cxx = {compiler()}",
        "rule cxx\n  command = $cxx -MMD -MF $out.d $flags -c $in -o $out\n"
        "  depfile = $out.d\n  deps = gcc\n  description = $out",
        "rule nvcc\n  command = $nvcc -MD -MF $out.d $flags -c $in -o $out\n"
        "  depfile = $out.d\n  deps = gcc\n  description = $out",
        "rule link\n  command = $cxx $in $flags -o $out\n  description = $out",
    ]
    for library in libraries:
        objects = []
        for source in library.sources:
            objects.append(f"{library.name}/{source.parent.name}_{source.name}.o")
            device = source.suffix == ".cu"
            flags = library.nvcc_flags if device else library.cxx_flags
            if source.name == "build_info.cpp":
                flags = flags + library.info_flags
            lines.append(f"build {objects[-1]}: {'nvcc' if device else 'cxx'} {_escape(source)}")
            lines.append("  flags = " + " ".join(flags))
            if device:
                lines.append(f"  nvcc = {library.toolkit.nvcc}")
        target = _escape(out_dir.resolve() / f"lib{library.name}.so")
        lines.append(f"build {target}: link {' '.join(objects)}")
        lines.append("  flags = " + " ".join(library.link_flags))
    return "\n".join(lines) + "\n"


def _escape(path: Path) -> str:
    return str(path.resolve()).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")
