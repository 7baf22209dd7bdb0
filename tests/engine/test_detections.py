# SPDX-License-Identifier: BSD-3-Clause
"""Predicted masks: threshold, pasting window by window, COCO's results and pictures."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pycocotools import mask as coco_mask
from torch import nn
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.utils import draw_segmentation_masks
from toy_runs import toy_config

from dcnv2.engine.evaluation.detections import coco_results, detect, paste_masks, predict
from dcnv2.engine.visualization.draw import ALPHA, draw, draw_masks
from dcnv2.models import build_model
from dcnv2.structures import RunLengthMasks

CPU = torch.device("cpu")


@pytest.fixture
def model(tmp_path):
    """A small detector of ours, with weights from a fixed seed."""
    torch.manual_seed(0)
    return build_model(toy_config(tmp_path, tmp_path).model).eval()


class Fixed(nn.Module):
    """A detector in torchvision's format that finds one object whatever it sees."""

    def __init__(self, probabilities):
        super().__init__()
        self.probabilities = probabilities

    def forward(self, images):
        one = {"boxes": torch.tensor([[1.0, 2, 6, 7]]), "labels": torch.tensor([1])}
        return [
            {**one, "scores": torch.tensor([0.9]), "masks": self.probabilities[None, None]}
            for _ in images
        ]


def test_a_mask_is_where_the_probability_is_above_one_half():
    probabilities = torch.linspace(0, 1, 20).repeat(8, 1)
    inside = probabilities > 0.5
    assert 0 < inside.sum() < inside.numel()
    model, image = Fixed(probabilities), torch.zeros(3, 8, 20, dtype=torch.uint8)
    assert torch.equal(predict(model, [image], CPU)[0]["masks"][0].bool(), inside)
    (result,), _ = detect(model, [([image.float()], [{"image_id": 7}])], [3], CPU)
    decoded = torch.from_numpy(coco_mask.decode(result["segmentation"]))
    assert torch.equal(decoded.bool(), inside)


def test_masks_of_one_probability_fill_their_boxes_or_nothing():
    boxes = torch.tensor([[4.0, 3, 14, 11]]).repeat(2, 1)
    probabilities = torch.tensor([0.45, 0.6])[:, None, None, None].expand(-1, 1, 28, 28)
    areas = paste_masks(probabilities, boxes, (20, 30)).areas().tolist()
    assert areas[0] == 0
    assert areas[1] == pytest.approx(80, rel=0.3)


def test_masks_are_pasted_as_torchvision_pastes_them():
    random = torch.Generator().manual_seed(4)
    corners = torch.rand(60, 2, 2, generator=random) * torch.tensor([45.0, 33])
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    boxes[0] = torch.tensor([0.0, 0, 45, 33])
    boxes[1] = torch.tensor([44.0, 32, 45, 33])
    probabilities = torch.rand(60, 1, 14, 14, generator=random)
    wanted = paste_masks_in_image(probabilities, boxes, (33, 45))[:, 0] > 0.5
    got = paste_masks(probabilities, boxes, (33, 45))
    assert torch.equal(got.dense().bool(), wanted)
    assert paste_masks(probabilities[:0], boxes[:0], (33, 45)).shape == (0, 33, 45)
    outside = torch.tensor([[-30.0, -30, -20, -20]])  # ends torchvision's function
    assert paste_masks(probabilities[:1], outside, (33, 45)).areas().tolist() == [0]


def test_our_detector_gives_the_masks_of_its_planes(model):
    model.roi_heads.score_thresh = 0.0
    image = torch.randint(0, 256, (3, 40, 56), dtype=torch.uint8)
    result = predict(model, [image], CPU)[0]
    with torch.no_grad():
        planes = model([image / 255])[0]["masks"]
    assert len(result["masks"]) == len(planes) > 0
    assert torch.equal(result["masks"].dense().bool(), planes[:, 0] > 0.5)


def test_masks_are_drawn_as_torchvision_draws_them():
    random = torch.Generator().manual_seed(4)
    image = torch.randint(0, 256, (3, 30, 41), generator=random, dtype=torch.uint8)
    masks = torch.rand(3, 30, 41, generator=random) < 0.4
    colours = ["#1f77b4", "red", "#2ca02c"]
    wanted = draw_segmentation_masks(image, masks, ALPHA, colours)
    assert torch.equal(draw_masks(image, RunLengthMasks.from_dense(masks), colours), wanted)


def test_small_images_are_enlarged_with_their_masks():
    masks = torch.zeros(2, 20, 30, dtype=torch.bool)
    masks[0, 8:12, 3:25] = True
    masks[1] = True
    result = {
        "boxes": torch.tensor([[3.0, 8, 25, 12], [0, 0, 30, 20]]),
        "labels": torch.tensor([1, 2]),
        "scores": torch.tensor([0.9, 0.2]),
        "masks": RunLengthMasks.from_dense(masks),
    }
    picture = draw(torch.zeros(3, 20, 30, dtype=torch.uint8), result, ["a", "b"], 0.5)
    assert picture.shape == (3, 160, 240)
    assert picture[:, 88, 100].any(), "inside of the first mask"
    assert not picture[:, 150, 230].any(), "the second is below the threshold"
    planes = {**result, "masks": masks}
    assert torch.equal(draw(torch.zeros(3, 20, 30).byte(), planes, ["a", "b"], 0.5), picture)


def test_results_without_objects(model):
    image = torch.zeros(3, 40, 56, dtype=torch.uint8)
    model.roi_heads.score_thresh = 1.1
    result = predict(model, [image], CPU)[0]
    assert result["masks"].shape == (0, 40, 56)
    assert coco_results(1, result, [1]) == []


@pytest.mark.slow
def test_a_thousand_objects_of_a_large_picture_stay_under_500_megabytes(tmp_path):
    """Planes of 1000 masks at 2000 x 1500 would take 3 GB, and 12 GB as floats."""
    program = Path(__file__).with_name("large_picture_program.py")
    for stage in ("train", "turn", "evaluate"):
        subprocess.run([sys.executable, program, tmp_path / stage, stage, "500"], check=True)
