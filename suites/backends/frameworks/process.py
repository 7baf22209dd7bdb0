# SPDX-License-Identifier: BSD-3-Clause
"""Starts a framework's process, asks it, and replaces it after it has died."""

from __future__ import annotations

import atexit
import select
import subprocess
from pathlib import Path

import numpy as np

from suites.backends.frameworks.arrays import receive, send
from suites.backends.frameworks.environments import FRAMEWORKS, outside_environment

_ROOT = Path(__file__).resolve().parents[3]  # of the folder `suites`
_TIMEOUT_S = 120


class Process:
    """The process of one framework.

    Args:
        name: of its adapter; its environment must exist.
    """

    def __init__(self, name: str):
        self._name = name
        self._process: subprocess.Popen | None = None

    def call(
        self, options: dict, operands: dict[str, np.ndarray | None]
    ) -> dict[str, np.ndarray | None]:
        """The framework's results.

        Raises:
            AssertionError: The process dies or hangs, or the framework raises an error.
        """
        if self._process is None:
            self._start()
        try:
            send(self._process.stdin, options, operands)
            ready, _, _ = select.select([self._process.stdout], [], [], _TIMEOUT_S)
            if not ready:
                self.close()
                raise AssertionError(f"no answer within {_TIMEOUT_S} s")
            words, results = receive(self._process.stdout)
        except (EOFError, BrokenPipeError):
            code = self._process.wait()
            self.close()
            raise AssertionError(f"the process died with exit code {code}") from None
        if "error" in words:
            raise AssertionError(words["error"])
        return results

    def _start(self) -> None:
        python = str(FRAMEWORKS[self._name].executable)
        self._process = subprocess.Popen(
            [python, "-m", "suites.backends.frameworks.serve", self._name],
            env={**outside_environment(), "PYTHONPATH": str(_ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        atexit.register(self.close)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            atexit.unregister(self.close)
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None
