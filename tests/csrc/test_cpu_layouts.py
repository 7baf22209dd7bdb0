# SPDX-License-Identifier: BSD-3-Clause
"""No layout, number of threads or garbage in memory changes a bit; no instruction set a value."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cpu_problems import (
    MAKERS,
    CpuProblem,
    assert_close,
    assert_same,
    conv_problem,
    psroi_problem,
    roi_problem,
)

from dcnv2.ops.library import LIBRARIES  # noqa: F401, for the other processes


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


def _case(kind: str) -> CpuProblem:
    return MAKERS[kind](**({"channels": 19, "out_channels": 18} if kind == "conv" else {}))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", MAKERS)
def test_layout_of_each_operand_changes_nothing(kind, layout, dtype):
    problem = _case(kind).to(dtype)
    expected = problem.results()
    for name, tensor in problem.tensors.items():
        if tensor is not None:
            assert_same(problem.replace(**{name: layout(tensor)}).results(), expected)
    problem.grad_output = layout(problem.grad_output)
    assert_same(problem.results(), expected)


# Several rounds of taps; a round for each channel, and more groups than copies of offsets are kept.
@pytest.mark.slow
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
def test_expanded_operands(kind):
    problem = _case(kind)
    once = {
        name: None if t is None else t[:1].expand_as(t)
        for name, t in problem.tensors.items()
        if name not in ("bias", "rois")
    }
    expanded = problem.replace(**once)
    dense = problem.replace(**{k: None if t is None else t.contiguous() for k, t in once.items()})
    grad = torch.tensor(0.7, dtype=torch.float64).expand_as(problem.grad_output)
    expanded.grad_output, dense.grad_output = grad, grad.contiguous()
    assert_same(expanded.results(), dense.results())


@pytest.mark.parametrize("kind", MAKERS)
def test_memory_format_follows_the_operand(kind):
    problem = _case(kind)
    for name, tensor in problem.tensors.items():
        if tensor is None or tensor.dim() != 4:
            continue
        last = problem.replace(**{name: _channels_last(tensor)})
        for result, found in last.results().items():
            if found.dim() == 4 and found.numel() > 0:
                operand = "input" if result == "output" else result
                format_ = torch.channels_last if operand == name else torch.contiguous_format
                assert found.is_contiguous(memory_format=format_), (name, result)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", MAKERS)
def test_threads_change_nothing(kind, dtype):
    large = {"conv": {"size": (23, 19), "channels": 70, "deform_groups": 5, "stride": (1, 1)},
             "roi": {"channels": 70, "rois": 30}, "psroi": {"out_channels": 33}}  # fmt: skip
    problem = MAKERS[kind](**large[kind]).to(dtype)
    torch.set_num_threads(1)
    alone = problem.results()
    for threads in (2, 3, 5):
        torch.set_num_threads(threads)
        assert_same(problem.results(), alone)


def test_images_do_not_meet_each_other():
    problem = conv_problem(batch=3, channels=70, deform_groups=2).to(torch.float32)
    together = problem.results()
    for n in range(3):
        part = {
            name: t[n : n + 1] if name in ("input", "offset", "mask") else t
            for name, t in problem.tensors.items()
        }
        single = problem.replace(**part)
        single.grad_output = problem.grad_output[n : n + 1]
        alone = single.results()
        for name in ("output", "input", "offset", "mask"):
            assert torch.equal(alone[name], together[name][n : n + 1]), name


def _digest() -> str:
    total = hashlib.sha256()
    for problem in (conv_problem(channels=70, deform_groups=2), roi_problem(), psroi_problem()):
        for tensor in problem.to(torch.float32).results().values():
            total.update(tensor.contiguous().numpy().tobytes())
    return total.hexdigest()


def _run(body: str, **environment: str) -> str:
    """Run `body` in another process, which imports this module, and return what it prints."""
    path = [str(Path(__file__).parent), *sys.path]
    script = f"import sys; sys.path[:0] = {path!r}\nimport test_cpu_layouts as here\n{body}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.slow
def test_garbage_in_fresh_memory_changes_nothing():
    # glibc then fills what it hands out with a byte that makes large numbers and NaN.
    assert _run("print(here._digest())", MALLOC_PERTURB_="129") == _digest()


def _check_values() -> None:
    for problem in (conv_problem(channels=21, deform_groups=3), roi_problem(channels=21)):
        assert_close(problem.results(), problem.expected(), 1e-12)
        assert_close(problem.to(torch.float32).results(), problem.expected(), 2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("wanted", ["default", "avx2"])
def test_lower_instruction_sets(wanted):
    body = "here._check_values(); print(here.LIBRARIES['cpu'].info['instructions'])"
    used = _run(body, ATEN_CPU_CAPABILITY=wanted)
    assert used == "baseline" if wanted == "default" else used in ("avx2", "baseline")
