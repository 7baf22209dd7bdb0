# SPDX-License-Identifier: BSD-3-Clause
"""MegEngine: megengine.functional.deformable_conv2d on its CPU backend."""

from __future__ import annotations

import numpy as np

REQUIREMENTS = ("MegEngine==1.13.0", "numpy==1.23.5")
PYTHON = "3.10"  # it has no wheel for a later one
DTYPES = ("float32",)
GRADIENTS = True
THREADS = False


def unsupported(problem):
    return None if problem.batch else "no empty batch"  # it raises an error


def deform_conv2d(
    operands, grad_output, *, stride, padding, dilation, groups, deform_groups, threads
):
    import megengine
    from megengine.autodiff import GradManager
    from megengine.functional import deformable_conv2d

    given = {n: np.ascontiguousarray(a) for n, a in operands.items() if a is not None}
    if "mask" not in given:  # it has no default
        batch, channels, rows, columns = given["offset"].shape
        given["mask"] = np.ones((batch, channels // 2, rows, columns), given["offset"].dtype)
    bias = given.pop("bias", None)
    if bias is not None:
        given["bias"] = bias.reshape(1, -1, 1, 1)
    if groups > 1:
        weight = given["weight"]
        given["weight"] = weight.reshape(groups, -1, *weight.shape[1:])
    leaves = {name: megengine.Tensor(array) for name, array in given.items()}
    manager = GradManager().attach(list(leaves.values()))
    with manager:
        output = deformable_conv2d(
            leaves["input"],
            leaves["weight"],
            leaves["offset"],
            leaves["mask"],
            leaves.get("bias"),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
        )
        if grad_output is not None:
            manager.backward(output, megengine.Tensor(np.ascontiguousarray(grad_output)))
    results = {"output": output.numpy()}
    if grad_output is not None:
        present = (name for name in leaves if operands[name] is not None)
        grads = {name: leaves[name].grad.numpy() for name in present}
        results.update({f"grad_{n}": g.reshape(operands[n].shape) for n, g in grads.items()})
    return results
