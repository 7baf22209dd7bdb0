# SPDX-License-Identifier: BSD-3-Clause
"""Whose weights a file holds, by the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

DETECTRON2, CAFFE2 = "detectron2", "Detectron (Caffe2)"
MMDETECTION, MMDETECTION1 = "mmdetection", "mmdetection 1"


@dataclass(frozen=True)
class Origin:
    """A kind of file.

    Attributes:
        pattern: some tensor's name matches this.
        text: what the file is.
        taken: how to use it.
        project: whose detector it is, of those that are converted; None for other files.
    """

    pattern: str
    text: str
    taken: str
    project: str | None = None

    @property
    def ours(self) -> bool:
        """Whether it can be used as it is."""
        return self.project is None and self.taken in (_INIT, _WEIGHTS)


_CONVERTED = "`dcnv2 convert FILE FOLDER` makes a run of it"
_INIT, _WEIGHTS = "--train.init takes it", "model.backbone.weights takes it"
_NO_HEAD = "dcnv2 has no such head, only Faster and Mask R-CNN's"
# The first that fits holds.
ORIGINS = (
    Origin(
        r"roi_head\.(bbox|mask)_head\.\d|roi_heads\.(box_predictor|box_head|mask_head)\.\d+\."
        r"(cls_score|bbox_pred|fc\d)|^bbox_head\.\d\.",
        *("a Cascade R-CNN", _NO_HEAD),
    ),
    Origin(r"roi_head\.mask_iou_head|mask_iou", "a Mask Scoring R-CNN", _NO_HEAD),
    Origin(r"(bbox_head\.retina_|^head\.(cls_subnet|bbox_subnet))", "a RetinaNet", _NO_HEAD),
    Origin(r"bbox_head\.(conv_centerness|gfl_|atss_)", "a one-stage detector", _NO_HEAD),
    Origin(r"keypoint_head|kps_score", "a Keypoint R-CNN", _NO_HEAD),
    Origin(r"(class_embed|transformer)\.", "a DETR", _NO_HEAD),
    Origin(r"^(model\.)?model\.\d+\.(conv|cv1|m)\.", "a YOLO of Ultralytics", _NO_HEAD),
    Origin(
        r"^(rpn_cls_logits|rpn_bbox_pred|conv_rpn)",
        *("a detector of Detectron (Caffe2)", _CONVERTED, CAFFE2),
    ),
    Origin(
        r"^(res2_0_branch|res_conv1_bn)",
        *("an ImageNet ResNet with Caffe2's names, as detectron2 has", _INIT, CAFFE2),
    ),
    Origin(r"^proposal_generator\.rpn_head\.", "a detector of detectron2", _CONVERTED, DETECTRON2),
    Origin(r"^stem\.conv1\.", "an ImageNet ResNet with detectron2's names", _INIT, DETECTRON2),
    Origin(
        r"^(roi_head|(rpn|bbox)_head\.rpn_cls)\.",
        *("a detector of mmdetection", _CONVERTED, MMDETECTION),
    ),
    Origin(r"^roi_heads\.box\.(predictor|feature)", "a detector of maskrcnn-benchmark", _INIT),
    Origin(r"^roi_heads\.box_predictor\.", "a detector with torchvision's names", _INIT),
    Origin(
        r"^layer1\.0\.conv1\.",
        *("an ImageNet ResNet of torchvision", _WEIGHTS),
    ),
)


def origin_of(names: Iterable[str]) -> Origin | None:
    """Returns the kind of a file with tensors of these names; None for an unknown one."""
    names = list(names)
    for origin in ORIGINS:
        if any(re.search(origin.pattern, name) for name in names):
            heads = [name for name in names if re.match(r"bbox_head\.fc_cls\.", name)]
            if origin.project == MMDETECTION and heads:
                return replace(origin, text="a detector of mmdetection 1", project=MMDETECTION1)
            return origin
    return None
