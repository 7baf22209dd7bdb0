# SPDX-License-Identifier: BSD-3-Clause
"""Repeat-factor sampling: the factors of LVIS, and epochs that follow them."""

from types import SimpleNamespace

import numpy as np
import pytest

from dcnv2.data.loader import StepSampler
from dcnv2.data.repeat_factors import repeat_factors


def test_factors_are_those_of_the_paper():
    """Class 1 is in all but the last of 100 images, class 2 in one, class 3 is a crowd region."""
    table = SimpleNamespace(
        names=["a", "b", "c", "unused"],
        files=["x.png"] * 100,
        first=np.array([0, 2, 4, *range(5, 102), 101]),
        labels=np.array([1, 2, 1, 3, *[1] * 97]),
        crowd=np.array([False, False, False, True, *[False] * 97]),
    )
    factors = repeat_factors(table, 0.04)
    assert factors[0] == pytest.approx(2.0), "sqrt(0.04 / 0.01)"
    assert factors[1:].tolist() == [1.0] * 99
    assert repeat_factors(table, 1.0)[5] == pytest.approx(np.sqrt(1 / 0.99))


def test_epochs_have_images_as_often_as_their_factors():
    repeats = np.array([1.0, 2.3, 1.0, 3.0, 1.5, 1.0, 1.0])
    sampler = StepSampler([1.5] * 7, 2, seed=3, repeats=repeats)
    assert sampler.steps_per_epoch == 6, "10.8 images in batches of 2"
    counts = np.zeros(7)
    for number in range(400):
        epoch = sampler.epoch(number).ravel()
        assert len(epoch) == 12
        found = np.bincount(epoch, minlength=7)
        assert (found >= 1).all()
        counts += found
    assert counts.sum() == 4800
    expected = repeats * 12 / repeats.sum()  # the last batch is filled with some images again
    assert counts / 400 == pytest.approx(expected, rel=0.06)


def test_without_factors_epochs_are_as_they_were():
    plain = StepSampler([1.5] * 5 + [0.5] * 3, 2, seed=1)
    ones = StepSampler([1.5] * 5 + [0.5] * 3, 2, seed=1, repeats=np.ones(8))
    assert plain.steps_per_epoch == ones.steps_per_epoch == 5
    assert sorted(ones.epoch(0).ravel())[0] == 0
    assert set(ones.epoch(4).ravel()) == set(range(8))
