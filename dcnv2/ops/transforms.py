# SPDX-License-Identifier: BSD-3-Clause
"""Whether derivatives are taken in a way that only the portable path knows.

PyTorch lets an operator that is registered from outside say how gradients flow back, but neither
how tangents flow forward nor what torch.func's transforms make of it: without a word it would give
zero tangents. So under vmap, grad, jvp and their like, and within forward_ad.dual_level, the
functions of `dcnv2.ops` take the portable path, whatever was compiled: right, if slower.
"""

from __future__ import annotations

import torch
from torch.autograd import forward_ad


def active() -> bool:
    """Return whether a transform of torch.func or a level of forward_ad is active."""
    if torch.compiler.is_compiling():
        return False
    if forward_ad._current_level >= 0:
        return True
    return torch._C._functorch.peek_interpreter_stack() is not None
