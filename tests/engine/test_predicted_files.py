# SPDX-License-Identifier: BSD-3-Clause
"""Prediction of files: bad ones are skipped and listed, outputs are whole, thresholds and ids."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from toy_runs import toy_config

from dcnv2 import cli
from dcnv2.data.whole_files import replacing
from dcnv2.engine.config import load_config, to_yaml
from dcnv2.engine.inference import predict as predicting
from dcnv2.engine.inference.export_run import _halved, export_run
from dcnv2.engine.inference.predict import Predictor, as_tensor, find_images, predict_files
from dcnv2.engine.runtime.checkpoint import save_checkpoint
from dcnv2.models import build_model

CLASSES, IDS = [f"class {k}" for k in range(1, 9)], [3, 7, 11, 20, 44, 70, 88, 90]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of an untrained run, which finds many things, with ids like COCO's."""
    config = toy_config(tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("runs"))
    config.model.mask.enabled = config.model.mimic.enabled = False
    torch.manual_seed(0)
    model = build_model(config.model, pretrained=False)
    folder = config.folder / "checkpoints"
    save_checkpoint(folder, 1, model, {}, {"classes": CLASSES, "category_ids": IDS})
    (config.folder / "config.yaml").write_text(to_yaml(config))
    return config.folder


@pytest.fixture
def pictures(tmp_path):
    """A folder of three intact pictures, and of others."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "z.png"):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(folder / name)
    whole = (folder / "a.png").read_bytes()
    (folder / "._a.png").write_bytes(b"\0\5\x16\7" + bytes(200))
    (folder / "b.png").write_bytes(whole[: len(whole) // 2])
    (folder / "c.png").write_text("<html>")
    Image.new("L", (2, 6000)).save(folder / "narrow.png")
    (folder / "d.png").mkdir()
    (folder / "e.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "f.png")
    middle = len(whole) // 2
    (folder / "g.png").write_bytes(whole[:middle] + b"\xff" * 20 + whole[middle + 20 :])
    return folder


def test_a_file_in_the_way_of_the_output_is_named(run, pictures, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    picture = str(pictures / "a.png")
    for command in (["predict", str(run), picture], ["eval", str(run)]):
        assert cli.main([*command, f"--out={tmp_path / 'out'}"]) == 1
        error = f"{tmp_path / 'out'} is a file, not a folder: choose another folder"
        assert capsys.readouterr().err == f"dcnv2: {error}\n"
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_bad_files_are_skipped_and_listed_in_the_end(run, pictures, tmp_path, capsys, batch):
    words = [f"--out={tmp_path / 'out'}", f"--eval.batch_size={batch}", "--no-overlays"]
    missing = str(tmp_path / "none.png")
    assert cli.main(["predict", str(run), str(pictures), missing, *words]) == 1
    output = capsys.readouterr()
    assert "7 of 10 files were skipped; " in output.err
    listed = output.err[output.err.index("7 of 10") :]
    for name in "bcdefg":
        assert f"  {pictures / f'{name}.png'}: " in listed
    assert f"  {missing}: no such image file" in listed
    document = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [os.path.basename(image["file_name"]) for image in document["images"]] == [
        *("a.png", "narrow.png", "z.png")
    ]


def test_nothing_is_written_if_no_file_can_be_read(run, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    bad = [str(pictures / f"{name}.png") for name in "bc"]
    assert cli.main(["predict", str(run), *bad, "--out", str(out)]) == 1
    assert "2 of 2 files were skipped; nothing was detected" in capsys.readouterr().err
    assert not list(out.iterdir())


def test_hidden_files_of_a_folder_are_left_out(pictures):
    assert all(path.name[0] != "." for path in find_images([pictures]))
    assert find_images([pictures / "._a.png"]), "unless they are named"


def test_pictures_do_not_replace_the_inputs(run, pictures):
    before = (pictures / "a.png").read_bytes()
    config = load_config(run, ["--eval.draw_threshold=0"])
    written = [path for path, _ in predict_files(config, [pictures / "a.png"], pictures)]
    assert written == [pictures / "a_2.png"]
    assert (pictures / "a.png").read_bytes() == before


def test_thresholds_below_the_evaluation_s_are_followed(run, pictures):
    """A detector of 8 classes that has learnt nothing is never sure: all scores are about 1/9."""
    config = load_config(run)
    config.model.box.score_threshold = 0.9
    scores = Predictor(config, threshold=0.001, device="cpu")(pictures / "a.png")[0]["scores"]
    assert len(scores) > 0
    assert (scores >= 0.001).all()
    assert (scores < 0.9).all()


def test_detections_have_the_category_ids_of_the_data(run, pictures, tmp_path):
    config = load_config(run, ["--eval.draw_threshold=0.001"])
    list(predict_files(config, [pictures / "a.png"], tmp_path / "out", overlays=False))
    document = json.loads((tmp_path / "out" / "detections.json").read_text())
    categories = {entry["id"]: entry["name"] for entry in document["categories"]}
    assert categories == dict(zip(IDS, CLASSES, strict=True))
    found = [categories[entry["category_id"]] for entry in document["annotations"]]
    assert found == pd.read_csv(tmp_path / "out" / "detections.csv")["class"].tolist()
    assert len(set(found)) > 1


def test_checkpoints_without_category_ids_number_their_classes(run, tmp_path):
    meta = run / "checkpoints" / "step_00000001" / "meta.json"
    checkpoint = tmp_path / "step_00000001"
    checkpoint.mkdir()
    for file in meta.parent.iterdir():
        (checkpoint / file.name).write_bytes(file.read_bytes())
    model = Predictor(run, device="cpu").model
    save_checkpoint(tmp_path / "old", 1, model, {}, {"classes": CLASSES})
    predictor = Predictor(run, tmp_path / "old" / "step_00000001", device="cpu")
    assert predictor.category_ids == [1, 2, 3, 4, 5, 6, 7, 8]


LIMITED = """
import resource, sys
from dcnv2 import cli
resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "name"), [(2000, "a.png"), (60_000, "detections.json")])
def test_a_full_disk_leaves_whole_files_and_a_sentence(run, pictures, tmp_path, limit, name):
    """RLIMIT_FSIZE fails writes as a full disk does. Noise makes a picture of 100 kB."""
    out = tmp_path / "out"
    words = ["predict", str(run), str(pictures / "a.png"), "--out", str(out), "--threshold=0"]
    if name != "a.png":
        words += ["--no-overlays"]
        words[2:3] = [str(pictures / "a.png")] * 30
    command = [sys.executable, "-c", LIMITED.format(limit), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"dcnv2: {out / name}: not written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(out.iterdir())


def _write_half(path, error):
    with replacing(path) as aside:
        aside.write_text("half")
        raise error


def test_a_file_that_cannot_be_written_is_as_it_was_before(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(OSError, match=rf"{path}: not written: no room"):
        _write_half(path, OSError("no room"))
    with pytest.raises(KeyboardInterrupt):
        _write_half(path, KeyboardInterrupt())
    assert [file.read_text() for file in tmp_path.iterdir()] == ["before"]
    with replacing(path) as aside:
        aside.write_text("after")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["after"]


def test_an_export_that_fails_leaves_nothing(run, tmp_path, monkeypatch):
    out = tmp_path / "models" / "toy"

    def fail(weights, path):
        path.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("dcnv2.engine.inference.export_run.save_file", fail)
        with pytest.raises(OSError, match=f"{out}: not written: I/O error: No space left"):
            export_run(load_config(run), out)
    assert not list(out.parent.iterdir())
    assert export_run(load_config(run), out) == out
    assert [path.name for path in out.parent.iterdir()] == ["toy"]
    exported = Predictor(out, device="cpu")
    assert (exported.names, exported.category_ids) == (CLASSES, IDS)
    with pytest.raises(FileExistsError, match=f"{out} exists"):
        export_run(load_config(run), out)


@pytest.mark.parametrize("link", [False, True])
def test_a_device_or_pipe_is_written_to_and_not_replaced(tmp_path, link):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    path = pipe
    if link:
        path = tmp_path / "link"
        path.symlink_to(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with replacing(path) as aside:
        aside.write_text("text")
    assert os.read(reader, 10) == b"text"
    os.close(reader)
    assert pipe.is_fifo()
    assert path.is_symlink() == link


def test_an_open_file_of_the_process_is_written_to(tmp_path):
    """`--csv /dev/stdout > file` must not rename a file over /dev/stdout."""
    with (tmp_path / "a.txt").open("w") as file:
        path = Path(f"/dev/fd/{file.fileno()}")
        with replacing(path) as aside:
            assert aside == path


@pytest.mark.parametrize("suffix", [".avif", ".jp2", ".jfif", ".PGM", ".tga"])
def test_a_folder_is_searched_for_every_usual_format(tmp_path, suffix):
    (tmp_path / f"a{suffix}").touch()
    (tmp_path / "a.txt").touch()
    assert find_images([tmp_path]) == [tmp_path / f"a{suffix}"]


def test_a_folder_of_folders_is_named_with_the_way_to_its_pictures(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.jpg").touch()
    with pytest.raises(FileNotFoundError, match=r"no images found .*a pattern such as"):
        find_images([tmp_path])


def test_weights_beyond_half_precision_are_exported_as_they_are():
    big, small = torch.tensor([7e4, 1.0]), torch.tensor([6e4, 1.0])
    assert torch.equal(_halved(big), big)
    assert _halved(small).dtype == torch.half
    assert _halved(torch.tensor([2**40])).dtype == torch.int64
    assert _halved(torch.zeros(0)).numel() == 0


@pytest.mark.parametrize("image", [None, 3, b"x", ["a.png"], {"a": 1}])
def test_what_is_no_image_is_an_error_that_shows_it(image):
    with pytest.raises(ValueError, match="image: wanted a file, image, array or tensor, got"):
        as_tensor(image)


@pytest.mark.parametrize("threshold", [float("nan"), -0.1, 1.1])
def test_a_predictor_takes_thresholds_from_0_to_1(run, threshold):
    with pytest.raises(ValueError, match="threshold: wanted a score from 0 to 1"):
        Predictor(run, threshold=threshold)


def test_no_images_have_no_results(run):
    assert Predictor(run, device="cpu")([]) == []


def test_reading_and_drawing_go_on_while_the_detector_works(run, tmp_path, monkeypatch):
    folder = tmp_path / "many"
    folder.mkdir()
    for name in "abcde":
        Image.new("RGB", (64, 64)).save(folder / f"{name}.png")
    read, second = set(), threading.Event()
    detect, write = Predictor.detect, predicting.write_picture

    def reading(file):
        read.add(file.name)
        return as_tensor(file)

    def detecting(self, images):
        if (calls := len(called)) == 0:
            until = time.monotonic() + 30
            while len(read) < 5 and time.monotonic() < until:
                time.sleep(0.01)
        elif calls == 1:
            second.set()
        called.append(len(read))
        return detect(self, images)

    def writing(path, picture):
        assert second.wait(30), "the picture of the first image held the second one up"
        write(path, picture)

    called = []
    monkeypatch.setattr(predicting, "as_tensor", reading)
    monkeypatch.setattr(predicting, "write_picture", writing)
    monkeypatch.setattr(Predictor, "detect", detecting)
    pictures = [path.name for path, _ in predict_files(load_config(run), [folder], tmp_path)]
    assert called[0] == 5, "all were read before the first was detected"
    assert pictures == [f"{name}.png" for name in "abcde"]
