# SPDX-License-Identifier: BSD-3-Clause
"""The perf report compares equal problems only; the perf suite's problems match their names."""

import re
import sys

import pandas as pd
import pytest
import torch

from suites.perf import device_timer, ratios, report, tables
from suites.perf.cases import thread_counts
from suites.perf.device_timer import DeviceTimer, percentiles
from suites.perf.implementations import IMPLEMENTATIONS
from suites.perf.layers import Layer
from suites.perf.memory import workspace_mib
from suites.perf.problems import LayerPasses, make_offsets
from suites.problems.threads import limited_threads

SMALL = Layer("small", "none", 2, 6, 4, 7, 9, padding=(1, 2), stride=(2, 1), dilation=(1, 2))


def _row(implementation, dtype, ms, **more):
    row = {
        "set": "eight",
        "layer": "a",
        "offsets": "2",
        "pass": "forward",
        "implementation": implementation,
        "dtype": dtype,
        "layout": "contiguous",
        "cold_p50_ms": ms,
        "cold_p20_ms": 0.99 * ms,
        "cold_p80_ms": 1.01 * ms,
        "warm_p50_ms": ms,
        "bandwidth_share": 0.1,
        "matmul_share": 0.1,
        "workspace_mib": None,
        "value": "",
    }
    return row | more


def test_ratio_is_against_the_same_dtype_or_the_nearest():
    rows = [_row("dcnv2", "bf16", 1.0), _row("dcnv2", "fp32", 2.0)]
    rows += [_row("torchvision", "fp16", 4.0), _row("torchvision", "fp32", 6.0)]
    rows += [_row("conv2d", "bf16", 0.5)]
    ours = ratios.compare_with_peers(pd.DataFrame(rows))
    assert ours.x_torchvision.tolist() == [4.0, 3.0]
    assert ours.x_conv2d.tolist()[0] == 0.5
    assert ours.x_conv2d.isna().tolist() == [False, True]


@pytest.mark.parametrize("key", ["set", "layer", "offsets", "pass"])
def test_unequal_problems_do_not_meet(key):
    rows = [_row("dcnv2", "fp32", 1.0), _row("torchvision", "fp32", 4.0, **{key: "other"})]
    assert ratios.compare_with_peers(pd.DataFrame(rows)).x_torchvision.isna().all()


def test_headline_is_a_geometric_mean():
    rows = [_row("dcnv2", "fp32", 1.0), _row("dcnv2", "fp32", 1.0, layer="b")]
    rows += [_row("torchvision", "fp32", 2.0), _row("torchvision", "fp32", 8.0, layer="b")]
    table = ratios.geometric_means(ratios.compare_with_peers(pd.DataFrame(rows)))
    assert table["compared with"].tolist() == ["torchvision fp32"]
    assert table.layers.tolist() == ["2 layers"]
    assert table.spread.tolist() == ["2%"]
    assert table.forward.tolist() == pytest.approx([4.0])
    assert "workspace" not in table


def test_workspace_is_ours_over_the_peers():
    rows = [_row("dcnv2", "fp32", 1.0, workspace_mib=1.0, **{"pass": "both"})]
    rows += [_row("torchvision", "fp32", 1.0, workspace_mib=4.0, **{"pass": "both"})]
    table = ratios.geometric_means(ratios.compare_with_peers(pd.DataFrame(rows)))
    assert table.workspace.tolist() == [0.25]


def test_losses_come_worst_first():
    rows = [_row("dcnv2", "fp32", 1.0, layer=name) for name in "abc"]
    theirs = {"a": 0.9, "b": 2.0, "c": 0.3}
    rows += [_row("torchvision", "fp32", ms, layer=name) for name, ms in theirs.items()]
    assert ratios.losses(ratios.compare_with_peers(pd.DataFrame(rows))).layer.tolist() == ["c", "a"]


