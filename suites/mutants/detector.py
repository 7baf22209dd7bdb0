# SPDX-License-Identifier: BSD-3-Clause
"""Runs the tests of the detector with one mutant of its models, engine or data at a time.

    python -m suites.mutants.detector
    python -m suites.mutants.detector --only dcnv2/models/matching.py --report reports

Each mutant is made in a copy of the package and its tests, and the test that must detect it runs
there in a process of its own, one for each core at a time. The command fails if a mutant is not
detected or a patch does not fit the sources.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from suites.mutants.package import run_set
from suites.mutants.patch_files import read_patches

DETECTOR = [patch for name in ("models", "engine", "data") for patch in read_patches(name)]


def main(words: Sequence[str] | None = None) -> int:
    """Run all mutants; returns the exit code."""
    return run_set(DETECTOR, "detector", "Mutants of models, engine and data", __doc__, words)


if __name__ == "__main__":
    sys.exit(main())
