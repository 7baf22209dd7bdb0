# SPDX-License-Identifier: BSD-3-Clause
"""The picture of the offsets shows where the layers really sample."""

import pytest
import torch

from dcnv2.engine.config import load_config
from dcnv2.engine.visualization.offsets import Sampling, choose_points, draw_offsets, record, trace
from dcnv2.models import build_model


def _layer(shift=(0.0, 0.0), mask=1.0, size=(9, 11), stride=(1, 1)):
    offset = torch.tensor(shift).repeat(9).view(18, 1, 1).expand(18, *size).contiguous()
    return Sampling(offset, torch.full((9, *size), mask), (3, 3), stride, (1, 1), (1, 1), 4.0)


def test_plain_layers_make_a_wider_square():
    places, weights = trace([_layer((5.0, 5.0))] * 3, (4, 5), deformed=False)
    assert places.shape == (729, 2)
    assert places.amin(0).tolist() == [1, 2]
    assert places.amax(0).tolist() == [7, 8]
    assert (weights == 1).all()


def test_offsets_of_all_layers_add_up():
    layers = [_layer((0.25, -0.5), 0.5), _layer((1.0, 2.0), 0.5)]
    places, weights = trace(layers, (4, 5), deformed=True)
    assert places.mean(0).tolist() == pytest.approx([4 + 1.25, 5 + 1.5])
    assert weights.tolist() == pytest.approx([0.25] * 81)


def test_stride_counts():
    places, _ = trace([_layer(size=(5, 6), stride=(2, 2))], (2, 3), deformed=True)
    assert places.mean(0).tolist() == [4, 6]


def test_samples_outside_the_map_end_there():
    places, _ = trace([_layer(), _layer()], (0, 0), deformed=False)
    assert len(places) == 9 * 4


def test_points_are_on_objects_and_off_them():
    detections = {
        "boxes": torch.tensor([[0.0, 0.0, 20.0, 40.0], [50.0, 50.0, 60.0, 60.0]]),
        "scores": torch.tensor([0.9, 0.1]),
    }
    on, off = choose_points(detections, (64, 64))
    assert on == (20.0, 10.0)
    assert off[0] > 40
    assert off[1] > 20


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(load_config("smoke/dcnv2").model, pretrained=False).eval()


@pytest.fixture(scope="module")
def image():
    pixels = torch.randint(256, (3, 64, 96), generator=torch.Generator().manual_seed(0))
    return pixels.to(torch.uint8)


def test_recorded_layers_are_those_of_the_net(model, image):
    layers, _ = record(model, image)
    assert len(layers) == 3
    for layer in layers:
        assert layer.mask.unique().tolist() == [0.5]  # an untrained net's
        assert layer.offset.count_nonzero() == 0
        assert layer.scale * layer.offset.shape[2] == pytest.approx(image.shape[2], rel=0.4)


def test_the_last_layer_is_chosen_by_name(model, image):
    with pytest.raises(ValueError, match="is no deformable layer; there are backbone"):
        record(model, image, "backbone.nowhere")
    chosen = next(name for name, m in model.named_modules() if hasattr(m, "conv_offset"))
    assert len(record(model, image, chosen, depth=1)[0]) == 1


def test_picture_is_written(model, image, tmp_path):
    draw_offsets(model, [image, image], tmp_path / "deep" / "offsets.png")
    assert (tmp_path / "deep" / "offsets.png").stat().st_size > 10_000


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (15, 15), (300, 3)])
def test_small_and_narrow_images_have_a_point(size):
    nothing = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0)}
    ((y, x),) = choose_points(nothing, size)
    assert 0 <= y < size[0]
    assert 0 <= x < size[1]


@pytest.mark.parametrize("depth", [0, -1])
def test_no_layer_to_follow_is_an_error(model, image, tmp_path, depth):
    with pytest.raises(ValueError, match="depth: wanted at least 1 layer"):
        draw_offsets(model, [image], tmp_path / "a.png", depth=depth)


@pytest.mark.parametrize("point", [(-1.0, 5.0), (5.0, -0.5), (1e9, 5.0), (5.0, 1e9)])
def test_a_point_outside_the_picture_is_an_error(model, image, tmp_path, point):
    with pytest.raises(ValueError, match="outside the picture of"):
        draw_offsets(model, [image], tmp_path / "a.png", [point])
    assert not list(tmp_path.iterdir())
