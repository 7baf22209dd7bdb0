# SPDX-License-Identifier: BSD-3-Clause
"""Mutants: implementations with one error each, which the correctness suite must find.

A mutant is a naive implementation with one step replaced. Most errors were seen in published code;
the others are typical mistakes. A mutant that no claim detects shows that a claim is missing.
`UNCHANGED` are the naive implementations themselves, for which every claim must hold.
"""

from suites.mutants.backend import Mutant
from suites.mutants.conv_geometry import GEOMETRY, WIDE_IMAGES
from suites.mutants.conv_operands import OPERANDS
from suites.mutants.conv_sums import SUMS
from suites.mutants.nms import NMS, UNCHANGED_NMS
from suites.mutants.pools import POOLS, UNCHANGED_POOLS
from suites.tolerance.naive_conv import NaiveConv

UNCHANGED = [
    Mutant("naive convolution", NaiveConv, "deform_conv2d"),
    *UNCHANGED_POOLS,
    *UNCHANGED_NMS,
]
MUTANTS = [*GEOMETRY, *OPERANDS, *SUMS, *POOLS, *NMS, *WIDE_IMAGES]

__all__ = ["MUTANTS", "UNCHANGED", "Mutant"]
