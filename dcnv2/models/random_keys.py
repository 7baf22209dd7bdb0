# SPDX-License-Identifier: BSD-3-Clause
"""Random numbers that follow from an image's seed and a position, on any device and in any batch.

A counter-based generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): the
number at a position is a hash of it, so a batch is drawn in a few launches without any state, and
each image draws the same numbers on every rank, in every micro-batch and after any resume.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import torch
from torch import Tensor

_MASK = 2**64 - 1


class Stream(IntEnum):
    """What the numbers are for; each has its own."""

    ANCHORS = 0
    PROPOSALS = 1
    MIMIC = 2
    SCALE = 3


def hash_seed(seed: int, stream: Stream) -> int:
    """64 random bits of a seed and a stream (the finaliser of splitmix64)."""
    value = (seed * len(Stream) + stream + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def seed_words(seeds: Sequence[int]) -> Tensor:
    """What `random_keys` needs of the seeds of N images: int32 [streams, N, 2], on the CPU."""
    words = [[divmod(hash_seed(seed, stream), 2**32) for seed in seeds] for stream in Stream]
    unsigned = torch.tensor(words, dtype=torch.int64).reshape(len(Stream), len(seeds), 2)
    return torch.where(unsigned >= 2**31, unsigned - 2**32, unsigned).int()


def random_keys(words: Tensor, count: int) -> Tensor:
    """Uniform numbers in [0, 2^31), int32 [N, count].

    Args:
        words: int32 [N, 2], of one stream of `seed_words`.
        count: how many for each image.
    """
    position = torch.arange(count, dtype=torch.int32, device=words.device)
    # An odd factor of each image's own makes its numbers no shifted copy of another image's. The
    # rest is murmur3's finaliser on 32 bits; products overflow on purpose.
    value = position * (words[:, :1] | 1) + words[:, 1:]
    for shift, factor in ((16, -0x7A143595), (13, -0x3D4D51CB)):
        value = (value ^ ((value >> shift) & (2 ** (32 - shift) - 1))) * factor
    return (value ^ ((value >> 16) & 0xFFFF)) & 0x7FFFFFFF
