# SPDX-License-Identifier: BSD-3-Clause
"""Times of the RoI poolings."""

import pytest

from suites.perf.cases import measure


def test_pool(benchmark, pool_case, timer, ceilings, rows):
    case = pool_case
    if (case.name, case.implementation, case.dtype, case.layout) in rows.wrong:
        pytest.fail("not timed because its results are wrong")
    rows.times.append(measure(case, timer, ceilings, benchmark))
