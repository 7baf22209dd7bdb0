# SPDX-License-Identifier: BSD-3-Clause
"""The detector trains and predicts in every form, on images with and without objects."""

import pytest
import torch
from toys import total, toy_config, toy_images, toy_target, toy_targets

from dcnv2.models import build_model, mask_targets, matching
from dcnv2.models.rpn import Proposals
from dcnv2.models.transform import Transform

SLOW = pytest.mark.slow
FORMS = [
    pytest.param({"pool": "align"}, id="small-plain"),
    pytest.param({"pool": "dpool"}, id="small-dcnv1"),
    pytest.param({"pool": "mdpool", "deform_groups": 2}, id="small-dcnv2"),
    pytest.param({"arch": "resnet50", "norm": "group"}, id="r50-c5-group", marks=SLOW),
    pytest.param(
        {"arch": "resnet50", "norm": "frozen", "topology": "c4"}, id="r50-c4-frozen", marks=SLOW
    ),
    pytest.param(
        {"arch": "resnet50", "norm": "frozen", "topology": "fpn"}, id="r50-fpn-frozen", marks=SLOW
    ),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("shallow")
def test_one_step_gives_every_parameter_a_finite_gradient(form):
    torch.manual_seed(0)
    model = build_model(toy_config(**form))
    images = toy_images()
    losses = model(images, toy_targets(images))
    assert len(losses) == 5
    total(losses).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("boxes", [(), ((12, 9, 40, 33),)], ids=["no-object", "one-object"])
@pytest.mark.parametrize("pool", ["align", "dpool", "mdpool"])
def test_batches_with_few_objects_train(pool, boxes):
    torch.manual_seed(0)
    model = build_model(toy_config(pool))
    images = toy_images()
    losses = model(images, toy_targets(images, boxes))
    total(losses).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert not [name for name, p in model.named_parameters() if p.grad is None]
    if not boxes:
        assert losses["loss_mask"] == 0


def test_one_empty_image_beside_a_full_one_trains():
    model = build_model(toy_config())
    images = toy_images()
    targets = [toy_targets(images)[0], toy_targets(images, ())[1]]
    assert total(model(images, targets)).isfinite()


def test_predictions_have_the_size_of_the_images():
    model = build_model(toy_config()).eval()
    model.roi_heads.score_thresh = 0.0
    images = toy_images()
    with torch.no_grad():
        outputs = model(images)
    for image, output in zip(images, outputs, strict=True):
        count = len(output["boxes"])
        assert 0 < count <= 100
        assert output["masks"].shape == (count, 1, *image.shape[1:])
        assert output["labels"].min() >= 1
        assert output["labels"].max() <= 3


@pytest.mark.parametrize("size", [(1, 3000), (3000, 2), (5, 1281), (1, 1), (40, 64)])
def test_images_of_any_shape_keep_a_pixel_and_their_boxes(size):
    transform = Transform([32], 64, [0.0] * 3, [1.0] * 3)
    height, width = size
    box = torch.tensor([[0.25 * width, 0.0, 0.5 * width, 1.0 * height]])
    image, target = transform.resize(torch.rand(3, *size), {"boxes": box.clone()})
    assert min(image.shape) >= 1
    assert max(image.shape) <= 64
    new = torch.tensor([image.shape[2], image.shape[1]] * 2)
    torch.testing.assert_close(target["boxes"], box / torch.tensor([width, height] * 2) * new)


@pytest.mark.slow
def test_masks_can_share_conv5_of_the_box_head(shallow):
    config = toy_config(arch="resnet50", topology="c4", norm="frozen")
    config.mask.shared = True
    model = build_model(config)
    assert model.roi_heads.mask_head is None
    images = toy_images()
    losses = model(images, toy_targets(images))
    losses["loss_mask"].backward()
    assert model.roi_heads.box_head.layer4[0].conv1.weight.grad.any()
    with torch.no_grad():
        assert model.eval()(images)[0]["masks"].shape[2:] == images[0].shape[1:]


def test_only_the_c4_form_can_share():
    config = toy_config()
    config.mask.shared = True
    with pytest.raises(ValueError, match=r"mask\.shared"):
        build_model(config)


def test_box_only_model_has_no_masks():
    config = toy_config()
    config.mask.enabled = False
    model = build_model(config)
    images = toy_images()
    assert "loss_mask" not in model(images, toy_targets(images))
    with torch.no_grad():
        assert "masks" not in model.eval()(images)[0]


def test_same_seed_same_losses():
    images = toy_images()

    def losses():
        torch.manual_seed(3)
        return build_model(toy_config())(images, toy_targets(images))

    first, second = losses(), losses()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_anchor_sizes_must_pair_with_levels():
    config = toy_config()
    config.rpn.anchor_sizes = [[16], [32]]
    with pytest.raises(ValueError, match=r"rpn\.anchor_sizes: wanted a list for each of c5, got 2"):
        build_model(config)


def test_proposal_network_scores_its_proposals():
    config = toy_config()
    config.task = "proposals"
    model = build_model(config)
    images = toy_images()
    losses = model(images, toy_targets(images))
    assert losses.keys() == {"loss_objectness", "loss_rpn_box_reg"}
    with torch.no_grad():
        outputs = model.eval()(images)
    for output in outputs:
        assert len(output["boxes"]) == len(output["scores"]) > 0
        assert (output["scores"].diff() <= 0).all()
        assert (output["labels"] == 1).all()


def test_a_box_without_area_is_refused_by_its_image():
    model = build_model(toy_config())
    images = toy_images()
    targets = toy_targets(images)
    targets[1]["boxes"][1, 2] = targets[1]["boxes"][1, 0]
    targets[1]["image_id"] = torch.tensor(77)
    with pytest.raises(ValueError, match="box 1 of image 77 has no area"):
        model(images, targets)


def test_bytes_and_floats_are_the_same_images():
    torch.manual_seed(0)
    model = build_model(toy_config())
    images = [(255 * image).byte() for image in toy_images()]
    targets = [{**target, "seed": 3} for target in toy_targets(images)]
    torch.testing.assert_close(model(images, targets), model([x / 255 for x in images], targets))


def test_training_wants_targets():
    with pytest.raises(ValueError, match="wanted one for each of 2 images, got none"):
        build_model(toy_config())(toy_images())


def test_a_thousand_objects_train_in_bounded_memory(monkeypatch):
    """No tensor on the way holds a float for every object and pixel, or object and anchor."""
    random = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 50, (1000, 2), generator=random)
    boxes = torch.cat([corners, corners + torch.randint(4, 14, (1000, 2), generator=random)], 1)
    config = toy_config()
    config.min_size, config.max_size = [128], 128
    model = build_model(config)
    monkeypatch.setattr(matching, "CHUNK_ENTRIES", 2**16)
    monkeypatch.setattr(mask_targets, "MASK_CHUNK", 2**20)
    targets = [toy_target(boxes.tolist(), 64, 64)]
    seen = []

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, operands=(), options=None):
            result = function(*operands, **(options or {}))
            if isinstance(result, torch.Tensor) and result.is_floating_point():
                seen.append(result.numel())
            return result

    with Sizes():
        losses = model([torch.rand(3, 64, 64, generator=random)], targets)
    total(losses).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert max(seen) < 1000 * 64 * 64


