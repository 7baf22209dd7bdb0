# SPDX-License-Identifier: BSD-3-Clause
"""Environments of other implementations: one virtual environment each, with pinned packages.

    python -m suites.backends.frameworks.environments paddle openvino   # build them
    python -m suites.backends.frameworks.environments                   # which there are

They are built once, in DCNV2_ENVIRONMENTS or else in dcnv2/environments of the user's cache folder
(XDG_CACHE_HOME or ~/.cache). One takes 0.1 to 2.7 GB, with a torch of its own 5 GB.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from suites.backends.frameworks import adapters

_SUITES = (
    "numpy==2.4.6",
    "pytest==9.2.0",
    "hypothesis==6.170.17",
    "pandas==3.1.1",
    "tabulate==0.10.0",
)


@dataclass(frozen=True)
class Environment:
    """What a virtual environment has.

    Attributes:
        name: of the implementation.
        requirements: pinned packages; the first one is the implementation's.
        python: the version of Python that they need; by default the one that runs this.
    """

    name: str
    requirements: tuple[str, ...]
    python: str = f"{sys.version_info.major}.{sys.version_info.minor}"

    @property
    def folder(self) -> Path:
        """Where it is or will be; the name depends on its packages."""
        pinned = " ".join((self.python, *self.requirements))
        return _root() / f"{self.name}-{hashlib.sha256(pinned.encode()).hexdigest()[:8]}"

    @property
    def executable(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def built(self) -> bool:
        """Whether it is complete."""
        return (self.folder / "complete").is_file()

    def build(self) -> None:
        """Build it, unless it is there.

        Raises:
            RuntimeError: one sentence that says why it cannot be built.
        """
        if self.built:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        pip = [str(self.executable), "-m", "pip", "install", "--quiet", "--no-compile"]
        self._run(_interpreter(self.python), "-m", "venv", str(self.folder))
        self._run(*pip, *self.requirements)
        (self.folder / "complete").touch()

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, env=outside_environment(), capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(self.folder, ignore_errors=True)
            said = [line for line in done.stderr.splitlines() if line.strip()]
            why = said[-1] if said else "no reason"
            raise RuntimeError(f"the environment of {self.name} cannot be built: {why}")


def adapter_of(name: str) -> ModuleType:
    """The adapter of a framework; importing it does not import the framework."""
    return importlib.import_module(f"{adapters.__name__}.{name}")


def outside_environment() -> dict[str, str]:
    """The variables of this process, without those that lead a Python to this one's packages."""
    return {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}


def _root() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("DCNV2_ENVIRONMENTS") or cache / "dcnv2" / "environments")


def _of_adapter(name: str) -> Environment:
    adapter = adapter_of(name)
    return Environment(name, adapter.REQUIREMENTS, getattr(adapter, "PYTHON", Environment.python))


FRAMEWORKS = {info.name: _of_adapter(info.name) for info in pkgutil.iter_modules(adapters.__path__)}
# Libraries for a torch of another version: the suite itself runs there.
TORCH_LIBRARIES = {
    "torchvision_0_29": Environment(
        "torchvision_0_29", ("torchvision==0.29.1", "torch==2.14.1", *_SUITES)
    ),
    "tvdcn": Environment(
        "tvdcn", ("tvdcn==1.1.0", "torch==2.7.1", "torchvision==0.22.1", *_SUITES)
    ),
}
ENVIRONMENTS = {**FRAMEWORKS, **TORCH_LIBRARIES}


def _interpreter(version: str) -> str:
    """A Python of that version: this one, one on PATH, or one of pyenv's."""
    if version == Environment.python:
        return sys.executable
    pyenv = (Path.home() / ".pyenv/versions").glob(f"{version}.*/bin/python")
    found = [shutil.which(f"python{version}"), *pyenv]
    for path in (str(path) for path in found if path):
        # A shim of pyenv's is there without its Python.
        if subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            return path
    raise RuntimeError(f"there is no Python {version} on PATH or among pyenv's")


def main(words: Sequence[str] | None = None) -> None:
    """Build the named environments, and list all of them."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.backends.frameworks.environments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ENVIRONMENTS))
    names = parser.parse_args(words).names
    for name in names:
        if name not in ENVIRONMENTS:
            parser.error(f"there is no environment {name}; wanted {', '.join(ENVIRONMENTS)}")
        print(f"{name}: {ENVIRONMENTS[name].folder}", flush=True)
        ENVIRONMENTS[name].build()
    for name, environment in ENVIRONMENTS.items():
        state = "built" if environment.built else "not built"
        print(f"{name}: {state}; {', '.join(environment.requirements)}")


if __name__ == "__main__":
    main()
