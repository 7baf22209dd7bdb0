# SPDX-License-Identifier: BSD-3-Clause
"""Options in epochs: converted to steps, and replaced by steps that are set later."""

import pytest

from dcnv2.engine.config import ConfigError, load_config, parse_values
from dcnv2.engine.config.epochs import in_steps

EPOCHS = {
    "train": {"epochs": 12, "eval_epochs": 0.5},
    "optim": {"milestone_epochs": [8, 11]},
}


def test_epochs_become_steps():
    config = in_steps(parse_values(EPOCHS), 7)
    assert (config.train.steps, config.train.eval_every) == (84, 4)
    assert config.optim.milestones == [56, 77]
    assert in_steps(config, 7) == config, "as a resumed run reads it from its folder"
    short = in_steps(parse_values({"train": {"epochs": 0.01}}), 7)
    assert short.train.steps == 1
    plain = parse_values({"train": {"steps": 5}})
    assert in_steps(plain, 7) == plain


@pytest.mark.parametrize("how", ["command line", "file"])
def test_steps_that_are_set_later_replace_epochs(tmp_path, how):
    (tmp_path / "base.yaml").write_text("train: {epochs: 12, eval_epochs: 1}\n")
    top, words = "train: {steps: 50}", ["--train.steps=50"]
    (tmp_path / "top.yaml").write_text(f"base: base.yaml\n{top if how == 'file' else ''}\n")
    config = load_config(tmp_path / "top.yaml", words if how == "command line" else [])
    assert (config.train.epochs, config.train.steps, config.train.eval_epochs) == (None, 50, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--train.epochs=1", "--train.steps=5"], "train.epochs and train.steps: wanted one"),
        (["--train.epochs=0"], "train.epochs: wanted more than 0"),
        (["--train.epochs=.inf"], "train.epochs: wanted a finite number"),
        (["--optim.milestone_epochs=[3, 2]"], "milestone_epochs: wanted ascending epochs"),
        (["--train.patience=2"], "train.patience: counts evaluations: set train.eval_epochs"),
        (["--data.copy_paste=1", "--model.mask.enabled=false"], "copy_paste: cuts objects out"),
        (["--train.class_weights={a: 2}", "--model.task=proposals"], "has no classes"),
        (["--train.class_weights={a: -1}"], "train.class_weights: wanted at least 0"),
        (["--data.repeat_threshold=0"], "data.repeat_threshold: wanted more than 0"),
        (["--data.mosaic=1.5"], "data.mosaic: wanted at least 0 and at most 1"),
        (["--train.patience=0", "--train.eval_every=1"], "train.patience: wanted at least 1"),
    ],
)
def test_contradictions_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        parse_values({}, words)
