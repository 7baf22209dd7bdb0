# SPDX-License-Identifier: BSD-3-Clause
"""What the smoke run's report says, and when its results count as a failure."""

import textwrap
from collections.abc import Mapping

import pandas as pd

COLUMNS = ("box_AP", "box_AP50", "mask_AP", "mask_AP50", "mask_AP75")
# A model whose loss ends above this share of its first has learned nothing.
LEARNED_LOSS = 0.75

_DIFFERENCES = """\
Everything but the operator is equal: data and their order, seed, schedule, optimiser, number of
steps, and where the layers stand. `plain` has regular 3x3 convolutions and RoIAlign; `dcnv1` has
deformable ones in the last two of four stages and deformable RoI pooling in both heads; `dcnv2`
has the modulated forms in the same places{mimic}. What follows from that is not equal: the
branches that predict offsets make the deformable models larger ({sizes}), they take longer a
step, and weights that are drawn after such a branch start from other numbers of the same seed.
One seed was run; a difference of one or two points of AP says nothing on {images} images. Scores
on drawn shapes say that an operator trains, not what it gains on photographs."""


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns that tell the models apart at a glance."""
    return rows[["model", *COLUMNS, "parameters", "minutes"]]


def differences(rows: pd.DataFrame) -> str:
    """What the models do not share, in words."""
    sizes = ", ".join(f"{row.model} {row.parameters / 1e6:.2f} M" for row in rows.itertuples())
    mimics = rows["model"].str.endswith("mimic").any()
    mimic = "; `dcnv2_mimic` is `dcnv2` with a branch for mimicking in training" if mimics else ""
    images = int(rows["images"].iloc[0])
    return textwrap.fill(_DIFFERENCES.format(sizes=sizes, images=images, mimic=mimic), 100)


def learned(first_loss: float, last_loss: float) -> bool:
    """Whether a loss fell enough; False where it is not a number."""
    return last_loss < LEARNED_LOSS * first_loss


def missed_marks(rows: pd.DataFrame, marks: Mapping[tuple[str, str], float]) -> list[str]:
    """A sentence for each value that is not at least its mark, NaN included."""
    values = rows.set_index("model")
    return [
        f"{model}: {column} is {values.loc[model, column]:.3f}, wanted at least {mark:g}"
        for (model, column), mark in marks.items()
        if model in values.index and not values.loc[model, column] >= mark
    ]
