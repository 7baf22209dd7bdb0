# SPDX-License-Identifier: BSD-3-Clause
"""A temporary limit on torch's threads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """Limit torch to this many threads, if given; restore their number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
