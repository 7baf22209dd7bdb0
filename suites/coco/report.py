# SPDX-License-Identifier: BSD-3-Clause
"""The report of the smoke run, and when its results count as a failure."""

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
from suites.coco.smoke_suite import Suite
from suites.coco.train_model import label, run_folder
from suites.reporting.report import write_report
from suites.reporting.tables import markdown_table

COLUMNS = ("box_AP", "box_AP50", "mask_AP", "mask_AP50", "mask_AP75")
# A model whose last loss is above this share of its first one has learned nothing.
LEARNED_LOSS = 0.75
SHEET_IMAGES = 7
# A training with a smaller share of a core was slowed down by other work of the machine.
QUIET_SHARE = 0.8

_DIFFERENCES = """\
All models share the data and their order, the seed, schedule, optimiser, number of steps, and the
positions of the layers that differ. `plain` has regular 3x3 convolutions and RoIAlign. `dcnv1` has
deformable convolutions in the last two of four stages and deformable RoI pooling in both heads.
`dcnv2` has the modulated operators in the same places{mimic}. Three differences follow: the
branches that predict offsets make the deformable models larger ({sizes}), their steps take longer,
and weights that are initialised after such a branch get other random numbers from the same seed.
{seeds} Scores on generated shapes show that an operator trains, not its gain on photographs."""
_ONE_SEED = "With one seed, a difference of one or two points of AP on {} images means nothing."
_SEEDS = """\
{} seeds were run per model on the same pictures. A seed determines initial weights, the order of
the data and random choices in a step. Values are means ± standard deviations over seeds."""
_TIMES = "`cpu_share` is the share of its time that a training had a core of the processor."
_BUSY = """\
Some are unknown or below {:g}: the machine was busy with other work, so times mean little in this
run. Scores do not depend on them."""


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """The headline: a line per model, with minutes if the machine was not busy."""
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
    """A single number as it is; of several, mean ± standard deviation of the sample."""
    values = pd.Series(values)
    if len(values) == 1:
        return float(values.iloc[0])
    return f"{values.mean():.3f} ± {values.std():.3f}"


def advantages(rows: pd.DataFrame) -> pd.DataFrame:
    """What each model gains over `plain` with the same seed: mean, spread, and number of seeds with
    a gain. Empty with one seed or without `plain`."""
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
    """Whether every training had a core to itself, so that its times are meaningful.

    On a GPU, where `cpu_share` is not measured, they count as meaningful.
    """
    return "cpu_share" not in rows or bool((rows["cpu_share"] >= QUIET_SHARE).all())


def times(rows: pd.DataFrame) -> str:
    """How reliable the times are, in words."""
    if "cpu_share" not in rows:
        return ""
    words = _TIMES if quiet(rows) else f"{_TIMES} {_BUSY.format(QUIET_SHARE)}"
    return textwrap.fill(words, 100)


def differences(rows: pd.DataFrame) -> str:
    """What differs between the models, in words."""
    models = rows.drop_duplicates("model")
    sizes = ", ".join(f"{row.model} {row.parameters / 1e6:.2f} M" for row in models.itertuples())
    mimics = models["model"].str.endswith("mimic").any()
    mimic = "; `dcnv2_mimic` is `dcnv2` with feature mimicking in training" if mimics else ""
    count = rows["seed"].nunique()
    seeds = _ONE_SEED.format(int(rows["images"].iloc[0])) if count == 1 else _SEEDS.format(count)
    return textwrap.fill(_DIFFERENCES.format(sizes=sizes, seeds=seeds, mimic=mimic), 100)


def learned(first_loss: float, last_loss: float) -> bool:
    """Whether a loss fell enough; NaN did not."""
    return last_loss < LEARNED_LOSS * first_loss


def missed_marks(rows: pd.DataFrame, marks: Mapping[tuple[str, str], float]) -> list[str]:
    """A sentence for each value below its mark; NaN is below."""
    return [
        f"{label(row['model'], row['seed'])}: {column} is {row[column]:.3f}, "
        f"required is at least {mark:g}"
        for _, row in rows.iterrows()
        for (model, column), mark in marks.items()
        if model == row["model"] and not row[column] >= mark
    ]


def pictures_of(config: RunConfig) -> tuple[list[Tensor], list[Tensor]]:
    """Validation pictures with the model's predictions, and with the ground truth."""
    device = pick_device(config.device)
    model, _ = restore(config, None, device)
    dataset = open_val(config.data, masks=True)
    # Pictures without objects would show little.
    with_objects = [i for i in range(len(dataset)) if len(dataset.target(i)["labels"])]
    return prediction_sheet(model, dataset, with_objects[:SHEET_IMAGES], config, device)


def write(
    suite: Suite, rows: pd.DataFrame, folder: Path, directory: Path, origin: Mapping[str, str]
) -> Path:
    """Write tables and pictures of the trainings; return the Markdown file.

    Args:
        suite: What was trained on.
        rows: One row per training.
        folder: Folder of the trainings.
        directory: Folder of the report.
        origin: Provenance of the trainings.
    """
    directory.mkdir(parents=True, exist_ok=True)
    models = rows["model"].unique().tolist()
    homes = {model: run_folder(folder, model, 0) for model in models}
    metrics = {model: pd.read_csv(home / "metrics.csv") for model, home in homes.items()}
    curves, sheet = f"{suite.report}_curves.png", f"{suite.report}_predictions.png"
    draw_curves(metrics, directory / curves)
    lines = []
    for model, home in homes.items():
        predicted, truth = pictures_of(load_config(home))
        lines.append((model, predicted))
    draw_sheet([("truth", truth), *lines], directory / sheet)
    gained = advantages(rows)
    costs = ["model", "seed", "parameters", "steps", "threads", "minutes", "cpu_share"]
    costs = [column for column in [*costs, "step_ms", "image_ms"] if column in rows]
    return write_report(
        suite.report,
        rows,
        title=suite.title,
        headline=summary(rows),
        sections={
            "Results": summary(rows),
            **({} if gained.empty else {"Gain of each operator over plain, seed by seed": gained}),
            "Data": suite.about,
            "What differs between the models": differences(rows),
            "Mask AP50 by class": by_class(rows, folder),
            "Cost": f"{markdown_table(rows[costs])}\n\n{times(rows)}",
        },
        pictures=[curves, sheet],
        directory=directory,
        origin=origin,
    )


def by_class(rows: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Mask AP50: a line per class, a column per model, means over the seeds."""
    runs = rows[["model", "seed"]].itertuples(index=False)
    classes = pd.concat(
        pd.read_csv(run_folder(folder, *run) / "eval_classes.csv").assign(model=run.model)
        for run in runs
    )
    table = classes[classes["kind"] == "mask"].pivot_table(
        index="class", columns="model", values="AP50", sort=False
    )
    return table[rows["model"].unique()].reset_index()
