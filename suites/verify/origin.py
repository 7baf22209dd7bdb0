# SPDX-License-Identifier: BSD-3-Clause
"""What was run, where, and with which versions: for a page that is read elsewhere."""

from __future__ import annotations

import dcnv2
from suites.reporting.provenance import provenance

_KEPT = ("machine", "cpu", "gpu", "python", "torch", "date")


def origin(command: str, implementation: str, version: str) -> dict[str, str]:
    """The command, the implementation, and the machine."""
    found = provenance(command)
    return {
        "command": command,
        "implementation": " ".join(filter(None, (implementation, version))),
        "dcnv2": dcnv2.__version__,
        **{key: found[key] for key in _KEPT},
    }
