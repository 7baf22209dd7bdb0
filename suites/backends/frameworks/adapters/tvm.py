# SPDX-License-Identifier: BSD-3-Clause
"""Apache TVM: topi.nn.deformable_conv2d_nchw, the operator's first version, compiled by LLVM."""

from __future__ import annotations

import functools

import numpy as np

REQUIREMENTS = ("apache-tvm==0.27.0.post1", "numpy==2.4.6")
DTYPES = ("float64", "float32", "float16")
GRADIENTS = False
THREADS = False
UNSUPPORTED_ARGS = ("mask", "bias", "groups")


def deform_conv2d(
    operands, grad_output, *, stride, padding, dilation, groups, deform_groups, threads
):
    import tvm

    arrays = [np.ascontiguousarray(operands[name]) for name in ("input", "offset", "weight")]
    shapes, dtype = tuple(array.shape for array in arrays), str(arrays[0].dtype)
    compiled = _compiled(shapes, dtype, stride, padding, dilation, deform_groups)
    shape = (shapes[0][0], shapes[2][0], *shapes[1][2:])
    output = tvm.runtime.tensor(np.zeros(shape, dtype))
    compiled(*map(tvm.runtime.tensor, arrays), output)
    return {"output": output.numpy()}


@functools.lru_cache(maxsize=64)
def _compiled(shapes, dtype, stride, padding, dilation, deform_groups):
    import tvm
    from tvm import te, topi

    operands = [te.placeholder(shape, dtype) for shape in shapes]
    output = topi.nn.deformable_conv2d_nchw(
        *operands, stride, padding, dilation, deform_groups, 1, dtype
    )
    return tvm.compile(te.create_prim_func([*operands, output]), target="llvm")
