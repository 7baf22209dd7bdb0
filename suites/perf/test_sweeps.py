# SPDX-License-Identifier: BSD-3-Clause
"""How cost grows with sizes, a CPU's threads and the reach of offsets; adversarial offsets."""

from suites.perf.cases import measure


def test_sweep(benchmark, sweep_case, timer, ceilings, rows):
    rows.times.append(measure(sweep_case, timer, ceilings, benchmark, sweep_case.threads))
