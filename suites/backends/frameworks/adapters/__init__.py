# SPDX-License-Identifier: BSD-3-Clause
"""One file for each framework. It needs NumPy and, when it is called, the framework.

Every module has

    REQUIREMENTS        the pinned packages of its environment; the first one has its version
    PYTHON              the version of Python that they need; by default the one that runs the suite
    DTYPES              what it computes in
    GRADIENTS           whether it has them
    THREADS             whether the number of threads can be set
    UNSUPPORTED_ARGS    which of mask, bias and groups it has no argument for (optional)
    unsupported(problem)    None, or why it does not support a problem (optional)
    deform_conv2d(operands, grad_output, *, stride, padding, dilation, groups, deform_groups,
                  threads)

which takes arrays by name (input, offset, weight, bias, mask; the last two may be None) and returns
the results by name: output and, if grad_output is not None, grad_input, grad_offset and so on.
"""
