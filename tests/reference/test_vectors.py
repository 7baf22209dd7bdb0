# SPDX-License-Identifier: BSD-3-Clause
"""Hand-checked values of the two RoI pools, from independent evaluations of their formulas.

The 2x2 and 4x4 cases of the centred convention are the published vectors of mmcv's operator.
"""

import pytest
import torch

import reference

SMALL = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
SQUARE = torch.tensor(
    [[1.0, 2, 5, 6], [3, 4, 7, 8], [9, 10, 13, 14], [11, 12, 15, 16]], dtype=torch.float64
)
RAMP = torch.arange(14.0, dtype=torch.float64).expand(14, 14)


def _roi(*box):
    return torch.tensor([[0.0, *box]], dtype=torch.float64)


def _x_offset(value, bins):
    offset = torch.zeros(1, 2, bins, bins, dtype=torch.float64)
    offset[:, 0] = value
    return offset


@pytest.mark.parametrize(
    ("image", "box", "want"),
    [
        (SMALL, (0, 0, 1, 1), [[1.0, 1.25], [1.5, 1.75]]),
        (SQUARE, (0, 0, 3, 3), [[1.9375, 4.75], [7.5625, 10.375]]),
    ],
)
def test_centred_pool_equals_published_values(image, box, want):
    got = reference.deform_roi_pool(image[None, None], _roi(*box), output_size=2, sampling_ratio=2)
    torch.testing.assert_close(got[0, 0], torch.tensor(want, dtype=torch.float64))


@pytest.mark.parametrize(
    ("image", "box", "want"),
    [
        (SMALL, (0, 0, 1, 1), [[1.0, 1.75], [2.5, 3.25]]),
        (SQUARE, (0, 0, 3, 3), [[1.75, 5.0], [8.25, 11.5]]),
    ],
)
def test_psroi_pool_equals_published_values(image, box, want):
    got = reference.deform_psroi_pool(
        image[None, None], _roi(*box), output_size=2, sample_per_part=2
    )
    torch.testing.assert_close(got[0, 0], torch.tensor(want, dtype=torch.float64))


@pytest.mark.parametrize(
    ("shift", "want"),
    [
        (None, [0.5, 2.5, 4.5, 6.5, 8.5, 10.5, 12.5]),
        (1.0, [1.9, 3.9, 5.9, 7.9, 9.9, 11.9, 6.5]),
    ],
)
def test_centred_pool_on_a_ramp(shift, want):
    got = reference.deform_roi_pool(
        RAMP[None, None],
        _roi(0, 0, 224, 224),
        None if shift is None else _x_offset(shift, 7),
        spatial_scale=1 / 16,
        sampling_ratio=2,
    )
    want = torch.tensor(want, dtype=torch.float64).expand(7, 7)
    torch.testing.assert_close(got[0, 0], want)


@pytest.mark.parametrize(
    ("shift", "want"),
    [
        (None, [0.25, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]),
        (1.0, [1.4, 3.4, 5.4, 7.4, 9.4, 11.4, 12.9]),
    ],
)
def test_psroi_pool_on_a_ramp(shift, want):
    got = reference.deform_psroi_pool(
        RAMP[None, None],
        _roi(0, 0, 223, 223),
        None if shift is None else _x_offset(shift, 7),
        spatial_scale=1 / 16,
        sample_per_part=2,
    )
    want = torch.tensor(want, dtype=torch.float64).expand(7, 7)
    torch.testing.assert_close(got[0, 0], want)
