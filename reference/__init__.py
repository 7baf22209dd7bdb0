# SPDX-License-Identifier: BSD-3-Clause
"""The definitions of the operators, by their formulas, in plain PyTorch.

They are slow, twice differentiable where they have gradients, and compute in the precision of
their tensors. They import only
torch and share no code with the library, whose results are compared with theirs.
"""

from reference.deform_conv import deform_conv2d, sample_points
from reference.deform_psroi import deform_psroi_pool, psroi_points
from reference.deform_roi import deform_roi_pool, roi_points
from reference.multiscale_align import fpn_levels, multiscale_roi_align
from reference.nms import batched_nms

__all__ = [
    "batched_nms",
    "deform_conv2d",
    "deform_psroi_pool",
    "deform_roi_pool",
    "fpn_levels",
    "multiscale_roi_align",
    "psroi_points",
    "roi_points",
    "sample_points",
]
