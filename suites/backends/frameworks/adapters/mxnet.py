# SPDX-License-Identifier: BSD-3-Clause
"""MXNet, the framework of the operator's authors: contrib.ModulatedDeformableConvolution."""

from __future__ import annotations

REQUIREMENTS = ("mxnet==1.9.1", "numpy==1.23.5")
PYTHON = "3.8"  # the last version for which NumPy had the names that MXNet uses
DTYPES = ("float64", "float32")
GRADIENTS = True
THREADS = False
UNSUPPORTED_ARGS = ("mask",)  # on a CPU: "only implemented in GPU"


def unsupported(problem):
    return None if problem.batch else "no empty batch"


def deform_conv2d(
    operands, grad_output, *, stride, padding, dilation, groups, deform_groups, threads
):
    import mxnet

    cpu = mxnet.cpu()
    leaves = {
        name: mxnet.nd.array(array, ctx=cpu, dtype=array.dtype)
        for name, array in operands.items()
        if array is not None
    }
    for leaf in leaves.values():
        leaf.attach_grad()
    modulated = "mask" in leaves
    kind = "ModulatedDeformableConvolution" if modulated else "DeformableConvolution"
    names = ("input", "offset", *(("mask",) if modulated else ()), "weight", "bias")
    with mxnet.autograd.record():
        output = getattr(mxnet.nd.contrib, kind)(
            *(leaves[name] for name in names if name in leaves),
            kernel=operands["weight"].shape[2:],
            stride=stride,
            pad=padding,
            dilate=dilation,
            num_filter=operands["weight"].shape[0],
            num_group=groups,
            num_deformable_group=deform_groups,
            no_bias="bias" not in leaves,
            **({"im2col_step": 1} if modulated else {}),
        )
    results = {"output": output.asnumpy()}
    if grad_output is not None:
        output.backward(mxnet.nd.array(grad_output, ctx=cpu, dtype=grad_output.dtype))
        results.update({f"grad_{name}": leaf.grad.asnumpy() for name, leaf in leaves.items()})
    return results
