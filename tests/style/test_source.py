# SPDX-License-Identifier: BSD-3-Clause
"""The rules for source files that a machine can check."""

import ast
import re
import subprocess
import sys
from collections import Counter

import pytest
from style_files import ROOT, SOURCE_SUFFIXES, names, project_files, sources

MAX_LINES = 500
MAX_FUNCTION_LINES = 80
MAX_BYTES = 2 * 2**20
MAX_WEIGHTS_BYTES = 6 * 2**20
# Folders that exist on one machine only.
MACHINE_PATH = re.compile(rb"/(?:work|root|home|Users)/\w")
SPDX = "SPDX-License-Identifier: BSD-3-Clause"
TEXT_SUFFIXES = (*SOURCE_SUFFIXES, ".md", ".toml", ".ini", ".yaml", ".yml", ".csv", ".cfg", "")


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["check", "format"])
def test_ruff_finds_nothing(command):
    words = [sys.executable, "-m", "ruff", *command, "--no-cache", "."]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_imports_respect_the_layers():
    """In a process of its own: import-linter disables every logger that exists."""
    code = "from importlinter.cli import lint_imports as lint; exit(lint(no_cache=True))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def test_reference_imports_only_torch_and_numpy():
    allowed = {*sys.stdlib_module_names, "torch", "numpy", "reference"}
    for path in sources(".py"):
        if path.is_relative_to(ROOT / "reference"):
            foreign = {name.split(".")[0] for name in _imported(path)} - allowed
            assert not foreign, f"{path} imports {foreign}"


def _imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module


def test_device_headers_do_not_include_torch():
    headers = [path for path in sources(".cuh", ".h") if path.name.endswith(("geometry.h", ".cuh"))]
    assert headers
    wrong = [
        path for path in headers if re.search(r"#include\s*<(?:torch|ATen|c10)/", path.read_text())
    ]
    assert not names(wrong)


def test_every_source_names_its_licence():
    def first_lines(path):
        return "\n".join(path.read_text().split("\n")[:2])

    assert not names([path for path in sources() if SPDX not in first_lines(path)])


def test_no_two_test_modules_share_a_name():
    """They are no packages: pytest can't collect two of one name together."""
    counts = Counter(path.name for path in sources(".py") if path.name.startswith("test_"))
    assert not [name for name, count in counts.items() if count > 1]


def test_no_source_is_too_long():
    lines = {path: path.read_text().count("\n") for path in sources()}
    assert not names([path for path, count in lines.items() if count > MAX_LINES])


def test_no_function_is_too_long():
    long = []
    for path in sources(".py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    long.append(f"{path.relative_to(ROOT)}: {node.name}, {length} lines")
    assert not long


def test_no_file_is_too_large():
    def limit(path):
        return MAX_WEIGHTS_BYTES if path.suffix == ".safetensors" else MAX_BYTES

    assert not names([path for path in project_files() if path.stat().st_size > limit(path)])


def test_no_file_names_a_place_on_one_machine():
    texts = [path for path in project_files() if path.suffix in TEXT_SUFFIXES]
    assert not names([path for path in texts if MACHINE_PATH.search(path.read_bytes())])
