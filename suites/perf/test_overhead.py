# SPDX-License-Identifier: BSD-3-Clause
"""Host overhead per eager call, on a problem too small for its arithmetic to matter."""

from suites.perf.device_timer import percentiles
from suites.perf.implementations import IMPLEMENTATIONS
from suites.perf.layers import TINY
from suites.perf.problems import LayerPasses, matmul_mode


def test_call(benchmark, eager_call, timer, rows):
    implementation, passes = eager_call
    problem = LayerPasses(TINY, IMPLEMENTATIONS[implementation], "fp32", timer.device)
    call = getattr(problem, passes)
    with matmul_mode("fp32"):
        timer.warm_up(call)
        p20, p50, p80 = percentiles(timer.host_us(call))

        def until_done() -> None:
            call()
            timer.synchronize()

        benchmark.group = f"tiny {passes}"
        benchmark.pedantic(until_done, rounds=20, iterations=5)
    row = {"implementation": implementation, "pass": passes}
    row |= {"host_p20_us": p20, "host_p50_us": p50, "host_p80_us": p80}
    benchmark.extra_info.update(row)
    rows.overheads.append(row)
