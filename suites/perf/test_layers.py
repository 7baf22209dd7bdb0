# SPDX-License-Identifier: BSD-3-Clause
"""Times of the layers of real nets."""

import pytest

from suites.perf.cases import measure


def test_layer(benchmark, layer_case, timer, ceilings, rows):
    case = layer_case
    if (case.layer.name, case.implementation, case.dtype, case.layout) in rows.wrong:
        pytest.fail("not timed because its results are wrong")
    rows.times.append(measure(case, timer, ceilings, benchmark))
