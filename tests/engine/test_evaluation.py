# SPDX-License-Identifier: BSD-3-Clause
"""Numbers: both COCO evaluators agree, VOC by its rules, expected results, tables and pictures."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn
from toy_runs import toy_config

from dcnv2 import cli
from dcnv2.data.coco import CocoDataset
from dcnv2.data.shapes import write_shapes
from dcnv2.engine.config import ConfigError, to_yaml
from dcnv2.engine.evaluation import evaluate as evaluation
from dcnv2.engine.evaluation.coco_eval import coco_scores, results_of_kind
from dcnv2.engine.evaluation.evaluate import (
    UnexpectedResultError,
    check_expected,
    counted_detections,
    evaluate,
    evaluate_checkpoint,
    warn_of_limits,
)
from dcnv2.engine.evaluation.voc_eval import voc_scores
from dcnv2.engine.runtime.distributed import Communicator
from dcnv2.engine.training.trainer import train


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"), train=4, val=12, size=64, seed=3)


@pytest.fixture(scope="module")
def guesses(shapes):
    """Truth with crowds and empty images, and shaken copies of its objects as detections."""
    dataset = CocoDataset(shapes, "val")
    truth, rng, results = dataset.coco(), np.random.default_rng(0), []
    for annotation in truth.dataset["annotations"]:
        for _ in range(rng.integers(0, 4)):
            result = {key: annotation[key] for key in ("image_id", "category_id")}
            if rng.random() < 0.2:
                result["category_id"] = int(rng.choice(dataset.category_ids))
            result["bbox"] = (np.array(annotation["bbox"]) + rng.normal(0, 3, 4)).tolist()
            result["segmentation"] = annotation["segmentation"]
            result["score"] = float(rng.random())
            results.append(result)
    return dataset, truth, results


@pytest.mark.parametrize("agnostic", [False, True])
def test_both_evaluators_give_equal_numbers(guesses, agnostic):
    dataset, truth, results = guesses
    ids = dataset.image_ids.tolist()
    plain = coco_scores(truth, results, ids, class_agnostic=agnostic)
    fast = coco_scores(truth, results, ids, class_agnostic=agnostic, evaluator="fast")
    assert len(plain.numbers) == 24
    assert 0 < plain.numbers["box_AP"] < 1
    assert fast.numbers == pytest.approx(plain.numbers, abs=1e-12, nan_ok=True)
    pd.testing.assert_frame_equal(fast.per_class, plain.per_class)
    pd.testing.assert_frame_equal(fast.curves, plain.curves)


@pytest.mark.parametrize("shift", [-1000, 2**62, 2**53])
@pytest.mark.parametrize("evaluator", ["pycocotools", "fast"])
def test_ids_of_any_size_and_sign_give_the_same_numbers(guesses, evaluator, shift):
    dataset, truth, results = guesses

    def moved(entries, *keys):
        return [{**entry, **{key: entry[key] + shift for key in keys}} for entry in entries]

    other, parts = COCO(), truth.dataset
    other.dataset = {
        "images": moved(parts["images"], "id"),
        "categories": moved(parts["categories"], "id"),
        "annotations": moved(parts["annotations"], "image_id", "category_id"),
    }
    other.createIndex()
    ids = dataset.image_ids
    found = moved(results, "image_id", "category_id")
    scores = coco_scores(other, found, (ids + shift).tolist(), evaluator=evaluator)
    expected = coco_scores(truth, results, ids.tolist())
    assert scores.numbers == pytest.approx(expected.numbers, abs=1e-12, nan_ok=True)
    pd.testing.assert_frame_equal(scores.per_class, expected.per_class)


def test_numbers_are_those_of_pycocotools_summary(guesses):
    dataset, truth, results = guesses
    ids = dataset.image_ids.tolist()
    numbers = coco_scores(truth, results, ids, ["bbox"]).numbers
    scorer = COCOeval(truth, truth.loadRes(results_of_kind(results, "bbox")), "bbox")
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    got = [value for key, value in numbers.items() if key.startswith("box")]
    assert got == pytest.approx(np.where(scorer.stats < 0, np.nan, scorer.stats), nan_ok=True)
    order = "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl"
    assert " ".join(numbers).replace("box_", "") == order


@pytest.mark.parametrize("evaluator", ["pycocotools", "fast"])
def test_as_many_detections_count_as_are_asked_for(evaluator):
    """120 objects, all found."""
    boxes = [[20 * (i % 12), 20 * (i // 12), 10, 10] for i in range(120)]
    truth = _truth(*((1, box, 0) for box in boxes))
    results = [_found(1, box, 1 - i / 1000) for i, box in enumerate(boxes)]

    def numbers(limit):
        return coco_scores(
            truth, results, [1], ["bbox"], evaluator=evaluator, max_detections=limit
        ).numbers

    assert numbers(100)["box_AP"] == pytest.approx(84 / 101)
    all_count = numbers(120)
    for name in ("box_AP", "box_APs", "box_AR120", "box_ARs"):
        assert all_count[name] == pytest.approx(1), name
    assert all_count["box_AR10"] == pytest.approx(10 / 120)
    assert numbers(5)["box_AR5"] == pytest.approx(5 / 120)


@pytest.mark.parametrize(("iou", "overlap"), [(0.5, 52), (0.75, 72), (0.75, 77)])
def test_a_curve_is_that_of_its_label(iou, overlap):
    """A detection that covers so many percent of an object is right up to that IoU."""
    truth = _truth((1, [0, 0, 100, 10], 0))
    curves = coco_scores(truth, [_found(1, [0, 0, overlap, 10], 0.9)], [1], ["bbox"]).curves
    expected = 1 if overlap / 100 >= iou else 0
    assert curves["precision"][curves["iou"] == iou].tolist() == pytest.approx([expected] * 101)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 1, 3], r"1 are missing, such as \[2\]; 1 were repeated, such as \[1\]"),
        ([1, 2], "1 are missing"),
        ([1, 2, 3, 3], "0 are missing.*1 were repeated"),
        ([1, 2, 99], "1 are missing.*1 were repeated"),
    ],
)
def test_every_image_counts_once(shapes, tmp_path, monkeypatch, ids, message):
    config = toy_config(shapes, tmp_path, data={"val_limit": 3})
    dataset = CocoDataset(shapes, "val", limit=3)
    monkeypatch.setattr(evaluation, "detect", lambda *_: ([], ids))
    model = nn.Module()
    model.roi_heads = None
    with pytest.raises(RuntimeError, match=message):
        evaluate(model, dataset, config, Communicator(torch.device("cpu")))


def test_images_with_more_objects_than_count_are_reported(shapes, tmp_path, caplog):
    dataset = CocoDataset(shapes, "val")
    objects = len(dataset.coco().dataset["annotations"]) / len(dataset)
    config = toy_config(shapes, tmp_path)
    assert objects > 2
    warn_of_limits(dataset, config)
    assert not caplog.text
    config.model.box.detections_per_image, config.eval.max_detections = 2, 1
    warn_of_limits(dataset, config)
    assert "have more than 2 objects (at most" in caplog.text
    assert "raise model.box.detections_per_image" in caplog.text
    assert "have more than 1 objects of a class (at most" in caplog.text
    assert "raise eval.max_detections" in caplog.text
    caplog.clear()
    config.model.box.detections_per_image, config.eval.max_detections = 50, None
    assert counted_detections(config) == 50
    warn_of_limits(dataset, config)
    assert not caplog.text


@pytest.mark.parametrize("evaluator", ["pycocotools", "fast"])
def test_nothing_found_is_a_score_too(guesses, evaluator):
    dataset, truth, _ = guesses
    numbers = coco_scores(truth, [], dataset.image_ids.tolist(), evaluator=evaluator).numbers
    assert numbers["mask_AP"] == 0
    assert numbers["box_AR100"] == 0


def _truth(*annotations):
    truth = COCO()
    truth.dataset = {
        "images": [{"id": 1}, {"id": 2}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": 1,
                "bbox": box,
                "iscrowd": difficult,
                "area": box[2] * box[3],
            }
            for number, (image, box, difficult) in enumerate(annotations, start=1)
        ],
    }
    truth.createIndex()
    return truth


def _box_mask(height, width, box):
    mask = np.zeros((height, width), np.uint8, order="F")
    x, y, w, h = box
    mask[y : y + h, x : x + w] = 1
    return mask


@pytest.mark.parametrize("evaluator", ["pycocotools", "fast"])
def test_a_mask_is_sized_by_its_own_area(evaluator):
    """A wrong mask of 550 pixels in a box of 1600 counts among small objects, not medium ones."""
    small = rle.encode(_box_mask(100, 100, [0, 0, 25, 24]))
    wrong = _box_mask(100, 100, [50, 50, 40, 5])
    wrong[50:90, 50:60] = 1  # an L: 40 x 40 around it, 550 pixels of it
    truth = _truth()
    for image in truth.dataset["images"]:
        image |= {"height": 100, "width": 100}
    common = {"image_id": 1, "category_id": 1, "iscrowd": 0}
    truth.dataset["annotations"] = [
        {**common, "id": 1, "bbox": [0, 0, 25, 24], "area": 600, "segmentation": small}
    ]
    truth.createIndex()
    results = [
        _found(1, [50, 50, 40, 40], 0.9) | {"segmentation": rle.encode(wrong)},
        _found(1, [0, 0, 25, 24], 0.5) | {"segmentation": small},
    ]
    numbers = coco_scores(truth, results, [1], evaluator=evaluator).numbers
    assert numbers["mask_APs"] == pytest.approx(0.5), "the wrong mask comes first"
    assert numbers["box_APs"] == pytest.approx(1.0), "the wrong box is a medium one"


def _found(image, box, score):
    return {"image_id": image, "category_id": 1, "bbox": box, "score": score}


FAR, HERE, THERE = [50, 50, 10, 10], [0, 0, 10, 10], [20, 20, 10, 10]


def test_voc_by_hand():
    """Three objects, one difficult. Found: right, the difficult one, twice, wrong, right."""
    truth = _truth((1, HERE, 0), (1, THERE, 1), (2, HERE, 0))
    results = [
        _found(1, [0, 0, 10, 9], 0.9),
        _found(1, THERE, 0.8),
        _found(1, HERE, 0.7),
        _found(2, FAR, 0.6),
        _found(2, [0, 0, 8, 8], 0.5),
    ]
    # Recall, precision after each that counts: 1/2, 1; 1/2, 1/2; 1/2, 1/3; 1, 1/2.
    area = voc_scores(truth, results, [1, 2])
    assert area.numbers["box_mAP50"] == pytest.approx(0.5 * 1 + 0.5 * 0.5)
    assert np.isnan(area.per_class["AP"][1]), "a class without objects has no score"
    eleven = voc_scores(truth, results, [1, 2], eleven_points=True)
    assert eleven.numbers["box_mAP50"] == pytest.approx((6 * 1 + 5 * 0.5) / 11)


def test_voc_needs_more_than_half_the_area_and_looks_at_given_images_alone():
    truth = _truth((1, HERE, 0), (2, HERE, 0))
    assert voc_scores(truth, [_found(1, [0, 0, 10, 5], 1.0)], [1]).numbers["box_mAP50"] == 0
    assert voc_scores(truth, [_found(1, [0, 0, 10, 5.1], 1.0)], [1]).numbers["box_mAP50"] == 1


def test_expected_results_have_a_band():
    row = pd.DataFrame([{"box_AP": 0.40, "mask_AP": 0.30}])
    check_expected(row, {"box_AP": [0.41, 0.01 + 1e-9], "mask_AP": [0.3, 0.0]})
    for expected in ({"box_AP": [0.42, 0.01]}, {"box_AP": [0.38, 0.01]}, {"AP": [0.0, 1.0]}):
        with pytest.raises(UnexpectedResultError, match="expected"):
            check_expected(row, expected)
    with pytest.raises(UnexpectedResultError, match="is nan"):
        check_expected(pd.DataFrame([{"box_AP": np.nan}]), {"box_AP": [0.4, 1.0]})


@pytest.fixture(scope="module")
def trained(shapes, tmp_path_factory):
    config = toy_config(shapes, tmp_path_factory.mktemp("runs"), train={"steps": 1})
    train(config)
    return config


@pytest.mark.slow
def test_command_writes_tables_pictures_and_what_the_server_takes(trained, shapes, tmp_path):
    out = tmp_path / "result"
    words = ["eval", str(trained.folder), "--out", str(out), "--evaluator", "fast"]
    assert cli.main([*words, "--csv", str(tmp_path / "row.csv")]) == 0
    for name in ("precision_recall.png", "sizes.png"):
        assert (out / "pictures" / name).stat().st_size > 5000
    truth = COCO(str(shapes / "annotations" / "instances_val.json"))
    row = pd.read_csv(tmp_path / "row.csv").iloc[0]
    for kind, field in (("bbox", "bbox"), ("segm", "segmentation")):
        file = out / f"detections_{kind}.json"
        detections = json.loads(file.read_text())
        assert {"image_id", "category_id", "score", field} == set(detections[0])
        scorer = COCOeval(truth, truth.loadRes(str(file)), kind)
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
        names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
        got = [row[f"{'box' if kind == 'bbox' else 'mask'}_{name}"] for name in names]
        want = [value if value >= 0 else np.nan for value in scorer.stats[:6]]
        assert got == pytest.approx(want, abs=1e-9, nan_ok=True)
    assert len(pd.read_csv(out / "eval_classes.csv")) == 16


@pytest.mark.slow
def test_command_fails_where_a_result_is_not_as_expected(trained, capsys):
    words = ["eval", str(trained.folder), "--eval.expected={box_AP: [0.9, 0.05]}"]
    assert cli.main(words) == 1
    assert "expected 0.9 within 0.05" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"wanted \[value, tolerance\]"):
        toy_config("data", "runs", eval={"expected": {"box_AP": [0.9]}})


@pytest.mark.slow
def test_proposals_of_a_detector_are_scored_by_recall(trained):
    row = evaluate_checkpoint(trained, proposals=True).row
    assert {"box_AR10", "box_AR100", "box_AR1000"} <= set(row)
    assert "mask_AP" not in row


@pytest.mark.slow
def test_voc_metric_in_a_run(shapes, tmp_path):
    config = toy_config(shapes, tmp_path, train={"steps": 1}, eval={"metric": "voc07"})
    (tmp_path / "toy.yaml").write_text(to_yaml(config))
    assert cli.main(["train", str(tmp_path / "toy.yaml")]) == 0
    assert "box_mAP50" in pd.read_csv(config.folder / "eval.csv")
