# SPDX-License-Identifier: BSD-3-Clause
"""What PyTorch's settings say of the precision of float32 on CUDA."""

from __future__ import annotations

import torch


def allow_tf32() -> bool:
    """Return whether matrix products of float32 may be multiplied with 11 bits."""
    return torch.backends.cuda.matmul.fp32_precision == "tf32"


# Dynamo can't look into the setting, and compiles anew where it changed. This is the mark that
# torch.compiler.assume_constant_result makes, which would import all of Dynamo to make it.
allow_tf32._dynamo_marked_constant = True  # type: ignore[attr-defined]
