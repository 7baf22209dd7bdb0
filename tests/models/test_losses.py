# SPDX-License-Identifier: BSD-3-Clause
"""Box losses with and without hard example mining, and matching in chunks."""

import pytest
import torch
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.roi_heads import fastrcnn_loss, maskrcnn_loss
from torchvision.ops import box_iou

from dcnv2.models import matching
from dcnv2.models.config import OHEMConfig
from dcnv2.models.losses import box_losses, mask_loss
from dcnv2.models.mask_targets import pack_masks
from dcnv2.models.matching import BACKGROUND, BETWEEN, MATCHED, inside, match
from dcnv2.models.sampling import Rows

BETA = 1 / 9
SLOTS = 11
COUNTS = (9, 0, 6)


@pytest.fixture
def batch():
    """Logits, deltas, labels and regression targets of images with 9, 0 and 6 RoIs, 3 classes."""
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(15, 4, generator=random)
    deltas = torch.randn(15, 16, generator=random)
    labels = [torch.randint(0, 4, (n,), generator=random) for n in COUNTS]
    targets = [torch.randn(n, 4, generator=random) for n in COUNTS]
    return logits, deltas, labels, targets


def _losses(batch, ohem, weights=None, pad=False):
    """The losses of the batch, as a CPU computes it, or with padding as a GPU does."""
    logits, deltas, labels, targets = batch
    rows = [torch.arange(n) + image * SLOTS for image, n in enumerate(COUNTS)]
    index = torch.cat(rows)
    operands = [logits, deltas, torch.cat(labels), torch.cat(targets)]
    weight = torch.ones(len(index))
    if pad:
        places, index = index, torch.arange(len(COUNTS) * SLOTS)
        operands = [
            x.new_full((len(index), *x.shape[1:]), 2).index_copy(0, places, x) for x in operands
        ]
        weight = torch.zeros(len(index)).index_fill(0, places, 1)
    shape = torch.Size([len(COUNTS), SLOTS])
    return box_losses(*operands, Rows(index, weight), shape, ohem, BETA, weights)


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


@pytest.mark.parametrize("kind", ["none", "batch", "image"])
def test_padding_counts_nowhere(batch, kind):
    ohem = OHEMConfig(kind, 5)
    torch.testing.assert_close(_losses(batch, ohem, pad=True), _losses(batch, ohem))


def test_without_mining_losses_are_torchvisions(batch):
    terms = _losses(batch, OHEMConfig())
    torch.testing.assert_close(tuple(terms.values()), fastrcnn_loss(*batch))


def test_class_weights_scale_the_cross_entropy_of_their_rois(batch):
    weights = torch.tensor([1.0, 3.0, 0.0, 1.0])
    terms = _losses(batch, OHEMConfig(), weights)
    classes, boxes = _terms(batch)
    torch.testing.assert_close(
        terms["loss_classifier"], (weights[torch.cat(batch[2])] * classes).sum() / 15
    )
    torch.testing.assert_close(terms["loss_box_reg"], boxes.sum() / 15)


def test_mining_the_batch_keeps_the_hardest_classifications(batch):
    terms = _losses(batch, OHEMConfig("batch", 5))
    classes, boxes = _terms(batch)
    torch.testing.assert_close(terms["loss_classifier"], classes.sort().values[-5:].mean())
    torch.testing.assert_close(terms["loss_box_reg"], boxes.sum() / 15)


def test_mining_images_ranks_by_both_losses_and_drops_boxes_too(batch):
    terms = _losses(batch, OHEMConfig("image", 4))
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
    index = torch.zeros(0, dtype=torch.int64)
    rows = Rows(index, torch.zeros(0))
    terms = box_losses(
        *(logits, deltas, index, torch.zeros(0, 4), rows, torch.Size([2, 5])),
        *(OHEMConfig(kind, 4), BETA),
    )
    assert list(terms.values()) == [0, 0]
    sum(terms.values()).backward()


