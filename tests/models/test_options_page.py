# SPDX-License-Identifier: BSD-3-Clause
"""What docs/models.md says of the options can be typed."""

import re
from pathlib import Path

import pytest

from dcnv2.engine.config import RunConfig, load_config, shipped
from dcnv2.engine.config.loading import check_words, known_keys

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
# Those that make a detector DCNv2, and its losses: each has its sentence.
DESCRIBED = ("model.backbone.", "model.box.ohem.", "model.mimic.", "train.loss_weights.")
PLAIN = {"arch", "channels"}


def _blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def test_keys_on_the_page_exist():
    keys = re.findall(r"`((?:model|optim|train|data|eval)\.[a-z_0-9.]+)", PAGE.read_text())
    assert len(set(keys)) > 12
    assert not set(keys) - set(known_keys(RunConfig))
    check_words(re.findall(r"(--[a-z_.]+=\S+?)`", PAGE.read_text()))


def test_every_option_of_deformable_parts_and_losses_is_on_the_page():
    words = set(re.findall(r"\w+", PAGE.read_text()))
    keys = [key for key in known_keys(RunConfig) if key.startswith(DESCRIBED)]
    leaves = {key.rpartition(".")[2] for key in keys}
    assert not leaves - words - PLAIN
    assert {"sampling_ratio", "gamma", "hidden_channels", "aligned", "offset_lr_factor"} <= words


@pytest.mark.parametrize("text", _blocks("yaml"))
def test_yaml_on_the_page_is_a_configuration(tmp_path, text):
    configs = PAGE.parents[1] / "dcnv2" / "configs" / "mask_rcnn"
    path = tmp_path / "row.yaml"
    path.write_text(text.replace("../mask_rcnn", str(configs)))
    load_config(path)


@pytest.mark.slow
@pytest.mark.parametrize("text", _blocks("python"))
def test_python_on_the_page_runs(text, capsys):
    exec(compile(text, str(PAGE), "exec"), {})


def test_the_page_lists_every_folder_of_configurations():
    listed = re.search(r"The folders are (.*?)\n\n", PAGE.read_text(), re.DOTALL)[1]
    assert set(re.findall(r"`(\w+)`", listed)) == {name.partition("/")[0] for name in shipped()}
