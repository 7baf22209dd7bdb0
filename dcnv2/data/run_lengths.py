# SPDX-License-Identifier: BSD-3-Clause
"""COCO's run-length codes, which count pixels down the columns: read without decoding an image.

A compressed code is text: numbers of 5 bits a character from '0' on, lowest bits first, 0x20 for
"more to come", the sign in bit 0x10 of the last character. From the fourth run on they are
differences to the run before last.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask

from dcnv2.data.polygons import finite
from dcnv2.structures import RunLengthMasks
from dcnv2.structures.masks import offsets, split_columns

MORE, SIGN = 0x20, 0x10
# 35 bits: longer numbers overflow the C library, and no image has a run that long.
MAX_CHARACTERS = 7


def run_lengths(mask: np.ndarray) -> list[int]:
    """Returns COCO's uncompressed code of bool [H, W]: runs of 0 and 1, down the columns."""
    changes = np.flatnonzero(np.diff(mask.T.ravel(), prepend=False))
    return np.diff(changes, prepend=0, append=mask.size).tolist()


def parse_codes(codes: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Reads compressed codes.

    Args:
        codes: N well-formed codes, see `rle_fault`.

    Returns:
        The runs of all codes, int64 [R], and which code each belongs to, int64 [R].
    """
    digits = np.frombuffer(b"".join(codes), np.uint8).astype(np.int64) - ord("0")
    (last,) = np.nonzero(digits & MORE == 0)
    if not len(last):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    begin = np.concatenate([[0], last[:-1] + 1])
    shifts = 5 * (np.arange(len(digits)) - np.repeat(begin, last - begin + 1))
    values = np.add.reduceat((digits & 0x1F) << shifts, begin)
    values -= np.where(digits[last] & SIGN, np.int64(1) << (shifts[last] + 5), 0)

    owner = np.searchsorted(np.cumsum([len(code) for code in codes]), begin, side="right")
    position = np.arange(len(owner)) - np.searchsorted(owner, owner)
    # Three chains of differences: the first run by itself, then the odd and the even ones.
    chain = 3 * owner + np.where(position == 0, 0, 2 - position % 2)
    order = np.argsort(chain, kind="stable")
    total = np.cumsum(values[order])
    first = np.searchsorted(chain[order], chain[order])
    runs = np.empty_like(values)
    runs[order] = total - np.where(first > 0, total[first - 1], 0)
    return runs, owner


def decode(codes: Sequence[bytes], size: tuple[int, int]) -> RunLengthMasks:
    """Returns the masks of N compressed codes in an image of (width, height)."""
    width, height = size
    runs, owner = parse_codes(codes)
    stop = np.cumsum(runs) - owner * (width * height)
    position = np.arange(len(owner)) - np.searchsorted(owner, owner)
    inside = (position % 2 == 1) & (runs > 0)
    stop, owner = stop[inside], owner[inside]
    pieces, run = split_columns(stop - runs[inside], stop, height)
    first = offsets(torch.from_numpy(owner[run]), len(codes))
    return RunLengthMasks(torch.from_numpy(pieces), first, (height, width))


def encode(masks: RunLengthMasks) -> list[dict[str, Any]]:
    """Returns COCO's compressed codes, as pycocotools.mask.encode does."""
    height, width = masks.size
    column, top, bottom = masks.runs.cpu().numpy().astype(np.int64).T
    start, stop = column * height + top, column * height + bottom
    limits = masks.first.tolist()
    codes = []
    for low, high in pairwise(limits):
        edges = np.stack([start[low:high], stop[low:high]], axis=1).ravel()
        touching = np.flatnonzero(edges[1:-1:2] == edges[2::2]) * 2 + 1
        edges = np.delete(edges, np.concatenate([touching, touching + 1]))
        counts = np.diff(edges[edges < height * width], prepend=0, append=height * width)
        plain = {"size": [height, width], "counts": counts.tolist()}
        codes.append(coco_mask.frPyObjects(plain, height, width))
    return codes


def rle_fault(code: dict[str, Any], size: tuple[int, int]) -> str | None:
    """Returns what is wrong with a run-length segmentation, compressed or not, or None.

    Args:
        code: COCO's `size` and `counts`.
        size: Width and height of the image.
    """
    width, height = size
    if code.get("size") != [height, width]:
        return f"size is {str(code.get('size'))[:60]}, the image is [{height}, {width}]"
    counts = code.get("counts")
    if isinstance(counts, list):
        if not finite(counts) or not all(run >= 0 and run == int(run) for run in counts):
            return "runs are not all counts of pixels"
        total = int(sum(counts))
    elif isinstance(counts, str | bytes):
        text = counts.encode("latin-1", "replace") if isinstance(counts, str) else counts
        if not _well_formed(text):
            return "counts is no text of run lengths"
        runs, _ = parse_codes([text])
        if runs.min(initial=0) < 0:
            return "a run has a negative length"
        total = int(runs.sum())
    else:
        return f"counts is {type(counts).__name__}, wanted a list or text"
    if total != height * width:
        return f"runs add up to {total} of {height * width} pixels"
    return None


def _well_formed(text: bytes) -> bool:
    """Whether a code has only characters of the format, and only whole numbers of sane length."""
    digits = np.frombuffer(text, np.uint8).astype(np.int64) - ord("0")
    if not len(digits) or digits.min() < 0 or digits.max() >= 64 or digits[-1] & MORE:
        return False
    (last,) = np.nonzero(digits & MORE == 0)
    return bool(np.diff(last, prepend=-1).max() <= MAX_CHARACTERS)
