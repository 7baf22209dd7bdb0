# SPDX-License-Identifier: BSD-3-Clause
"""`python -m dcnv2`."""

import sys

from dcnv2.cli import main

sys.exit(main())
