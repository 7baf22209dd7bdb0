# SPDX-License-Identifier: BSD-3-Clause
"""The chart of README: ratios by layer, the default layout first, and only what was measured."""

import pandas as pd
import pytest

from suites.perf import speed_chart

ORIGIN = dict.fromkeys(("gpu", "cpu", "torch", "torchvision", "date"), "some")


def _row(implementation, layer, dtype, layout, ms, passes="both"):
    keys = ("set", "implementation", "layer", "dtype", "layout", "cold_p50_ms", "pass")
    return dict(zip(keys, ("eight", implementation, layer, dtype, layout, ms, passes), strict=True))


def _rows():
    return pd.DataFrame(
        [
            _row("dcnv2", "r50_c3", "bf16", "channels_last", 1.0),
            _row("dcnv2", "r50_c3", "bf16", "contiguous", 2.0),
            _row("dcnv2", "r50_c3", "bf16", "contiguous", 0.1, passes="forward"),
            _row("dcnv2", "r50_c3", "fp32", "contiguous", 0.1),
            _row("torchvision", "r50_c3", "fp16", "contiguous", 6.0),
            _row("torchvision", "r50_c3", "fp32", "contiguous", 60.0),
            _row("dcnv2", "r50_c4", "bf16", "contiguous", 2.0),
        ]
    )


def test_ratios_compare_half_types_and_the_default_layout_comes_first():
    ratios = speed_chart.speedups(_rows())
    assert list(ratios) == ["contiguous", "channels_last"]
    assert ratios.loc["r50_c3"].tolist() == pytest.approx([3.0, 6.0])


def test_a_layer_without_a_peer_is_left_out():
    assert list(speed_chart.speedups(_rows()).index) == ["r50_c3"]


def test_a_cpu_compares_float32():
    rows = _rows()
    ratios = speed_chart.speedups(rows[rows.dtype == "fp32"])
    assert ratios.loc["r50_c3", "contiguous"] == pytest.approx(600.0)


def test_the_chart_is_written_where_there_is_something_to_show(tmp_path):
    rows, path = _rows(), tmp_path / speed_chart.NAME
    empty = rows[rows.implementation == "torchvision"]
    assert speed_chart.draw_speedups(empty, pd.Series(ORIGIN), path) == []
    assert speed_chart.draw_speedups(rows, pd.Series(ORIGIN), path) == [path.name]
    assert path.stat().st_size > 0
