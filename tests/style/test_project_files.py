# SPDX-License-Identifier: BSD-3-Clause
"""The files that other tools read: workflows, templates, editor and formatter settings."""

import ast
import configparser
import re

import pytest
import yaml
from style_files import ROOT, names, project_files

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
YAML = [path for path in project_files() if path.suffix in (".yml", ".yaml")]
PYPROJECT = (ROOT / "pyproject.toml").read_text()


class _Loader(yaml.SafeLoader):
    """Takes the tags of mkdocs for plain values."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_yaml_is_valid(path):
    assert isinstance(yaml.load(path.read_text(), _Loader), dict)


def _steps():
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            assert {"runs-on", "timeout-minutes"} <= {*job}
            yield from job["steps"]


def test_every_step_of_a_workflow_runs_a_command_or_a_versioned_action():
    assert WORKFLOWS
    for step in _steps():
        assert ("run" in step) != ("uses" in step), step
        action = step.get("uses", "")
        if action.startswith("./"):
            assert (ROOT / action / "action.yml").is_file()
        elif action:
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@v\d+", action)


def test_scripts_that_a_workflow_runs_exist():
    text = "\n".join(step.get("run", "") for step in _steps())
    scripts = re.findall(r"(?:GITHUB_WORKSPACE/)?((?:docs|tests)/[\w/]+\.py)", text)
    assert {"docs/hooks/check_site.py", "tests/wheel/check_install.py"} <= {*scripts}
    assert not [script for script in scripts if not (ROOT / script).is_file()]


def test_workflows_test_every_version_of_python_from_the_oldest():
    matrix = yaml.safe_load((GITHUB / "workflows/ci.yml").read_text())["jobs"]["fast"]["strategy"]
    (oldest,) = re.findall(r'requires-python = ">=([\d.]+)"', PYPROJECT)
    assert matrix["matrix"]["python"][0] == oldest


def test_a_report_of_a_bug_holds_the_output_of_doctor():
    form = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE/bug.yml").read_text())
    fields = {field["id"]: field for field in form["body"]}
    assert "dcnv2 doctor" in fields["doctor"]["attributes"]["label"]
    assert fields["doctor"]["validations"]["required"]


def test_width_is_the_same_for_the_editor_and_both_formatters():
    editor = configparser.ConfigParser()
    editor.read_string("[top]\n" + (ROOT / ".editorconfig").read_text())
    (python,) = re.findall(r"^line-length = (\d+)", PYPROJECT, re.MULTILINE)
    clang = yaml.safe_load((ROOT / ".clang-format").read_text())
    assert editor["*"]["max_line_length"] == python == str(clang["ColumnLimit"])


def _is_slow(path):
    """Whether a module's `pytestmark` holds the mark for slow tests."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            return "mark.slow" in ast.unparse(node.value)
    return False


def test_tests_that_are_not_slow_reach_every_package():
    modules = [path for path in project_files() if re.fullmatch(r"test_\w+\.py", path.name)]
    folders = {path.parent for path in modules if (ROOT / "tests") in path.parents}
    fast = {path.parent for path in modules if not _is_slow(path)}
    assert folders
    assert not names(sorted(folders - fast))


# What takes seconds wherever it is: the compiler, and processes that import torch.
COSTLY = re.compile(r"torch\.compile\(|'torch\.distributed\.run'|'-m', '(dcnv2|pytest)'")


def test_tests_that_compile_or_start_our_commands_are_slow():
    modules = [path for path in project_files() if re.fullmatch(r"test_\w+\.py", path.name)]
    modules = [p for p in modules if (ROOT / "tests") in p.parents and not _is_slow(p)]
    tests = [
        (f"{path.name}: {node.name}", node)
        for path in modules
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    costly = {name: node for name, node in tests if COSTLY.search(ast.unparse(node))}
    assert costly
    assert not [n for n, node in costly.items() if "mark.slow" not in ast.unparse(node)]
