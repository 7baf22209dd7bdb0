# SPDX-License-Identifier: BSD-3-Clause
"""Detects derivatives that only the portable path supports.

No kernel of ours has a forward-mode derivative or a rule for a transform of torch.func: tangents
would silently be zero. Under vmap, grad, jvp and the other transforms, and within
forward_ad.dual_level, the portable path therefore replaces the operators. The operators decide
this when they run, so it holds for exported programs too. The functions of `dcnv2.ops` decide it
when they are compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def active() -> bool:
    """Return whether a transform of torch.func or a level of forward_ad is active."""
    if forward_ad._current_level >= 0:
        return True
    return torch._C._functorch.peek_interpreter_stack() is not None


# Dynamo cannot trace the state, but enters the transforms and levels of the function it compiles.
active._dynamo_marked_constant = True  # type: ignore[attr-defined]


def only_autograd() -> bool:
    """Return whether autograd is all that the dispatcher would hand an operator's call to.

    False where the call is compiled, traced, transformed, or seen by a dispatch mode.
    """
    return not (
        torch.compiler.is_compiling()
        or active()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._dispatch_tls_is_dispatch_key_included(torch._C.DispatchKey.PreDispatch)
        or torch._C._get_tracing_state() is not None  # torch.jit.trace
    )


def active_in_compilation() -> bool:
    """Return whether a function that is being compiled needs the portable path.

    The functions of `dcnv2.ops` ask, since a compiled operator cannot: see above.
    """
    return torch.compiler.is_compiling() and active()


def apply_to(arguments: Sequence[Any]) -> bool:
    """Return whether the derivatives of a call need the portable path.

    A compiled function enters a level of forward_ad without its Python wrapper, which holds the
    current level, so the operands are inspected while it is traced. This takes 6 us an operand,
    too long for an eager call.
    """
    if active():
        return True
    return torch._C._len_torch_dispatch_stack() > 0 and any(
        isinstance(a, Tensor) and forward_ad.unpack_dual(a, level=0).tangent is not None
        for a in arguments
    )
