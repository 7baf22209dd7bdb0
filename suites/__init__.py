# SPDX-License-Identifier: BSD-3-Clause
"""The suites that judge an implementation: correctness, speed, training; not installed."""
