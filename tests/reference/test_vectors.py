# SPDX-License-Identifier: BSD-3-Clause
"""Hand-checked values of the two RoI pools, from independent evaluations of their formulas.

The 2x2 and 4x4 cases of the centred convention are the published vectors of mmcv's operator.
"""

import pytest
import torch

import reference

SMALL = [[1.0, 2.0], [3.0, 4.0]]
SQUARE = [[1.0, 2, 5, 6], [3, 4, 7, 8], [9, 10, 13, 14], [11, 12, 15, 16]]
RAMP = [[float(x) for x in range(14)]] * 14
CENTRED, PSROI = reference.deform_roi_pool, reference.deform_psroi_pool

# pool, image, end of the box, scale, offset in x, rows of the result
CASES = [
    (CENTRED, SMALL, 1, 1.0, None, [[1.0, 1.25], [1.5, 1.75]]),
    (CENTRED, SQUARE, 3, 1.0, None, [[1.9375, 4.75], [7.5625, 10.375]]),
    (CENTRED, RAMP, 224, 1 / 16, None, [[0.5, 2.5, 4.5, 6.5, 8.5, 10.5, 12.5]] * 7),
    (CENTRED, RAMP, 224, 1 / 16, 1.0, [[1.9, 3.9, 5.9, 7.9, 9.9, 11.9, 6.5]] * 7),
    (PSROI, SMALL, 1, 1.0, None, [[1.0, 1.75], [2.5, 3.25]]),
    (PSROI, SQUARE, 3, 1.0, None, [[1.75, 5.0], [8.25, 11.5]]),
    (PSROI, RAMP, 223, 1 / 16, None, [[0.25, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]] * 7),
    (PSROI, RAMP, 223, 1 / 16, 1.0, [[1.4, 3.4, 5.4, 7.4, 9.4, 11.4, 12.9]] * 7),
]


@pytest.mark.parametrize(("pool", "image", "end", "scale", "shift", "want"), CASES)
def test_pool_equals_the_values(pool, image, end, scale, shift, want):
    exact, bins = {"dtype": torch.float64}, len(want)
    box = torch.tensor([[0.0, 0, 0, end, end]], **exact)
    offset = None if shift is None else torch.zeros(1, 2, bins, bins, **exact)
    if offset is not None:
        offset[:, 0] = shift
    samples = {"sampling_ratio": 2} if pool is CENTRED else {"sample_per_part": 2}
    options = {"output_size": bins, "spatial_scale": scale, **samples}
    got = pool(torch.tensor([[image]], **exact), box, offset, **options)
    torch.testing.assert_close(got[0, 0], torch.tensor(want, **exact))
