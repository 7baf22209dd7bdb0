# SPDX-License-Identifier: BSD-3-Clause
"""Reads mutants from files in the form of a diff.

    # a comment
    --- dcnv2/ops/checks.py
    @@ what is wrong, in a few words @@ tests/ops/test_checks.py::test_that_detects_it
    -    lines of the file, which are in it once
    +    the lines that replace them; without any, they are deleted

A file is named from the project's folder, and holds for all mutants up to the next one. For CUDA
sources, a third part after `@@` names the sources to compile and the path that runs, as in
`cuda=forward.cu,copy.cu kernels=mma`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from suites.mutants.patches import Patch

_HEADER = re.compile(r"@@ (.+) @@ (\S+::\w+)(?: @@ cuda=(\S+)(?: kernels=(\w+))?)?")
FOLDER = Path(__file__).parent


def read_patches(name: str, folder: Path = FOLDER) -> list[Patch]:
    """Return the mutants of `<name>.diff`.

    Raises:
        ValueError: a line is in none of the forms above; the message names it.
    """
    place, path = folder / f"{name}.diff", ""
    patches: list[Patch] = []
    for number, line in enumerate(place.read_text().splitlines(), start=1):
        kind, text = line[:1], line[1:] + "\n"
        if line.startswith("--- "):
            path = line[4:].removeprefix("csrc/")
        elif path and (header := _HEADER.fullmatch(line)):
            what, detected_by, source, kernels = header.groups(default="")
            cuda = tuple(source.split(",")) if source else ()
            patches.append(Patch(what, path, "", "", detected_by, cuda=cuda, kernels=kernels))
        elif kind == "-" and patches and not patches[-1].new:
            patches[-1] = replace(patches[-1], old=patches[-1].old + text)
        elif kind == "+" and patches and patches[-1].old:
            patches[-1] = replace(patches[-1], new=patches[-1].new + text)
        elif line and kind != "#":
            raise ValueError(f"{place}:{number}: not a line of a mutant: {line}")
    for patch in patches:
        if not patch.old:
            raise ValueError(f"{place}: {patch.name} replaces no line")
    return patches
