# SPDX-License-Identifier: BSD-3-Clause
"""Times of the layers of real nets."""

import pytest

from suites.perf.cases import measure


def test_layer(benchmark, layer_case, gauge, rows):
    case = layer_case
    if (case.layer.name, case.implementation, case.dtype, case.layout) in rows.wrong:
        pytest.fail("not timed, since its results are wrong")
    rows.times.append(measure(case, gauge, benchmark))
