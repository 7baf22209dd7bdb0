# SPDX-License-Identifier: BSD-3-Clause
"""mmdetection's detectors, whose files mostly bring their configuration along as text.

A file without it gets the settings of the project's base files: R, G, B with ImageNet's mean and
std, and strides in 3x3 convolutions; ResNeXt-101 32x8d has B, G, R.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcnv2.convert.detectors.conventions import BOX_WEIGHTS, Conversion
from dcnv2.convert.detectors.detectron2 import MEAN, RESNEXT_STD, default_sizes
from dcnv2.convert.detectors.origins import MMDETECTION1
from dcnv2.convert.detectors.settings import Settings, literal_settings

RGB_MEAN, RGB_STD = MEAN[::-1], RESNEXT_STD[::-1]
BOX_STDS = [0.1, 0.1, 0.2, 0.2]
REQUIRED: dict[str, tuple[Any, ...]] = {
    "model.type": ("MaskRCNN", "FasterRCNN", "RPN"),
    "model.backbone.type": ("ResNet", "ResNeXt"),
    "model.backbone.deep_stem": (False,),
    "model.backbone.avg_down": (False,),
    "model.neck.type": ("FPN",),
    "model.rpn_head.type": ("RPNHead",),
    "model.rpn_head.anchor_generator.type": ("AnchorGenerator",),
    "model.rpn_head.anchor_generator.center_offset": (0.0, 0),
    "model.rpn_head.anchor_generator.scale_major": (True,),
    "model.rpn_head.bbox_coder.type": ("DeltaXYWHBBoxCoder",),
    "model.rpn_head.loss_cls.use_sigmoid": (True,),
    "model.roi_head.type": ("StandardRoIHead",),
    "model.roi_head.bbox_head.bbox_coder.type": ("DeltaXYWHBBoxCoder",),
    "model.roi_head.bbox_head.loss_cls.use_sigmoid": (False,),
    "model.roi_head.bbox_roi_extractor.type": ("SingleRoIExtractor",),
    "model.roi_head.bbox_roi_extractor.roi_layer.type": ("RoIAlign",),
    "model.roi_head.mask_roi_extractor.roi_layer.type": ("RoIAlign",),
    "model.test_cfg.rcnn.nms.type": ("nms",),
}
COPIED = {
    "rpn.nms_pre": "rpn.pre_nms_test",
    "rpn.max_per_img": "rpn.post_nms_test",
    "rpn.nms.iou_threshold": "rpn.nms",
    "rcnn.score_thr": "box.score_threshold",
    "rcnn.nms.iou_threshold": "box.nms",
    "rcnn.max_per_img": "box.detections_per_image",
}


def settings_of(meta: Mapping[str, Any]) -> Settings:
    """Returns the configuration in a file's metadata; without values where it has none."""
    text = meta.get("cfg", meta.get("config"))
    values = literal_settings(text) if isinstance(text, str) else {}
    return Settings("the configuration in the file", values)


def classes_of(meta: Mapping[str, Any]) -> list[str] | None:
    """Returns the names of the classes in a file's metadata, if it has any."""
    data = meta.get("dataset_meta")
    places = [meta, data if isinstance(data, Mapping) else {}]
    found = [place.get(key) for place in places for key in ("CLASSES", "classes")]
    for names in found:
        if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
            return list(names)
    return None


def set_conventions(work: Conversion, project: str, settings: Settings) -> None:
    """Sets options, and folds into the weights, what mmdetection has otherwise.

    Args:
        work: with renamed tensors and the options of the layout; changed.
        project: MMDETECTION or MMDETECTION1.
        settings: see `settings_of`.

    Raises:
        ValueError: the configuration has something that no detector of ours has.
    """
    settings.require(REQUIRED)
    _set_input(work, settings)
    _set_anchors(work, settings)
    old = project == MMDETECTION1
    work.set("sizes, anchors, masks", "rounded as mmdetection does", geometry="mmdetection")
    coder = settings.get("model.rpn_head.bbox_coder", {})
    _fold_deltas(work, "rpn.head.bbox_pred", coder, [1.0] * 4, (1.0,) * 4)
    if work.options.get("task") != "proposals":
        _set_heads(work, settings, old)
    tests = settings.get("model.test_cfg", settings.get("test_cfg", {}))
    limits = Settings(settings.source, tests)
    for key, option in COPIED.items():
        if (value := limits.get(key)) is not None:
            work.set(f"test_cfg.{key}", value, **{option.replace(".", "__"): value})
    for step in _steps(settings.get("test_pipeline", [])):
        scale = step.get("scale", step.get("img_scale"))
        if isinstance(scale, list) and len(scale) == 2:
            long, short = max(scale), min(scale)
            work.set("size of images", scale, min_size=[short], max_size=long)
            break


