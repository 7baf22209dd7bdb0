# SPDX-License-Identifier: BSD-3-Clause
"""Batched non-maximum suppression: its definition, and identities that do not depend on it."""

import pytest
import torch

from suites.claims.assertions import assert_equals_reference, assert_same_bits, run_with
from suites.claims.claim import claim, require_supported
from suites.problems.nms import NMS_DTYPES, NmsProblem
from suites.problems.strategies import nms_problems

FINITE = ("grid", "identical", "nested", "flat", "inverted", "apart")
RANKED = ("distinct", "absent")  # no two boxes that are there have equal scores
LARGE = NmsProblem(batch=3, count=4300, extent=48, group_count=5, max_out=5000, dtype="float32")


@pytest.mark.parametrize("dtype", NMS_DTYPES)
@claim(lambda dtype: nms_problems(dtype), 150)
def test_kept_boxes_equal_the_reference(target, problem, dtype):
    assert_equals_reference(target, problem, target.run(problem))


@pytest.mark.parametrize("max_out", [5000, 120], ids=["all", "few"])
def test_thousands_of_boxes_equal_the_reference(target, max_out):
    problem = LARGE.but(max_out=max_out)
    require_supported(target, problem)
    assert_equals_reference(target, problem, target.run(problem))


@pytest.mark.parametrize(("iou_threshold", "width"), [(1.0, 4.0), (0.5, 2.0), (0.25, 1.0)])
def test_a_box_is_kept_at_the_threshold_and_suppressed_above_it(target, iou_threshold, width):
    at = NmsProblem(batch=1, count=2, group_count=1, max_out=2, iou_threshold=iou_threshold)
    require_supported(target, at)
    operands = {
        "boxes": torch.tensor([[[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, width, 4.0]]]).double(),
        "scores": torch.tensor([[2.0, 1.0]]).double(),
        "groups": torch.zeros(1, 2, dtype=torch.int64),
    }
    operands = {name: operand.to(target.device) for name, operand in operands.items()}
    above = at.but(iou_threshold=iou_threshold - 2**-10)
    assert run_with(target, at, **operands)["output"].tolist() == [[0, 1, 2]]
    assert run_with(target, above, **operands)["output"].tolist() == [[0, -1, 1]]


@pytest.mark.parametrize(
    ("first", "second"), [(0, 1), (31, 32), (33, 63), (63, 64), (5, 130), (70, 4200)]
)
def test_a_box_suppresses_an_equal_one_wherever_it_is(target, first, second):
    count = second + 1
    problem = NmsProblem(batch=1, count=count, max_out=count, dtype="float32")
    require_supported(target, problem)
    rank = torch.arange(count)
    operands = {
        "boxes": torch.tensor([0.0, 0.0, 4.0, 4.0]).expand(1, count, 4),
        "scores": -rank.float()[None],
        "groups": torch.where((rank == first) | (rank == second), 0, rank + 1)[None],
    }
    operands = {name: operand.to(target.device) for name, operand in operands.items()}
    result = run_with(target, problem, **operands)["output"][0].cpu()
    assert result.tolist() == [*rank[:-1].tolist(), -1, count - 1]


