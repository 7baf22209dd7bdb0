# SPDX-License-Identifier: BSD-3-Clause
"""A run of limited time: the claims that find most faults come first, and none takes it all."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Sequence

_SHARE = 1 / 20  # of the time that is left, for one claim
# Claims in the order in which faults have been found by them: mutants of published kernels and
# failures of other libraries. Swapped y and x, a flipped kernel or a wrong stride fail the first
# ones, on problems that one can work out by hand. What is not listed comes after these.
FIRST = (
    "zero offset and unit mask is conv2d",
    "integer offset is a shifted conv",
    "equals the reference",
    "no mask is a mask of ones",
    "mask 0 removes a tap",
    "beyond the border is zero",
    "bias is added once",
    "groups are separate convolutions",
    "deform groups are a sum over masked channels",
    "slope at a kink lies between the one sided ones",
    "difference quotients give the gradient of",
    "frozen operands leave the other gradients as they are",
    "gradients of an empty batch are empty or zero",
    "pool equals the reference",
    "zero offset is no offset",
    "mask multiplies the bins",
    "difference quotients give the gradient of a pool",
    "integers and pairs mean the same",
    "splitting the batch changes nothing",
    "linear in",
    "operands are left as they were",
    "layout of an operand changes nothing",
    "layout of the gradient changes nothing",
    "non finite or out of range offsets affect only their samples",
    "channels in whole vectors equal the reference",
    "every run gives the same bits",
)
_DTYPES = ("float32", "float64", "float16", "bfloat16")


class Budget:
    """The time of a run, and of the claim that runs.

    Args:
        seconds: of the whole run, from now; by default unlimited.
    """

    def __init__(self, seconds: float = math.inf):
        self.end = self.claim_end = time.monotonic() + seconds

    def begin_claim(self) -> None:
        """Give the next claim its share of the time that is left."""
        now = time.monotonic()
        self.claim_end = now + max(self.end - now, 0) * _SHARE

    @property
    def over(self) -> bool:
        """Whether no claim may begin."""
        return time.monotonic() >= self.end

    @property
    def claim_over(self) -> bool:
        """Whether the claim that runs has used its share."""
        return time.monotonic() >= self.claim_end


def seconds(text: str) -> float:
    """The seconds of "90", "60s", "2min" or "none".

    Raises:
        ValueError: It is no such time.
    """
    if text == "none":
        return math.inf
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h|)", text)
    if not found or not float(found[1]):
        raise ValueError(f"wanted a time such as 60s, 2min or none, got {text}")
    return float(found[1]) * {"s": 1, "": 1, "min": 60, "h": 3600}[found[2]]


def in_order(checks: Sequence[tuple[str, str]]) -> list[int]:
    """Indices of checks, the most likely to fail first: a variant of each claim, then the next.

    Args:
        checks: the claim and the variant of each.
    """

    def likelihood(index: int) -> tuple[int, int]:
        claim, variant = checks[index]
        place = FIRST.index(claim) if claim in FIRST else len(FIRST)
        dtypes = [n for n, dtype in enumerate(_DTYPES) if dtype in variant.split("-")]
        return place, min(dtypes, default=0)

    seen: Counter = Counter()
    rounds = {}
    for index in sorted(range(len(checks)), key=likelihood):
        claim = checks[index][0]
        rounds[index] = seen[claim]
        seen[claim] += 1
    return sorted(rounds, key=rounds.__getitem__)
