# SPDX-License-Identifier: BSD-3-Clause
"""detectron2's detectors, and those of Detectron before it with Caffe2's names.

A file of weights says nothing of how images were scaled or where strides are. `config.yaml`, which
detectron2 writes next to the weights of a training, does; without it the settings are those of the
model zoo for the architecture.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dcnv2.convert.detectors.conventions import BOX_WEIGHTS, Conversion
from dcnv2.convert.detectors.origins import CAFFE2
from dcnv2.convert.detectors.settings import Settings

# Mean of B, G, R in 0 to 255, of detectron2 and of Detectron.
MEAN, CAFFE2_MEAN = [103.53, 116.28, 123.675], [102.9801, 115.9465, 122.7717]
STD, RESNEXT_STD = [1.0, 1.0, 1.0], [57.375, 57.12, 58.395]

# What has to have one of these values, since we have nothing else.
REQUIRED: dict[str, tuple[Any, ...]] = {
    "MODEL.META_ARCHITECTURE": ("GeneralizedRCNN", "ProposalNetwork"),
    "MODEL.BACKBONE.NAME": ("build_resnet_fpn_backbone", "build_resnet_backbone"),
    "MODEL.ROI_HEADS.NAME": ("StandardROIHeads", "Res5ROIHeads"),
    "MODEL.RESNETS.RES5_DILATION": (1,),
    "MODEL.FPN.FUSE_TYPE": ("sum",),
    "MODEL.ANCHOR_GENERATOR.OFFSET": (0, 0.0),
    "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE": (False,),
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": ("ROIAlignV2", "ROIAlign"),
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": ("ROIAlignV2", "ROIAlign"),
    "MODEL.KEYPOINT_ON": (False,),
    "MODEL.LOAD_PROPOSALS": (False,),
    "INPUT.FORMAT": ("BGR", "RGB"),
}
# What becomes an option as it is.
COPIED = {
    "MODEL.RPN.NMS_THRESH": "rpn.nms",
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": "rpn.pre_nms_train",
    "MODEL.RPN.PRE_NMS_TOPK_TEST": "rpn.pre_nms_test",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": "rpn.post_nms_train",
    "MODEL.RPN.POST_NMS_TOPK_TEST": "rpn.post_nms_test",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "box.score_threshold",
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": "box.nms",
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": "box.pool_size",
    "MODEL.BACKBONE.FREEZE_AT": "backbone.freeze_at",
    "TEST.DETECTIONS_PER_IMAGE": "box.detections_per_image",
    "INPUT.MAX_SIZE_TEST": "max_size",
}


def add_statistics(tensors: dict[str, Tensor]) -> None:
    """Adds the statistics that frozen norms with only a scale and a shift stand for, in place."""
    for name in list(tensors):
        layer, _, field = name.rpartition(".")
        part = layer.rpartition(".")[2]
        norm = part.startswith("bn") or layer.endswith("downsample.1")
        if norm and field == "weight" and f"{layer}.running_var" not in tensors:
            tensors[f"{layer}.running_mean"] = torch.zeros_like(tensors[name])
            # With the norm's eps, 1e-5, the divisor is 1.
            tensors[f"{layer}.running_var"] = torch.full_like(tensors[name], 1 - 1e-5)


def set_conventions(
    work: Conversion, project: str, state: Mapping[str, Tensor], config: Mapping[str, Any] | None
) -> None:
    """Sets options, and folds into the weights, what detectron2 has otherwise.

    Args:
        work: with renamed tensors and the options of the layout; changed.
        project: DETECTRON2 or CAFFE2.
        state: the file's tensors under its own names.
        config: `config.yaml`, or None without it.

    Raises:
        ValueError: the configuration has something that no detector of ours has.
    """
    settings = Settings("config.yaml", config or {})
    settings.require(REQUIRED)
    set_input(work, project, state, settings)
    c4 = work.options.get("backbone.topology") == "c4"
    old = project == CAFFE2
    # In old files the generator's anchors [A, 4] come along.
    cells = [state[name] for name in sorted(state) if "anchor_generator.cell_anchors" in name]
    sizes = settings.get("MODEL.ANCHOR_GENERATOR.SIZES", default_sizes(c4))
    ratios = settings.get("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", [[0.5, 1.0, 2.0]])
    if config is None and cells:
        sizes, ratios = _of_cells(cells)
    levels = 1 if c4 else 5
    sizes = sizes * levels if len(sizes) == 1 else sizes
    if any(level != ratios[0] for level in ratios):
        raise ValueError(f"aspect ratios differ between levels: {ratios}")
    work.anchors(sizes, ratios[0])
    work.size_major_anchors()
    work.set("sizes, anchors, masks", "rounded as detectron2 does", geometry="detectron2")
    if c4:
        work.set("padding", "none in a batch of one image", size_divisible=1)
    rpn = settings.get("MODEL.RPN.BBOX_REG_WEIGHTS", [1.0, 1.0, 1.0, 1.0])
    stds = [1 / weight for weight in rpn]
    work.box_deltas("rpn.head.bbox_pred", [0.0] * 4, stds, (1.0,) * 4)
    if work.options.get("task") != "proposals":
        _set_heads(work, settings, old)
    for key, option in COPIED.items():
        if (value := settings.get(key)) is not None:
            work.set(key, value, **{option.replace(".", "__"): value})
    if (side := settings.get("INPUT.MIN_SIZE_TEST")) is not None:
        work.set("INPUT.MIN_SIZE_TEST", side, min_size=[side])


def set_input(
    work: Conversion, project: str, state: Mapping[str, Tensor], settings: Settings
) -> None:
    """Sets the scale of pixels and the place of the stride."""
    resnext = "resnext" in work.options["backbone.arch"]
    note = "from config.yaml" if settings.values else "as in the model zoo"
    mean = CAFFE2_MEAN if project == CAFFE2 and "rpn.head.conv.0.0.weight" in work.tensors else MEAN
    std = RESNEXT_STD if resnext else STD
    if "pixel_mean" in state:
        mean, std = (state[f"pixel_{name}"].flatten().tolist() for name in ("mean", "std"))
        note = "from the file"
    mean, std = settings.get("MODEL.PIXEL_MEAN", mean), settings.get("MODEL.PIXEL_STD", std)
    work.pixels(mean, std, settings.get("INPUT.FORMAT", "BGR") == "BGR", note)
    first = settings.get("MODEL.RESNETS.STRIDE_IN_1X1", not resnext)
    where = "1x1" if first else "3x3"
    note = "from config.yaml" if settings.values else "as in the model zoo"
    work.set(f"stride ({note})", f"in the {where} convolution", backbone__stride_in_1x1=first)


def default_sizes(c4: bool) -> list[list[int]]:
    """Sizes of anchors in the model zoo: of each level, or of conv4."""
    sizes = [32, 64, 128, 256, 512]
    return [sizes] if c4 else [[size] for size in sizes]


def _of_cells(cells: list[Tensor]) -> tuple[list[list[int]], list[list[float]]]:
    """Sizes and ratios of anchors [A, 4] around 0, sizes first."""
    sizes, ratios = [], []
    for cell in cells:
        width, height = (cell[:, 2:] - cell[:, :2]).double().unbind(1)
        ratio = (height / width * 100).round() / 100
        ratios.append(sorted(set(ratio.tolist())))
        sizes.append(sorted({round(side) for side in (width * height).sqrt().tolist()}))
    return sizes, ratios


def _set_heads(work: Conversion, settings: Settings, old: bool) -> None:
    for head, name in (("box", "MODEL.ROI_BOX_HEAD"), ("mask", "MODEL.ROI_MASK_HEAD")):
        if head == "mask" and work.options.get("mask.enabled") is False:
            continue
        kind = settings.get(f"{name}.POOLER_TYPE", "ROIAlign" if old else "ROIAlignV2")
        ratio = settings.get(f"{name}.POOLER_SAMPLING_RATIO", 2 if old else 0)
        work.set(
            f"pooling ({head})",
            f"{kind}, {ratio} samples (0: adaptive)",
            **{f"{head}__pool__aligned": kind == "ROIAlignV2"},
            **{f"{head}__pool__sampling_ratio": ratio},
        )
    weights = settings.get("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", list(BOX_WEIGHTS))
    stds = [1 / weight for weight in weights]
    work.box_deltas("roi_heads.box_predictor.bbox_pred", [0.0] * 4, stds, BOX_WEIGHTS)
    if old:
        work.fold("width of a box", "x2 - x1 + 1", "not reproduced: boxes differ by up to a pixel")
        work.fold("background", "the first class", "as here")
    else:
        work.background_last()
