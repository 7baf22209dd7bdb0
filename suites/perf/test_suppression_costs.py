# SPDX-License-Identifier: BSD-3-Clause
"""Times of batched non-maximum suppression."""

import pytest

from suites.perf.cases import measure


def test_suppression(benchmark, nms_case, timer, ceilings, rows):
    case = nms_case
    if (case.name, case.implementation, case.dtype, case.layout) in rows.wrong:
        pytest.fail("not timed because its results are wrong")
    rows.times.append(measure(case, timer, ceilings, benchmark))
