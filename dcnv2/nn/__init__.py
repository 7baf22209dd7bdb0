# SPDX-License-Identifier: BSD-3-Clause
"""Modules: deformable convolutions and RoI poolings, with and without their own offsets."""

from .conv import DeformConv2d, DeformConv2dPack, ModulatedDeformConv2dPack
from .roi_pool import (
    DeformPSRoIPoolPack,
    DeformRoIPoolPack,
    ModulatedDeformPSRoIPoolPack,
    ModulatedDeformRoIPoolPack,
)

__all__ = [
    "DeformConv2d",
    "DeformConv2dPack",
    "DeformPSRoIPoolPack",
    "DeformRoIPoolPack",
    "ModulatedDeformConv2dPack",
    "ModulatedDeformPSRoIPoolPack",
    "ModulatedDeformRoIPoolPack",
]
