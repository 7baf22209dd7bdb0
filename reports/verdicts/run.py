#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Show that another library's deformable operator fails a claim, with torch and that library.

    python reports/verdicts/run.py reports/verdicts/NAME.json

A data file has one failure: the library's function, the problem, and operands as numbers or a seed;
of a pooling, whose definition is not here, also the right results.
Exit code 0: the failure shows. 1: it does not. 2: it cannot be judged here (no such library or
device, or too little memory).
"""

from __future__ import annotations

import argparse
import base64
import importlib
import json
import os
import sys
import tempfile
import zlib
from operator import attrgetter
from pathlib import Path

import torch

FIXED = ("rois", "grad_output")  # have no gradient
NOT_JUDGED = 77  # exit code of the forked process
ENOUGH_MEMORY = 40 * 2**30  # of a GPU, for an input of more than 2^31 elements

# ---- the definition: Deformable ConvNets v2 (arXiv 1811.11168), equation 1


def interpolate(image, y, x):
    """Bilinear values [B, C, P] of image [B, C, H, W], which is zero outside, at y, x [B, P]."""
    height, width = image.shape[-2:]
    # Keeps infinity out of the arithmetic: two pixels outside, everything is zero. NaN stays NaN.
    y, x = y.clamp(-2, height + 1), x.clamp(-2, width + 1)
    below, right = y - y.floor(), x - x.floor()
    total = 0.0
    for row, share_y in ((y.floor(), 1 - below), (y.floor() + 1, below)):
        for col, share_x in ((x.floor(), 1 - right), (x.floor() + 1, right)):
            inside = (row >= 0) & (row < height) & (col >= 0) & (col < width)
            index = torch.where(inside, row * width + col, 0).long()
            pixels = image.flatten(2).gather(2, index[:, None].expand(-1, image.shape[1], -1))
            total = total + (share_y * share_x)[:, None] * torch.where(inside[:, None], pixels, 0)
    return total


def definition(input, offset, weight, bias, mask, stride, padding, dilation):
    """The convolution: offset [N, G*K*2, Ho, Wo] has y before x; mask is [N, G*K, Ho, Wo]."""
    batch, channels, height, width = input.shape
    _, group_channels, kernel_h, kernel_w = weight.shape
    taps, (out_h, out_w) = kernel_h * kernel_w, offset.shape[2:]
    deform_groups, points = offset.shape[1] // (2 * taps), taps * out_h * out_w
    images = batch * deform_groups  # each deform group is sampled as an image of its own
    y, x = offset.reshape(images, taps, 2, out_h, out_w).unbind(2)
    tap = torch.arange(taps).view(-1, 1, 1)
    y = y + torch.arange(out_h).view(-1, 1) * stride[0] - padding[0] + tap // kernel_w * dilation[0]
    x = x + torch.arange(out_w) * stride[1] - padding[1] + tap % kernel_w * dilation[1]
    maps = input.reshape(images, channels // deform_groups, height, width)
    samples = interpolate(maps, y.reshape(images, points), x.reshape(images, points))
    if mask is not None:
        samples = samples * mask.reshape(images, 1, points)
    groups = channels // group_channels
    columns = samples.reshape(batch, groups, group_channels, taps, out_h, out_w)
    kernel = weight.reshape(groups, len(weight) // groups, group_channels, taps)
    out = torch.einsum("ngckyx,gock->ngoyx", columns, kernel).flatten(1, 2)
    return out if bias is None else out + bias.view(1, -1, 1, 1)


# ---- the library


def call(function, convention, input, offset, weight, bias, mask, stride, padding, dilation):
    """The library's result, by its order of arguments."""
    if convention == "torchvision":
        return function(input, offset, weight, bias, stride, padding, dilation, mask)
    window = (stride, padding, dilation)
    groups = input.shape[1] // weight.shape[1]
    if convention == "tvdcn":
        return function(input, weight, offset, mask, bias, *window, groups)
    deform_groups = offset.shape[1] // (2 * weight.shape[2] * weight.shape[3])
    if convention == "v1":
        return function(input, offset, weight, *window, groups, deform_groups)
    mask = torch.ones_like(offset[:, ::2]) if mask is None else mask
    if convention == "mmcv":
        return function(input, offset, mask, weight, bias, *window, groups, deform_groups)
    if convention == "charlesshang":
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        return function(input, offset, mask, weight, bias, *window, deform_groups)
    raise ValueError(f"unknown calling convention {convention}")


