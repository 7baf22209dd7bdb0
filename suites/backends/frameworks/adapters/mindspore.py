# SPDX-License-Identifier: BSD-3-Clause
"""MindSpore: mindspore.ops.deformable_conv2d on its CPU backend."""

from __future__ import annotations

import numpy as np

REQUIREMENTS = ("mindspore==2.10.0", "numpy==1.26.4")
DTYPES = ("float32", "float16")
GRADIENTS = True
THREADS = False


def deform_conv2d(
    operands, grad_output, *, stride, padding, dilation, groups, deform_groups, threads
):
    import mindspore

    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)
    mindspore.set_device("CPU")
    input, offset, weight = (operands[name] for name in ("input", "offset", "weight"))
    kernel = weight.shape[2:]
    batch, _, rows, columns = offset.shape
    taps = deform_groups * kernel[0] * kernel[1]
    pairs = offset.reshape(batch, taps, 2, rows, columns)
    mask = operands["mask"]
    mask = np.ones((batch, taps, rows, columns), offset.dtype) if mask is None else mask
    joined = np.concatenate([pairs[:, :, 1], pairs[:, :, 0], mask], 1)  # x, y, mask

    def conv(input, weight, joined, bias=None):
        return mindspore.ops.deformable_conv2d(
            input,
            weight,
            joined,
            kernel,
            (1, 1, *stride),
            (padding[0], padding[0], padding[1], padding[1]),
            bias,
            (1, 1, *dilation),
            groups,
            deform_groups,
        )

    bias = operands["bias"]
    given = [input, weight, joined] + ([] if bias is None else [bias])
    given = [mindspore.Tensor(np.ascontiguousarray(array)) for array in given]
    if grad_output is None:
        return {"output": conv(*given).asnumpy()}
    output, pull_back = mindspore.vjp(conv, *given)
    grads = [g.asnumpy() for g in pull_back(mindspore.Tensor(np.ascontiguousarray(grad_output)))]
    results = {"output": output.asnumpy()}
    grad_x, grad_y, grad_mask = np.split(grads[2], 3, 1)
    results["grad_input"], results["grad_weight"] = grads[:2]
    results["grad_offset"] = np.stack([grad_y, grad_x], 2).reshape(offset.shape)
    if operands["mask"] is not None:
        results["grad_mask"] = grad_mask
    if bias is not None:
        results["grad_bias"] = grads[3]
    return results
