# SPDX-License-Identifier: BSD-3-Clause
"""The APIs of other projects, so that migrating is a one-line import change.

`dcnv2.compat.torchvision`, `.mmcv`, `.basicsr`, `.dcnv2_pytorch` (CharlesShang's DCNv2 and its
forks) and `.detectron2` have the classes and functions of the project that they are named after,
with its argument order, its defaults and its state_dict. The number of deform groups may be given
as `deform_groups`, `deformable_groups`, `offset_groups` or `offset_group` everywhere. Arguments
that only tune the other implementation (`im2col_step`) are accepted and ignored.
"""

from . import basicsr, dcnv2_pytorch, detectron2, mmcv, torchvision

__all__ = ["basicsr", "dcnv2_pytorch", "detectron2", "mmcv", "torchvision"]
