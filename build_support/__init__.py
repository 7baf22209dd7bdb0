# SPDX-License-Identifier: BSD-3-Clause
"""What setup.py needs to build the shared libraries; not installed."""
