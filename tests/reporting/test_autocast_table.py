# SPDX-License-Identifier: BSD-3-Clause
"""The table of times and errors under autocast, on a tiny layer."""

import pytest

from suites.layers import find
from suites.perf import autocast


@pytest.fixture(scope="module")
def rows():
    pytest.importorskip("torchvision")
    return autocast.measure([find("r50_c3_b8").shrunk()], "cpu", budget_s=0.01)


def test_every_dtype_has_a_row_of_each_implementation(rows):
    found = set(zip(rows["dtype"], rows["implementation"], strict=True))
    assert found == {(half, name) for half in autocast.HALVES for name in autocast.NAMES}


def test_errors_are_those_of_a_half_type(rows):
    """Small, and not zero, as they would be if a result were compared with itself."""
    off = rows[["output", "grad_input", "grad_offset", "grad_weight"]].to_numpy()
    steps = rows["dtype"].map({"bf16": 2**-8, "fp16": 2**-11}).to_numpy()[:, None]
    assert (off < 4 * steps).all()
    assert (off[:, 0] > 0.1 * steps[:, 0]).all()


def test_the_summary_compares_equal_layers(rows):
    worse = rows.copy()
    ours = worse["implementation"] == "dcnv2"
    worse.loc[ours, "forward_ms"] *= 3
    worse.loc[ours, "output"] *= 2
    before, after = autocast.summarise(rows), autocast.summarise(worse)
    assert after["forward x"].tolist() == pytest.approx((before["forward x"] / 3).tolist())
    assert after["output error"].tolist() == pytest.approx((2 * before["output error"]).tolist())
