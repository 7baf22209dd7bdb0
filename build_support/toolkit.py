# SPDX-License-Identifier: BSD-3-Clause
"""Find a CUDA toolkit of torch's major version; turn an architecture list into compiler flags."""

import os
import re
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

# A wheel serves every GPU: Ampere (and Ada, which runs its code), Hopper with its warpgroup
# instructions, PTX for later ones.
WHEEL_ARCH_LIST = "8.0;9.0a;9.0+PTX"
# Runs on all of them, slower on Hopper and later, and compiles in a third of the time.
NO_GPU_ARCH_LIST = "8.0+PTX"
OLDEST_ARCH = (8, 0)  # the kernels use bfloat16 and cp.async instructions


@dataclass(frozen=True)
class Toolkit:
    """A CUDA toolkit: its root folder, its nvcc, and its version as (major, minor)."""

    root: Path
    nvcc: Path
    version: tuple[int, int]

    @property
    def library_dirs(self) -> list[Path]:
        """Folders that may hold the CUDA runtime's shared library."""
        candidates = [
            self.root / "lib64",
            self.root / "lib",
            self.root / "targets/x86_64-linux/lib",
        ]
        return [folder for folder in candidates if folder.is_dir()]

    def runtime_library(self) -> Path:
        """The shared CUDA runtime; pip packages lack the unversioned link."""
        for folder in self.library_dirs:
            found = sorted(folder.glob("libcudart.so*"))
            if found:
                return found[0]
        raise FileNotFoundError(f"no libcudart.so in the toolkit at {self.root}")


def _toolkit_at(root: Path) -> Toolkit | None:
    nvcc = root / "bin" / "nvcc"
    if not nvcc.is_file():
        return None
    try:
        text = subprocess.run(
            [nvcc, "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.search(r"release (\d+)\.(\d+)", text)
    return Toolkit(root, nvcc, (int(match[1]), int(match[2]))) if match else None


def _root_behind(nvcc: str) -> Path | None:
    """The toolkit folder of an nvcc, which may be a wrapper script, as nvcc itself reports it."""
    try:
        run = subprocess.run([nvcc, "--dryrun", "none.cu"], capture_output=True, text=True)
    except OSError:
        return None
    match = re.search(r"^#\$ TOP=(.+)$", run.stderr, re.MULTILINE)
    return Path(match[1].strip()).resolve() if match else None


def candidate_roots() -> list[tuple[str, Path]]:
    """Folders that may hold a toolkit, as (origin, folder), in the order of trying."""
    found: list[tuple[str, Path]] = []
    if home := os.environ.get("CUDA_HOME"):
        found.append(("CUDA_HOME", Path(home)))
    if (on_path := shutil.which("nvcc")) and (root := _root_behind(on_path)):
        found.append(("nvcc on PATH", root))
    packages = Path(sysconfig.get_paths()["purelib"]) / "nvidia"
    found += [("pip packages", p) for p in sorted(packages.glob("cu*"), reverse=True)]
    found += [("pip packages", p) for p in [packages / "cuda_nvcc"] if p.is_dir()]
    return found


def find_toolkit(major: int) -> tuple[Toolkit | None, str]:
    """The first toolkit of CUDA `major` and its origin, or None and what was found instead."""
    seen = []
    for origin, root in candidate_roots():
        toolkit = _toolkit_at(root)
        if toolkit is None:
            seen.append(f"{origin}: no working nvcc under {root}")
        elif toolkit.version[0] != major:
            version = ".".join(map(str, toolkit.version))
            seen.append(f"{origin}: CUDA {version} at {root}, but torch needs CUDA {major}.x")
        else:
            return toolkit, f"{origin}: {root}"
    return None, "; ".join(seen) or (
        "CUDA_HOME is not set, nvcc is not on PATH, and no pip package holds one: install a CUDA "
        f"{major}.x toolkit, or its pip packages (docs/index.md lists them)"
    )


def arch_list(for_wheel: bool) -> str:
    """TORCH_CUDA_ARCH_LIST, else all architectures for a wheel, else those of the GPUs present."""
    if asked := os.environ.get("TORCH_CUDA_ARCH_LIST"):
        return asked.replace(" ", ";")
    if for_wheel:
        return WHEEL_ARCH_LIST
    return ";".join(_present_archs()) or NO_GPU_ARCH_LIST


def _present_archs() -> list[str]:
    """The architectures of the GPUs that the driver lists; no driver, none."""
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        text = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    found = sorted({(int(major), int(minor)) for major, minor in re.findall(r"(\d+)\.(\d)", text)})
    # Hopper's warpgroup instructions belong to 9.0a only.
    return ["9.0a" if arch == (9, 0) else f"{arch[0]}.{arch[1]}" for arch in found
            if arch >= OLDEST_ARCH]  # fmt: skip


def gencode_flags(arch_list: str) -> list[str]:
    """nvcc's flags for a list such as '8.0;9.0a;9.0+PTX', the format of TORCH_CUDA_ARCH_LIST.

    Raises:
        ValueError: an entry is not MAJOR.MINOR[a|f][+PTX].
    """
    flags = []
    for entry in arch_list.replace(" ", ";").split(";"):
        if not entry:
            continue
        match = re.fullmatch(r"(\d+)\.(\d)([af]?)(\+PTX)?", entry)
        if not match:
            raise ValueError(f"TORCH_CUDA_ARCH_LIST: '{entry}' is not MAJOR.MINOR[a|f][+PTX]")
        arch = match[1] + match[2] + match[3]
        flags.append(f"-gencode=arch=compute_{arch},code=sm_{arch}")
        if match[4]:
            flags.append(f"-gencode=arch=compute_{arch},code=compute_{arch}")
    # '9.0a;9.0+PTX' needs PTX for 9.0, but no second machine code for the same chip.
    own = {flag for flag in flags if re.search(r"sm_\d+a$", flag)}
    doubled = {re.sub(r"(\d+)a", r"\1", flag) for flag in own}
    return [flag for flag in dict.fromkeys(flags) if flag not in doubled]
