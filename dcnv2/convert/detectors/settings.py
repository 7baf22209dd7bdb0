# SPDX-License-Identifier: BSD-3-Clause
"""Another project's configuration as nested plain values, read and checked by dotted names."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class Settings:
    """Nested values.

    Attributes:
        source: where they are from, for messages.
        values: the outermost mapping.
    """

    source: str
    values: Mapping[str, Any]

    def get(self, name: str, default: Any = None) -> Any:
        """Returns the value of a dotted name; a default where a part of it is missing."""
        value: Any = self.values
        for part in name.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return default
            value = value[part]
        return value

    def require(self, allowed: Mapping[str, tuple[Any, ...]]) -> None:
        """Raises `ValueError` at the first value that is none of those that we have."""
        for name, values in allowed.items():
            value = self.get(name, values[0])
            if value not in values:
                wanted = " or ".join(map(str, values))
                raise ValueError(f"{self.source}: {name} is {value}: here it has to be {wanted}")


def literal_settings(text: str) -> dict[str, Any]:
    """Reads the assignments of a Python file without running it.

    Calls of dict(), literals, and names assigned before have a value; other assignments are left
    out, and so is what they are part of.
    """
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError):
        return {}
    values: dict[str, Any] = {}
    for statement in statements:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            try:
                values[statement.targets[0].id] = _value(statement.value, values)
            except (ValueError, RecursionError):
                continue
    return values


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """The value of an expression; raises `ValueError` for one that would have to run."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        if node.args:
            raise ValueError
        found = {}
        for word in node.keywords:
            if word.arg is None:
                raise ValueError
            found[word.arg] = _value(word.value, names)
        return found
    if isinstance(node, ast.Dict):
        keys = [_value(key, names) if key is not None else None for key in node.keys]
        return dict(zip(keys, (_value(value, names) for value in node.values), strict=True))
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(entry, names) for entry in node.elts]
    if isinstance(node, ast.Name):
        if node.id not in names:
            raise ValueError
        return names[node.id]
    return ast.literal_eval(node)
