# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of batched non-maximum suppression."""

import torch

from suites.mutants.backend import Mutant, mutants_of
from suites.tolerance.naive_nms import NaiveNms

UNCHANGED_NMS = [Mutant("naive non-maximum suppression", NaiveNms, "batched_nms")]
NMS, nms = mutants_of(NaiveNms, "batched_nms")


def _returns(value):
    return lambda step, *_: value


def _higher_index_first(step, scores):
    return scores.numel() - 1 - step(scores.flip(0))


def _nan_last(step, scores):
    return step(scores.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf))


# fmt: off
nms("a box is suppressed at the threshold too",
    exceeds=lambda step, overlap, threshold: overlap >= threshold)
nms("suppressed boxes suppress others",
    suppresses_when_suppressed=_returns(True))
nms("groups ignored",
    same_group=lambda step, group, groups: torch.ones_like(groups, dtype=torch.bool))
nms("negative groups are all one", "groups as shifts of the coordinates",
    same_group=lambda step, group, groups: step(group.clamp(min=0), groups.clamp(min=0)))
nms("equal scores: higher index first", "unstable sort",
    order=_higher_index_first)
nms("ascending scores",
    order=lambda step, scores: step(-scores))
nms("boxes in the order of their indices",
    order=lambda step, scores: torch.arange(scores.numel()))
nms("NaN is the lowest score",
    order=_nan_last)
nms("absent boxes take part",
    present=lambda step, scores: torch.ones_like(scores, dtype=torch.bool))
nms("NaN scores are absent",
    present=lambda step, scores: scores > -torch.inf)
nms("negative scores are absent",
    present=lambda step, scores: (scores >= 0) | scores.isnan())
nms("end coordinates belong to the box", "Fast R-CNN",
    length=lambda step, first, last: step(first, last) + 1)
nms("extents not clamped: boxes apart along both axes share an area",
    clamped=lambda step, length: length)
nms("area shared over the sum of areas",
    quotient=lambda step, shared, own, areas: shared / (own + areas))
nms("area shared over the smaller area", "Soft-NMS variants",
    quotient=lambda step, shared, own, areas: shared / torch.minimum(own, areas))
nms("empty union counts as full overlap",
    quotient=lambda step, shared, own, areas: step(shared, own, areas).nan_to_num(nan=1.0))
nms("kept boxes in the order of their indices",
    suppress=lambda step, *operands: step(*operands).sort().values)
nms("last kept boxes returned",
    cut=lambda step, kept, max_out: kept[-max_out:])
nms("one box too few",
    cut=lambda step, kept, max_out: step(kept, max_out - 1))
nms("padded with 0",
    padding=_returns(0))
nms("absent boxes counted",
    count=lambda step, kept, scores: max(len(kept), int((scores == -torch.inf).sum())))
