# SPDX-License-Identifier: BSD-3-Clause
"""Every shipped configuration builds, trains and predicts at toy size, and is listed."""

import os
import sys

import pytest
import torch

from dcnv2 import cli
from dcnv2.engine.config import catalogue as listing
from dcnv2.engine.config import load_config, parse_values, shipped
from dcnv2.engine.config.catalogue import catalogue
from dcnv2.engine.config.loading import find_config, read_yaml
from dcnv2.models import build_model
from dcnv2.models.cost import model_cost

pytestmark = pytest.mark.slow


def _distinct():
    """One name for each model; rows that differ only in data, size or schedule share it.

    Compares the files, which is much faster than parsing all options at every collection.
    """
    names = {}
    for name in shipped():
        model = read_yaml(find_config(name)).get("model", {})
        for replaced in ("min_size", "max_size", "num_classes"):
            model.pop(replaced, None)
        names.setdefault(repr(model), name)
    return list(names.values())


def _shrink(config):
    """The same parts in the same places, narrower."""
    config.min_size, config.max_size, config.num_classes = [64], 96, 3
    config.backbone.weights = None
    config.box.batch_per_image, config.box.score_threshold = 8, 0.0
    config.rpn.post_nms_train = config.rpn.post_nms_test = 8
    config.mimic.crop_size = 32
    if config.backbone.arch != "small":
        config.backbone.channels, config.box.hidden_channels = 32, 16
        config.mask.convs = tuple(32 for _ in config.mask.convs)
        config.box.convs = tuple(32 for _ in config.box.convs)
        config.mask.deconv_channels = 16
    for head in (config.box, config.mask):
        head.pool.hidden_channels = 8
    return config


@pytest.mark.parametrize("name", _distinct())
def test_configuration_trains_and_predicts(name, shallow):
    torch.manual_seed(0)
    model = build_model(_shrink(load_config(name).model))
    image = torch.rand(3, 64, 80)
    masks = torch.zeros(2, 64, 80, dtype=torch.uint8)
    masks[0, 10:40, 5:35] = masks[1, 20:60, 30:75] = 1
    target = {
        "boxes": torch.tensor([[5.0, 10, 35, 40], [30, 20, 75, 60]]),
        "labels": torch.tensor([1, 3]),
        "masks": masks,
    }
    losses = model([image], [target])
    assert all(loss.isfinite() for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    lacking = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not lacking
    with torch.no_grad():
        assert "boxes" in model.eval()([image])[0]


def test_listing_counts_and_cites():
    row = catalogue(["mask_rcnn/r50_fpn_mdconv"]).iloc[0]
    assert (row["box_AP"], row["mask_AP"]) == (41.5, 37.1)
    assert row["source"].startswith("mmdetection")
    assert row["parameters_M"] == pytest.approx(45.22, abs=0.01)
    assert catalogue(["no", "such"]).empty


def test_a_reader_that_has_seen_enough_is_no_error(monkeypatch, capsys):
    """As in `dcnv2 configs | head`."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as unread:
        monkeypatch.setattr(sys, "stdout", unread)
        status = cli.main(["configs", "smoke/plain"])
        monkeypatch.undo()
    assert status == 141
    assert capsys.readouterr().err == ""


def test_rows_with_one_model_are_counted_once(monkeypatch):
    counted = []

    def count(config):
        counted.append(config)
        return model_cost(config)

    monkeypatch.setattr(listing, "model_cost", count)
    rows = catalogue(["mask_rcnn/r50_fpn_jitter"])
    assert len(rows) == 2
    assert len(counted) == 1


def test_operations_of_deformable_layers_are_counted():
    def macs(conv):
        values = {"model": {"backbone": {"arch": "small", "convs": ["plain"] * 3 + [conv]}}}
        values["model"] |= {"min_size": [64], "max_size": 64}
        return model_cost(parse_values(values).model).macs

    plain, first, second = macs("plain"), macs("dcnv1"), macs("dcnv2")
    # Two 3x3 layers over 256 channels on a 8x8 map; each adds an offset convolution with 18 or 27
    # outputs, and four products a sample, one more with modulation.
    samples, taps, pixels = 256 * 9, 256 * 9, 64
    assert first - plain == 2 * pixels * (18 * taps + 4 * samples)
    assert second - plain == 2 * pixels * (27 * taps + 5 * samples)
