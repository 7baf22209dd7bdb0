# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of the detector's parts: levels, anchors, options, norms, losses, masks.

A mutant's file is below dcnv2/; `detected_by` is the path of a test in the project.
"""

from suites.mutants.patches import Patch

_TESTS = "tests/models"
_PARTS = f"{_TESTS}/test_options_reach_parts.py"
_LEVEL = f"{_PARTS}::test_a_roi_is_pooled_from_the_map_of_its_size"
_PLACE = f"{_PARTS}::test_rois_of_all_levels_are_pooled_where_they_are_and_in_their_order"
_CONV = f"{_PARTS}::test_options_of_deformable_convolutions_reach_them"
_POOL = f"{_PARTS}::test_options_of_deformable_pooling_reach_it"
_NORM = f"{_PARTS}::test_frozen_norms_have_the_eps_of_batch_norm"
_RPN = f"{_PARTS}::test_options_of_the_rpn_reach_it"
_BOX = f"{_PARTS}::test_options_of_the_box_head_reach_it"
_BEST = f"{_PARTS}::test_the_best_anchor_of_an_object_is_positive_however_little_it_overlaps"
_LOSSES = f"{_TESTS}/test_losses.py"
_CHUNKS = f"{_LOSSES}::test_matching_in_chunks_is_torchvisions"
_MINING = f"{_LOSSES}::test_without_mining_losses_are_torchvisions"
_INSIDE = f"{_LOSSES}::test_boxes_inside_regions_are_found"
_MASKS = f"{_LOSSES}::test_masks_of_another_size_are_cropped_where_the_box_is"
_TARGETS = f"{_TESTS}/test_mask_targets.py"
_CROWD = f"{_TESTS}/test_detector.py::test_crowd_regions_are_neither_objects_nor_background"
_PAPER = f"{_TESTS}/test_paper.py::test_conv4_and_conv5_share_stride_16"


MODELS = [
    # ---- pooling and levels
    Patch(
        "FPN levels off by one",
        "models/roi_heads.py",
        "finest = strides[0].bit_length() - 1",
        "finest = strides[0].bit_length()",
        _LEVEL,
    ),
    Patch(
        "the coarsest level never used",
        "models/roi_heads.py",
        "LevelMapper(finest, finest + len(strides) - 1)",
        "LevelMapper(finest, finest + len(strides) - 2)",
        _LEVEL,
    ),
    Patch(
        "RoIs left in the order of their levels",
        "models/roi_heads.py",
        "return torch.cat(pooled)[torch.cat(order).argsort()]",
        "return torch.cat(pooled)",
        _PLACE,
    ),
    Patch(
        "pooled features scattered by the inverse order",
        "models/roi_heads.py",
        "torch.cat(order).argsort()",
        "torch.cat(order)",
        _PLACE,
    ),
    Patch(
        "every RoI taken from the first image",
        "models/roi_heads.py",
        "torch.full_like(b[:, :1], image)",
        "torch.full_like(b[:, :1], 0)",
        _PLACE,
    ),
    Patch(
        "all levels pooled at the finest stride",
        "models/roi_heads.py",
        "1.0 / stride)",
        "1.0 / strides[0])",
        _PLACE,
    ),
    Patch(
        "number of detections not passed on",
        "models/roi_heads.py",
        "detections_per_img=config.detections_per_image",
        "detections_per_img=100",
        _BOX,
    ),
    Patch(
        "score threshold not passed on",
        "models/roi_heads.py",
        "score_thresh=config.score_threshold",
        "score_thresh=0.05",
        _BOX,
    ),
    Patch(
        "share of positive RoIs not passed on",
        "models/roi_heads.py",
        "positive_fraction=config.positive_fraction",
        "positive_fraction=0.25",
        _BOX,
    ),
    Patch(
        "IoU of positive RoIs not passed on",
        "models/roi_heads.py",
        "fg_iou_thresh=config.positive_iou",
        "fg_iou_thresh=0.5",
        _BOX,
    ),
    Patch(
        "no class for the background",
        "models/roi_heads.py",
        "PreciseBoxPredictor(channels, config.num_classes + 1)",
        "PreciseBoxPredictor(channels, config.num_classes)",
        _BOX,
    ),
    Patch(
        "proposals in crowd regions taken for background",
        "models/roi_heads.py",
        'proposal[~inside(proposal, target["ignore"])] if "ignore" in target else proposal',
        "proposal",
        _CROWD,
    ),
    # ---- RPN and matching
    Patch(
        "RPN without low-quality matches",
        "models/mask_rcnn.py",
        "allow_low_quality_matches=True",
        "allow_low_quality_matches=False",
        _BEST,
    ),
    Patch(
        "positive and negative IoU of anchors exchanged",
        "models/mask_rcnn.py",
        "config.positive_iou, config.negative_iou, allow",
        "config.negative_iou, config.negative_iou, allow",
        _RPN,
    ),
    Patch(
        "proposals of training cut as those of tests",
        "models/mask_rcnn.py",
        '{"training": config.post_nms_train,',
        '{"training": config.post_nms_test,',
        _RPN,
    ),
    Patch(
        "anchors sampled by a fixed share",
        "models/mask_rcnn.py",
        "positive_fraction=config.positive_fraction",
        "positive_fraction=0.5",
        _RPN,
    ),
    Patch(
        "RPN on the maps of the RoI heads",
        "models/mask_rcnn.py",
        "rpn.levels = backbone.rpn_levels",
        "rpn.levels = backbone.roi_levels[:1]",
        _RPN,
    ),
    Patch(
        "anchors in crowd regions taken for background",
        "models/detector.py",
        'label[(label == 0) & inside(anchor, target["ignore"])] = -1',
        "pass",
        _CROWD,
    ),
    Patch(
        "crowd regions learned as objects",
        "models/detector.py",
        "keep = crowd == 0",
        "keep = crowd >= 0",
        _CROWD,
    ),
    Patch(
        "only the last part's anchors matched",
        "models/matching.py",
        "best_of_object = torch.maximum(best_of_object, iou.max(dim=1).values)",
        "best_of_object = iou.max(dim=1).values",
        _CHUNKS,
    ),
    Patch(
        "anchors between the thresholds taken for background",
        "models/matching.py",
        "result[between] = self.BETWEEN_THRESHOLDS",
        "result[between] = self.BELOW_LOW_THRESHOLD",
        _CHUNKS,
    ),
    Patch(
        "a box ignored by its share of the region",
        "models/matching.py",
        "common >= IGNORED_SHARE * box_area(boxes)[:, None]",
        "common >= IGNORED_SHARE * box_area(regions)",
        _INSIDE,
    ),
    Patch(
        "boxes far from a region inside it twice negative",
        "models/matching.py",
        "(high - low).clamp(min=0).prod(dim=2)",
        "(high - low).prod(dim=2)",
        _INSIDE,
    ),
    # ---- layers
    Patch(
        "max_offset not passed on",
        "models/layers.py",
        '"max_offset": config.max_offset,',
        '"max_offset": None,',
        _CONV,
    ),
    Patch(
        "deform_groups not passed on",
        "models/layers.py",
        '"deform_groups": config.deform_groups,',
        '"deform_groups": 1,',
        _CONV,
    ),
    Patch(
        "mask_scale not passed on",
        "models/layers.py",
        'deform["mask_scale"] = config.mask_scale',
        'deform["mask_scale"] = 1.0',
        _CONV,
    ),
    Patch(
        "padding of one whatever the dilation",
        "models/layers.py",
        "3, stride, dilation, dilation, groups)",
        "3, stride, 1, dilation, groups)",
        _CONV,
    ),
    Patch(
        "gamma of pooling not passed on",
        "models/layers.py",
        "gamma=config.gamma,",
        "gamma=0.1,",
        _POOL,
    ),
    Patch(
        "hidden channels of pooling not passed on",
        "models/layers.py",
        '"hidden_channels": config.hidden_channels}',
        '"hidden_channels": 1024}',
        _POOL,
    ),
    Patch(
        "frozen norm without eps",
        "models/layers.py",
        "(self.running_var + self.eps).rsqrt()",
        "self.running_var.rsqrt()",
        _NORM,
    ),
    Patch(
        "frozen norm without its mean",
        "models/layers.py",
        "shift = self.bias - self.running_mean * scale",
        "shift = self.bias",
        _NORM,
    ),
    # ---- bodies, losses, transform
    Patch(
        "conv5 with a stride in spite of its dilation",
        "models/resnet.py",
        "stride = 1 if index == 0 or dilated else 2",
        "stride = 1 if index == 0 else 2",
        _PAPER,
    ),
    Patch(
        "one part too few frozen",
        "models/resnet.py",
        "parts[: self.config.freeze_at]",
        "parts[: max(self.config.freeze_at - 1, 0)]",
        f"{_TESTS}/test_weights.py::test_frozen_parts_get_no_gradient",
    ),
    Patch(
        "regression of the background learned",
        "models/losses.py",
        "positive = torch.where(label > 0)[0]",
        "positive = torch.where(label >= 0)[0]",
        _MINING,
    ),
    Patch(
        "regression of the next class learned",
        "models/losses.py",
        "[positive, label[positive]]",
        "[positive, label[positive] - 1]",
        _MINING,
    ),
    Patch(
        "width and height of a resized mask exchanged",
        "models/transform.py",
        "[old[1] / new[1], old[0] / new[0]]",
        "[old[0] / new[0], old[1] / new[1]]",
        f"{_PARTS}::test_the_ratio_of_masks_to_the_input_is_that_of_x_and_that_of_y",
    ),
    Patch(
        "the last row of a picture not repeated for mask targets",
        "models/mask_targets.py",
        "bottom[run] + (bottom[run] == height).long()",
        "bottom[run]",
        f"{_TARGETS}::test_rois_at_every_border_of_the_picture",
    ),
    Patch(
        "the last column of a picture not repeated for mask targets",
        "models/mask_targets.py",
        "copies = 1 + (column == width - 1).long()",
        "copies = torch.ones_like(column)",
        f"{_TARGETS}::test_rois_at_every_border_of_the_picture",
    ),
    Patch(
        "mask targets one pixel off",
        "models/mask_targets.py",
        "corner = windows[group, :2][plane] - 1",
        "corner = windows[group, :2][plane]",
        f"{_TARGETS}::test_crops_are_torchvisions",
    ),
    Patch(
        "mask targets padded without a bound",
        "models/mask_targets.py",
        "if fits and padded <= MAX_PADDING * least:",
        "if fits:",
        f"{_TARGETS}::test_small_windows_are_not_padded_to_a_large_one",
    ),
    Patch(
        "NaN in ImageNet weights loaded",
        "models/backbone.py",
        "if not value.isfinite().all():",
        "if False:",
        "tests/engine/test_damaged_runs.py::test_initial_weights_that_are_not_finite_are_refused",
    ),
]