@pytest.mark.parametrize("gap", [1, 40, 70, 2100])
def test_a_suppressed_box_suppresses_nothing(target, gap):
    """The first suppresses the second, which overlaps the third; all others are of other groups."""
    count = 2 * gap + 1
    problem = NmsProblem(batch=1, count=count, max_out=count, iou_threshold=0.25)
    require_supported(target, problem)
    rank = torch.arange(count)
    left = 2.0 * (rank // gap)
    boxes = torch.stack([left, 0 * left, left + 6, 0 * left + 4], 1)
    operands = {
        "boxes": boxes.double()[None],
        "scores": -rank.double()[None],
        "groups": torch.where(rank % gap == 0, 0, rank)[None],
    }
    operands = {name: operand.to(target.device) for name, operand in operands.items()}
    result = run_with(target, problem, **operands)["output"][0].cpu()
    assert result.tolist() == [*rank[rank != gap].tolist(), -1, count - 1]


@claim(nms_problems(boxes=FINITE, scores=("distinct", "tied", "equal", "absent")), 60)
def test_boxes_are_left_out_exactly_if_a_kept_one_suppresses_them(target, problem):
    """Whole numbers: no overlap is rounded across the threshold."""
    operands, kept = problem.rounded(), _kept(target, problem.but(max_out=problem.count + 1))
    suppresses = _suppresses(operands, problem.iou_threshold)  # [N, K, K], by rank
    rank = _rank(operands["scores"])
    suppresses &= rank[:, :, None] < rank[:, None, :]
    wanted = (operands["scores"] > -torch.inf) & ~(kept[:, :, None] & suppresses).any(1)
    assert torch.equal(kept, wanted)


@claim(nms_problems(), 40)
def test_fewer_boxes_are_the_first_of_more(target, problem):
    more = run_with(target, problem.but(max_out=problem.max_out + 5))["output"]
    got = run_with(target, problem)["output"]
    assert torch.equal(got[:, :-1], more[:, : problem.max_out])
    assert torch.equal(got[:, -1], more[:, -1].clamp(max=problem.max_out))


@claim(nms_problems(boxes=FINITE, scores=RANKED), 40)
def test_order_of_the_boxes_changes_nothing(target, problem):
    order = torch.randperm(problem.count, generator=problem.generator("order"))
    operands = problem.operands(target.device)
    mixed = {name: operand[:, order.to(target.device)] for name, operand in operands.items()}
    got, want = run_with(target, problem, **mixed), run_with(target, problem)
    indices = got["output"][:, :-1].cpu()
    places = torch.cat([order, torch.tensor([-1])])  # -1 is the last
    assert torch.equal(places[indices], want["output"][:, :-1].cpu())


@claim(nms_problems(), 40)
def test_groups_are_separate_suppressions(target, problem):
    problem = problem.but(max_out=problem.count + 1)
    operands, together = problem.operands(target.device), _kept(target, problem)
    apart = torch.zeros_like(together)
    for group in range(-1, problem.group_count - 1):
        scores = operands["scores"].where(operands["groups"] == group, -torch.inf)
        apart |= _kept(target, problem, scores=scores)
    assert torch.equal(together, apart)


@claim(nms_problems(), 40)
def test_images_are_separate_suppressions(target, problem):
    operands, together = problem.operands(target.device), run_with(target, problem)["output"]
    for image in range(problem.batch):
        alone = {name: operand[image : image + 1] for name, operand in operands.items()}
        got = run_with(target, problem, **alone)["output"]
        assert torch.equal(got, together[image : image + 1])


@claim(nms_problems(), 40)
def test_absent_boxes_are_as_if_left_out(target, problem):
    operands, want = problem.operands(target.device), run_with(target, problem)["output"]
    for image in range(problem.batch):
        (there,) = (operands["scores"][image] != -torch.inf).nonzero(as_tuple=True)
        alone = {name: operand[image : image + 1, there] for name, operand in operands.items()}
        got = run_with(target, problem, **alone)["output"][0]
        places = torch.cat([there, there.new_tensor([-1])])
        assert torch.equal(places[got[:-1]], want[image, :-1])
        assert got[-1] == want[image, -1]


@claim(nms_problems(boxes=FINITE), 40)
def test_boxes_may_be_moved_and_scaled(target, problem):
    """By whole numbers and powers of two, which change no overlap."""
    operands = problem.operands(target.device)
    moved = 4 * (operands["boxes"] + torch.tensor([5.0, -3.0, 5.0, -3.0]).to(operands["boxes"]))
    assert_same_bits(run_with(target, problem, boxes=moved), run_with(target, problem))


@claim(nms_problems(boxes=("grid", "identical"), scores=("distinct", "absent")), 20)
def test_threshold_one_keeps_every_box(target, problem):
    problem = problem.but(iou_threshold=1.0, max_out=problem.count + 1)
    assert torch.equal(_kept(target, problem), problem.rounded()["scores"] > -torch.inf)


def _kept(target, problem, **changed):
    """Which boxes [N, K] are kept, on the CPU; the counts must agree."""
    result = run_with(target, problem, **changed)["output"].cpu()
    kept = torch.zeros(problem.batch, problem.count + 1, dtype=torch.bool)
    kept.scatter_(1, result[:, :-1] % (problem.count + 1), True)  # -1 is the last
    assert torch.equal(kept[:, :-1].sum(1), result[:, -1])
    return kept[:, :-1]


def _rank(scores):
    """The place of each box in the order of descending scores."""
    return scores.sort(dim=1, descending=True, stable=True).indices.argsort(1)


def _suppresses(operands, iou_threshold):
    """Whether each box overlaps each other one of its group by more than the threshold."""
    boxes, groups = operands["boxes"], operands["groups"]
    one, other = boxes[:, :, None], boxes[:, None]
    sides = torch.minimum(one, other)[..., 2:] - torch.maximum(one, other)[..., :2]
    shared = sides.clamp(min=0).prod(-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    union = areas[:, :, None] + areas[:, None] - shared
    exceeds = (shared > 0) & (shared > iou_threshold * union)
    return exceeds & (groups[:, :, None] == groups[:, None])
