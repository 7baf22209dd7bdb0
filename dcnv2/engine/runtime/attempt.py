# SPDX-License-Identifier: BSD-3-Clause
"""Keeps errors of drawing and logging from ending a run."""

import contextlib
import logging
from collections.abc import Iterator

log = logging.getLogger("dcnv2")


@contextlib.contextmanager
def attempt(what: str) -> Iterator[None]:
    """Turns an error in the block into a warning that names the missing output.

    Args:
        what: file or picture that the block writes.
    """
    try:
        yield
    except Exception as error:
        log.warning("%s: left out after %s: %s", what, type(error).__name__, error)
