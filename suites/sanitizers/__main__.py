# SPDX-License-Identifier: BSD-3-Clause
"""`python -m suites.sanitizers`: see run.py."""

import sys

from suites.sanitizers.run import main

sys.exit(main())
