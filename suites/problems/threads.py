# SPDX-License-Identifier: BSD-3-Clause
"""How many threads torch uses, for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """Limit torch to so many threads, if any; restore their number after."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
