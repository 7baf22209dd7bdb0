# SPDX-License-Identifier: BSD-3-Clause
"""Test, benchmark and training suites that work with any implementation; not installed."""
