# SPDX-License-Identifier: BSD-3-Clause
"""Reads PyTorch's setting for the precision of float32 matrix products on CUDA."""

from __future__ import annotations

import torch


def allow_tf32() -> bool:
    """Return whether products of float32 matrices may use TF32, which keeps 11 significant bits."""
    return torch.backends.cuda.matmul.fp32_precision == "tf32"


# Dynamo cannot trace the setting: it treats the result as a constant and recompiles if the setting
# changes. torch.compiler.assume_constant_result sets this mark too, but imports all of Dynamo.
allow_tf32._dynamo_marked_constant = True  # type: ignore[attr-defined]
