# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of the copies between layouts, which every call with contiguous operands makes."""

from suites.mutants.patches import EQUALS, Patch

_TRANSPOSE = "transpose.cu"


def _copy(name, file, old, new) -> Patch:
    return Patch(name, f"cuda/{file}", old, new, EQUALS, cuda=(file,))


COPY = [
    _copy(
        "copy: tile written before all of it is read",
        "copy.cu",
        """  __syncthreads();
  visit(to""",
        "  visit(to",
    ),
    _copy(
        "transposition: tile written before all of it is read",
        _TRANSPOSE,
        """  __syncthreads();

  // Store""",
        "  // Store",
    ),
    _copy(
        "transposition: words read without the swizzle",
        _TRANSPOSE,
        "const int swizzled = vector ^ line / Tile::kPerVector;",
        "const int swizzled = vector;",
    ),
    _copy(
        "transposition: one row taken for both of a pair",
        _TRANSPOSE,
        "second = rows[1][i / 2];",
        "second = rows[0][i / 2];",
    ),
    _copy(
        "transposition: last vector of a row written beyond its end",
        _TRANSPOSE,
        "if (i < count) to[i]",
        "to[i]",
    ),
    _copy(
        "transposition: every image read from the first",
        _TRANSPOSE,
        "static_cast<const Element*>(a.from) + image_start",
        "static_cast<const Element*>(a.from)",
    ),
]
