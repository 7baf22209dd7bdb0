# SPDX-License-Identifier: BSD-3-Clause
"""Deformable Convolution V2 for PyTorch."""

__version__ = "0.1.0"
