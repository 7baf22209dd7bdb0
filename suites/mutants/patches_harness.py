# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of the suites themselves: tolerance, layouts, clock.

`detected_by` is the path of a test in the project.
"""

from suites.mutants.patches import Patch

_TESTS = "tests/suites"
_FORMULA = f"{_TESTS}/tolerance/test_tolerance.py::test_the_tolerance_is_the_formula_of_the_page"
_DOUBLE = f"{_TESTS}/tolerance/test_tolerance.py::test_the_tolerance_of_float64_sums_in_float64"
_LAYOUTS = f"{_TESTS}/problems/test_problems.py::test_layouts_are_what_they_say"
_REPORT = f"{_TESTS}/perf/test_perf_report.py"
_COLD = f"{_REPORT}::test_cold_times_flush_before_every_call_outside_the_time"
_FLUSH = f"{_REPORT}::test_a_flush_writes_more_than_a_cache_holds"


def _file(file, name, old, new, detected_by) -> Patch:
    return Patch(name, f"../suites/{file}", old, new, detected_by)  # from dcnv2/, as all patches


HARNESS = [
    # ---- tolerance
    _file(
        "tolerance/tolerance.py",
        "tolerance grows with the number of terms",
        "(ROUNDINGS + math.sqrt(terms))",
        "(ROUNDINGS + terms)",
        _FORMULA,
    ),
    _file(
        "tolerance/tolerance.py",
        "tolerance does not grow with the number of terms",
        "(ROUNDINGS + math.sqrt(terms))",
        "ROUNDINGS",
        _FORMULA,
    ),
    _file(
        "tolerance/tolerance.py",
        "80 roundings of a term allowed",
        "ROUNDINGS = 8",
        "ROUNDINGS = 80",
        _FORMULA,
    ),
    _file(
        "tolerance/tolerance.py",
        "ten times the naive error allowed",
        "return 2 * max(errors, default=0.0)",
        "return 10 * max(errors, default=0.0)",
        _FORMULA,
    ),
    _file(
        "tolerance/tolerance.py",
        "a whole unit of the result allowed",
        "return torch.finfo(dtype).eps / 2",
        "return torch.finfo(dtype).eps",
        _FORMULA,
    ),
    _file(
        "tolerance/tolerance.py",
        "the maximum norm bounded as the Euclidean one",
        "return Tolerance(allowed(2), allowed(math.inf), compared)",
        "return Tolerance(allowed(2), allowed(2), compared)",
        _FORMULA,
    ),
    _file(
        "tolerance/tolerance.py",
        "float64 allowed the errors of float32",
        "compute = torch.float64 if dtype == torch.float64 else torch.float32",
        "compute = torch.float32",
        _DOUBLE,
    ),
    # ---- layouts
    _file(
        "problems/layouts.py",
        "a crop without gaps",
        "sizes[-last] += 3",
        "sizes[-last] += 0",
        _LAYOUTS,
    ),
    _file(
        "problems/layouts.py",
        "values around a crop are zero",
        'wide = empty(sizes, dtype=tensor.dtype, device=tensor.device).fill_(float("nan"))',
        "wide = empty(sizes, dtype=tensor.dtype, device=tensor.device).fill_(0.0)",
        _LAYOUTS,
    ),
    _file(
        "problems/layouts.py",
        "a crop of a channels_last map is contiguous",
        "return _crop(tensor.movedim(1, -1), 2).movedim(-1, 1) if",
        "return _crop(tensor, 1) if",
        _LAYOUTS,
    ),
    # ---- clock
    _file(
        "perf/device_timer.py",
        "cold CPU times without a flush",
        "        if cold:\n            self.flush()\n        return self._wall_s",
        "        return self._wall_s",
        _COLD,
    ),
    _file(
        "perf/device_timer.py",
        "warm CPU times with a flush",
        "        if cold:\n            self.flush()\n        return self._wall_s",
        "        self.flush()\n        return self._wall_s",
        _COLD,
    ),
    _file(
        "perf/device_timer.py",
        "the flush is part of a cold CPU time",
        "        if cold:\n            self.flush()\n        return self._wall_s(call)[0] * 1e3",
        "        return self._wall_s(lambda: (self.flush() if cold else None, call()))[0] * 1e3",
        _COLD,
    ),
    _file(
        "perf/device_timer.py",
        "a flush of one page",
        "self._filler.zero_()",
        "self._filler[:4096].zero_()",
        _FLUSH,
    ),
    _file(
        "perf/device_timer.py",
        "a flush smaller than a cache",
        "torch.empty(4 * (cache or _CPU_CACHE_BYTES)",
        "torch.empty((cache or _CPU_CACHE_BYTES) // 4",
        _FLUSH,
    ),
]
