# SPDX-License-Identifier: BSD-3-Clause
"""The commands `dcnv2 verify` and `dcnv2 bench`: both suites on one implementation, and a page."""