def test_every_implementation_has_its_count_of_slower_problems(tmp_path):
    rows = [_row("dcnv2", "fp32", 1.0, layer=name) for name in "abc"]
    for peer, times in {"torchvision": (0.5, 2.0, 3.0), "conv2d": (0.1, 0.2, 0.3)}.items():
        rows += [_row(peer, "fp32", ms, layer=n) for n, ms in zip("abc", times, strict=True)]
    rows += [_row("portable", "fp32", 9.0, layer="a")]
    table = ratios.slower_than(ratios.compare_with_peers(pd.DataFrame(rows)))
    assert table["compared with"].tolist() == ["torchvision", "conv2d", "portable"]
    assert table["problems"].tolist() == [3, 3, 1]
    assert table["dcnv2 is slower in"].tolist() == [1, 3, 0]
    assert table["smallest ratio"].tolist() == pytest.approx([0.5, 0.1, 9.0])
    assert table.iloc[0, -1] == "a, 2, fp32, contiguous, forward"
    host = {("dcnv2", "forward"): 20.0, ("dcnv2", "both"): 60.0, ("conv2d", "forward"): 15.0}
    host |= {("torchvision", "forward"): 50.0, ("torchvision", "both"): 30.0}
    overheads = [
        {"implementation": name, "pass": passes, "host_p50_us": us}
        for (name, passes), us in host.items()
    ]
    found = ratios.host_ratios(overheads).set_index("compared with")
    assert found.loc["torchvision"].to_dict() == {"forward": 2.5, "both": 0.5}
    assert found.loc["conv2d", "forward"] == 0.75
    text = report.write(report.Rows(times=rows, overheads=overheads), tmp_path).read_text()
    assert "worst first" in text
    assert re.search(r"\| torchvision +\| 2.5 +\| 0.5 +\|", text)


def test_the_default_layout_comes_first_and_unsteady_figures_are_marked():
    rows = [
        _row("dcnv2", dtype, 1.0, layout=layout)
        for dtype in ("bf16", "fp16")
        for layout in ("channels_last", "contiguous")
    ]
    rows += [_row("torchvision", "fp16", 2.0, cold_p80_ms=2.5)]
    rows += [_row("conv2d", "bf16", 0.5)]
    ours = ratios.compare_with_peers(pd.DataFrame(rows))
    means = ratios.geometric_means(ours)
    layouts = [name.split()[1] for name in means["dcnv2"]]
    assert layouts == ["contiguous"] * 3 + ["channels_last"] * 3
    assert means.forward.tolist()[:2] == ["≈2", 0.5]
    assert means.spread.tolist()[:2] == ["26%", "2%"]
    layers = tables.layers_table(ours)
    assert layers["torchvision ms"].tolist() == ["≈2"] * 4
    assert layers["x torchvision"].tolist() == ["≈2"] * 4
    assert layers["ms"].tolist() == [1.0] * 4
    assert layers["spread"].tolist() == ["2%"] * 4


def test_report_of_a_run_without_ours_is_written(tmp_path):
    rows = report.Rows(times=[_row("torchvision", "fp32", 1.0)])
    assert "nothing to compare with" in report.write(rows, tmp_path).read_text()


def test_report_shows_sweeps_and_adversarial_offsets(tmp_path):
    rows = [_row("dcnv2", "fp32", n, set="batch", layer=f"b{n}", value=str(n)) for n in (1, 2)]
    rows += [
        _row("dcnv2", "fp32", ms, set="adversarial", layer="s", offsets=kind, value=kind)
        for kind, ms in (("2", 1.0), ("clustered", 7.0))
    ]
    text = report.write(report.Rows(times=rows), tmp_path).read_text()
    assert (tmp_path / "perf_sweeps.png").stat().st_size > 0
    assert "perf_sweeps.png" in text
    line = next(row for row in text.splitlines() if "clustered" in row)
    assert line.rstrip(" |").endswith("7")


def _generator():
    return torch.Generator().manual_seed(0)


def _sampled_places(kind):
    """Where each output, tap and axis samples, by the definition: p0 + pk + offset."""
    offsets = make_offsets(SMALL, kind, _generator())
    places = torch.empty_like(offsets)
    for tap in range(9):
        i, j = divmod(tap, 3)
        for row in range(SMALL.out_size[0]):
            for column in range(SMALL.out_size[1]):
                at = (0, 2 * tap, row, column)
                places[:, at[1], row, column] = row * 2 - 1 + i + offsets[:, at[1], row, column]
                x = column - 2 + 2 * j + offsets[:, at[1] + 1, row, column]
                places[:, at[1] + 1, row, column] = x
    return places[:, 0::2], places[:, 1::2]


