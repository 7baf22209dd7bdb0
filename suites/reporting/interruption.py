# SPDX-License-Identifier: BSD-3-Clause
"""A run of pytest that gets SIGTERM, as from `timeout`, ends as by Ctrl-C and writes its report."""

import signal
from typing import NoReturn

INTERRUPTED = " (interrupted: not everything was run)"
"""What the title of a report says of such a run."""


def end_as_by_ctrl_c() -> None:
    """Have SIGTERM raise `KeyboardInterrupt`, once: more of them do not cut the report off."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, _frame: object) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt(f"ended by {signal.Signals(number).name}")
