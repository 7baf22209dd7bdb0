# SPDX-License-Identifier: BSD-3-Clause
"""The page on `dcnv2 verify`, the GitHub action and its example agree with the command."""

import re

import pytest
import yaml

from dcnv2 import cli
from suites.backends.calling_conventions import CONVENTIONS
from suites.mutants.patches import ROOT

PAGE = (ROOT / "docs/your_operator.md").read_text()
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())


def test_the_page_has_every_convention():
    rows = re.findall(r"^\| (\w+) \| (input, .*) \|$", PAGE, re.MULTILINE)
    assert dict(rows) == {name: ", ".join(c.arguments) for name, c in CONVENTIONS.items()}


@pytest.mark.parametrize("text", [PAGE, (ROOT / "action.yml").read_text()], ids=["page", "action"])
def test_options_exist(text):
    parser = cli.build_parser()
    (commands,) = (a for a in parser._actions if hasattr(a, "choices") and a.choices)
    known = {word for a in commands.choices["verify"]._actions for word in a.option_strings}
    used = {*re.findall(r"(?<![\w-])--(?:budget|only|dtype|device|out|new)\b", text)}
    assert used
    assert used <= known


def test_the_example_sets_inputs_of_the_action():
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (job,) = yaml.safe_load(example)["jobs"].values()
    own = job["steps"][-1]
    assert own["uses"].startswith("OWNER/dcnv2@")
    assert {*own["with"]} <= {*ACTION["inputs"]}
    wanted = {name for name, about in ACTION["inputs"].items() if about.get("required")}
    assert wanted <= {*own["with"]}


def test_the_action_takes_inputs_through_the_environment():
    """An input inside of a script could end the command and begin another."""
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
