# SPDX-License-Identifier: BSD-3-Clause
"""Reads YAML files; rejects those whose aliases expand to far more values than they contain."""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten
from typing import Any

import yaml

from dcnv2.engine.config.ranges import ConfigError

MAX_VALUES = 10_000
"""Maximum number of values in a file, where an alias counts as the values that it stands for."""


def load_yaml(path: Path) -> dict[Any, Any]:
    """Reads a file that holds one mapping.

    Raises:
        ConfigError: the file cannot be read, is not YAML, is no mapping, or has a key twice in one
            mapping or too many values; the message names it.
    """
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8-sig"))
        loader.name = path.name  # for messages
        try:
            node = loader.get_single_node()
            _check_nodes(node)
            values = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not a configuration: nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not YAML: {shorten(str(error), 300)}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: wanted a mapping, got {type(values).__name__}")
    return values


def _check_nodes(root: yaml.Node | None) -> None:
    """Raises ValueError for repeated keys, and if aliases stand for too many values."""
    waiting, count = [root], 0
    while waiting:
        node = waiting.pop()
        count += 1
        if count > MAX_VALUES:
            raise ValueError(f"with its aliases, it has more than {MAX_VALUES} values")
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            seen = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        line = key.start_mark.line + 1
                        raise ValueError(f"line {line}: the key {key.value} occurs twice")
                    seen.add(key.value)
            waiting += [part for pair in node.value for part in pair]
