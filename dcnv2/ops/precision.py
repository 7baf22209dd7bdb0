# SPDX-License-Identifier: BSD-3-Clause
"""What PyTorch's settings say of the precision of float32 on CUDA."""

from __future__ import annotations

import torch


# Dynamo can't look into the setting; it compiles anew where the setting changed.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def allow_tf32() -> bool:
    """Return whether matrix products of float32 may be multiplied with 11 bits."""
    return torch.backends.cuda.matmul.fp32_precision == "tf32"
