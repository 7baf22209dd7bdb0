# SPDX-License-Identifier: BSD-3-Clause
"""Makes reference/ and suites/, which are not installed, importable in every test."""

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parent)
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)
