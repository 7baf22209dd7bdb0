# SPDX-License-Identifier: BSD-3-Clause
"""The operators: deformable convolution and both deformable RoI poolings."""

from . import autograd, fallback, schema  # noqa: F401, the operators register on import
from .functional import deform_conv2d, deform_psroi_pool, deform_roi_pool

__all__ = ["deform_conv2d", "deform_psroi_pool", "deform_roi_pool"]
