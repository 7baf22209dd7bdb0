# SPDX-License-Identifier: BSD-3-Clause
"""Commands in the documents exist with their options, and every option says what it does."""

import argparse
import importlib.util
import re
import shlex

import pytest
from style_files import ROOT, names, sources

from dcnv2.cli import OVERRIDE, build_parser

MODULE = re.compile(r"(?<![\w./-])python -m ([\w.]+)")
WORDS = re.compile(r"(?:^    |^`|-m )dcnv2 ([a-z][^`#]*)")
PAGES = [path for path in sources(".md") if not path.is_relative_to(ROOT / "reports")]


def _commands(pattern):
    """The commands in code of the pages: blocks, and texts between backquotes."""
    for path in PAGES:
        for code in re.findall(r"^ {4}.*$|`[^`\n]+`", path.read_text(), flags=re.MULTILINE):
            if found := pattern.search(code):
                yield names([path])[0], found[1]


def _parsers(parser, name="dcnv2"):
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                yield from _parsers(inner, f"{name} {word}")


def test_commands_of_the_documents_exist():
    modules = list(_commands(MODULE))
    assert len(modules) > 20
    for page, module in modules:
        assert importlib.util.find_spec(module), f"{page}: {module}"


def test_words_of_the_documents_are_parsed():
    lines = list(_commands(WORDS))
    assert len(lines) > 20
    known = dict(_parsers(build_parser()))
    for page, line in lines:
        words = [word for word in shlex.split(line) if not OVERRIDE.match(word)]
        if f"dcnv2 {' '.join(words)}" in known:
            continue  # only a name
        try:
            options, unknown = build_parser().parse_known_args(words)
        except SystemExit:
            pytest.fail(f"{page}: dcnv2 {line}")
        assert not unknown, f"{page}: dcnv2 {line}"
        config = getattr(options, "config", "runs/")
        assert (
            config.startswith("runs/")
            or config == "shapes"
            or (ROOT / "dcnv2" / "configs" / f"{config}.yaml").is_file()
        ), config


def test_every_option_says_what_it_does():
    for name, parser in _parsers(build_parser()):
        for action in parser._actions:
            if not isinstance(action, argparse._SubParsersAction):
                assert action.help, f"{name}: {action.dest}"
