# SPDX-License-Identifier: BSD-3-Clause
"""The options that problems cover, and those that no target supports."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from hypothesis import HealthCheck, Phase, given, settings

from suites.problems.conv_offsets import OFFSETS
from suites.problems.options import (
    CONV_OPTIONS,
    NMS_OPTIONS,
    POOL_OPTIONS,
    PYRAMID_OPTIONS,
    conv_options,
    nms_options,
    pool_options,
    pyramid_options,
)
from suites.problems.problem import Problem
from suites.problems.strategies import (
    conv_problems,
    nms_problems,
    pool_problems,
    pyramid_problems,
)

OPTIONS = {
    "convolution": CONV_OPTIONS,
    "pooling": POOL_OPTIONS,
    "pyramid": PYRAMID_OPTIONS,
    "suppression": NMS_OPTIONS,
}
_SPACES = {
    "deform_conv2d": ("convolution", conv_options),
    "deform_roi_pool": ("pooling", pool_options),
    "deform_psroi_pool": ("pooling", pool_options),
    "multiscale_roi_align": ("pyramid", pyramid_options),
    "batched_nms": ("suppression", nms_options),
}
_PROBES = 500  # problems of each kind that targets are asked about


def options_of(problem: Problem) -> Iterator[tuple[str, str, str]]:
    """The options that a problem covers: the space, the heading, the name."""
    space, covered = _SPACES[problem.op]
    for option, names in covered(problem).items():
        for name in names if isinstance(names, tuple) else (names,):
            yield space, option, name


def unsupported_options(targets: Sequence) -> set[tuple[str, str, str]]:
    """Options that many problems were generated with, none of them supported by any target."""
    tried, supported = set(), set()

    @settings(max_examples=_PROBES, phases=[Phase.generate], derandomize=True, database=None,
              deadline=None, suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(
        conv=conv_problems(offsets=OFFSETS),
        pool=pool_problems(),
        pyramid=pyramid_problems(),
        nms=nms_problems(),
    )
    def probe(**problems):
        for target, generated in itertools.product(targets, problems.values()):
            problem = target.adapt(generated)
            tried.update(options_of(generated))
            if target.supports(problem) is None:
                supported.update(options_of(problem))

    probe()
    return tried - supported
