# SPDX-License-Identifier: BSD-3-Clause
"""From images to detections: sources, batches, files written, the Predictor, offsets, packing."""

import json
import warnings

import pandas as pd
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from toy_runs import toy_config, weights_of

from dcnv2 import cli
from dcnv2.data.images import read_rgb
from dcnv2.data.shapes import draw_picture, write_shapes
from dcnv2.engine.config import load_config, pretrained
from dcnv2.engine.inference.predict import Predictor, as_tensor, find_images, predict_files
from dcnv2.engine.training.trainer import train


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"), train=4, val=12, size=64)


@pytest.fixture(scope="module")
def trained(shapes, tmp_path_factory):
    config = toy_config(shapes, tmp_path_factory.mktemp("runs"), train={"steps": 1})
    config.model.box.score_threshold = 0.0
    train(config)
    return config


@pytest.fixture
def frames(shapes, tmp_path):
    """A folder of video frames whose names sort otherwise as texts, and a file that is none."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in (1, 2, 10):
        image = Image.open(shapes / "images" / "val" / f"{number:06d}.png")
        image.save(folder / f"frame_{number}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


def test_sources_are_files_folders_and_patterns(frames):
    names = ["frame_1.png", "frame_2.png", "frame_10.png"]
    assert [path.name for path in find_images([frames])] == names
    assert [path.name for path in find_images([str(frames / "frame_*.png")])] == names
    assert [path.name for path in find_images([frames / "frame_2.png", frames])][:2] == [
        *("frame_2.png", "frame_1.png")
    ]
    for nothing in (frames / "*.jpg", frames.parent / "empty"):
        (frames.parent / "empty").mkdir(exist_ok=True)
        with pytest.raises(FileNotFoundError, match="no images found"):
            find_images([str(nothing)])


@pytest.mark.slow
def test_prediction_writes_pictures_coco_and_csv(trained, frames, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--out", str(out), "--threshold", "0.05", "--eval.batch_size=2"]
    assert cli.main(["predict", str(trained.folder), str(frames), *words]) == 0
    assert "frame_10.png" in capsys.readouterr().out
    assert {path.name for path in out.glob("*.png")} == {f"frame_{n}.png" for n in (1, 2, 10)}
    found = COCO(str(out / "detections.json"))
    assert [found.imgs[i]["file_name"] for i in (1, 2, 3)] == [
        str(frames / f"frame_{number}.png") for number in (1, 2, 10)
    ]
    table = pd.read_csv(out / "detections.csv")
    assert len(table) == len(found.anns) > 0
    assert (table["score"] >= 0.05).all()
    annotation = found.anns[1]
    assert found.annToMask(annotation).shape == (64, 64)
    x, y, width, height = annotation["bbox"]
    corners = table.loc[0, ["x1", "y1", "x2", "y2"]].tolist()
    assert corners == pytest.approx([x, y, x + width, y + height])


@pytest.mark.slow
def test_overlays_can_be_left_out(trained, frames, tmp_path):
    out = tmp_path / "bare"
    words = ["--out", str(out), "--no-overlays"]
    assert cli.main(["predict", str(trained.folder), str(frames), *words]) == 0
    assert {path.name for path in out.iterdir()} == {"detections.json", "detections.csv"}


@pytest.mark.slow
def test_batches_change_nothing(trained, frames, tmp_path):
    tables = []
    for size in (1, 3):
        trained.eval.batch_size, trained.eval.draw_threshold = size, 0.05
        list(predict_files(trained, [frames], tmp_path / str(size), overlays=False))
        tables.append(pd.read_csv(tmp_path / str(size) / "detections.csv"))
    pd.testing.assert_frame_equal(*tables, rtol=1e-4)


@pytest.mark.slow
def test_predictor_takes_images_in_every_form(trained, shapes):
    predictor = Predictor(trained.folder, threshold=0.0, device="cpu")
    file = shapes / "images" / "val" / "000003.png"
    pixels = read_rgb(file)
    forms = [file, str(file), Image.open(file), pixels, torch.from_numpy(pixels).permute(2, 0, 1)]
    results = [predictor(form)[0] for form in forms]
    for result in results:
        assert torch.equal(result["boxes"], results[0]["boxes"])
        assert result["masks"].shape[1:] == (64, 64)
    assert len(results[0]["scores"]) > 0
    assert len(predictor(forms)) == 5
    best = results[0]["scores"].max().item()
    assert not len(Predictor(trained.folder, threshold=best + 1e-6, device="cpu")(file)[0]["boxes"])


@pytest.mark.slow
def test_command_draws_where_a_layer_looks(trained, shapes, tmp_path, capsys):
    image, out = str(shapes / "images" / "val" / "000001.png"), tmp_path / "offsets.png"
    words = ["offsets", str(trained.folder), image, "--out", str(out)]
    layer = next(
        name
        for name, module in Predictor(trained.folder).model.named_modules()
        if hasattr(module, "conv_offset")
    )
    assert cli.main([*words, "--layer", layer, "--point", "20,30", "--point=40,10"]) == 0
    assert out.stat().st_size > 10_000
    assert cli.main([*words, "--layer", "backbone.nowhere"]) == 1
    assert f"there are {layer}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main([*words, "--point", "20"])
    assert "wanted X,Y in pixels, got 20" in capsys.readouterr().err


@pytest.mark.slow
def test_a_packed_run_is_small_and_detects_alike(trained, shapes, tmp_path):
    out = tmp_path / "models" / "toy"
    assert cli.main(["export-run", str(trained.folder), str(out), "--data.root=data/shapes"]) == 0
    config = load_config(out)
    assert (config.name, config.data.root) == ("toy", "data/shapes")
    packed = weights_of(config)
    for name, value in weights_of(trained).items():
        torch.testing.assert_close(packed[name].float(), value, rtol=1e-3, atol=1e-6)
        assert packed[name].dtype != torch.float32
    file = shapes / "images" / "val" / "000003.png"
    results = [Predictor(p, threshold=0.05)(file)[0] for p in (trained.folder, out)]
    torch.testing.assert_close(results[0]["scores"], results[1]["scores"], rtol=0.05, atol=1e-3)
    assert cli.main(["pack", str(trained.folder), str(out)]) == 1, (
        "an existing folder is not overwritten; `pack` is the former name"
    )


@pytest.mark.slow
def test_the_shipped_model_finds_shapes_it_never_saw(tmp_path, monkeypatch):
    """By its name alone, from any folder: most of what it is sure of is there."""
    monkeypatch.chdir(tmp_path)
    assert pretrained() == ["shapes"]
    config = load_config("shapes")
    predictor = Predictor("shapes", threshold=0.5, device="cpu")
    classes = ("ellipse", "ring", "crescent", "gear", "worm")
    root = write_shapes(tmp_path / "fresh", 0, 16, 128, seed=99, classes=classes)
    assert tuple(predictor.names) == classes
    words = [f"--data.root={root}", "--eval.batch_size=8"]
    assert cli.main(["eval", "shapes", *words, "--csv", "row.csv"]) == 0
    row = pd.read_csv("row.csv")
    assert row["box_AP50"].item() > 0.6
    assert cli.main(["predict", "shapes", str(root / "images" / "val" / "000002.png")]) == 0
    document = json.loads((tmp_path / "predictions" / "detections.json").read_text())
    assert len(document["images"]) == 1
    assert config.folder.is_dir()


def test_pictures_for_the_shipped_model_are_drawn_anywhere():
    pixels, _ = draw_picture((7, 1, 3), 128, [0, 1, 2], 0.6)
    assert len(Predictor("shapes", device="cpu")(pixels)) == 1


def test_read_only_pixels_of_pillow_cause_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert as_tensor(Image.new("RGB", (4, 3))).shape == (3, 3, 4)
