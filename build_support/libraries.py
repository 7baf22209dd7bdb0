# SPDX-License-Identifier: BSD-3-Clause
"""Compile csrc/ into the two shared libraries that dcnv2.ops loads.

Both use PyTorch's stable C ABI only, so one build serves every torch >= 2.10 and every Python.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .compiler import PROBE, compile_error, compiler
from .jobs import Job, Progress, run
from .toolkit import Toolkit, arch_list, find_toolkit, gencode_flags
from .torch_install import OLDEST, TorchInstall, find_torch

_TARGET = f"0x{OLDEST[0]:02x}{OLDEST[1]:02x}000000000000"  # torch's stable ABI, of this version
_STANDARD = "-std=c++20"
_NVCC_FLAGS = ["--expt-relaxed-constexpr", "-Xcompiler=-fPIC,-fvisibility=hidden,-Wall"]
_WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unknown-pragmas"]


@dataclass
class Library:
    """One shared library: its name, its sources and how they are compiled.

    Attributes:
        name: the file is lib<name>.so.
        sources: the .cpp and .cu files.
        cxx_flags: the C++ compiler's, for .cpp files.
        link_flags: the C++ compiler's, to link.
        info_flags: for build_info.cpp only, so that a new digest recompiles only that file.
        toolkit: CUDA's, to compile .cu files.
        nvcc_flags: nvcc's, for .cu files.
    """

    name: str
    sources: list[Path]
    cxx_flags: list[str]
    link_flags: list[str]
    info_flags: list[str]
    toolkit: Toolkit | None = None
    nvcc_flags: list[str] = field(default_factory=list)


def plan(
    root: Path, digest: Callable[..., str], for_wheel: bool = False
) -> tuple[list[Library], dict[str, str]]:
    """The libraries to build here, and for each other device type a clause that says why not.

    Args:
        root: The checkout.
        digest: dcnv2.csrc_digest's function, which digests a library's sources.
        for_wheel: whether the CUDA library is for every GPU, or for those of this machine.

    Raises:
        RuntimeError: torch is missing or too old, or DCNV2_BUILD_CUDA=1 asks for a CUDA library
            that can't be built.
        ValueError: CXX, DCNV2_BUILD_CUDA or TORCH_CUDA_ARCH_LIST has an invalid value.
    """
    wanted = os.environ.get("DCNV2_BUILD_CUDA", "auto")
    if wanted not in ("auto", "0", "1"):
        raise ValueError(f"DCNV2_BUILD_CUDA must be auto, 0 or 1, not '{wanted}'")
    torch = find_torch()
    archs = arch_list(for_wheel)
    gencode = gencode_flags(archs)
    skipped = {}
    if fault := _compiler_fault():
        skipped["cpu"] = fault
    toolkit = None
    if wanted == "0":
        skipped["cuda"] = "DCNV2_BUILD_CUDA=0"
    elif fault:
        skipped["cuda"] = fault
    else:
        toolkit, why = _cuda_toolkit(torch, gencode)
        if toolkit is None:
            skipped["cuda"] = why
    if wanted == "1" and toolkit is None:
        raise RuntimeError(
            f"DCNV2_BUILD_CUDA=1, but the CUDA library can't be built: {skipped['cuda']}"
        )
    planned = []
    if "cpu" not in skipped:
        planned.append(_cpu_library(root, digest, torch))
    if toolkit is not None:
        planned.append(_cuda_library(root, digest, torch, toolkit, archs))
    return planned, skipped


def _compiler_fault() -> str | None:
    """Why there is no C++ compiler that works, or None if there is one."""
    command = compiler()
    if command is None:
        return "there is no C++ compiler: install g++ 11 or newer, or clang++ 14 or newer"
    error = compile_error([*command, _STANDARD, "-fPIC"], ".cpp", PROBE)
    return error and (
        f"the C++ compiler `{' '.join(command)}` fails on a three-line C++20 program ({error}): "
        "repair it, or set CXX to another one"
    )


def _cuda_toolkit(torch: TorchInstall, gencode: list[str]) -> tuple[Toolkit | None, str]:
    """A toolkit that compiles for the architectures, or None and why there is none."""
    if torch.cuda is None:
        return None, f"torch {torch.version} has no CUDA"
    toolkit, why = find_toolkit(int(torch.cuda.split(".")[0]))
    if toolkit is None:
        return None, why
    error = compile_error([str(toolkit.nvcc), _STANDARD, *_NVCC_FLAGS, *gencode], ".cu", PROBE)
    return (None, f"{toolkit.nvcc} fails on a three-line program: {error}") if error else (
        toolkit, why)  # fmt: skip


def _common_flags(root: Path, torch: TorchInstall) -> list[str]:
    return [
        *_language_flags(root), "-fPIC", f"-isystem{torch.root / 'include'}",
        f"-DTORCH_TARGET_VERSION={_TARGET}", "-fvisibility=hidden", *_WARNINGS,
    ]  # fmt: skip


def _language_flags(root: Path) -> list[str]:
    return [_STANDARD, "-O3", f"-I{root / 'csrc'}"]


def _link_flags(torch: TorchInstall) -> list[str]:
    return ["-shared", f"-L{torch.root / 'lib'}", "-ltorch_cpu", "-Wl,--no-undefined"]


def _cpu_library(root: Path, digest: Callable[..., str], torch: TorchInstall) -> Library:
    return Library(
        "dcnv2_cpu",
        sorted((root / "csrc/cpu").rglob("*.cpp")),
        # No floating-point operation traps, so loops with rounding or comparisons vectorise.
        [*_common_flags(root, torch), "-fno-trapping-math"],
        _link_flags(torch),
        [_text_macro("DCNV2_CSRC_DIGEST", digest(root / "csrc", "cpu"))],
    )


def _cuda_library(
    root: Path, digest: Callable[..., str], torch: TorchInstall, toolkit: Toolkit, archs: str
) -> Library:
    gencode = gencode_flags(archs)
    hopper = ["-DDCNV2_SM90A"] if any("compute_90a" in flag for flag in gencode) else []
    lineinfo = ["-lineinfo"] if os.environ.get("DCNV2_LINEINFO") == "1" else []  # for profilers
    cuda_headers = f"-isystem{toolkit.root / 'include'}"
    return Library(
        "dcnv2_cuda",
        sorted(p for p in (root / "csrc/cuda").rglob("*.c*") if p.suffix in (".cu", ".cpp")),
        [*_common_flags(root, torch), *hopper, "-DUSE_CUDA", cuda_headers],
        [*_link_flags(torch), "-ltorch_cuda", str(toolkit.runtime_library())],
        [
            _text_macro("DCNV2_CSRC_DIGEST", digest(root / "csrc", "cuda")),
            _text_macro("DCNV2_ARCH_LIST", archs),
        ],
        toolkit,
        [*_language_flags(root), *_NVCC_FLAGS, *lineinfo, *gencode],
    )


def _text_macro(name: str, text: str) -> str:
    """A macro that is a string literal."""
    return f'-D{name}="{text}"'


def build(
    libraries: list[Library], build_dir: Path, out_dir: Path, progress: Progress | None = None
) -> None:
    """Compile and link what is out of date, MAX_JOBS at a time, into `out_dir`/lib<name>.so.

    Raises:
        RuntimeError: a source does not compile, or a library does not link.
    """
    progress = progress or Progress()
    build_dir.mkdir(parents=True, exist_ok=True)
    out_dir.mkdir(parents=True, exist_ok=True)
    compiled, linked = [], []
    for library in libraries:
        objects = [_compile_job(library, source, build_dir) for source in library.sources]
        compiled += objects
        linked.append(_link_job(library, objects, build_dir, out_dir))
    # Largest first: the last jobs to end are short ones, and no core waits long for them.
    stale = [job for job in compiled if not job.is_current()]
    stale.sort(key=lambda job: job.inputs[0].stat().st_size, reverse=True)
    progress.total = len(stale)
    run(stale, progress)
    for job in linked:
        if not job.is_current():
            job.run()


def object_name(source: Path) -> str:
    """The object file of a source."""
    return f"{source.parent.name}_{source.name}.o"


def compile_command(library: Library, source: Path) -> list[str]:
    """The compiler and the flags for one source of a library."""
    if source.suffix == ".cu":
        return [str(library.toolkit.nvcc), *library.nvcc_flags]
    own = library.info_flags if source.name == "build_info.cpp" else []
    return [*compiler(), *library.cxx_flags, *own]


def _compile_job(library: Library, source: Path, build_dir: Path) -> Job:
    command = [*compile_command(library, source), "-c", str(source.resolve())]
    return Job(
        "/".join(source.parts[source.parts.index("csrc") :]),
        command,
        build_dir,
        Path(library.name, object_name(source)),
        [source.resolve()],
        "-MD",
    )


def _link_job(library: Library, objects: list[Job], build_dir: Path, out_dir: Path) -> Job:
    paths = [job.target for job in objects]
    command = [*compiler(), *map(str, paths), *library.link_flags]
    return Job(
        f"lib{library.name}.so", command, build_dir,
        out_dir.resolve() / f"lib{library.name}.so", paths,
    )  # fmt: skip
