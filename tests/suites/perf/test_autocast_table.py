# SPDX-License-Identifier: BSD-3-Clause
"""The table of times and errors under autocast, on a tiny layer."""

import pytest

from dcnv2.ops import get_autocast_compute_dtype
from suites.perf import autocast
from suites.perf.layers import find

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows():
    pytest.importorskip("torchvision")
    return autocast.measure([find("r50_c3_b8").shrunk()], "cpu", budget_s=0.01)


def test_every_dtype_has_a_row_of_each_implementation_and_dtype_to_compute_in(rows):
    found = set(zip(rows["dtype"], rows["implementation"], rows["compute_dtype"], strict=True))
    assert found == {(half, *run) for half in autocast.HALVES for run in autocast.runs(half)}
    assert len(found) == len(rows) == 6


def test_errors_are_those_of_the_dtype(rows):
    """Small, and not zero, as they would be if a result were compared with itself."""
    steps = {"fp32": 2**-23, "fp16": 2**-11, "bf16": 2**-8}
    for half, compute, row in zip(rows["dtype"], rows["compute_dtype"], rows.iloc, strict=True):
        rounded = row[["output", "grad_input"]].to_numpy(float)
        assert (rounded < 4 * steps[half]).all()
        assert (rounded > 0.1 * steps[half]).all()
        kept = row[["grad_offset", "grad_mask", "grad_weight"]].to_numpy(float)
        assert (kept < 32 * steps[compute]).all()
        assert (kept > 0.1 * steps[compute]).all()


def test_measuring_leaves_the_process_as_it_was(rows):
    assert get_autocast_compute_dtype() is None


def test_the_summary_compares_equal_layers(rows):
    worse = rows.copy()
    ours = (worse["implementation"] == "dcnv2") & (worse["compute_dtype"] == "fp32")
    worse.loc[ours, "forward_ms"] *= 3
    worse.loc[ours, "output"] *= 2
    before, after = autocast.summarise(rows), autocast.summarise(worse)
    assert before["dtype"].tolist() == ["bf16", "bf16", "fp16", "fp16"]
    assert before["compute_dtype"].tolist() == ["bf16", "fp32", "fp16", "fp32"]
    times, errors = (after[c] / before[c] for c in ("forward x", "output error"))
    assert times.tolist() == pytest.approx([1, 1 / 3, 1, 1 / 3])
    assert errors.tolist() == pytest.approx([1, 2, 1, 2])
