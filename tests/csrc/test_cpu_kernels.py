# SPDX-License-Identifier: BSD-3-Clause
"""What the CPU kernels do beyond the sizes of the correctness suite, and on every instruction set.

Channels are more than one slice or span takes; layouts change no bit.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cpu_problems import (
    MAKERS,
    assert_close,
    assert_same,
    conv_problem,
    psroi_problem,
    roi_problem,
)

from dcnv2.ops.library import LIBRARIES  # noqa: F401, for the other processes

CASES = {
    "conv": [
        {"groups": 3, "deform_groups": 7, "channels": 42, "out_channels": 21, "batch": 1},
        {"groups": 5, "channels": 5, "out_channels": 10, "deform_groups": 5},
        {"channels": 37, "out_channels": 35},
        {"channels": 70, "out_channels": 33, "size": (5, 6)},
        {"channels": 130, "out_channels": 3, "size": (5, 6)},
        {"size": (33, 21), "stride": (1, 1), "batch": 1, "channels": 3},
        {"kernel": (5, 4), "padding": (4, 3), "dilation": (1, 2)},
    ],
    "roi": [{"channels": 37}, {"channels": 70, "rois": 4}, {"size": (1, 1), "scale": 1.0}],
    "psroi": [{"part": 7, "sampling": 4}, {"out_channels": 39, "classes": 3, "rois": 4}],
}
SIZES = [(kind, options) for kind, cases in CASES.items() for options in cases]


@pytest.mark.parametrize(("kind", "options"), SIZES, ids=str)
def test_float64_is_the_portable_path(kind, options):
    problem = MAKERS[kind](**options)
    assert_close(problem.results(), problem.expected(), 1e-12)


@pytest.mark.parametrize("kind", MAKERS)
def test_only_the_gradients_asked_for_come_back(kind):
    problem = MAKERS[kind]()
    everything = problem.backward()
    for i in range(len(everything)):
        needs = [j == i for j in range(len(everything))]
        some = problem.backward(needs)
        assert torch.equal(some[i], everything[i])
        assert all(t.shape == (0,) for j, t in enumerate(some) if j != i)
    assert all(t.shape == (0,) for t in problem.backward([False] * len(everything)))


@pytest.mark.parametrize("side", [1e3, 1e5, 1e9, 1e30])
def test_huge_boxes_end(side):
    problem = roi_problem(rois=1, batch=1)
    rois = torch.tensor([[0.0, -side, -side / 2, side, side]], dtype=torch.float64)
    huge = problem.replace(rois=rois)
    first = huge.results()
    assert all(t.isfinite().all() for t in first.values())
    assert_same(huge.results(), first)


def _channels_last(t):
    return t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t.clone()


def _permuted(t):
    order = list(range(t.dim()))[::-1]
    return t.permute(order).contiguous().permute(order)


def _sliced(t):
    # Every second element of every axis, behind an offset into the storage.
    shape = [2 * size + 3 for size in t.shape]
    holder = torch.full(shape, float("nan"), dtype=t.dtype)
    view = holder[tuple(slice(1, 1 + 2 * size, 2) for size in t.shape)]
    return view.copy_(t)


def _padded_channels_last(t):
    if t.dim() != 4:
        return t.clone()
    n, c, h, w = t.shape
    holder = torch.full((n, h, w, c + 3), float("nan"), dtype=t.dtype)
    return holder.permute(0, 3, 1, 2)[:, 1 : 1 + c].copy_(t)


LAYOUTS = [_channels_last, _permuted, _sliced, _padded_channels_last]
WIDE = {"conv": {"channels": 19, "out_channels": 18}, "roi": {}, "psroi": {}}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", MAKERS)
def test_layout_of_each_operand_changes_no_bit(kind, layout):
    problem = MAKERS[kind](**WIDE[kind]).to(torch.float32)
    expected = problem.results()
    for name, tensor in problem.tensors.items():
        if tensor is not None:
            assert_same(problem.replace(**{name: layout(tensor)}).results(), expected)
    problem.grad_output = layout(problem.grad_output)
    assert_same(problem.results(), expected)


# Several rounds of taps; a round for each channel, and more groups than copies of offsets are kept.
@pytest.mark.parametrize(("channels", "deform_groups"), [(96, 4), (40, 40)])
@pytest.mark.parametrize("layout", LAYOUTS[:2])
def test_layout_changes_nothing_in_any_deform_group(layout, channels, deform_groups):
    options = {"deform_groups": deform_groups, "size": (23, 9), "groups": 2, "out_channels": 6}
    problem = conv_problem(channels=channels, kernel=(3, 3), **options).to(torch.float32)
    expected = problem.results()
    assert_close(expected, problem.expected(), 3e-6)
    for name in ("input", "offset", "mask", "weight"):
        moved = problem.replace(**{name: layout(problem.tensors[name])})
        assert_same(moved.results(), expected)


@pytest.mark.parametrize("kind", MAKERS)
def test_memory_format_follows_the_operand(kind):
    problem = MAKERS[kind](**WIDE[kind])
    for name, tensor in problem.tensors.items():
        if tensor is None or tensor.dim() != 4:
            continue
        last = problem.replace(**{name: _channels_last(tensor)})
        for result, found in last.results().items():
            if found.dim() == 4 and found.numel() > 0:
                operand = "input" if result == "output" else result
                format_ = torch.channels_last if operand == name else torch.contiguous_format
                assert found.is_contiguous(memory_format=format_), (name, result)


# Torch is imported once, for all children: the library reads the variable when it is loaded.
EACH = """
import os, sys, torch
sys.path[:0] = {path}
for wanted in ("", "avx2", "default"):
    if not (child := os.fork()):
        if wanted:
            os.environ["ATEN_CPU_CAPABILITY"] = wanted
        import test_cpu_kernels as here
        here._check_values()
        print(here.LIBRARIES["cpu"].info["instructions"], flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, wanted
"""


def _check_values() -> None:
    for make in (conv_problem, roi_problem, psroi_problem):
        problem = make() if make is psroi_problem else make(channels=70)
        assert_close(problem.results(), problem.expected(), 1e-12)
        assert_close(problem.to(torch.float32).results(), problem.expected(), 2e-6)


@pytest.mark.slow
def test_every_instruction_set_is_right_and_reads_no_garbage():
    """glibc fills memory that it hands out with a byte that makes large numbers and NaN."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_PERTURB_": "129"}
    script = EACH.format(path=[str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    _, middle, least = done.stdout.split()
    assert middle in ("avx2", "baseline")
    assert least == "baseline"
