# SPDX-License-Identifier: BSD-3-Clause
"""Runs the tests of the suites with one mutant of the suites themselves at a time.

    python -m suites.mutants.harness
    python -m suites.mutants.harness --only suites/tolerance --report reports

A harness that lets errors pass shows nothing, so its own parts are mutated too: the tolerance, the
layouts, the clock. It works as `suites.mutants.package`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from suites.mutants.package import run_set
from suites.mutants.patch_files import read_patches

HARNESS = read_patches("harness")


def main(words: Sequence[str] | None = None) -> int:
    """Run all mutants; returns the exit code."""
    return run_set(HARNESS, "harness", "Mutants of the suites", __doc__, words)


if __name__ == "__main__":
    sys.exit(main())