POOLS = {  # orders of arguments after input, rois and offset
    "roi_pool": ("output_size", "spatial_scale", "sampling_ratio", "gamma"),
    "psroi_pool": (
        "output_size", "spatial_scale", "group_size", "part_size", "sample_per_part", "trans_std",
    ),
}  # fmt: skip


def library(case):
    """The library's function, named as "module:function@convention", in our order of arguments."""
    place, _, convention = case["library"].partition("@")
    module, _, name = place.partition(":")
    function = attrgetter(name)(importlib.import_module(module))
    if convention not in POOLS:
        return lambda *operands: call(function, convention, *operands)
    options = dict(case["options"])
    options["part_size"] = options.get("part_size") or options["output_size"]
    rest = [options[name] for name in POOLS[convention]]
    return lambda input, rois, offset, mask: function(input, rois, offset, *rest)


def results(function, operands, problem):
    """The output and the gradients of all operands that are there, by name."""
    leaves = {n: t for n, t in operands.items() if t is not None and n not in FIXED}
    leaves = {n: t.detach().requires_grad_() for n, t in leaves.items()}
    if "rois" in operands:
        out = function(leaves["input"], operands["rois"], leaves.get("offset"), leaves.get("mask"))
    else:
        window = [tuple(problem[name]) for name in ("stride", "padding", "dilation")]
        named = [leaves.get(n) for n in ("input", "offset", "weight", "bias", "mask")]
        out = function(*named, *window)
    grads = torch.autograd.grad(
        out, list(leaves.values()), operands["grad_output"], allow_unused=True
    )
    named = {f"grad_{n}": g for n, g in zip(leaves, grads, strict=True) if g is not None}
    return {"output": out.detach(), **named}


# ---- operands


def tensor(data):
    """A tensor of a data file: values, or their bytes compressed, in the layout that is given."""
    if data is None:
        return None
    dtype = getattr(torch, data["dtype"])
    if "values" in data:
        values = torch.tensor([float(v) for v in data["values"]], dtype=torch.float64).to(dtype)
    else:
        raw = bytearray(zlib.decompress(base64.b64decode(data["bytes"])))
        values = torch.frombuffer(raw, dtype=torch.uint8).view(dtype).clone()
    strides = (data["stride"], data["storage_offset"]) if "stride" in data else ()
    return values.as_strided(data["shape"], *strides) if strides else values.view(data["shape"])


def moved(operand, device):
    """An operand on a device, in its layout, with what is between and around its values."""
    if operand is None:
        return None
    memory = torch.empty(0, dtype=operand.dtype).set_(operand.untyped_storage()).to(device)
    return memory.as_strided(operand.shape, operand.stride(), operand.storage_offset())


