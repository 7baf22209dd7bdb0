# SPDX-License-Identifier: BSD-3-Clause
"""Modules: deformable convolutions and RoI poolings, with and without their own offsets."""

from .conv import DeformConv2d, DeformConv2dPack, ModulatedDeformConv2dPack
from .roi_pool import DeformRoIPoolPack, ModulatedDeformRoIPoolPack

__all__ = [
    "DeformConv2d",
    "DeformConv2dPack",
    "DeformRoIPoolPack",
    "ModulatedDeformConv2dPack",
    "ModulatedDeformRoIPoolPack",
]
