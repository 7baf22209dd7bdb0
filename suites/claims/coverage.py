# SPDX-License-Identifier: BSD-3-Clause
"""The options that problems cover, and those that no target supports."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from hypothesis import HealthCheck, Phase, given, settings

from suites.problems.conv_offsets import OFFSETS
from suites.problems.options import CONV_OPTIONS, POOL_OPTIONS, conv_options, pool_options
from suites.problems.problem import Problem
from suites.problems.strategies import conv_problems, pool_problems

OPTIONS = {"convolution": CONV_OPTIONS, "pooling": POOL_OPTIONS}
_PROBES = 500  # problems of each kind that targets are asked about


def options_of(problem: Problem) -> Iterator[tuple[str, str, str]]:
    """The options that a problem covers: the space, the heading, the name."""
    conv = problem.op == "deform_conv2d"
    for option, names in (conv_options if conv else pool_options)(problem).items():
        for name in names if isinstance(names, tuple) else (names,):
            yield "convolution" if conv else "pooling", option, name


def unsupported_options(targets: Sequence) -> set[tuple[str, str, str]]:
    """Options that many problems were generated with, none of them supported by any target."""
    tried, supported = set(), set()

    @settings(max_examples=_PROBES, phases=[Phase.generate], derandomize=True, database=None,
              deadline=None, suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(conv=conv_problems(offsets=OFFSETS), pool=pool_problems())
    def probe(conv, pool):
        for target, generated in itertools.product(targets, (conv, pool)):
            problem = target.adapt(generated)
            tried.update(options_of(generated))
            if target.supports(problem) is None:
                supported.update(options_of(problem))

    probe()
    return tried - supported