def test_crowd_regions_are_neither_objects_nor_background():
    model = build_model(toy_config())
    images = toy_images(sizes=((64, 64),))
    target = toy_targets(images, ((5, 7, 30, 40), (32, 0, 64, 64)))[0]
    target["iscrowd"] = torch.tensor([0, 1], dtype=torch.uint8)
    seen = {}
    rpn, heads = model.rpn, model.roi_heads
    assign, sample = rpn.assign, heads.sample

    def anchors_seen(anchors, targets):
        found = assign(anchors, targets)
        seen["anchors"], seen["labels"], seen["targets"] = anchors, found[0][0], targets
        return found

    def proposals_seen(_, targets):
        boxes = torch.tensor([[[40.0, 10, 60, 50], [2, 50, 12, 62]]])
        chosen = sample(Proposals(boxes, torch.ones(1, 2), torch.tensor([[2]])), targets)
        seen["proposals"] = chosen.boxes[chosen.drawn.drawn()]
        return chosen

    rpn.assign, heads.sample = anchors_seen, proposals_seen
    model(images, [target])
    assert seen["targets"].present.tolist() == [[True]]
    in_crowd = (seen["anchors"][:, 0] >= 32) & (seen["anchors"][:, 1] >= 0)
    in_crowd &= (seen["anchors"][:, 2] <= 64) & (seen["anchors"][:, 3] <= 64)
    assert in_crowd.any()
    assert (seen["labels"][in_crowd] == -1).all()
    assert (seen["labels"] == 0).any()
    assert [2, 50, 12, 62] in seen["proposals"].tolist()
    assert [40, 10, 60, 50] not in seen["proposals"].tolist()
