# SPDX-License-Identifier: BSD-3-Clause
"""The progress of trainings, and the estimate of the time left."""

import pytest

from suites.coco.progress import _OVERHEAD_STEPS, Progress, Training, seconds_left


def _training(folder, name, cost, rows=()):
    (folder / name).mkdir()
    lines = ["step,data_ms,step_ms", *(f"{step},{0.1 * ms},{0.9 * ms}" for step, ms in rows)]
    if rows:
        (folder / name / "metrics.csv").write_text("\n".join([*lines, "9"]))
    return Training(folder / name, 100, cost)


def test_time_is_known_after_the_first_record_and_counts_all_models(tmp_path):
    new = {"a": _training(tmp_path, "a", 2.0), "b": _training(tmp_path, "b", 1.0)}
    assert seconds_left(new, ["a"], [], 1) is None
    begun = {**new, "c": _training(tmp_path, "c", 2.0, [(20, 300.0), (40, 100.0)])}
    # 200 ms a step of c and of a, 100 ms of b.
    parts = [(60 + _OVERHEAD_STEPS) * 0.2, (100 + _OVERHEAD_STEPS) * 0.2]
    parts.append((100 + _OVERHEAD_STEPS) * 0.1)
    assert seconds_left(begun, ["c"], [], 1) == pytest.approx(sum(parts))
    assert seconds_left(begun, ["c"], ["b"], 1) == pytest.approx(sum(parts[:2]))
    assert seconds_left(begun, ["c", "a"], [], 2) == pytest.approx(parts[0] + parts[2])


def test_lines_say_which_of_how_many_trainings_run(tmp_path, capsys):
    trainings = {
        "a": _training(tmp_path, "a", 1.0),
        "b": _training(tmp_path, "b", 1.0, [(20, 100.0)]),
    }
    progress = Progress(trainings, 1)
    progress(["a"], [])
    progress(["a"], [])
    progress(["b"], ["a"])
    progress.close()
    assert capsys.readouterr().err.splitlines() == [
        "[1/2] a step 0/100; about 26 s left",
        "[1/2] a: trained and evaluated",
        "[2/2] b step 20/100; about 12 s left",
    ]
