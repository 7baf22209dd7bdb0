# SPDX-License-Identifier: BSD-3-Clause
"""PaddlePaddle: paddle.vision.ops.deform_conv2d."""

from __future__ import annotations

REQUIREMENTS = ("paddlepaddle==3.3.1", "numpy==2.4.6")
DTYPES = ("float64", "float32")
GRADIENTS = True
THREADS = False


def unsupported(problem):
    if problem.out_channels % problem.deform_groups:  # it raises an error
        return "no output channels that deform groups do not divide"
    return None


def deform_conv2d(
    operands, grad_output, *, stride, padding, dilation, groups, deform_groups, threads
):
    import paddle
    from paddle.vision import ops

    leaves = {
        n: None if a is None else paddle.to_tensor(a, place="cpu") for n, a in operands.items()
    }
    for tensor in leaves.values():
        if tensor is not None:
            tensor.stop_gradient = grad_output is None
    output = ops.deform_conv2d(
        leaves["input"],
        leaves["offset"],
        leaves["weight"],
        leaves["bias"],
        stride,
        padding,
        dilation,
        deform_groups,
        groups,
        leaves["mask"],
    )
    results = {"output": output.numpy()}
    if grad_output is None:
        return results
    present = {name: tensor for name, tensor in leaves.items() if tensor is not None}
    grads = paddle.grad(output, list(present.values()), paddle.to_tensor(grad_output, place="cpu"))
    return {**results, **{f"grad_{n}": g.numpy() for n, g in zip(present, grads)}}
