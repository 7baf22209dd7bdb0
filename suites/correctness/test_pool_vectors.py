# SPDX-License-Identifier: BSD-3-Clause
"""Published values of the RoI poolings; those of the 2x2 and 4x4 images come from mmcv."""

import pytest
import torch

from suites.claims.claim import require_supported
from suites.problems.problem import RoIProblem

SMALL = [[1.0, 2.0], [3.0, 4.0]]
SQUARE = [[1.0, 2, 5, 6], [3, 4, 7, 8], [9, 10, 13, 14], [11, 12, 15, 16]]
RAMP = [[float(x) for x in range(14)]] * 14
SIXTEENTH = 1 / 16

CASES = [
    ("roi", SMALL, (0, 0, 1, 1), 1.0, None, [[1.0, 1.25], [1.5, 1.75]]),
    ("psroi", SMALL, (0, 0, 1, 1), 1.0, None, [[1.0, 1.75], [2.5, 3.25]]),
    ("roi", SQUARE, (0, 0, 3, 3), 1.0, None, [[1.9375, 4.75], [7.5625, 10.375]]),
    ("psroi", SQUARE, (0, 0, 3, 3), 1.0, None, [[1.75, 5.0], [8.25, 11.5]]),
    ("roi", RAMP, (0, 0, 224, 224), SIXTEENTH, None, [[0.5, 2.5, 4.5, 6.5, 8.5, 10.5, 12.5]] * 7),
    ("psroi", RAMP, (0, 0, 223, 223), SIXTEENTH, None, [[0.25, 2, 4, 6, 8, 10, 12]] * 7),
    ("roi", RAMP, (0, 0, 224, 224), SIXTEENTH, 1.0, [[1.9, 3.9, 5.9, 7.9, 9.9, 11.9, 6.5]] * 7),
    ("psroi", RAMP, (0, 0, 223, 223), SIXTEENTH, 1.0, [[1.4, 3.4, 5.4, 7.4, 9.4, 11.4, 12.9]] * 7),
]


@pytest.mark.parametrize(("kind", "image", "box", "scale", "shift", "want"), CASES)
def test_pool_gives_the_published_values(target, kind, image, box, scale, shift, want):
    bins = len(want)
    problem = RoIProblem(
        kind=kind, batch=1, channels=1, height=len(image), width=len(image[0]), bins=(bins, bins),
        scale=scale, samples=2, offset_scale=0.1, rois=("whole",), mask=False,
        offsets="none" if shift is None else "zero",
    )  # fmt: skip
    require_supported(target, problem)
    exact = {"dtype": torch.float64, "device": target.device}
    offset = None
    if shift is not None:
        offset = torch.zeros(1, 2, bins, bins, **exact)
        offset[:, 0] = shift
    got = target.backend.operator(problem.op)(
        torch.tensor([[image]], **exact),
        torch.tensor([[0.0, *box]], **exact),
        offset,
        None,
        **problem.options(),
    )
    torch.testing.assert_close(got[0, 0], torch.tensor(want, **exact))
