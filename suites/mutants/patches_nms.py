# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of the CPU kernel of batched non-maximum suppression."""

from suites.mutants.patches import SUPPRESSION, Patch

_FILE = "nms_ops.cpp"
_TIE = "test_suppression.py::test_a_box_is_kept_at_the_threshold_and_suppressed_above_it"


def _cpu(name, old, new, detected_by=SUPPRESSION) -> Patch:
    return Patch(name, f"cpu/{_FILE}", old, new, detected_by, (_FILE,))


NMS_OF_CPU = [
    _cpu(
        "NMS: a box is suppressed at the threshold too",
        "shared / (both - shared) > threshold",
        "shared / (both - shared) >= threshold",
        _TIE,
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
        "if (score != -std::numeric_limits<T>::infinity()) found.push_back({score, i});",
        "found.push_back({score, i});",
    ),
    _cpu(
        "NMS: NaN scores are absent",
        "if (score != -std::numeric_limits<T>::infinity())",
        "if (score > -std::numeric_limits<T>::infinity())",
    ),
    _cpu(
        "NMS: NaN is the lowest score",
        "nan && !other_nan : score > other.score",
        "other_nan && !nan : score > other.score",
    ),
    _cpu(
        "NMS: equal scores: higher index first",
        "return one.before(other);",
        "return one.before(other) || (!other.before(one) && one.index > other.index);",
    ),
    _cpu("NMS: scores in ascending order", "score > other.score", "score < other.score"),
    _cpu(
        "NMS: every image has the first one's boxes",
        "boxes.at(image, at, 0)",
        "boxes.at(0, at, 0)",
    ),
    _cpu(
        "NMS: unused indices are 0",
        "int64_t(-1)",
        "int64_t(0)",
    ),
]