@pytest.mark.parametrize("low_quality", [True, False])
@pytest.mark.parametrize("entries", [7, 640, 10**6])
def test_matching_a_batch_in_chunks_is_torchvisions(monkeypatch, entries, low_quality):
    """Images of 6, 0 and 3 objects on the same anchors."""
    random = torch.Generator().manual_seed(1)

    def boxes(count):
        corner = torch.rand(count, 2, generator=random) * 50
        return torch.cat([corner, corner + 5 + 40 * torch.rand(count, 2, generator=random)], 1)

    objects, anchors = [boxes(6), boxes(0), boxes(3)], boxes(83)
    anchors[40:43] = anchors[7]
    objects[2][1] += 1000  # on no anchor at all
    padded = torch.stack([torch.cat([o, torch.zeros(6 - len(o), 4)]) for o in objects])
    present = torch.arange(6) < torch.tensor([[6], [0], [3]])
    monkeypatch.setattr(matching, "CHUNK_ENTRIES", entries)
    for given in (anchors[None], anchors.expand(3, -1, -1)):
        found = match(padded, present, given, 0.6, 0.3, low_quality)
        assert (found.state[1] == BACKGROUND).all()
        for image in (0, 2):
            wanted = Matcher(0.6, 0.3, low_quality)(box_iou(objects[image], anchors))
            states = {-1: BACKGROUND, -2: BETWEEN}
            assert found.state[image].tolist() == [states.get(w, MATCHED) for w in wanted.tolist()]
            matched = wanted >= 0
            assert torch.equal(found.index[image][matched], wanted[matched])


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


def _mask_loss(batch, ratio=(1.0, 1.0)):
    logits, boxes, matched, targets = batch
    image = torch.arange(3).repeat_interleave(torch.tensor([len(b) for b in boxes]))
    masks = pack_masks([t["masks"] for t in targets], [ratio] * 3, 4)
    crops = masks.crop(torch.cat(boxes), image, torch.cat(matched) + 4 * image, 28)
    labels = torch.cat([t["labels"][m] for t, m in zip(targets, matched, strict=True)])
    return mask_loss(logits, labels, crops, torch.ones(len(labels)))


def test_mask_loss_is_torchvisions():
    logits, boxes, matched, targets = batch = _mask_batch(40)
    masks, labels = [t["masks"] for t in targets], [t["labels"] for t in targets]
    wanted = maskrcnn_loss(logits, boxes, masks, labels, matched)
    torch.testing.assert_close(_mask_loss(batch), wanted)


def test_padding_has_no_mask_loss():
    logits = torch.randn(3, 4, 5, 5, requires_grad=True)
    wanted, labels = torch.rand(3, 5, 5), torch.tensor([1, 3, 2])
    padded = mask_loss(logits, labels, wanted, torch.tensor([1.0, 0.0, 1.0]))
    kept = [0, 2]
    torch.testing.assert_close(
        padded, mask_loss(logits[kept], labels[kept], wanted[kept], torch.ones(2))
    )
    assert mask_loss(logits, labels, wanted, torch.zeros(3)) == 0


def test_masks_of_another_size_are_cropped_where_the_box_is():
    logits, boxes, matched, targets = batch = _mask_batch(40)
    stretched = [box * torch.tensor([2.0, 4, 2, 4]) for box in boxes]
    got = _mask_loss((logits, stretched, matched, targets), ratio=(0.5, 0.25))
    torch.testing.assert_close(got, _mask_loss(batch))


def test_boxes_inside_regions_are_found():
    regions = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    boxes = torch.tensor([[1.0, 1, 5, 5], [4, 0, 12, 10], [5, 0, 15, 10], [22, 21, 40, 24]])
    padded = torch.cat([regions, torch.zeros(1, 4)])
    both = torch.stack([padded, padded.roll(1, dims=0)])
    for given in (boxes[None], boxes.expand(2, -1, -1)):
        assert inside(given, both).tolist() == [[True, True, False, False]] * 2
    assert not inside(boxes[None], padded[None, 2:]).any()
    assert not inside(boxes[None], regions[None, :0]).any()
