# SPDX-License-Identifier: BSD-3-Clause
"""`python -m suites.reporting`: see report.py."""

import sys

from suites.reporting.report import main

sys.exit(main())
