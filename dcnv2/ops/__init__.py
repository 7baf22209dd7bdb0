# SPDX-License-Identifier: BSD-3-Clause
"""The operators: deformable convolution, RoI poolings, and batched NMS."""

# The operators register themselves on import, with the portable path; then come the libraries.
from . import autograd, fallback, flops, library, schema  # noqa: F401
from .autocast import get_autocast_compute_dtype, set_autocast_compute_dtype
from .functional import deform_conv2d, deform_psroi_pool, deform_roi_pool
from .multiscale import fpn_levels, multiscale_roi_align
from .nms import batched_nms

__all__ = [
    "batched_nms",
    "deform_conv2d",
    "deform_psroi_pool",
    "deform_roi_pool",
    "fpn_levels",
    "get_autocast_compute_dtype",
    "multiscale_roi_align",
    "set_autocast_compute_dtype",
]
