# SPDX-License-Identifier: BSD-3-Clause
"""A table of the package's configurations."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from dcnv2.engine.config import Published, load_config, shipped
from dcnv2.models.cost import Cost, model_cost


def catalogue(words: Sequence[str] = ()) -> pd.DataFrame:
    """Lists the configurations whose names contain all `words`, one row each.

    Returns:
        `name`, `parameters_M`, `GMACs` for a test image of `size` (deformable layers included),
        `steps`, `batch`, and published results: `box_AP`, `mask_AP`, `source`.
    """
    costs: dict[str, Cost] = {}
    rows = []
    for name in shipped():
        if not all(word in name for word in words):
            continue
        config = load_config(name)
        # Rows that differ only in the schedule share a model.
        key = repr(config.model)
        if key not in costs:
            costs[key] = model_cost(config.model)
        cost, published = costs[key], config.published or Published()
        rows.append(
            {
                "name": name,
                "parameters_M": round(cost.parameters / 1e6, 2),
                "GMACs": round(cost.macs / 1e9, 1),
                "size": f"{cost.height}x{cost.width}",
                "steps": config.train.steps,
                "batch": config.train.batch_size,
                "box_AP": published.box_AP,
                "mask_AP": published.mask_AP,
                "source": published.source,
            }
        )
    return pd.DataFrame(rows)
