# SPDX-License-Identifier: BSD-3-Clause
"""What data sets and models exchange besides tensors: masks as run lengths."""

from dcnv2.structures.masks import RunLengthMasks
from dcnv2.structures.resampling import resample

__all__ = ["RunLengthMasks", "resample"]
