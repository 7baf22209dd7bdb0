# SPDX-License-Identifier: BSD-3-Clause
"""The sets of steps that `suites.perf.step_time` measures."""

from __future__ import annotations

from collections.abc import Sequence

from suites.perf.step_case import INFERENCE, TORCHVISION, TRAINING, StepCase

# The most important first, since time may run out: the ends of the paper's ablation and what users
# train, the rest of the ablation, the large backbones, all other detectors.
CONFIGS = (
    *("mask_rcnn/r50_c5", "mask_rcnn/r50_c5_mdconv_c3-c5_mdpool"),
    *("mask_rcnn/r50_c5_mdconv_c3-c5_mdpool_mimic", "mask_rcnn/r50_fpn"),
    *("mask_rcnn/r50_fpn_dconv_c3-c5", "mask_rcnn/r50_fpn_mdconv_c3-c5"),
    *("mask_rcnn/r50_c5_dconv_c5_dpool", "mask_rcnn/r50_c5_dconv_c5"),
    *("mask_rcnn/r50_c5_dconv_c4-c5", "mask_rcnn/r50_c5_dconv_c3-c5"),
    *("mask_rcnn/r50_c5_dconv_c3-c5_dpool", "faster_rcnn/r50_c5"),
    *("faster_rcnn/r50_c5_mdconv_c3-c5_mdpool", "faster_rcnn/r50_c5_mdconv_c3-c5_mdpool_mimic"),
    *("mask_rcnn/r101_c5", "mask_rcnn/r101_c5_mdconv_c3-c5_mdpool_mimic"),
    *("mask_rcnn/x101_c5", "mask_rcnn/x101_c5_mdconv_c3-c5_mdpool_mimic"),
    *("faster_rcnn/r50_fpn", "faster_rcnn/r50_fpn_dconv_c3-c5", "faster_rcnn/r50_fpn_mdconv_c3-c5"),
    *("faster_rcnn/r50_fpn_mdconv_c3-c5_group4", "faster_rcnn/r50_fpn_dpool"),
    *("faster_rcnn/r50_fpn_mdpool", "scratch/r50_fpn_mdconv_c3-c5_group_6x", "mask_rcnn/r50_c4"),
    *("seed/e2e_deformconv_mask_rcnn_R_50_C5_1x", "mask_rcnn/r101_fpn_dconv_c3-c5"),
    *("faster_rcnn/r50_c5_dconv_c5_dpool", "faster_rcnn/r50_c5_dconv_c5"),
    *("faster_rcnn/r50_c5_dconv_c4-c5", "faster_rcnn/r50_c5_dconv_c3-c5"),
    *("faster_rcnn/r50_c5_dconv_c3-c5_dpool", "mask_rcnn/r101_c5_dconv_c5_dpool"),
    *("mask_rcnn/x101_c5_dconv_c5_dpool", "faster_rcnn/r101_c5", "faster_rcnn/x101_c5"),
    *("faster_rcnn/r101_c5_dconv_c5_dpool", "faster_rcnn/x101_c5_dconv_c5_dpool"),
    "faster_rcnn/r101_c5_mdconv_c3-c5_mdpool_mimic",
    "faster_rcnn/x101_c5_mdconv_c3-c5_mdpool_mimic",
    *("faster_rcnn/r50_c4", "mask_rcnn/r101_fpn", "faster_rcnn/r101_fpn", "mask_rcnn/x101_fpn"),
    *("faster_rcnn/x101_fpn", "scratch/r50_fpn_group_6x", "rpn/r50_fpn"),
)
DEFORMABLE, PLAIN = "mask_rcnn/r50_fpn_mdconv_c3-c5", "mask_rcnn/r50_fpn"
OPERATOR_BATCH, OPERATOR_SIDE = 8, 800
# torchvision's own detector, ours without and with deformable convolutions; and the paper's C5 net.
DETECTORS = (
    *(TORCHVISION, PLAIN, DEFORMABLE),
    *("mask_rcnn/r50_c5", "mask_rcnn/r50_c5_mdconv_c3-c5_mdpool_mimic"),
)
TRAINING_BATCHES, INFERENCE_BATCHES = (2, 8), (1, 8)


def config_cases(
    names: Sequence[str], batches: Sequence[int], side: int, precision: str
) -> list[StepCase]:
    """The configurations at one size, from images of COCO's usual 480 x 640."""
    source = (round(0.48 * side), round(0.64 * side))
    return [
        StepCase(name, "dcnv2", batch, source, side, precision)
        for name in names
        for batch in batches
    ]


def operator_cases(batch: int, side: int, precision: str) -> list[StepCase]:
    """One detector with regular convolutions and on each operator; images need no resizing."""
    return [
        StepCase(
            *(PLAIN if operator == "conv2d" else DEFORMABLE, operator, batch),
            *(_unresized(side), side, precision),
        )
        for operator in ("conv2d", "dcnv2", "torchvision")
    ]


def detector_cases(side: int, precision: str) -> list[StepCase]:
    """Training steps of whole detectors, torchvision's first."""
    return [
        StepCase(*(name, _operator(name), batch), *(_unresized(side), side, precision, TRAINING))
        for batch in TRAINING_BATCHES
        for name in DETECTORS
    ]


def inference_cases(side: int, precision: str) -> list[StepCase]:
    """Inference of the detectors with a pyramid, torchvision's first."""
    return [
        StepCase(*(name, _operator(name), batch), *(_unresized(side), side, precision, INFERENCE))
        for batch in INFERENCE_BATCHES
        for name in DETECTORS[:3]
    ]


def _unresized(side: int) -> tuple[int, int]:
    """Height and width of images with this shorter side, of which both are multiples of 32."""
    return side, round(1.52 * side)


def _operator(name: str) -> str:
    return "torchvision" if name == TORCHVISION else "dcnv2"
