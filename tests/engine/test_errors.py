# SPDX-License-Identifier: BSD-3-Clause
"""Confusion matrix, precision and recall at a threshold, against an example counted by hand."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pycocotools.coco import COCO

from dcnv2.engine.evaluation.errors import find_errors
from dcnv2.engine.visualization.confusion import draw_confusion

CAT, DOG = 3, 8


def _truth(*annotations):
    truth = COCO()
    truth.dataset = {
        "images": [{"id": image_id} for image_id in (1, 2, 3)],
        "categories": [{"id": DOG, "name": "dog"}, {"id": CAT, "name": "cat"}],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": box, "iscrowd": crowd}
            for n, (i, c, box, crowd) in enumerate(annotations, start=1)
        ],
    }
    truth.createIndex()
    return truth


def _found(image_id, category, box, score=0.9):
    return {"image_id": image_id, "category_id": category, "bbox": box, "score": score}


def test_errors_counted_by_hand():
    """Image 1: a cat found, a dog taken for a cat, a dog missed. Image 2: a false dog. Image 3:
    a cat found twice, a dog on a region to ignore, and a cat on it, which is false."""
    truth = _truth(
        (1, CAT, [0, 0, 10, 10], 0),
        (1, DOG, [20, 0, 10, 10], 0),
        (1, DOG, [40, 0, 10, 10], 0),
        (3, CAT, [0, 0, 10, 10], 0),
        (3, DOG, [50, 50, 40, 40], 1),
    )
    results = [
        _found(1, CAT, [0, 0, 10, 9]),
        _found(1, CAT, [20, 0, 10, 8]),
        _found(1, DOG, [40, 0, 10, 10], 0.4),
        _found(2, DOG, [5, 5, 10, 10]),
        _found(3, CAT, [0, 0, 10, 10]),
        _found(3, CAT, [0, 0, 10, 9], 0.8),
        _found(3, DOG, [60, 60, 5, 5]),
        _found(3, CAT, [70, 70, 5, 5]),
    ]
    errors = find_errors(truth, results, [3, 1, 2], 0.5)
    assert errors.confusion.columns.tolist() == ["cat", "dog", "background"]
    assert errors.confusion.to_numpy().tolist() == [[2, 0, 0], [1, 0, 1], [2, 1, 0]]
    cat, dog = errors.per_class.to_dict("records")
    assert (cat["objects"], cat["detections"], cat["right"]) == (2, 5, 2)
    assert (cat["precision"], cat["recall"]) == pytest.approx((2 / 5, 1))
    assert (dog["objects"], dog["detections"], dog["right"]) == (2, 1, 0)
    assert (dog["precision"], dog["recall"], dog["f1"]) == (0, 0, 0)
    assert errors.per_image.to_numpy().tolist() == [
        [1, 3, 1, 1, 1, 0],
        [3, 1, 1, 0, 0, 2],
        [2, 0, 0, 0, 0, 1],
    ]


def test_equal_classes_are_matched_before_better_overlaps():
    truth = _truth((1, CAT, [0, 0, 10, 10], 0))
    results = [_found(1, DOG, [0, 0, 10, 10]), _found(1, CAT, [0, 0, 10, 6], 0.6)]
    confusion = find_errors(truth, results, [1], 0.5).confusion.to_numpy()
    assert confusion.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(("height", "is_right"), [(5, 1), (4.9, 0)])
def test_a_match_needs_half_the_union(height, is_right):
    truth = _truth((1, CAT, [0, 0, 10, 10], 0))
    errors = find_errors(truth, [_found(1, CAT, [0, 0, 10, height], 0.5)], [1], 0.5)
    assert errors.per_class["right"].tolist() == [is_right, 0]


def test_nothing_found_and_nothing_there():
    errors = find_errors(_truth(), [], [1, 2], 0.5)
    assert not errors.confusion.to_numpy().any()
    assert np.isnan(errors.per_class[["precision", "recall", "f1"]].to_numpy()).all()
    assert len(find_errors(_truth(), [], [], 0.5).per_image) == 0
    missed = find_errors(_truth((1, CAT, [0, 0, 9, 9], 0)), [], [1], 0.5)
    assert missed.confusion.loc["cat", "background"] == 1


@pytest.mark.parametrize("names", [["cat", "Köter", "a $x$ _y_"], [str(k) for k in range(40)]])
def test_a_confusion_matrix_is_drawn_for_any_names(tmp_path, names):
    labels = [*names, "background"]
    table = pd.DataFrame(np.eye(len(labels), dtype=int), index=labels, columns=labels)
    draw_confusion(table, tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as picture:
        assert min(picture.size) > 300
