# SPDX-License-Identifier: BSD-3-Clause
"""TensorBoard writes in a thread of its own, whose errors come back with the next curve."""

import contextlib
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_board_thread() -> Iterator[None]:
    """Leaves out the traceback of TensorBoard's thread, as on a full disk, during the block.

    The thread keeps its error, and the writer raises it at its next use.
    """
    before = threading.excepthook

    def hook(failure: threading.ExceptHookArgs) -> None:
        if type(failure.thread).__name__ != "_AsyncWriterThread":
            before(failure)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
