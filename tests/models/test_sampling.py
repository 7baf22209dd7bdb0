# SPDX-License-Identifier: BSD-3-Clause
"""Samples are uniform, bounded, and the image's own; padding changes no loss."""

import pytest
import torch
from toys import total, toy_config, toy_images, toy_targets

from dcnv2.models import box_mask_heads, build_model, mimic
from dcnv2.models.random_keys import Stream, random_keys, seed_words
from dcnv2.models.sampling import Rows, draw


def _keys(seeds, count, stream=Stream.ANCHORS):
    return random_keys(seed_words(seeds)[stream], count)


def test_keys_follow_from_seed_stream_and_position_only():
    both, one = _keys([3, 2**63 + 5], 50), _keys([2**63 + 5], 80)
    assert torch.equal(both[1], one[0, :50])
    assert not (both[0] == both[1]).any()
    assert not (_keys([3], 50, Stream.PROPOSALS) == both[:1]).any()
    assert one.min() >= 0


def test_keys_are_uniform_and_independent():
    """Within five standard deviations of what independent uniform numbers give."""
    keys = _keys(range(200), 500).double() / 2**31
    assert keys.mean().item() == pytest.approx(0.5, abs=5 * 12**-0.5 / 316)
    bins = torch.histc(keys, 100, 0, 1)
    assert ((bins - 1000) ** 2 / 1000).sum() < 99 + 5 * (2 * 99) ** 0.5
    standard = (keys - 0.5) * 12**0.5
    for other in (standard.roll(1, 0), standard.roll(1, 1), standard.roll((1, 1), (0, 1))):
        assert (standard * other).mean().abs() < 5 / 316
    assert len(keys.unique()) > 99_990


def test_as_many_boxes_are_drawn_as_asked_for():
    labels = torch.tensor([[0, 2, -1, 1, 0, 0, 3, 0, -1], [0, 0, 0, -1, -1, 0, 0, 0, 0]])
    labels = torch.cat([labels, -torch.ones(1, 9, dtype=torch.int64)])
    drawn = draw(labels, _keys([1, 2, 3], 9), 5, 0.4)
    chosen = labels.gather(1, drawn.index)
    assert drawn.limit == 2
    assert drawn.positives.tolist() == [[2], [0], [0]]
    assert drawn.count.tolist() == [[5], [5], [0]]
    assert (chosen[0, :2] > 0).all()
    assert (chosen[0, 2:] == 0).all()
    assert (chosen[1] == 0).all()
    assert len(drawn.index[0].unique()) == len(drawn.index[1].unique()) == 5
    few = draw(labels, _keys([1, 2, 3], 9), 100, 0.25)
    assert few.index.shape == (3, 9)
    assert few.count.tolist() == [[7], [7], [0]]
    assert few.drawn().sum(1).tolist() == [7, 7, 0]
    assert few.index[0, 7:].tolist() == few.index[0, :2].tolist(), "padding repeats"


def test_every_box_has_the_same_chance():
    labels = torch.tensor([[0, 1, 0, 1, 0, 1, 0, 1, 0, 0]]).expand(4000, -1)
    drawn = draw(labels, _keys(range(4000), 10), 4, 0.5)
    times = torch.bincount(drawn.index.flatten(), minlength=10)
    for label, chance in ((1, 2 / 4), (0, 2 / 6)):
        deviation = (4000 * chance * (1 - chance)) ** 0.5
        assert (times[labels[0] == label] - 4000 * chance).abs().max() < 5 * deviation


@pytest.mark.parametrize("ohem", ["none", "batch", "image"])
@pytest.mark.parametrize(
    "form",
    [
        {"pool": "mdpool"},
        pytest.param(
            {"arch": "resnet50", "topology": "c4", "norm": "frozen"}, marks=pytest.mark.slow
        ),
    ],
    ids=["c5", "c4-shared"],
)
def test_padded_slots_change_neither_losses_nor_gradients(monkeypatch, shallow, form, ohem):
    """A CPU computes no padding; other devices do, since the host does not know how much it is."""
    torch.manual_seed(0)
    config = toy_config(**form)
    config.mimic.enabled, config.mimic.crop_size = True, 32
    config.mask.shared = "topology" in form
    config.box.ohem.kind, config.box.ohem.keep = ohem, 3
    model = build_model(config).double()
    images = [image.double() for image in toy_images()]
    targets = [{**target, "seed": 3 + n} for n, target in enumerate(toy_targets(images))]
    targets[1] = {**targets[1], **{k: targets[1][k][:1] for k in ("boxes", "labels", "masks")}}

    def run():
        model.zero_grad()
        losses = model(images, targets)
        total(losses).backward()
        return losses, {name: p.grad for name, p in model.named_parameters()}

    wanted = run()
    for module in (box_mask_heads, mimic):
        monkeypatch.setattr(module, "occupied", _all_rows)
    losses, gradients = run()
    torch.testing.assert_close(losses, wanted[0])
    torch.testing.assert_close(gradients, wanted[1], rtol=1e-6, atol=1e-9)


def _all_rows(valid):
    return Rows(torch.arange(valid.numel()), valid.flatten().float())
