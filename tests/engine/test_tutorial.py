# SPDX-License-Identifier: BSD-3-Clause
"""What the tutorial says can be typed: every command parses, its configuration loads, code runs."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from dcnv2 import cli
from dcnv2.data.shapes import write_shapes
from dcnv2.data.transforms import train_transforms
from dcnv2.engine.config import load_config, parse_values

pytestmark = pytest.mark.slow

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
TEXT = TUTORIAL.read_text()
LINES = re.findall(r"^    (?:torchrun .* -m )?(dcnv2 .+)$", TEXT, flags=re.MULTILINE)
SPOKEN = re.findall(r"`(--(?!key)[\w.]+=[^`]+)`", TEXT)


def test_there_are_commands():
    assert len(LINES) > 10
    assert {line.split()[1] for line in LINES} >= {"train", "eval", "predict", "offsets", "data"}


@pytest.mark.parametrize("line", LINES)
def test_command_parses_and_its_configuration_loads(line):
    options, overrides = cli.build_parser().parse_known_args(shlex.split(line)[1:])
    assert options.configured or not overrides
    if options.configured and not options.config.startswith("runs/"):
        load_config(options.config, overrides)


@pytest.mark.parametrize("words", SPOKEN)
def test_words_in_the_text_are_known(words):
    parse_values({}, shlex.split(words))


def test_yaml_is_what_the_configuration_takes():
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)
    values = yaml.safe_load(block)
    values.pop("base")
    config = parse_values(values)
    train_transforms(0.5, config.data.augment)


def test_code_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_shapes("data/shapes", 0, 2, 128, seed=5)
    for block in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL):
        exec(compile(block, str(TUTORIAL), "exec"), {"__name__": "block"})
    for name in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (TUTORIAL.parent / name).exists()
