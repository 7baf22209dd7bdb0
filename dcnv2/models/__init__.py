# SPDX-License-Identifier: BSD-3-Clause
"""Detectors assembled from torchvision's parts and our deformable layers."""

from dcnv2.models.config import (
    BackboneConfig,
    BoxHeadConfig,
    MaskHeadConfig,
    ModelConfig,
    PoolConfig,
    RPNConfig,
)
from dcnv2.models.mask_rcnn import build_model

__all__ = [
    "BackboneConfig",
    "BoxHeadConfig",
    "MaskHeadConfig",
    "ModelConfig",
    "PoolConfig",
    "RPNConfig",
    "build_model",
]
