# SPDX-License-Identifier: BSD-3-Clause
"""Detects derivatives that only the portable path supports.

A custom operator can register a backward with PyTorch, but neither a forward-mode derivative nor
rules for the transforms of torch.func: its tangents would silently be zero. Under vmap, grad, jvp
and the other transforms, and within forward_ad.dual_level, the functions of `dcnv2.ops` therefore
take the portable path, which is slower and correct.
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
