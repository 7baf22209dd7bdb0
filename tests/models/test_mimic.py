# SPDX-License-Identifier: BSD-3-Clause
"""Feature mimicking: which boxes, which crops, which gradients; gone in evaluation."""

import pytest
import torch
from toys import packed_targets, padded_proposals, total, toy_config, toy_images, toy_targets

from dcnv2.models import build_model
from dcnv2.models.transform import ImageBatch

BOXES = ((5, 7, 30, 40), (10, 20, 45, 50))


def _model(**options):
    torch.manual_seed(0)
    config = toy_config()
    config.mimic.enabled = True
    config.mimic.crop_size = 32
    for name, value in options.items():
        setattr(config.mimic, name, value)
    return build_model(config)


def _branch(model, proposals, targets, images):
    """The branch alone on given proposals."""
    batch = ImageBatch(torch.stack(images), [image.shape[1:] for image in images])
    features = model.backbone(batch.tensors)
    return model.mimic(
        *(
            batch,
            features,
            padded_proposals(proposals),
            packed_targets(targets),
            model.backbone,
            model.roi_heads,
        )
    )


def _near(boxes):
    return torch.tensor(boxes, dtype=torch.float32) + 1.0


def test_every_parameter_gets_a_finite_gradient():
    model = _model()
    images = toy_images()
    losses = model(images, toy_targets(images))
    assert {"loss_mimic_cls", "loss_mimic_cos"} < losses.keys()
    total(losses).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_crops_are_the_boxes_resized():
    model = _model(crop_size=16)
    image = torch.arange(64.0).expand(3, 48, 64)  # the column's number, minus a half at its left
    batch = ImageBatch(image[None], [(48, 64)])
    crop = model.mimic.crop(batch, torch.tensor([[0.0, 10.0, 5.0, 42.0, 37.0]]))
    assert crop.shape == (1, 3, 16, 16)
    middles = 10 + (torch.arange(16) + 0.5) * 2 - 0.5
    torch.testing.assert_close(crop[0, 0, 3], middles)


def test_only_positive_proposals_are_drawn_and_never_the_objects_themselves():
    model = _model(boxes_per_image=3)
    images = toy_images(sizes=((64, 64), (64, 64)))
    targets = toy_targets(images, BOXES)
    near = _near(BOXES).repeat(4, 1)
    background = torch.tensor([[50.0, 2.0, 60.0, 9.0]]).repeat(5, 1)
    proposals = padded_proposals([torch.cat([background, near]), background])
    boxes, labels, drawn = model.mimic.sample(proposals, packed_targets(targets), model.roi_heads)
    assert drawn.sum(1).tolist() == [3, 0]
    assert all((box == near).all(1).any() for box in boxes[0])
    assert labels[0].min() >= 1


@pytest.mark.parametrize("alone", [0, 1])
def test_an_image_without_positives_changes_nothing(alone):
    model = _model(boxes_per_image=8)
    images = toy_images(sizes=((64, 64), (64, 64)))
    targets = toy_targets(images, BOXES)
    proposals = [torch.zeros(0, 4), torch.zeros(0, 4)]
    proposals[alone] = _near(BOXES)
    both = _branch(model, proposals, targets, images)
    single = _branch(model, [_near(BOXES)], targets[alone : alone + 1], images[alone : alone + 1])
    for name, loss in both.items():
        torch.testing.assert_close(loss, single[name])


def test_nothing_positive_in_the_batch_is_zero_with_gradients():
    model = _model()
    images = toy_images()
    losses = model(images, toy_targets(images, ()))
    assert losses["loss_mimic_cls"] == losses["loss_mimic_cos"] == 0
    total(losses).backward()
    assert all(p.grad is not None for p in model.mimic.parameters())


def test_losses_do_not_depend_on_how_images_are_batched():
    model = _model(boxes_per_image=8)
    images = toy_images(sizes=((64, 64), (64, 64)))
    targets = toy_targets(images, BOXES)
    both = _branch(model, [_near(BOXES), _near(BOXES)], targets, images)
    singles = [
        _branch(model, [_near(BOXES)], targets[i : i + 1], images[i : i + 1]) for i in range(2)
    ]
    for name, loss in both.items():
        torch.testing.assert_close(loss, (singles[0][name] + singles[1][name]) / 2)


@pytest.mark.parametrize(("normalise", "divisor"), [("none", 1), ("image", 2), ("box", 4)])
def test_normalisation_divides_the_sum(normalise, divisor):
    images = toy_images(sizes=((64, 64), (64, 64)))
    targets = toy_targets(images, BOXES)
    proposals = [_near(BOXES), _near(BOXES)]
    losses = {
        kind: _branch(_model(normalise=kind), proposals, targets, images)["loss_mimic_cos"]
        for kind in ("none", normalise)
    }
    torch.testing.assert_close(losses[normalise], losses["none"] / divisor)


@pytest.mark.parametrize("side", ["rcnn", "frcnn"])
def test_stopped_gradients_do_not_reach_that_side(side):
    model = _model(stop_gradient=side)
    images = toy_images(sizes=((64, 64),))
    batch = ImageBatch(torch.stack(images), [(64, 64)])
    features = {k: v.detach().requires_grad_() for k, v in model.backbone(batch.tensors).items()}
    model.mimic(
        batch,
        features,
        padded_proposals([_near(BOXES)]),
        packed_targets(toy_targets(images, BOXES)),
        model.backbone,
        model.roi_heads,
    )["loss_mimic_cos"].backward()
    through_patch = model.backbone.body.stem[0].weight.grad
    through_context = features["c5"].grad
    stopped, open_side = through_patch, through_context
    if side == "frcnn":
        stopped, open_side = open_side, stopped
    assert stopped is None or not stopped.any()
    assert open_side is not None
    assert open_side.any()


def test_evaluation_knows_no_branch():
    with_branch, config = _model().eval(), toy_config()
    torch.manual_seed(0)
    without = build_model(config).eval()
    without.load_state_dict(
        {k: v for k, v in with_branch.state_dict().items() if not k.startswith("mimic.")}
    )
    images = toy_images()
    with torch.no_grad():
        pairs = zip(with_branch(images), without(images), strict=True)
    for one, other in pairs:
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_proposal_networks_cannot_mimic():
    config = toy_config()
    config.mimic.enabled, config.task = True, "proposals"
    with pytest.raises(ValueError, match=r"mimic\.enabled"):
        build_model(config)