def test_clustered_offsets_sample_one_cell():
    y, x = _sampled_places("clustered")
    assert y.floor().unique().numel() == x.floor().unique().numel() == 1


def test_one_row_offsets_meet_in_one_row():
    y, x = _sampled_places("one_row")
    assert y.floor().unique().numel() == 1
    assert x.floor().unique().numel() > 3


def test_outside_offsets_sample_nothing():
    y, x = _sampled_places("outside")
    assert ((y >= SMALL.height) | (x >= SMALL.width)).all()


def test_sixteenths_are_exact_in_every_dtype_and_never_whole():
    offsets = make_offsets(SMALL, "sixteenths", _generator())
    assert torch.equal(offsets, offsets.bfloat16().float())
    assert torch.equal(offsets, offsets.half().float())
    assert (offsets != offsets.floor()).all()


def test_numbers_are_standard_deviations_and_words_are_refused():
    wide = make_offsets(SMALL, "8", _generator())
    assert torch.allclose(wide, 8 * make_offsets(SMALL, "1", _generator()))
    with pytest.raises(ValueError, match="no offsets of kind 'odd'"):
        make_offsets(SMALL, "odd", _generator())


def test_passes_return_what_they_say():
    problem = LayerPasses(SMALL, IMPLEMENTATIONS["portable"], "fp32", "cpu")
    output, *gradients = problem.both()
    assert torch.equal(problem.forward(), output)
    again = problem.backward()
    assert [g.shape for g in gradients] == [t.shape for t in problem.operands.values()]
    assert all(torch.equal(a, b) for a, b in zip(again, gradients, strict=True))


def test_timer_calls_as_often_as_it_says():
    timer = DeviceTimer("cpu", budget_s=0.001)
    calls = []
    assert len(timer.times_ms(lambda: calls.append(1), 4, cold=False)) == len(calls) == 4


@pytest.mark.parametrize("cold", [True, False])
def test_cold_times_flush_before_every_call_outside_the_time(monkeypatch, cold):
    timer, clock, done = DeviceTimer("cpu", budget_s=0.001), [0.0], []

    def spend(what, seconds):
        done.append(what)
        clock[0] += seconds

    monkeypatch.setattr(timer, "flush", lambda: spend("flush", 100.0))
    monkeypatch.setattr(device_timer.time, "perf_counter", lambda: clock[0])
    times = timer.times_ms(lambda: spend("call", 0.002), 3, cold=cold)
    assert times == pytest.approx([2.0, 2.0, 2.0])
    assert done == (["flush", "call"] if cold else ["call"]) * 3


def test_a_flush_writes_more_than_a_cache_holds():
    timer = DeviceTimer("cpu", budget_s=0.001)
    assert timer._filler.numel() >= 4 * device_timer._CPU_CACHE_BYTES
    timer._filler.fill_(1)
    timer.flush()
    assert not timer._filler.any()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc")
def test_workspace_on_a_cpu_is_what_a_call_touches_beyond_its_result():
    def call():
        scratch = torch.ones(2**22)  # 16 MiB
        return scratch[: 2**20].clone()  # 4 MiB

    assert workspace_mib(call, "cpu") == pytest.approx(16, abs=3)


def test_growth_with_threads_is_against_one_thread():
    rows = [
        _row("dcnv2", "fp32", ms, set="threads", layer=n, value=n)
        for n, ms in zip("124", (8, 4, 2), strict=True)
    ]
    rows += [_row("conv2d", "fp32", 1.0, set="threads", layer="2", value="2")]
    table = tables.sweep_table(ratios.compare_with_peers(pd.DataFrame(rows)), "threads")
    assert table["x one thread"].tolist() == [1, 2, 4]
    assert table["x conv2d"].tolist()[1] == 0.25


def test_threads_are_limited_for_a_while():
    before = torch.get_num_threads()
    with limited_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
    with limited_threads(None):
        assert torch.get_num_threads() == before
    counts = thread_counts()
    assert counts == sorted(set(counts))
    assert (counts[0], counts[-1]) == (1, min(before, 16))


def test_percentiles():
    assert percentiles([5.0, 1.0, 2.0, 4.0, 3.0, 6.0]) == pytest.approx((2.0, 3.5, 5.0))
