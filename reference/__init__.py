# SPDX-License-Identifier: BSD-3-Clause
"""The definitions of the operators, by their formulas, in plain PyTorch.

Slow, differentiable twice, in the precision of the tensors given. Imports torch alone and shares
nothing with the library: what the library computes is judged by this.
"""

from reference.deform_conv import deform_conv2d, sample_points
from reference.deform_psroi import deform_psroi_pool, psroi_points
from reference.deform_roi import deform_roi_pool, roi_points

__all__ = [
    "deform_conv2d",
    "deform_psroi_pool",
    "deform_roi_pool",
    "psroi_points",
    "roi_points",
    "sample_points",
]
