# SPDX-License-Identifier: BSD-3-Clause
"""Names of detectron2's and mmdetection's tensors as ours, which are torchvision's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

Rules = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]

# Computed by our modules, or without a use in evaluation and training.
UNUSED = re.compile(
    r"num_batches_tracked$|anchor_generator\.cell_anchors|^pixel_(mean|std)$|"
    r"^fc1000_|^pred_[wb]$|_momentum$|^(stem\.)?fc\.|^conv1_b$|^(lr|weight_order)$"
)


def shift(template: str, by: int) -> Callable[[re.Match[str]], str]:
    """Fills a template with the first group minus `by`, and the others as they are."""
    return lambda found: template.format(int(found[1]) - by, *found.groups()[1:])


_D2_BLOCK = r"res(\d)\.(\d+)\."
DETECTRON2: Rules = (
    # The backbone: without a prefix where it is an ImageNet net, without bottom_up in C4.
    (r"^(?:backbone\.(?:bottom_up\.)?)?stem\.conv1\.norm\.", "backbone.body.bn1."),
    (r"^(?:backbone\.(?:bottom_up\.)?)?stem\.conv1\.", "backbone.body.conv1."),
    (r"^roi_heads\.res5\.", "roi_heads.box_head.res5."),
    (r"^(?:backbone\.(?:bottom_up\.)?)?(?=res\d\.)", "backbone.body."),
    (_D2_BLOCK + r"conv(\d)\.norm\.", shift("layer{0}.{1}.bn{2}.", 1)),
    (_D2_BLOCK + r"shortcut\.norm\.", shift("layer{0}.{1}.downsample.1.", 1)),
    (_D2_BLOCK + r"shortcut\.", shift("layer{0}.{1}.downsample.0.", 1)),
    (_D2_BLOCK + r"conv2_offset\.", shift("layer{0}.{1}.conv2.conv_offset.", 1)),
    (_D2_BLOCK, shift("layer{0}.{1}.", 1)),
    (r"^backbone\.fpn_lateral(\d)\.norm\.", shift("backbone.fpn.inner_blocks.{0}.1.", 2)),
    (r"^backbone\.fpn_lateral(\d)\.", shift("backbone.fpn.inner_blocks.{0}.0.", 2)),
    (r"^backbone\.fpn_output(\d)\.norm\.", shift("backbone.fpn.layer_blocks.{0}.1.", 2)),
    (r"^backbone\.fpn_output(\d)\.", shift("backbone.fpn.layer_blocks.{0}.0.", 2)),
    (r"^proposal_generator\.rpn_head\.conv\.", "rpn.head.conv.0.0."),
    (r"^proposal_generator\.rpn_head\.objectness_logits\.", "rpn.head.cls_logits."),
    (r"^proposal_generator\.rpn_head\.anchor_deltas\.", "rpn.head.bbox_pred."),
    (r"^roi_heads\.box_head\.conv(\d)\.norm\.", shift("roi_heads.box_head.{0}.1.", 1)),
    (r"^roi_heads\.box_head\.conv(\d)\.", shift("roi_heads.box_head.{0}.0.", 1)),
    (r"^roi_heads\.box_head\.fc(\d)\.", shift("roi_heads.box_head.fc{0}.", -5)),
    (r"^roi_heads\.mask_head\.mask_fcn(\d)\.norm\.", shift("roi_heads.mask_head.{0}.1.", 1)),
    (r"^roi_heads\.mask_head\.mask_fcn(\d)\.", shift("roi_heads.mask_head.{0}.0.", 1)),
    (r"^roi_heads\.mask_head\.deconv\.", "roi_heads.mask_predictor.conv5_mask."),
    (r"^roi_heads\.mask_head\.predictor\.", "roi_heads.mask_predictor.mask_fcn_logits."),
)

# Caffe2's names as detectron2's.
CAFFE2: Rules = (
    (r"_w$", ".weight"),
    (r"_[bg]n_s$", ".norm.weight"),
    (r"_[bg]n_b$", ".norm.bias"),
    (r"_bn_rm$", ".norm.running_mean"),
    (r"_bn_riv$", ".norm.running_var"),
    (r"_b$", ".bias"),
    (r"^res_conv1\.norm", "stem.conv1.norm"),
    (r"^conv1\.", "stem.conv1."),
    (r"^(res\d)_(\d+)_branch1\.", r"\1.\2.shortcut."),
    (r"^(res\d)_(\d+)_branch2a\.", r"\1.\2.conv1."),
    (r"^(res\d)_(\d+)_branch2b\.", r"\1.\2.conv2."),
    (r"^(res\d)_(\d+)_branch2c\.", r"\1.\2.conv3."),
    (r"^fpn_inner_res(\d)_\d+_sum(?:_lateral)?\.", r"backbone.fpn_lateral\1."),
    (r"^fpn_res(\d)_\d+_sum\.", r"backbone.fpn_output\1."),
    (r"^conv_rpn(?:_fpn2)?\.", "proposal_generator.rpn_head.conv."),
    (r"^rpn_cls_logits(?:_fpn2)?\.", "proposal_generator.rpn_head.objectness_logits."),
    (r"^rpn_bbox_pred(?:_fpn2)?\.", "proposal_generator.rpn_head.anchor_deltas."),
    (r"^fc6\.", "roi_heads.box_head.fc1."),
    (r"^fc7\.", "roi_heads.box_head.fc2."),
    (r"^head_conv(\d)\.", r"roi_heads.box_head.conv\1."),
    (r"^(cls_score|bbox_pred)\.", r"roi_heads.box_predictor.\1."),
    (r"^_?\[?_?mask\]?_fcn(\d)\.", r"roi_heads.mask_head.mask_fcn\1."),
    (r"^conv5_mask\.", "roi_heads.mask_head.deconv."),
    (r"^mask_fcn_logits\.", "roi_heads.mask_head.predictor."),
)

MMDETECTION: Rules = (
    (r"^backbone\.", "backbone.body."),
    (r"(layer\d\.\d+\.conv2)_offset\.", r"\1.conv_offset."),
    (r"^neck\.lateral_convs\.(\d)\.conv\.", r"backbone.fpn.inner_blocks.\1.0."),
    (r"^neck\.lateral_convs\.(\d)\.[bg]n\.", r"backbone.fpn.inner_blocks.\1.1."),
    (r"^neck\.fpn_convs\.(\d)\.conv\.", r"backbone.fpn.layer_blocks.\1.0."),
    (r"^neck\.fpn_convs\.(\d)\.[bg]n\.", r"backbone.fpn.layer_blocks.\1.1."),
    # An RPN of its own has its head where other single-stage detectors have theirs.
    (r"^bbox_head\.(?=rpn_(conv|cls|reg)\.)", "rpn_head."),
    (r"^rpn_head\.rpn_conv\.", "rpn.head.conv.0.0."),
    (r"^rpn_head\.rpn_cls\.", "rpn.head.cls_logits."),
    (r"^rpn_head\.rpn_reg\.", "rpn.head.bbox_pred."),
    (r"^(?:roi_head\.)?bbox_head\.shared_convs\.(\d)\.conv\.", r"roi_heads.box_head.\1.0."),
    (r"^(?:roi_head\.)?bbox_head\.shared_convs\.(\d)\.[bg]n\.", r"roi_heads.box_head.\1.1."),
    (
        r"^(?:roi_head\.)?bbox_head\.shared_fcs\.(\d)\.",
        shift("roi_heads.box_head.fc{0}.", -6),
    ),
    (r"^(?:roi_head\.)?bbox_head\.fc_cls\.", "roi_heads.box_predictor.cls_score."),
    (r"^(?:roi_head\.)?bbox_head\.fc_reg\.", "roi_heads.box_predictor.bbox_pred."),
    (r"^(?:roi_head\.)?mask_head\.convs\.(\d)\.conv\.", r"roi_heads.mask_head.\1.0."),
    (r"^(?:roi_head\.)?mask_head\.convs\.(\d)\.[bg]n\.", r"roi_heads.mask_head.\1.1."),
    (r"^(?:roi_head\.)?mask_head\.upsample\.", "roi_heads.mask_predictor.conv5_mask."),
    (r"^(?:roi_head\.)?mask_head\.conv_logits\.", "roi_heads.mask_predictor.mask_fcn_logits."),
    (r"^(?:roi_head\.)?shared_head\.layer4\.", "roi_heads.box_head.layer4."),
)
_OURS = re.compile(
    r"(backbone\.body\.(conv1|bn1|layer\d\.\d+\.(conv\d|bn\d|downsample\.[01]|conv2\.conv_offset))|"
    r"backbone\.fpn\.(inner|layer)_blocks\.\d\.[01]|rpn\.head\.(conv\.0\.0|cls_logits|bbox_pred)|"
    r"roi_heads\.box_head\.(fc\d|\d\.[01]|layer4\.\d+\.(conv\d|bn\d|downsample\.[01]|"
    r"conv2\.conv_offset))|roi_heads\.box_predictor\.(cls_score|bbox_pred)|"
    r"roi_heads\.mask_head\.\d\.[01]|roi_heads\.mask_predictor\.(conv5_mask|mask_fcn_logits))"
    r"\.(weight|bias|running_mean|running_var)"
)


def renamed(names: Sequence[str], *rules: Rules) -> dict[str, str]:
    """Returns our name for each name of a file, without those that no module of ours has."""
    ours = {name: apply_rules(name, rules) for name in names if not UNUSED.search(name)}
    known = {old: new for old, new in ours.items() if _OURS.fullmatch(new)}
    return _single_fc(known)


def apply_rules(name: str, rules: Sequence[Rules]) -> str:
    """Returns a name after all replacements, in the order of the tables."""
    for table in rules:
        for pattern, replacement in table:
            name = re.sub(pattern, replacement, name)
    return name


def _single_fc(ours: Mapping[str, str]) -> dict[str, str]:
    """The one fc layer behind convolutions of a box head is numbered after them and a flatten."""
    convs = {found[1] for new in ours.values() if (found := re.match(_BOX_CONV, new))}
    if not convs:
        return dict(ours)
    fc = f"roi_heads.box_head.{len(convs) + 1}."
    return {old: new.replace("roi_heads.box_head.fc6.", fc) for old, new in ours.items()}


_BOX_CONV = r"roi_heads\.box_head\.(\d)\.0\."
