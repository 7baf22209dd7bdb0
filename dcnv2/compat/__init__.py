# SPDX-License-Identifier: BSD-3-Clause
"""The operators by other projects' names and argument orders: change one import line.

`dcnv2.compat.torchvision`, `.mmcv`, `.basicsr`, `.dcnv2_pytorch` (CharlesShang's DCNv2 and its
forks) and `.detectron2` have the classes and functions of the project that they are named after,
with its positional order, its defaults and its state_dict. Deform groups may be given as
`deform_groups`, `deformable_groups`, `offset_groups` or `offset_group` everywhere. Arguments that
only steered the other implementation (`im2col_step`) are taken and play no part.
"""

from . import basicsr, dcnv2_pytorch, detectron2, mmcv, torchvision

__all__ = ["basicsr", "dcnv2_pytorch", "detectron2", "mmcv", "torchvision"]
