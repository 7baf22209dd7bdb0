# SPDX-License-Identifier: BSD-3-Clause
"""Find the installed torch without importing it.

A build needs only torch's headers, its libraries and its version. pip's isolated build environment
hides torch from imports, but the files are still where the environment keeps its packages.
"""

import importlib.util
import re
import runpy
import site
import sysconfig
from dataclasses import dataclass
from pathlib import Path

OLDEST = (2, 10)  # the oldest torch whose stable ABI has every function that csrc/ calls


@dataclass(frozen=True)
class TorchInstall:
    """An installed torch: its folder, its version and its CUDA version, None without CUDA."""

    root: Path
    version: str
    cuda: str | None


def find_torch() -> TorchInstall:
    """The torch of the environment that dcnv2 is installed into.

    Raises:
        RuntimeError: there is none, or it is too old.
    """
    spec = importlib.util.find_spec("torch")
    roots = [Path(spec.origin).parent] if spec and spec.origin else []
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    roots += [Path(folder, "torch") for folder in [*folders, site.getusersitepackages()]]
    root = next((root for root in roots if (root / "version.py").is_file()), None)
    if root is None:
        raise RuntimeError(
            "torch must be installed first: run `pip install torch`, then repeat this "
            "command (if torch is installed, add --no-build-isolation)"
        )
    names = runpy.run_path(str(root / "version.py"))
    found = TorchInstall(root, str(names["__version__"]), names.get("cuda"))
    if tuple(int(part) for part in re.findall(r"\d+", found.version)[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise RuntimeError(
            f"torch {oldest} or newer is needed, and torch {found.version} is installed: run "
            f"`pip install -U 'torch>={oldest}'`, then repeat this command"
        )
    return found
