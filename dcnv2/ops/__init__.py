# SPDX-License-Identifier: BSD-3-Clause
"""The operators: deformable convolution and both deformable RoI poolings."""

# The operators register themselves on import, with the portable path; then come the libraries.
from . import autograd, fallback, flops, library, schema  # noqa: F401
from .autocast import get_autocast_compute_dtype, set_autocast_compute_dtype
from .functional import deform_conv2d, deform_psroi_pool, deform_roi_pool

__all__ = [
    "deform_conv2d",
    "deform_psroi_pool",
    "deform_roi_pool",
    "get_autocast_compute_dtype",
    "set_autocast_compute_dtype",
]
