# SPDX-License-Identifier: BSD-3-Clause
"""What the smoke run's report says, and when its results count as a failure."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor

from dcnv2.engine.config import RunConfig, load_config
from dcnv2.engine.inference.predict import prediction_sheet
from dcnv2.engine.runtime.checkpoint import restore
from dcnv2.engine.runtime.datasets import open_val
from dcnv2.engine.runtime.device import pick_device
from suites.coco.figures import draw_curves, draw_sheet
from suites.reporting.report import write_report
from suites.reporting.tables import markdown_table

COLUMNS = ("box_AP", "box_AP50", "mask_AP", "mask_AP50", "mask_AP75")
# A model whose loss ends above this share of its first has learned nothing.
LEARNED_LOSS = 0.75
SHEET_IMAGES = 7
# With less of a core than that, times of a training measure the machine's other work.
QUIET_SHARE = 0.8

_DIFFERENCES = """\
Everything but the operator is equal: data and their order, seed, schedule, optimiser, number of
steps, and where the layers stand. `plain` has regular 3x3 convolutions and RoIAlign; `dcnv1` has
deformable ones in the last two of four stages and deformable RoI pooling in both heads; `dcnv2`
has the modulated forms in the same places{mimic}. What follows from that is not equal: the
branches that predict offsets make the deformable models larger ({sizes}), they take longer a
step, and weights that are drawn after such a branch start from other numbers of the same seed.
{seeds} Scores on drawn shapes say that an operator trains, not what it gains on photographs."""
_ONE_SEED = "One seed was run; a difference of one or two points of AP says nothing on {} images."
_SEEDS = """\
{} seeds were run a model, over the same pictures: a seed draws weights, the order of the data and
what is random in a step. Values are means and, after the sign, standard deviations over seeds."""
_TIMES = "`cpu_share` is the share of its time that a training had a core of the processor."
_BUSY = """\
In some it is unknown or below {:g}: the machine did something else beside, so times are of little
worth here, and the scores, which do not depend on them, are all that this run has measured."""


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns that tell the models apart at a glance: a line a model, minutes if they count."""
    lines = []
    for model, runs in rows.groupby("model", sort=False):
        line = {"model": model}
        if rows["seed"].nunique() > 1:
            line["seeds"] = len(runs)
        line |= {column: spread(runs[column]) for column in COLUMNS}
        line["parameters"] = int(runs["parameters"].iloc[0])
        if quiet(rows):
            line["minutes"] = runs["minutes"].mean()
        lines.append(line)
    return pd.DataFrame(lines)


def spread(values: Sequence[float]) -> float | str:
    """A number as it is; of several the mean and the standard deviation of the sample."""
    values = pd.Series(values)
    if len(values) == 1:
        return float(values.iloc[0])
    return f"{values.mean():.3f} ± {values.std():.3f}"


def advantages(rows: pd.DataFrame) -> pd.DataFrame:
    """What each model has over `plain` with the same seed: mean and spread, and in how many seeds
    it is ahead. Empty where there is one seed, or no `plain`."""
    lines = []
    plain = rows[rows["model"] == "plain"].set_index("seed")
    for model, runs in rows.groupby("model", sort=False):
        runs = runs.set_index("seed")
        shared = runs.index.intersection(plain.index)
        if model == "plain" or len(shared) < 2:
            continue
        line = {"model": f"{model} - plain", "seeds": len(shared)}
        for column in ("box_AP", "mask_AP"):
            gain = runs.loc[shared, column] - plain.loc[shared, column]
            line[column] = spread(gain)
            line[f"ahead in {column}"] = f"{(gain > 0).sum()} of {len(gain)}"
        lines.append(line)
    return pd.DataFrame(lines)


def quiet(rows: pd.DataFrame) -> bool:
    """Whether every training had its core to itself, so that its times are its own.

    On a GPU, where `cpu_share` is not measured, they are taken as such.
    """
    return "cpu_share" not in rows or bool((rows["cpu_share"] >= QUIET_SHARE).all())


def times(rows: pd.DataFrame) -> str:
    """How far the times can be trusted, in words."""
    if "cpu_share" not in rows:
        return ""
    words = _TIMES if quiet(rows) else f"{_TIMES} {_BUSY.format(QUIET_SHARE)}"
    return textwrap.fill(words, 100)


