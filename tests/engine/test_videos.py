# SPDX-License-Identifier: BSD-3-Clause
"""Video files: their frames are predicted as images; without a decoder they are skipped."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dcnv2.data.images import BadImageError
from dcnv2.data.video import read_frames
from dcnv2.engine.config import parse_values
from dcnv2.engine.inference import predict
from dcnv2.engine.inference.predict import find_images, predict_files

FRAMES = [np.full((8, 10, 3), (10 * n, 0, 200), np.uint8) for n in range(1, 4)]


class _Capture:
    """OpenCV's reader of a file that contains the number of its frames."""

    def __init__(self, path):
        text = Path(path).read_text()
        self.frames = iter(FRAMES[: int(text)] if text.isdigit() else [])

    def read(self):
        frame = next(self.frames, None)
        return frame is not None, None if frame is None else frame[..., ::-1]

    def release(self):
        pass


def _install(monkeypatch, kind):
    """Puts a stand-in for one decoder into sys.modules, and hides the other."""
    for name in ("torchcodec", "torchcodec.decoders", "cv2"):
        monkeypatch.setitem(sys.modules, name, None)
    if kind == "cv2":
        monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(VideoCapture=_Capture))
    elif kind == "torchcodec":
        module = ModuleType("torchcodec.decoders")

        def decoder(path):
            count = Path(path).read_text()
            if not count.isdigit():
                raise ValueError("no video stream")
            return (torch.from_numpy(f).permute(2, 0, 1) for f in FRAMES[: int(count)])

        module.VideoDecoder = decoder
        monkeypatch.setitem(sys.modules, "torchcodec", ModuleType("torchcodec"))
        monkeypatch.setitem(sys.modules, "torchcodec.decoders", module)


@pytest.mark.parametrize("kind", ["cv2", "torchcodec"])
def test_frames_are_rgb_in_order(tmp_path, monkeypatch, kind):
    _install(monkeypatch, kind)
    path = tmp_path / "clip.mp4"
    path.write_text("3")
    for frame, expected in zip(read_frames(path), FRAMES, strict=True):
        assert np.array_equal(frame, expected)
    path.write_text("broken")
    with pytest.raises(BadImageError, match=r"clip\.mp4: (broken|not a) video"):
        list(read_frames(path))
    with pytest.raises(BadImageError, match=r"no\.mp4: no such video"):
        list(read_frames(tmp_path / "no.mp4"))


class _Finds:
    """A predictor that finds one box in each picture."""

    names, category_ids = ["ring"], [5]

    def __init__(self, *_):
        self.sizes = []

    def detect(self, images):
        assert len(images) <= 2
        one = {"boxes": torch.tensor([[1.0, 1, 5, 5]]), "labels": torch.tensor([1])}
        return [{**one, "scores": torch.tensor([0.9])} for _ in images]


@pytest.mark.parametrize("kind", ["cv2", "none"])
def test_videos_and_images_are_predicted_together(tmp_path, monkeypatch, kind):
    _install(monkeypatch, kind)
    monkeypatch.setattr(predict, "Predictor", _Finds)
    (tmp_path / "clip.mp4").write_text("3")
    (tmp_path / "more.AVI").write_text("broken")
    Image.new("RGB", (10, 8)).save(tmp_path / "a.png")
    out, found = tmp_path / "out", []
    message = "more.AVI: not a video" if kind == "cv2" else "clip.mp4: videos need a decoder: pip"
    config = parse_values({"eval": {"batch_size": 2}})
    predicted = predict_files(config, [tmp_path], out)
    with pytest.raises(BadImageError, match=message):
        found.extend(picture.name for picture, _ in predicted)
    frames = ["clip_000001.png", "clip_000002.png", "clip_000003.png"] if kind == "cv2" else []
    assert found == ["a.png", *frames]
    document = json.loads((out / "detections.json").read_text())
    names = [image["file_name"].removeprefix(f"{tmp_path}/") for image in document["images"]]
    assert names == ["a.png", *(f"clip.mp4#{n}" for n in range(1, len(frames) + 1))]
    assert {entry["category_id"] for entry in document["annotations"]} == {5}
    assert len(pd.read_csv(out / "detections.csv")) == len(names)


def test_other_commands_take_no_videos_from_a_folder(tmp_path):
    (tmp_path / "clip.mp4").write_text("3")
    Image.new("RGB", (10, 8)).save(tmp_path / "a.png")
    assert [path.name for path in find_images([tmp_path])] == ["a.png"]
    assert len(find_images([tmp_path], videos=True)) == 2
