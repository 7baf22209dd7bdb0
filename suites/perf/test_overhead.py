# SPDX-License-Identifier: BSD-3-Clause
"""What an eager call keeps the host, on a problem too small for its arithmetic to matter."""

from suites.perf.implementations import IMPLEMENTATIONS
from suites.perf.layers import Layer
from suites.perf.measure import percentiles
from suites.perf.problems import LayerPasses, matmul_mode

TINY = Layer("tiny", "none", 1, 8, 8, 4, 4)


def test_call(benchmark, implementation, passes, gauge, rows):
    problem = LayerPasses(TINY, IMPLEMENTATIONS[implementation], "fp32", gauge.device)
    call = getattr(problem, passes)
    with matmul_mode("fp32"):
        gauge.warm_up(call)
        p20, p50, p80 = percentiles(gauge.issue_us(call))

        def to_the_end() -> None:
            call()
            gauge.synchronize()

        benchmark.group = f"tiny {passes}"
        benchmark.pedantic(to_the_end, rounds=20, iterations=5)
    row = {"implementation": implementation, "pass": passes}
    row |= {"host_p20_us": p20, "host_p50_us": p50, "host_p80_us": p80}
    benchmark.extra_info.update(row)
    rows.overheads.append(row)
