# SPDX-License-Identifier: BSD-3-Clause
"""Deprecated location of `Predictor` and `as_tensor`: use `dcnv2.engine.inference`."""

import warnings
from typing import Any


def __getattr__(name: str) -> Any:
    from dcnv2.engine import inference

    if name not in inference.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"dcnv2.engine.predict.{name} has moved to dcnv2.engine.inference.{name}",
        DeprecationWarning,
        stacklevel=2,
    )
    return getattr(inference, name)
