# SPDX-License-Identifier: BSD-3-Clause
"""Several validation sets, each under its name, and the pictures of the worst images."""

import pandas as pd
import pytest
import torch
from PIL import Image
from toy_runs import toy_config

from dcnv2 import cli
from dcnv2.data.coco import CocoDataset
from dcnv2.data.shapes import write_shapes
from dcnv2.engine.config import ConfigError, parse_values
from dcnv2.engine.config.options import val_names
from dcnv2.engine.evaluation.coco_eval import Scores
from dcnv2.engine.evaluation.errors import find_errors
from dcnv2.engine.evaluation.evaluate import Result
from dcnv2.engine.runtime.datasets import open_val, open_val_sets
from dcnv2.engine.training.run_logger import write_result
from dcnv2.engine.training.trainer import train
from dcnv2.engine.visualization.worst import draw_worst


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"), train=3, val=4, size=64)


def test_names_of_results_are_fit_for_files_and_columns():
    splits = ["val", "other/folder::val", "pets:night, late"]
    assert list(val_names(splits)) == ["val", "other_folder_val", "pets_night_late"]
    assert val_names("val") == {"val": "val"}


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ([], "wanted the name of a split"),
        (["val", ""], "wanted the name of a split"),
        (["val", "val"], "a split is named twice"),
        (["a:b", "a::b"], "two results would have the same name"),
    ],
)
def test_lists_of_validation_sets_are_checked(splits, message):
    with pytest.raises(ConfigError, match=f"data.val: {message}"):
        parse_values({"data": {"val": splits}})


def test_sets_are_opened_by_name(shapes, tmp_path):
    data = toy_config(shapes, tmp_path, data={"val": ["val", f"{shapes}::train"]}).data
    sets = open_val_sets(data, masks=True)
    assert [len(dataset) for dataset in sets.values()] == [
        len(CocoDataset(shapes, split)) for split in ("val", "train")
    ]
    assert open_val(data, masks=True).source == sets["val"].source


@pytest.mark.slow
def test_each_set_is_evaluated_and_the_first_one_ranks(shapes, tmp_path, capsys):
    config = toy_config(
        *(shapes, tmp_path), data={"val": ["val", "train"]}, train={"steps": 2, "eval_every": 1}
    )
    row = train(config)
    sizes = [len(CocoDataset(shapes, split)) for split in ("val", "train")]
    assert row[["images", "train/images"]].iloc[0].tolist() == sizes
    table = pd.read_csv(config.folder / "eval.csv")
    assert {"box_AP", "train/box_AP", "train/mask_AP"} <= set(table.columns)
    assert '"metric": "mask_AP"' in (config.folder / "checkpoints/best.json").read_text()
    for folder in (config.folder, config.folder / "train"):
        assert (folder / "eval_classes.csv").is_file()
        assert (folder / "confusion.csv").is_file()
    out = tmp_path / "out"
    capsys.readouterr()
    words = ["--out", str(out), "--eval.draw_threshold=0.0"]
    assert cli.main(["eval", str(config.folder), *words]) == 0
    printed = capsys.readouterr().out
    assert "train/box_AP" in printed
    assert "train, scores of at least 0, IoU 0.5:" in printed
    assert (out / "train/errors_images.csv").is_file()
    assert (out / "pictures/confusion.png").is_file()
    assert list((out / "worst").glob("01_*.png"))


def _result(dataset, detections):
    ids = dataset.image_ids.tolist()
    errors = find_errors(dataset.coco(), detections, ids, 0.5)
    return Result(pd.DataFrame([{}]), Scores(), detections, True, dataset, errors)


def test_worst_images_show_truth_beside_prediction(shapes, tmp_path):
    """All objects of all images but the first are found."""
    dataset = CocoDataset(shapes, "val", limit=3)
    detections = []
    for annotation in dataset.coco().dataset["annotations"]:
        code = annotation["segmentation"]
        code = {**code, "counts": code["counts"].decode("ascii")}
        detections.append({**annotation, "score": 0.9, "segmentation": code})
    first = dataset.image_ids[0]
    result = _result(dataset, [d for d in detections if d["image_id"] != first])
    result.others["night"] = _result(dataset, detections)
    (path,) = draw_worst(tmp_path, result)
    assert path.name == f"01_{first:06d}.png"
    with Image.open(path) as picture:
        pixels = torch.tensor(list(picture.getdata())).reshape(picture.height, picture.width, 3)
    width = (picture.width - 8) // 2
    truth, found = pixels[16:, :width], pixels[16:, -width:]
    image = dataset.image(0).permute(1, 2, 0)
    plain = image.repeat_interleave(width // image.shape[1], 0).repeat_interleave(4, 1)
    assert (found == plain).all()
    assert (truth != plain).any()
    write_result(tmp_path, result)
    assert pd.read_csv(tmp_path / "confusion.csv", index_col=0).shape == (9, 9)
    assert (tmp_path / "night" / "errors_classes.csv").is_file()


def test_boxes_without_masks_are_drawn_too(shapes, tmp_path):
    dataset = CocoDataset(shapes, "val", limit=1, masks=False)
    box = {"image_id": int(dataset.image_ids[0]), "category_id": 1, "score": 0.9}
    result = _result(dataset, [{**box, "bbox": [1.0, 1.0, 5.0, 5.0]}])
    assert len(draw_worst(tmp_path, result)) == 1
    assert len(draw_worst(tmp_path / "none", _result(dataset, []), count=0)) == 0
