#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Show that a framework's deformable convolution fails a claim, with NumPy and that framework.

    python reports/verdicts/run_framework.py reports/verdicts/NAME.json

A data file has one failure: the framework, the problem, and operands as numbers or a seed. The
framework is called by its file in suites/backends/frameworks/adapters; outside of a checkout, put
that folder next to this file. Exit code 0: the failure shows. 1: it does not. 2: it cannot be
judged here, because there is no such framework.
"""

import argparse
import base64
import importlib
import json
import os
import re
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np

NOT_JUDGED = 77  # exit code of the forked process
HERE = Path(__file__).resolve().parent

# ---- the definition: Deformable ConvNets v2 (arXiv 1811.11168), equation 1


def corners(image, y, x):
    """The four pixels around each point, with their weights and the weights' slopes.

    Args:
        image: [B, C, H, W], zero outside.
        y: [B, P], and so is x.

    Returns:
        Of each corner: index [B, P] into the flattened image, values [B, C, P], weight [B, P], and
        its derivatives by y and by x.
    """
    height, width = image.shape[-2:]
    # Keeps infinity out of the arithmetic: two pixels outside, everything is zero. NaN stays NaN.
    y, x = np.clip(y, -2, height + 1), np.clip(x, -2, width + 1)
    top, left = np.floor(y), np.floor(x)
    below, right = y - top, x - left
    pixels = image.reshape(*image.shape[:2], -1)
    for row, share_y, slope_y in ((top, 1 - below, -1), (top + 1, below, 1)):
        for column, share_x, slope_x in ((left, 1 - right, -1), (left + 1, right, 1)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = np.where(inside, row * width + column, 0).astype(np.int64)
            values = np.take_along_axis(pixels, index[:, None], 2) * 1.0
            values = np.where(inside[:, None], values, 0.0)
            yield index, inside, values, share_y * share_x, slope_y * share_x, share_y * slope_x


def definition(operands, grad_output, stride, padding, dilation):
    """The output and, if grad_output is not None, the gradients, by name, in float64."""
    x = {n: None if a is None else a.astype(np.float64) for n, a in operands.items()}
    image, offset, weight, mask = (x[name] for name in ("input", "offset", "weight", "mask"))
    batch, channels, height, width = image.shape
    outputs, group_channels, kernel_h, kernel_w = weight.shape
    taps, (out_h, out_w) = kernel_h * kernel_w, offset.shape[2:]
    deform_groups, groups = offset.shape[1] // (2 * taps), channels // group_channels
    images, points = batch * deform_groups, taps * out_h * out_w
    tap = np.arange(taps)[:, None, None]
    pairs = offset.reshape(images, taps, 2, out_h, out_w)
    y = pairs[:, :, 0] + np.arange(out_h)[:, None] * stride[0] - padding[0]
    y = y + tap // kernel_w * dilation[0]
    x_ = pairs[:, :, 1] + np.arange(out_w) * stride[1] - padding[1] + tap % kernel_w * dilation[1]
    maps = image.reshape(images, channels // deform_groups, height, width)
    found = list(corners(maps, y.reshape(images, points), x_.reshape(images, points)))
    samples = sum(share[:, None] * values for _, _, values, share, _, _ in found)
    factors = np.ones((images, 1, points)) if mask is None else mask.reshape(images, 1, points)
    columns = (samples * factors).reshape(batch, groups, group_channels, taps, out_h, out_w)
    kernel = weight.reshape(groups, outputs // groups, group_channels, taps)
    output = np.einsum("ngckyx,gock->ngoyx", columns, kernel).reshape(batch, outputs, out_h, out_w)
    results = {"output": output if x["bias"] is None else output + x["bias"][:, None, None]}
    if grad_output is None:
        return results
    grad = grad_output.astype(np.float64)
    results["grad_bias"] = grad.sum((0, 2, 3))
    grad = grad.reshape(batch, groups, outputs // groups, out_h, out_w)
    grad_weight = np.einsum("ngoyx,ngckyx->gock", grad, columns)
    results["grad_weight"] = grad_weight.reshape(weight.shape)
    grad_columns = np.einsum("ngoyx,gock->ngckyx", grad, kernel).reshape(samples.shape)
    results["grad_mask"] = (grad_columns * samples).sum(1).reshape(batch, -1, out_h, out_w)
    grad_samples = grad_columns * factors
    by_y = sum(slope[:, None] * values for _, _, values, _, slope, _ in found)
    by_x = sum(slope[:, None] * values for _, _, values, _, _, slope in found)
    slopes = [(grad_samples * by).sum(1).reshape(y.shape) for by in (by_y, by_x)]
    results["grad_offset"] = np.stack(slopes, 2).reshape(offset.shape)
    pixels = np.zeros((images, maps.shape[1], height * width))
    for index, inside, _, share, _, _ in found:
        for b in range(images):  # a corner outside has no pixel
            terms = np.where(inside[b], grad_samples[b] * share[b], 0.0)
            np.add.at(pixels[b], (slice(None), index[b]), terms)
    results["grad_input"] = pixels.reshape(image.shape)
    return results


# ---- the framework


def adapter_of(case):
    """The module that calls the framework."""
    for folder in (HERE, HERE.parents[1] / "suites" / "backends" / "frameworks"):
        if (folder / "adapters").is_dir():
            sys.path.append(str(folder))
            return importlib.import_module(case["library"])
    raise ImportError("the folder `adapters` is missing")


def results_of(case, operands, threads=1):
    """The framework's results, by name."""
    operands = dict(operands)
    grad_output, weight = operands.pop("grad_output"), operands["weight"]
    adapter = adapter_of(case)
    return adapter.deform_conv2d(
        operands,
        grad_output if adapter.GRADIENTS else None,
        **window_of(case),
        groups=operands["input"].shape[1] // weight.shape[1],
        deform_groups=operands["offset"].shape[1] // (2 * weight.shape[2] * weight.shape[3]),
        threads=threads,
    )


