# SPDX-License-Identifier: BSD-3-Clause
"""Runs the correctness suite on every implementation that the package index has, on the CPU.

    python -m suites.peers.field                        # all of them, in an hour
    python -m suites.peers.field paddle --profile brief

It builds the environments that are missing (`suites.backends.frameworks.environments`), writes a
report of each to out/field, and adds them to reports/verdicts.md. mmcv is judged if it is installed
(`suites.peers.build_mmcv`).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from suites.backends.frameworks.environments import ENVIRONMENTS, FRAMEWORKS
from suites.peers import page

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Subject:
    """An implementation to judge.

    Attributes:
        backend: its name for the suite.
        environment: its environment.
        inside: whether the suite runs in that environment, or in this one.
    """

    backend: str
    environment: str = ""
    inside: bool = False

    def prepare(self) -> None:
        """Build its environment.

        Raises:
            RuntimeError: one sentence that says why it cannot be judged.
        """
        if self.environment:
            ENVIRONMENTS[self.environment].build()
        elif importlib.util.find_spec(self.backend) is None:
            raise RuntimeError(f"{self.backend} is not installed")

    def run(self, module: str, *words: str) -> int:
        """Run a module with the suite's Python; returns its exit code."""
        environment = ENVIRONMENTS.get(self.environment)
        python = str(environment.executable) if self.inside else sys.executable
        paths = str(_ROOT) if self.inside else os.pathsep.join([str(_ROOT), *sys.path])
        command = [python, "-m", module, *words]
        return subprocess.run(
            command, cwd=_ROOT, env={**os.environ, "PYTHONPATH": paths}
        ).returncode


SUBJECTS = {
    "torchvision": Subject("torchvision"),
    "torchvision_0_29": Subject("torchvision", "torchvision_0_29", inside=True),
    "tvdcn": Subject("tvdcn.ops:deform_conv2d", "tvdcn", inside=True),
    "mmcv": Subject("mmcv"),
    **{name: Subject(name, name) for name in FRAMEWORKS},
}


def judge(name: str, profile: str, folder: Path) -> bool:
    """Write the report of an implementation; whether there is one."""
    subject = SUBJECTS[name]
    try:
        subject.prepare()
    except RuntimeError as error:
        print(f"{name}: not judged: {error}", flush=True)
        return False
    print(f"{name}: judging", flush=True)
    suite = ("suites/correctness", "--backend", subject.backend, "--device", "cpu")
    options = ("--profile", profile, "--report", str(folder), "-q", "--tb=no", "-rN")
    code = subject.run("pytest", *suite, *options, "-p", "no:cacheprovider")
    if code not in (0, 1):  # 1: a claim fails
        print(f"{name}: not judged: pytest ended with exit code {code}", flush=True)
        return False
    return subject.run("suites.peers.conventions", subject.backend, "--out", str(folder)) == 0


def main(words: Sequence[str] | None = None) -> int:
    """Judge the named implementations, and renew the page of verdicts."""
    parser = argparse.ArgumentParser(
        prog="python -m suites.peers.field",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SUBJECTS))
    parser.add_argument("--profile", default="default", help="of the correctness suite")
    parser.add_argument("--out", type=Path, default=Path("out/field"), help="default: out/field")
    options = parser.parse_args(words)
    names = options.names or list(SUBJECTS)
    for name in names:
        if name not in SUBJECTS:
            parser.error(f"there is no implementation {name}; wanted {', '.join(SUBJECTS)}")
    out = options.out.resolve()
    judged = [name for name in names if judge(name, options.profile, out / name)]
    if judged:
        print(f"wrote {page.write([out / name for name in judged])}")
    return int(len(judged) < len(names))


if __name__ == "__main__":
    sys.exit(main())
