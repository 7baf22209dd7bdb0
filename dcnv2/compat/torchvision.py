# SPDX-License-Identifier: BSD-3-Clause
"""torchvision.ops: `deform_conv2d` and `DeformConv2d`, which are ours unchanged."""

from dcnv2.nn import DeformConv2d
from dcnv2.ops import deform_conv2d

__all__ = ["DeformConv2d", "deform_conv2d"]
