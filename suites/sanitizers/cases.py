# SPDX-License-Identifier: BSD-3-Clause
"""Small problems on CUDA for slow tools: every kernel, non-finite offsets, strided operands.

`python -m suites.sanitizers.cases` runs them, forward and backward, and holds each result to its
tolerance. `suites.sanitizers.run` runs this under compute-sanitizer.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence

import torch

from suites.backends.ours import use_library
from suites.backends.registry import Target, get_backend
from suites.problems.nms import NmsProblem
from suites.problems.problem import ConvProblem, Problem, RoIProblem
from suites.problems.pyramid import PyramidProblem
from suites.tolerance.expectation import Expectation

# Channels that the tensor-core kernels take, more pixels than a tile has, and a row of taps.
FAST = ConvProblem(
    batch=3, in_channels=32, out_channels=48, height=9, width=11, kernel=(3, 2), stride=(1, 1),
    padding=(2, 1), groups=2, deform_groups=2, dtype="float16",
)  # fmt: skip
STRIDED = (("input", "strided"), ("offset", "transposed"), ("grad_output", "expanded"))
INPUTS_STRIDED = (("input0", "strided"), ("input2", "channels_last"), ("grad_output", "expanded"))
ROI_KINDS = ("inside", "huge", "outside", "inverted", "degenerate", "border")
# More RoIs, pixels and channels than a block processes at a time, and no multiples of that.
OVERSIZED = RoIProblem(
    channels=67, height=9, width=19, bins=(3, 5), samples=0,
    rois=(*65 * ("inside", "outside", "border", "inverted"), "whole", "huge"),
)  # fmt: skip

PYRAMID = PyramidProblem(
    channels=72, maps=((9, 19), (1, 1), (4, 6)), bins=(3, 5), aligned=False, dtype="bfloat16",
    rois=50 * (*ROI_KINDS, "whole"), levels=(0, 1, 2, -1, 0, 1, 1) * 50,
)  # fmt: skip


def convolutions() -> Iterator[tuple[str, ConvProblem]]:
    """Backends, by path, and their problems."""
    for offsets in ("small", "nan", "infinite", "out_of_range"):
        yield "dcnv2-simt", ConvProblem(dtype="float32", offsets=offsets)
        for path, dtype in itertools.product(("mma", "wgmma"), ("float16", "bfloat16")):
            yield f"dcnv2-{path}", FAST.but(dtype=dtype, offsets=offsets)
    for path, dtype in itertools.product(("mma", "wgmma"), ("float32", "bfloat16")):
        # One weight group, so that the gradients of the samples come from a matrix product
        yield f"dcnv2-{path}", FAST.but(dtype=dtype, groups=1)
        yield f"dcnv2-{path}", FAST.but(dtype=dtype, groups=1, deform_groups=1, offsets="nan")
        yield f"dcnv2-{path}", FAST.but(dtype=dtype, groups=1, offsets="out_of_range", mask=False)
    yield "dcnv2-simt", ConvProblem(dtype="float64", layouts=STRIDED)
    yield "dcnv2-simt", FAST.but(dtype="bfloat16")
    yield "dcnv2-mma", FAST.but(dtype="float32", layouts=STRIDED)
    yield "dcnv2-wgmma", FAST.but(layouts=STRIDED, bias=False, mask=False)
    yield "dcnv2", ConvProblem(height=1, width=1, padding=(2, 2), dtype="float32")


def poolings() -> Iterator[tuple[str, RoIProblem]]:
    """Both kinds."""
    for kind, offsets in itertools.product(("roi", "psroi"), ("small", "far", "nan", "infinite")):
        problem = RoIProblem(kind=kind, bins=(3, 3), rois=ROI_KINDS, offsets=offsets)
        yield "dcnv2", problem.but(dtype="float32")
    yield "dcnv2", RoIProblem(samples=0, rois=ROI_KINDS, dtype="float16")
    yield "dcnv2", RoIProblem(kind="psroi", bins=(3, 3), group_size=3, part_size=2, classes=3)
    yield "dcnv2", OVERSIZED.but(dtype="float32")
    yield (
        "dcnv2",
        OVERSIZED.but(kind="psroi", channels=6, bins=(5, 5), group_size=3, classes=2, samples=2),
    )


def suppressions() -> Iterator[tuple[str, NmsProblem]]:
    """Parts of a tile, several tiles, and more boxes than are processed at a time."""
    for count, scores in ((0, "distinct"), (33, "absent"), (130, "tied"), (130, "not finite")):
        yield "dcnv2", NmsProblem(count=count, scores=scores, dtype="float32")
    layouts = tuple((name, "strided") for name in NmsProblem.operand_names)
    yield "dcnv2", NmsProblem(batch=3, count=70, boxes="not finite", layouts=layouts)
    yield "dcnv2", NmsProblem(count=4200, extent=32, group_count=3, max_out=900, dtype="float32")


def pyramids() -> Iterator[tuple[str, PyramidProblem]]:
    """RoIAlign from several maps: sorted samples, tiles, and cells with many samples."""
    yield "dcnv2", PyramidProblem(rois=ROI_KINDS, levels=(0, 2, 1, -1, 0, 2), dtype="float32")
    yield "dcnv2", PYRAMID
    yield "dcnv2", PYRAMID.but(channels=67, dtype="float16")
    yield "dcnv2", PYRAMID.but(samples=0, bins=(2, 2), dtype="float32", layouts=INPUTS_STRIDED)


def all_problems() -> Iterator[tuple[str, Problem]]:
    """Those of all operators."""
    return itertools.chain(convolutions(), poolings(), suppressions(), pyramids())


def check(backend: str, problem: Problem, device: str = "cuda") -> list[str]:
    """Results that are dearer than allowed, or NaN where they may not be."""
    got = Target(get_backend(backend), device).run(problem)
    if device == "cuda":
        torch.cuda.synchronize()
    expectation = Expectation(problem)
    want = expectation.truth
    wrong = []
    for name, result in got.items():
        if not result.is_floating_point():
            wrong += [] if torch.equal(result.cpu(), want[name]) else [name]
            continue
        compared = expectation.decided(name)
        same_nans = torch.equal(result.cpu().isnan()[compared], want[name].isnan()[compared])
        if not same_nans or expectation.tolerances[name].error_ratio(result, want[name]) > 1:
            wrong.append(name)
    return wrong


def main(words: Sequence[str] | None = None) -> int:
    """Run all, or some; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m suites.sanitizers.cases", description=__doc__)
    parser.add_argument("--library", metavar="PATH", help="run this build of the library")
    parser.add_argument("--backend", metavar="NAME", help="run only its problems")
    parser.add_argument("--offsets", metavar="KIND", help="run only problems with these offsets")
    options = parser.parse_args(words)
    if options.library:
        use_library(options.library)
    count = failed = 0
    for backend, problem in all_problems():
        offsets = getattr(problem, "offsets", "none")
        if options.backend not in (None, backend) or options.offsets not in (None, offsets):
            continue
        print(f"{backend}, {problem.op}, {problem.dtype}, offsets {offsets}", flush=True)
        wrong = check(backend, problem)
        count, failed = count + 1, failed + bool(wrong)
        if wrong:
            print(f"{backend}: {', '.join(wrong)} wrong in {problem}")
    print(f"{count} problems checked, {failed} wrong")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
