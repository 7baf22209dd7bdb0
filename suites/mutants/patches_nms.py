# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of batched non-maximum suppression: its CPU kernel, and what both libraries share."""

from suites.mutants.patches import SUPPRESSION, Patch

_FILE = "nms_ops.cpp"


def _cpu(name, old, new) -> Patch:
    return Patch(name, f"cpu/{_FILE}", old, new, SUPPRESSION, (_FILE,))


NMS_SOURCES = [
    Patch(
        "NMS: scores in ascending order",
        "nms_ops.h",
        "descending = true;",
        "descending = false;",
        SUPPRESSION,
        (_FILE,),
        (_FILE,),
    ),
    _cpu(
        "NMS: a box is suppressed at the threshold too",
        "shared / (both - shared) > threshold",
        "shared / (both - shared) >= threshold",
    ),
    _cpu(
        "NMS: extents not clamped",
        "std::max(T(0), width) * std::max(T(0), height)",
        "width * height",
    ),
    _cpu(
        "NMS: the last kept boxes of a group suppress nothing",
        "begin < area_.size(); begin += kBatch",
        "begin + kBatch <= area_.size(); begin += kBatch",
    ),
    _cpu(
        "NMS: only the first kept boxes of a group suppress others",
        "begin < area_.size(); begin += kBatch",
        "begin < std::min(area_.size(), size_t(1)); begin += kBatch",
    ),
    _cpu(
        "NMS: groups ignored",
        "kept_boxes[groups.at(image, at)]",
        "kept_boxes[0]",
    ),
    _cpu(
        "NMS: absent boxes take part",
        "if (scores.at(image, i) == -std::numeric_limits<T>::infinity()) continue;",
        "",
    ),
    _cpu(
        "NMS: NaN scores are absent",
        "scores.at(image, i) == -std::numeric_limits<T>::infinity()",
        "!(scores.at(image, i) > -std::numeric_limits<T>::infinity())",
    ),
    _cpu(
        "NMS: every image has the first one's boxes",
        "boxes.at(image, at, 0)",
        "boxes.at(0, at, 0)",
    ),
    _cpu(
        "NMS: strides of the sorted scores ignored",
        "const int64_t at = order.at(image, i);",
        "const int64_t at = static_cast<const int64_t*>(sorted.order.data_ptr())"
        "[image * call.boxes_per_image + i];",
    ),
    _cpu(
        "NMS: unused indices are 0",
        "int64_t(-1)",
        "int64_t(0)",
    ),
]