def window_of(case):
    """Stride, padding and dilation, as (y, x)."""
    return {name: tuple(case["problem"][name]) for name in ("stride", "padding", "dilation")}


# ---- operands


def array(data):
    """An array of a data file: values, or their bytes compressed."""
    if data is None:
        return None
    if "values" in data:
        values = np.array([float(v) for v in data["values"]]).astype(data["dtype"])
    else:
        raw = zlib.decompress(base64.b64decode(data["bytes"]))
        values = np.frombuffer(raw, data["dtype"]).copy()
    return values.reshape(data["shape"])


def clustered_operands(problem):
    """Random operands whose samples all fall into one cell of pixels in the middle."""
    rng = np.random.default_rng(problem["seed"])
    batch, channels, outputs = (problem[n] for n in ("batch", "in_channels", "out_channels"))
    size, kernel = (problem["height"], problem["width"]), problem["kernel"]
    window = [problem[name] for name in ("stride", "padding", "dilation")]
    out = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip(size, kernel, *window)]
    taps, groups = kernel[0] * kernel[1], problem["deform_groups"]
    tap = np.arange(taps)[:, None, None]
    steps = (tap // kernel[1], tap % kernel[1])
    places = (np.arange(out[0])[:, None], np.arange(out[1]))
    to_middle = [
        n // 2 - (place * s - p + step * d) + np.zeros((taps, *out))
        for n, place, step, s, p, d in zip(size, places, steps, *window)
    ]
    jitter = 0.9 * rng.random((batch, groups, taps, 2, *out))
    offset = np.stack(to_middle, 1) + jitter
    drawn = {
        "input": rng.normal(size=(batch, channels, *size)),
        "offset": offset.reshape(batch, -1, *out),
        "weight": rng.normal(size=(outputs, channels // problem["groups"], *kernel)),
        "bias": rng.normal(size=outputs),
        "mask": rng.random((batch, groups * taps, *out)),
        "grad_output": rng.normal(size=(batch, outputs, *out)),
    }
    for name in ("bias", "mask"):
        drawn[name] = drawn[name] if problem[name] else None
    return {n: None if a is None else a.astype(problem["dtype"]) for n, a in drawn.items()}


# ---- checks: each prints what it finds and returns whether the failure shows, or None


def equals_definition(case):
    """The framework's results are those of the definition in float64, but for rounding."""
    operands = {name: array(data) for name, data in case["operands"].items()}
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        code = _in_forked_process(case, operands, file.name)
        if code == NOT_JUDGED:
            return None
        if code:
            print(f"the process ended with exit code {code}")
            return True
        got = dict(np.load(file.name))
    given = {name: a for name, a in operands.items() if name != "grad_output"}
    want = definition(given, operands["grad_output"], **window_of(case))
    wrong = []
    for name, allowed in case["allowed"].items():
        if name not in got:
            wrong.append(f"{name}: missing")
            continue
        # A derivative where the definition has a kink is a convention, and is not compared.
        kept = case["compared"].get(name)
        kept = np.ones(want[name].shape, bool) if kept is None else array(kept).astype(bool)
        found, truth = got[name].astype(np.float64)[kept], want[name][kept]
        nans = int((np.isnan(found) != np.isnan(truth)).sum())
        with np.errstate(invalid="ignore"):
            off = float(np.nan_to_num(np.abs(found - truth), nan=0.0).max(initial=0.0))
        if off > allowed:
            wrong.append(f"{name}: off by {off:.3g}, allowed {allowed:.3g}")
        if nans:
            wrong.append(f"{name}: NaN mismatch with the definition in {nans} elements")
    print("\n".join(wrong) or "nothing is off")
    return bool(wrong)


def _in_forked_process(case, operands, path):
    """Save the framework's results into a file, in a process that may crash; its exit code."""
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    code, said = NOT_JUDGED, os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the framework prints is not what this prints
    try:
        adapter_of(case)
        code = 1  # from here on, the framework is to blame
        np.savez(path, **results_of(case, operands))
        code = 0
    except ModuleNotFoundError as error:
        print(f"not judged: {error}; pip install {case['needs']}", file=said)
        code = NOT_JUDGED
    except Exception as error:
        print(_first_line(error), file=said)
    finally:
        said.flush()
        os._exit(code)


def same_bits_every_run(case):
    """Five runs on the same arrays, thousands of samples in one cell: the same bits."""
    operands = clustered_operands(case["problem"])
    first = results_of(case, operands)
    return _different([results_of(case, operands) for _ in range(4)], first)


def same_bits_on_threads(case):
    """The same arrays on one thread, on two and on three: the same bits."""
    operands = clustered_operands(case["problem"])
    others = [results_of(case, operands, threads) for threads in (2, 3)]
    return _different(others, results_of(case, operands))


def _different(others, first):
    names = [n for n in first if any(not np.array_equal(o[n], first[n]) for o in others)]
    print("differs in its bits:", ", ".join(names) or "nothing")
    return bool(names)


def _first_line(error):
    line = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return re.sub(r"/(?:[\w.-]+/)+", "", line)  # without the folders of whoever built the framework


CHECKS = {
    "definition": equals_definition,
    "runs": same_bits_every_run,
    "threads": same_bits_on_threads,
}


def main():
    """Run the check of a data file; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="a data file")
    case = json.loads(parser.parse_args().data.read_text())
    variant = f" [{case['variant']}]" if case["variant"] else ""
    print(f"{case['needs']}: {case['claim']}{variant}", file=sys.stderr)
    try:
        shows = CHECKS[case["check"]](case)
    except ModuleNotFoundError as error:
        print(f"not judged: {error}; pip install {case['needs']}")
        return 2
    return 2 if shows is None else int(not shows)


if __name__ == "__main__":
    sys.exit(main())
