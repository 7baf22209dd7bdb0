# SPDX-License-Identifier: BSD-3-Clause
"""Box losses with and without hard example mining, and matching in chunks."""

import pytest
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.roi_heads import fastrcnn_loss, maskrcnn_loss
from torchvision.ops import box_iou

from dcnv2.models.config import OHEMConfig
from dcnv2.models.losses import box_losses, mask_loss
from dcnv2.models.matching import BoxPairs, ChunkedMatcher, inside

BETA = 1 / 9


@pytest.fixture
def batch():
    """Logits, deltas, labels and regression targets of images with 9, 0 and 6 RoIs, 3 classes."""
    random = torch.Generator().manual_seed(0)
    counts = (9, 0, 6)
    logits = torch.randn(15, 4, generator=random)
    deltas = torch.randn(15, 16, generator=random)
    labels = [torch.randint(0, 4, (n,), generator=random) for n in counts]
    targets = [torch.randn(n, 4, generator=random) for n in counts]
    return logits, deltas, labels, targets


def _terms(batch):
    """Both losses of each RoI, plainly."""
    logits, deltas, labels, targets = batch
    label, target = torch.cat(labels), torch.cat(targets)
    classes, boxes = [], []
    for i, wanted in enumerate(label.tolist()):
        classes.append(-logits[i].log_softmax(0)[wanted])
        error = (deltas[i, 4 * wanted : 4 * wanted + 4] - target[i]).abs()
        smooth = torch.where(error < BETA, 0.5 * error**2 / BETA, error - BETA / 2).sum()
        boxes.append(smooth if wanted else smooth * 0)
    return torch.stack(classes), torch.stack(boxes)


def test_without_mining_losses_are_torchvisions(batch):
    terms = box_losses(*batch, OHEMConfig(), BETA)
    torch.testing.assert_close(tuple(terms.values()), fastrcnn_loss(*batch))


def test_class_weights_scale_the_cross_entropy_of_their_rois(batch):
    weights = torch.tensor([1.0, 3.0, 0.0, 1.0])
    terms = box_losses(*batch, OHEMConfig(), BETA, weights)
    classes, boxes = _terms(batch)
    torch.testing.assert_close(
        terms["loss_classifier"], (weights[torch.cat(batch[2])] * classes).sum() / 15
    )
    torch.testing.assert_close(terms["loss_box_reg"], boxes.sum() / 15)


def test_mining_the_batch_keeps_the_hardest_classifications(batch):
    terms = box_losses(*batch, OHEMConfig("batch", 5), BETA)
    classes, boxes = _terms(batch)
    torch.testing.assert_close(terms["loss_classifier"], classes.sort().values[-5:].mean())
    torch.testing.assert_close(terms["loss_box_reg"], boxes.sum() / 15)


def test_mining_images_ranks_by_both_losses_and_drops_boxes_too(batch):
    terms = box_losses(*batch, OHEMConfig("image", 4), BETA)
    classes, boxes = _terms(batch)
    kept = []
    for start, stop in ((0, 9), (9, 15)):
        rank = (classes + boxes)[start:stop].argsort(descending=True)[:4]
        kept += (rank + start).tolist()
    torch.testing.assert_close(terms["loss_classifier"], classes[kept].mean())
    torch.testing.assert_close(terms["loss_box_reg"], boxes[kept].sum() / 8)


@pytest.mark.parametrize("kind", ["none", "batch", "image"])
def test_no_rois_give_zero_losses_with_gradients(kind):
    logits, deltas = torch.zeros(0, 4, requires_grad=True), torch.zeros(0, 16, requires_grad=True)
    empty = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, 4)]
    terms = box_losses(logits, deltas, *empty, OHEMConfig(kind, 4), BETA)
    assert list(terms.values()) == [0, 0]
    sum(terms.values()).backward()


@pytest.mark.parametrize("low_quality", [True, False])
@pytest.mark.parametrize("entries", [7, 64, 10**6])
def test_matching_in_chunks_is_torchvisions(entries, low_quality):
    random = torch.Generator().manual_seed(1)

    def boxes(count):
        corner = torch.rand(count, 2, generator=random) * 50
        return torch.cat([corner, corner + 5 + 40 * torch.rand(count, 2, generator=random)], 1)

    objects, anchors = boxes(6), boxes(83)
    anchors[40:43] = anchors[7]
    matcher = ChunkedMatcher(0.6, 0.3, allow_low_quality_matches=low_quality)
    matcher.chunk_entries = entries
    wanted = Matcher(0.6, 0.3, low_quality)(box_iou(objects, anchors))
    assert torch.equal(matcher(BoxPairs(objects, anchors)), wanted)


def _mask_batch(side):
    """Logits, boxes, matches and targets of images with 3, 0 and 2 positive RoIs."""
    random = torch.Generator().manual_seed(2)
    boxes, matched, targets = [], [], []
    for count in (3, 0, 2):
        corner = torch.rand(count, 2, generator=random) * 20
        boxes.append(
            torch.cat([corner, corner + 8 + 10 * torch.rand(count, 2, generator=random)], 1)
        )
        matched.append(torch.randint(0, 4, (count,), generator=random))
        masks = torch.rand(4, side, side, generator=random) < 0.5
        labels = torch.randint(1, 3, (4,), generator=random)
        targets.append({"masks": masks.to(torch.uint8), "labels": labels})
    return torch.randn(5, 3, 28, 28, generator=random), boxes, matched, targets


def test_mask_loss_is_torchvisions():
    logits, boxes, matched, targets = _mask_batch(40)
    masks, labels = [t["masks"] for t in targets], [t["labels"] for t in targets]
    wanted = maskrcnn_loss(logits, boxes, masks, labels, matched)
    torch.testing.assert_close(mask_loss(logits, boxes, matched, targets), wanted)


def test_masks_of_another_size_are_cropped_where_the_box_is():
    logits, boxes, matched, targets = _mask_batch(40)
    wanted = mask_loss(logits, boxes, matched, targets)
    for target in targets:
        target["mask_ratio"] = torch.tensor([0.5, 0.25])
    stretched = [box * torch.tensor([2.0, 4, 2, 4]) for box in boxes]
    torch.testing.assert_close(mask_loss(logits, stretched, matched, targets), wanted)


def test_boxes_inside_regions_are_found():
    regions = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    boxes = torch.tensor([[1.0, 1, 5, 5], [4, 0, 12, 10], [5, 0, 15, 10], [22, 21, 40, 24]])
    assert inside(boxes, regions).tolist() == [True, True, False, False]
    assert not inside(boxes, regions[:0]).any()
