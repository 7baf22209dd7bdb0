# SPDX-License-Identifier: BSD-3-Clause
"""Lets every test import reference/ and suites/ from the checkout, which are not installed."""

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parent)
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)
