# SPDX-License-Identifier: BSD-3-Clause
"""How cost grows: sizes, a CPU's threads, how far offsets reach, and offsets made to hurt."""

from suites.perf.cases import measure


def test_sweep(benchmark, sweep_case, gauge, rows):
    rows.times.append(measure(sweep_case, gauge, benchmark, sweep_case.threads))