def shapes(problem):
    """Shapes of the operands and of "grad_output", by name."""
    batch, taps = problem["batch"], problem["kernel"][0] * problem["kernel"][1]
    out = [
        (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        for size, pad, dilation, kernel, stride in zip(
            (problem["height"], problem["width"]),
            *(problem[name] for name in ("padding", "dilation", "kernel", "stride")),
            strict=True,
        )
    ]
    group_channels = problem["in_channels"] // problem["groups"]
    return {
        "input": (batch, problem["in_channels"], problem["height"], problem["width"]),
        "offset": (batch, problem["deform_groups"] * taps * 2, *out),
        "weight": (problem["out_channels"], group_channels, *problem["kernel"]),
        "bias": (problem["out_channels"],),
        "mask": (batch, problem["deform_groups"] * taps, *out),
        "grad_output": (batch, problem["out_channels"], *out),
    }


def clustered_operands(problem, device):
    """Random operands whose samples all fall into one cell of pixels in the middle."""
    torch.manual_seed(problem["seed"])
    shape, (kernel_h, kernel_w) = shapes(problem), problem["kernel"]
    batch, _, out_h, out_w = shape["offset"]
    groups, taps = problem["deform_groups"], kernel_h * kernel_w
    (stride_y, stride_x), (pad_y, pad_x) = problem["stride"], problem["padding"]
    tap = torch.arange(taps).view(-1, 1, 1)
    y = torch.arange(out_h).view(1, -1, 1) * stride_y - pad_y
    x = torch.arange(out_w).view(1, 1, -1) * stride_x - pad_x
    y = problem["height"] // 2 - (y + tap // kernel_w * problem["dilation"][0])
    x = problem["width"] // 2 - (x + tap % kernel_w * problem["dilation"][1])
    to_middle = torch.stack([t.expand(taps, out_h, out_w) for t in (y, x)], 1).flatten(0, 1)
    jitter = torch.rand(batch, groups, taps * 2, out_h, out_w)
    drawn = {
        "input": torch.randn(shape["input"]),
        "offset": (to_middle + 0.9 * jitter).flatten(1, 2),
        "weight": torch.randn(shape["weight"]),
        "bias": torch.randn(shape["bias"]),
        "mask": torch.rand(shape["mask"]),
        "grad_output": torch.randn(shape["grad_output"]),
    }
    return {n: t.to(getattr(torch, problem["dtype"])).to(device) for n, t in drawn.items()}


# ---- checks: each prints what it finds and returns whether the failure shows, or None


def equals_definition(case):
    """The library's results are those of the definition in float64, but for rounding."""
    return _equals(case, lambda exact: results(definition, exact, case["problem"]))


def equals_values(case):
    """The library's results are those of the data file, but for rounding."""
    return _equals(case, lambda exact: {n: tensor(d) for n, d in case["expected"].items()})


def _equals(case, right):
    operands = {name: tensor(data) for name, data in case["operands"].items()}
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        code = _in_forked_process(case, operands, file.name)
        if code == NOT_JUDGED:
            print("not judged: there is no such library or device here, or too little memory")
            return None
        if code:
            print(f"the process ended with exit code {code}")
            return True
        got = torch.load(file.name)
    exact = {n: None if t is None else t.double() for n, t in operands.items()}
    want = right(exact)
    wrong = []
    for name, allowed in case["allowed"].items():
        if name not in got:
            wrong.append(f"{name}: missing")
            continue
        # A derivative where the definition has a kink is a convention, and is not compared.
        kept = case["compared"].get(name)
        kept = torch.ones_like(want[name], dtype=torch.bool) if kept is None else tensor(kept)
        found, truth = got[name].double()[kept], want[name][kept]
        nans = int((found.isnan() != truth.isnan()).sum())
        off = (found - truth).nan_to_num(0.0).abs().max().item() if truth.numel() else 0.0
        if off > allowed:
            wrong.append(f"{name}: off by {off:.3g}, allowed {allowed:.3g}")
        if nans:
            wrong.append(f"{name}: NaN mismatch with the definition in {nans} elements")
    return _shows(wrong)


def _in_forked_process(case, operands, path):
    """Save the library's results into a file, in a process that may crash; its exit code."""
    os.environ["CUDA_LAUNCH_BLOCKING"] = "1"  # an error is reported by the kernel that caused it
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = NOT_JUDGED
    try:
        function = library(case)
        given = {n: moved(t, case["device"]) for n, t in operands.items()}
        code = 1  # from here on, the library is to blame
        got = results(function, given, case["problem"])
        torch.save({n: t.cpu() for n, t in got.items()}, path)
        code = 0
    except Exception as error:
        print(_first_line(error))
        if isinstance(error, torch.OutOfMemoryError):
            code = NOT_JUDGED
    finally:
        sys.stdout.flush()
        os._exit(code)


def same_bits_every_run(case):
    """Five runs on the same tensors, thousands of samples in one cell: the same bits."""
    function, problem = library(case), case["problem"]
    operands = clustered_operands(problem, case["device"])
    first, differ = results(function, operands, problem), set()
    for _ in range(4):
        differ |= _different(results(function, operands, problem), first)
    print("differs from run to run:", ", ".join(sorted(differ)) or "nothing")
    return bool(differ)


def same_bits_on_threads(case):
    """The same tensors on one thread, on two and on three: the same bits."""
    function, problem = library(case), case["problem"]
    operands, differ = clustered_operands(problem, case["device"]), set()
    torch.set_num_threads(1)
    alone = results(function, operands, problem)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        differ |= _different(results(function, operands, problem), alone)
    print("differs in its bits:", ", ".join(sorted(differ)) or "nothing")
    if not differ:
        print(f"this depends on the CPU: it was seen on {case['seen_on']}")
    return bool(differ)


def waits_on_its_stream(case):
    """Operands that a side stream writes, after a kernel that takes a while, and uses."""
    function, problem, stream = library(case), case["problem"], torch.cuda.Stream()
    operands = clustered_operands(problem, case["device"])
    want = results(function, operands, problem)
    late = {n: torch.zeros_like(t) for n, t in operands.items()}
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)
        for name, operand in late.items():
            operand.copy_(operands[name])
        got = results(function, late, problem)
    torch.cuda.synchronize()
    return _shows(_far_off(got, want))


