# SPDX-License-Identifier: BSD-3-Clause
"""Weights of the classes in a detector's classification loss."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import torch

from dcnv2.models.detector import Detector


def set_class_weights(model: Detector, names: Sequence[str], weights: Mapping[str, float]) -> None:
    """Sets the factors on the classification loss, by class; 1 for classes without one.

    Args:
        model: with RoI heads, on its device.
        names: of the classes, in label order.
        weights: factors by class name; without any, nothing changes.

    Raises:
        ValueError: there is no class of a name.
    """
    for name in weights:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"train.class_weights: the data set has no class {name}{hint}")
    if weights:
        factors = [1.0, *(weights.get(name, 1.0) for name in names)]  # the first is background
        device = next(model.parameters()).device
        model.roi_heads.class_weights = torch.tensor(factors, device=device)
