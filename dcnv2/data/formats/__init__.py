# SPDX-License-Identifier: BSD-3-Clause
"""Readers of the formats in which tools export data sets; all return records of one kind."""