def _set_input(work: Conversion, settings: Settings) -> None:
    note = "from the file" if settings.values else "as in the base files"
    caffe2 = work.options["backbone.arch"] == "resnext101_32x8d"
    # mmdetection 3 has the one, which stays B, G, R by default, mmdetection 2 the other.
    pixels = settings.get("model.data_preprocessor")
    if pixels is not None:
        rgb, divisor = pixels.get("bgr_to_rgb", False), pixels.get("pad_size_divisor", 1)
        work.set("padding", f"to a multiple of {divisor}", size_divisible=divisor)
    elif (pixels := settings.get("img_norm_cfg")) is not None:
        rgb = pixels.get("to_rgb", True)
    else:
        pixels = {"mean": MEAN, "std": RESNEXT_STD} if caffe2 else {}
        rgb, note = not caffe2, "as in the base files"
    mean, std = pixels.get("mean", RGB_MEAN), pixels.get("std", RGB_STD)
    work.pixels(list(mean), list(std), not rgb, note)
    style = settings.get("model.backbone.style", "pytorch")
    first = style == "caffe"
    where = "1x1" if first else "3x3"
    text = f"in the {where} convolution ({style})"
    work.set(f"stride ({note})", text, backbone__stride_in_1x1=first)


def _set_anchors(work: Conversion, settings: Settings) -> None:
    c4 = work.options.get("backbone.topology") == "c4"
    generator = settings.get("model.rpn_head.anchor_generator", {})
    sizes: list[list[float]] = [list(level) for level in default_sizes(c4)]
    if "scales" in generator and "strides" in generator:
        bases = generator.get("base_sizes") or generator["strides"]
        sizes = [[_whole(base * scale) for scale in generator["scales"]] for base in bases]
    work.anchors(sizes, generator.get("ratios", [0.5, 1.0, 2.0]))


def _whole(value: float) -> int:
    if value != int(value):
        raise ValueError(f"an anchor of {value:g} pixels: here sizes are whole")
    return int(value)


def _set_heads(work: Conversion, settings: Settings, old: bool) -> None:
    for head, name in (("box", "bbox"), ("mask", "mask")):
        if head == "mask" and work.options.get("mask.enabled") is False:
            continue
        # Without an extractor of their own, masks are pooled as boxes are.
        extractor = settings.get(f"model.roi_head.{name}_roi_extractor")
        extractor = extractor or settings.get("model.roi_head.bbox_roi_extractor", {})
        layer = extractor.get("roi_layer", {})
        aligned = layer.get("aligned", not old)
        ratio = layer.get("sampling_ratio", layer.get("sample_num", 2 if old else 0))
        half = "shifted by half a pixel" if aligned else "not shifted"
        work.set(
            f"pooling ({head})",
            f"RoIAlign, {half}, {ratio} samples (0: adaptive)",
            **{f"{head}__pool__aligned": aligned, f"{head}__pool__sampling_ratio": ratio},
        )
    coder = settings.get("model.roi_head.bbox_head.bbox_coder", {})
    _fold_deltas(work, "roi_heads.box_predictor.bbox_pred", coder, BOX_STDS, BOX_WEIGHTS)
    if old:
        work.fold("width of a box", "x2 - x1 + 1", "not reproduced: boxes differ by up to a pixel")
        work.fold("background", "the first class", "as here")
    else:
        work.background_last()


def _fold_deltas(
    work: Conversion,
    layer: str,
    coder: Mapping[str, Any],
    stds: list[float],
    ours: tuple[float, ...],
) -> None:
    means = coder.get("target_means", [0.0] * 4)
    work.box_deltas(layer, means, coder.get("target_stds", stds), ours)


def _steps(pipeline: Any) -> list[dict[str, Any]]:
    """The steps of a pipeline; in mmdetection 2 the outer one has the scale."""
    return [step for step in pipeline if isinstance(step, dict)] if pipeline else []
