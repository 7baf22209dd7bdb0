# SPDX-License-Identifier: BSD-3-Clause
"""Planted faults: implementations with one error each, which the correctness suite must find.

A mutant is a plain implementation with one step replaced. Most are errors that were seen in the
wild; the others are the classic slips of such code. A mutant that no claim kills means that a
claim is missing. `UNCHANGED` are the plain implementations themselves, which must live.
"""

from suites.mutants.backend import Mutant
from suites.mutants.conv_geometry import GEOMETRY
from suites.mutants.conv_operands import OPERANDS
from suites.mutants.conv_sums import SUMS
from suites.mutants.pools import POOLS, UNCHANGED_POOLS
from suites.tolerance.naive_conv import NaiveConv

UNCHANGED = [Mutant("naive convolution", NaiveConv, "deform_conv2d"), *UNCHANGED_POOLS]
MUTANTS = [*GEOMETRY, *OPERANDS, *SUMS, *POOLS]

__all__ = ["MUTANTS", "UNCHANGED", "Mutant"]
