# SPDX-License-Identifier: BSD-3-Clause
"""Tiles, flips and scales: where they lie, and how detections in them are merged."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dcnv2.engine.config import ConfigError, EvalConfig, parse_values
from dcnv2.engine.evaluation.detections import predict
from dcnv2.engine.evaluation.views import windows
from dcnv2.models.detector import Detector

CPU = torch.device("cpu")


class Spots(Detector):
    """Detects the rectangles of one grey level each: class 1, the level as the score."""

    def __init__(self):
        nn.Module.__init__(self)
        self.transform = SimpleNamespace(min_size=(100,), max_size=200, exact=False)
        self.roi_heads = SimpleNamespace(nms_thresh=0.5, detections_per_img=3)
        self.seen = []

    def forward(self, images, targets=None, paste_masks=True):
        self.seen += [(*image.shape[1:], self.transform.min_size) for image in images]
        return [self.find(image[0]) for image in images]

    def find(self, image):
        boxes, scores = [], []
        for level in image.unique()[image.unique() > 0]:
            rows, columns = torch.where(image == level)
            corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            boxes.append([float(c) for c in corners])
            scores.append(float(level))
        count = len(boxes)
        ramp = torch.linspace(0, 1, 4).expand(count, 1, 4, 4)  # bright on the right
        return {
            "boxes": torch.tensor(boxes).reshape(-1, 4),
            "scores": torch.tensor(scores),
            "labels": torch.ones(count, dtype=torch.int64),
            "masks": ramp,
        }


def _picture(*rectangles, size=(100, 150)):
    """A uint8 picture [3, H, W] with rectangles (x1, y1, x2, y2, level)."""
    image = torch.zeros(3, *size, dtype=torch.uint8)
    for x1, y1, x2, y2, level in rectangles:
        image[:, y1:y2, x1:x2] = level
    return image


@pytest.mark.parametrize("size", [(100, 150), (64, 200), (65, 64), (700, 31)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.9])
def test_tiles_cover_the_picture_and_overlap(size, overlap):
    found = windows(size, 64, overlap)
    assert found[0] == (0, 0, size[1], size[0])
    tiles = found[1:]
    cover = torch.zeros(size, dtype=torch.bool)
    for x1, y1, x2, y2 in tiles:
        assert 0 < x2 - x1 <= 64
        assert 0 < y2 - y1 <= 64
        cover[y1:y2, x1:x2] = True
    assert cover.all()
    for side in (0, 1):
        starts = sorted({tile[side] for tile in tiles})
        gaps = [after - before for before, after in pairwise(starts)]
        assert all(gap <= max(64 * (1 - overlap), 1) + 1 for gap in gaps)


def test_a_picture_within_a_tile_has_one_view():
    assert windows((64, 50), 64, 0.25) == [(0, 0, 50, 64)]
    model = Spots()
    predict(model, [_picture(size=(64, 50))], CPU, EvalConfig(tile=64))
    assert len(model.seen) == 1


@pytest.mark.parametrize("batch_size", [1, 5])
def test_an_object_on_a_border_of_tiles_is_found_once(batch_size):
    picture = _picture((40, 10, 80, 30, 250), (2, 60, 20, 90, 100))
    options = EvalConfig(tile=64, tile_overlap=0.2, batch_size=batch_size)
    model = Spots()
    (found,) = predict(model, [picture], CPU, options)
    assert len(model.seen) > 4
    assert found["boxes"].tolist() == [[40, 10, 80, 30], [2, 60, 20, 90]]
    assert found["scores"].tolist() == [250, 100]
    assert tuple(found["masks"].shape) == (2, 100, 150)


def test_the_best_detections_of_all_views_are_kept():
    spots = [(10 + 30 * i, 10, 25 + 30 * i, 25, 50 + 20 * i) for i in range(4)]
    (found,) = predict(Spots(), [_picture(*spots)], CPU, EvalConfig(tile=64))
    assert found["scores"].tolist() == [110, 90, 70]


def test_a_mirrored_view_is_mirrored_back():
    class OnlyMirrored(Spots):
        def find(self, image):
            found = super().find(image)
            left = image[:, :75].sum() > image[:, 75:].sum()
            return found if left else {key: value[:0] for key, value in found.items()}

    (found,) = predict(
        OnlyMirrored(), [_picture((100, 10, 140, 50, 200))], CPU, EvalConfig(flip=True)
    )
    assert found["boxes"].tolist() == [[100, 10, 140, 50]]
    columns = torch.where(found["masks"].dense()[0].any(dim=0))[0]
    assert columns.max() < 125, "bright on the right of the mirrored object"


def test_scales_change_the_sizes_for_the_time_of_the_detection():
    model = Spots()
    (found,) = predict(model, [_picture((4, 4, 50, 50, 99))], CPU, EvalConfig(scales=[0.5, 1.0]))
    assert [sizes for *_, sizes in model.seen] == [(50,), (100,)]
    assert (model.transform.min_size, model.transform.max_size) == ((100,), 200)
    assert len(found["boxes"]) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--eval.tile=8"], "eval.tile: wanted at least 32"),
        (["--eval.tile_overlap=1"], "eval.tile_overlap: wanted at least 0 and at most 0.9"),
        (["--eval.scales=[]"], "eval.scales: wanted at least one value"),
        (["--eval.scales=[0]"], "eval.scales: wanted at least 0.1"),
    ],
)
def test_useless_views_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        parse_values({}, words)


@pytest.mark.slow
def test_a_detector_finds_more_small_objects_in_tiles(tmp_path):
    """Four pictures of the packaged model's size, side by side."""
    from torchvision.ops import box_iou

    from dcnv2.data.folders import open_dataset
    from dcnv2.data.shapes import write_shapes
    from dcnv2.engine.config import load_config
    from dcnv2.engine.inference.predict import Predictor

    classes = ["ellipse", "ring", "crescent", "gear", "worm"]
    dataset = open_dataset(write_shapes(tmp_path, 0, 4, 128, seed=5, classes=classes), "val")
    images = [dataset.image(index) for index in range(4)]
    picture = torch.cat([torch.cat(images[:2], 2), torch.cat(images[2:], 2)], 1)
    shifts = torch.tensor([[0, 0, 0, 0], [128, 0, 128, 0], [0, 128, 0, 128], [128] * 4])
    truth = torch.cat(
        [dataset.target(i)["boxes"].as_subclass(torch.Tensor) + shifts[i] for i in range(4)]
    )
    shares = []
    for words in ([], ["--eval.tile=128"], ["--eval.tile=128", "--eval.flip=true"]):
        (found,) = Predictor(load_config("shapes", words))([picture])
        shares.append((box_iou(truth, found["boxes"]).amax(1) > 0.5).float().mean().item())
    assert shares[0] <= 0.5 < 0.75 < min(shares[1:]), shares