def differences(rows: pd.DataFrame) -> str:
    """What the models do not share, in words."""
    models = rows.drop_duplicates("model")
    sizes = ", ".join(f"{row.model} {row.parameters / 1e6:.2f} M" for row in models.itertuples())
    mimics = models["model"].str.endswith("mimic").any()
    mimic = "; `dcnv2_mimic` is `dcnv2` with a branch for mimicking in training" if mimics else ""
    count = rows["seed"].nunique()
    seeds = _ONE_SEED.format(int(rows["images"].iloc[0])) if count == 1 else _SEEDS.format(count)
    return textwrap.fill(_DIFFERENCES.format(sizes=sizes, seeds=seeds, mimic=mimic), 100)


def label(model: str, seed: int) -> str:
    """A training's name: its model, with the seed where it is not the first."""
    return f"{model}, seed {seed}" if seed else model


def learned(first_loss: float, last_loss: float) -> bool:
    """Whether a loss fell enough; False where it is not a number."""
    return last_loss < LEARNED_LOSS * first_loss


def missed_marks(rows: pd.DataFrame, marks: Mapping[tuple[str, str], float]) -> list[str]:
    """A sentence for each value that is not at least its mark, NaN included."""
    return [
        f"{label(row['model'], row['seed'])}: {column} is {row[column]:.3f}, "
        f"wanted at least {mark:g}"
        for _, row in rows.iterrows()
        for (model, column), mark in marks.items()
        if model == row["model"] and not row[column] >= mark
    ]


def run_folder(folder: Path, name: str, seed: int) -> Path:
    """Where a training lies: the first seed's in `folder` itself."""
    return (folder / f"seed_{seed}" if seed else folder) / name


def pictures_of(config: RunConfig) -> tuple[list[Tensor], list[Tensor]]:
    """Pictures of held-out images with the model's predictions, and with the truth."""
    device = pick_device(config.device)
    model, _ = restore(config, None, device)
    dataset = open_val(config.data, masks=True)
    # The first images with objects; a picture without says little.
    filled = [i for i in range(len(dataset)) if len(dataset.target(i)["labels"])]
    return prediction_sheet(model, dataset, filled[:SHEET_IMAGES], config, device)


def write(
    name: str, title: str, about: str, rows: pd.DataFrame, folder: Path, directory: Path
) -> None:
    """Writes tables and pictures of a suite's runs.

    Args:
        name: of the report.
        title: its heading.
        about: what the data are.
        rows: one a training.
        folder: where the trainings lie.
        directory: where the report goes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    models = rows["model"].unique().tolist()
    homes = {model: run_folder(folder, model, 0) for model in models}
    metrics = {model: pd.read_csv(home / "metrics.csv") for model, home in homes.items()}
    curves, sheet = f"{name}_curves.png", f"{name}_predictions.png"
    draw_curves(metrics, directory / curves)
    lines = []
    for model, home in homes.items():
        predicted, truth = pictures_of(load_config(home))
        lines.append((model, predicted))
    draw_sheet([("truth", truth), *lines], directory / sheet)
    gained = advantages(rows)
    costs = ["model", "seed", "parameters", "steps", "threads", "minutes", "cpu_share"]
    costs = [column for column in [*costs, "step_ms", "image_ms"] if column in rows]
    write_report(
        name,
        rows,
        title=title,
        headline=summary(rows),
        sections={
            "Results": summary(rows),
            **({} if gained.empty else {"What an operator gains, seed by seed": gained}),
            "Data": about,
            "What differs between the models": differences(rows),
            "Mask AP50 by class": by_class(rows, folder),
            "Cost": f"{markdown_table(rows[costs])}\n\n{times(rows)}",
        },
        pictures=[curves, sheet],
        directory=directory,
    )


def by_class(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Mask AP50, a line a class and a column a model, means over the seeds."""
    runs = rows[["model", "seed"]].itertuples(index=False)
    classes = pd.concat(
        pd.read_csv(run_folder(folder, *run) / "eval_classes.csv").assign(model=run.model)
        for run in runs
    )
    table = classes[classes["kind"] == "mask"].pivot_table(
        index="class", columns="model", values="AP50", sort=False
    )
    return table[rows["model"].unique()].reset_index()