def replays_in_graph(case):
    """A call and its backward, captured in a CUDA graph and replayed over zeroed results."""
    function, problem, stream = library(case), case["problem"], torch.cuda.Stream()
    operands, graph = clustered_operands(problem, case["device"]), torch.cuda.CUDAGraph()
    want = results(function, operands, problem)
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        results(function, operands, problem)
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph):
        got = results(function, operands, problem)
    for result in got.values():
        result.zero_()
    graph.replay()
    torch.cuda.synchronize()
    return _shows(_far_off(got, want))


def takes_large_input(case):
    """Two images of more than 2^31 elements: the second has the results that it has alone."""
    os.environ["CUDA_LAUNCH_BLOCKING"] = "1"  # an error is reported by the kernel that caused it
    function, problem, shape = library(case), case["problem"], shapes(case["problem"])
    if torch.cuda.mem_get_info()[0] < ENOUGH_MEMORY:
        print("not judged: needs a GPU with 40 GiB free")
        return None
    torch.manual_seed(problem["seed"])
    like = {"dtype": getattr(torch, problem["dtype"]), "device": case["device"]}
    names = ("input", "offset", "weight", "grad_output")
    operands = {name: torch.randn(shape[name], **like) for name in names}

    def of_images(images):
        parts = {n: t if n == "weight" else t[images] for n, t in operands.items()}
        found = results(function, parts, problem)
        return {name: found[name] for name in ("output", "grad_input", "grad_offset")}

    alone = of_images(slice(1, 2))
    try:
        second = {name: result[1:] for name, result in of_images(slice(0, 2)).items()}
    except torch.OutOfMemoryError:
        print("not judged: needs a GPU with 40 GiB free")
        return None
    except RuntimeError as error:
        print(_first_line(error))
        return True
    return _shows(_far_off(second, alone, " of the second image"))


def _different(got, want):
    return {name for name in got if not torch.equal(got[name], want[name])}


def _far_off(got, want, which=""):
    """Results that are off by a tenth of their largest entry or more, in words."""
    wrong = []
    for name, result in got.items():
        off = (result - want[name]).abs().max().item() / want[name].abs().max().item()
        if not off < 0.1:
            wrong.append(f"{name}{which}: off by {100 * off:.3g} % of its largest entry")
    return wrong


def _first_line(error):
    return f"{type(error).__name__}: {str(error).splitlines()[0]}"


def _shows(wrong):
    print("\n".join(wrong) or "nothing is off")
    return bool(wrong)


CHECKS = {
    "definition": equals_definition,
    "values": equals_values,
    "runs": same_bits_every_run,
    "threads": same_bits_on_threads,
    "stream": waits_on_its_stream,
    "graph": replays_in_graph,
    "large": takes_large_input,
}


def main():
    """Run the check of a data file; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="a data file")
    case = json.loads(parser.parse_args().data.read_text())
    variant = f" [{case['variant']}]" if case["variant"] else ""
    print(f"{case['library']} on {case['device']}: {case['claim']}{variant}", file=sys.stderr)
    try:
        if case["check"] not in (
            "definition",
            "values",
        ):  # whose forked process has to be the first to use a GPU
            library(case)
            torch.empty(0, device=case["device"])
    except (ImportError, AssertionError, RuntimeError) as error:  # torch has several for no device
        print(f"not judged: {_first_line(error)}")
        return 2
    shows = CHECKS[case["check"]](case)
    return 2 if shows is None else int(not shows)


if __name__ == "__main__":
    sys.exit(main())
