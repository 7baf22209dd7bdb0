# SPDX-License-Identifier: BSD-3-Clause
"""Reads run configurations: dataclasses, YAML files with a `base:`, and the command line.

Precedence, lowest first: the dataclasses' defaults, the base file, the file, `--key=value`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import os
import reprlib
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any, get_args, get_type_hints

import yaml
from jsonargparse import ArgumentParser

from dcnv2.convert.file_formats import is_weights_name
from dcnv2.engine.config.combinations import check_combinations
from dcnv2.engine.config.epochs import drop_replaced
from dcnv2.engine.config.options import RunConfig, TrainConfig
from dcnv2.engine.config.ranges import ConfigError, check_ranges
from dcnv2.engine.config.yaml_file import load_yaml

CONFIGS = Path(__file__).parents[2] / "configs"
# Run folders of the trained models that come with the package.
PRETRAINED = Path(__file__).parents[2] / "pretrained"
# Options that do not change the training, so the results that the file expects remain valid.
SAME_RUN = {
    *("name", "output", "device", "data.root", "data.workers", "data.on_bad"),
    *("train.seed", "train.log_every", "train.checkpoint_every", "train.keep_checkpoints"),
    *("train.eval_every", "train.eval_epochs", "train.timeout_minutes", "train.deterministic"),
    *("eval.batch_size", "eval.draw_threshold", "eval.evaluator", "eval.expected"),
    "eval.loss",
}


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a configuration.

    Args:
        source: a YAML file, a run folder (wherever it was moved to), the name of a file in
            `dcnv2/configs`, or of a model in `dcnv2/pretrained`.
        overrides: command-line words such as `--train.steps=100`. If one changes the training,
            the results that the file expects are removed.

    Raises:
        FileNotFoundError: no such file; the message lists near names.
        ConfigError: a damaged file, an unknown key (the message suggests the nearest known one), a
            value of a wrong type, or a number outside its range.
    """
    path = find_config(source)
    values = read_yaml(path)
    check_keys(values, RunConfig, str(path))
    values.setdefault("name", f"{path.parent.name}_{path.stem}")
    if not Path(source).is_file() and path.name == "config.yaml":
        _check_complete(path, values)
        folder = path.parent.resolve()
        values |= {"name": folder.name, "output": os.path.relpath(folder.parent)}
    if not _keys(overrides) <= SAME_RUN:
        _forget_expected(values)
    return parse_values(values, [*overrides, *_batch_word(values, overrides)], str(path))


def _check_complete(path: Path, values: dict[str, Any]) -> None:
    """Raises `ConfigError` if the file of a run folder, which holds every option, was cut."""
    wanted = {entry.name for entry in dataclasses.fields(RunConfig)} - {"published"}
    missing = sorted(wanted - values.keys())
    if missing or not path.read_text().endswith("\n"):
        what = f"lacks {', '.join(missing)}" if missing else "its last line is cut"
        raise ConfigError(f"{path}: damaged: {what}; repeat the run's first command to rewrite it")


def _keys(words: Sequence[str]) -> set[str]:
    return {word.removeprefix("--").partition("=")[0] for word in words}


def _forget_expected(values: dict[str, Any]) -> None:
    if isinstance(values.get("eval"), dict):
        values["eval"].pop("expected", None)


def _batch_word(values: dict[str, Any], overrides: Sequence[str]) -> list[str]:
    """Scales the file's learning rate if the command line changes only the batch size."""
    given = _keys(overrides)
    if "train.batch_size" not in given or given & {"optim.lr", "optim.lr_batch"}:
        return []
    if (values.get("optim") or {}).get("lr_batch") is not None:
        return []
    batch = (values.get("train") or {}).get("batch_size", TrainConfig.batch_size)
    return [f"--optim.lr_batch={batch}"]


def parse_values(
    values: dict[str, Any], overrides: Sequence[str] = (), source: str = "values"
) -> RunConfig:
    """Builds the configuration from nested values and command-line words; see `load_config`."""
    check_keys(values, RunConfig, source)
    check_words(overrides)
    values = drop_replaced(values, _keys(overrides))
    parser = _parser()
    try:
        parsed = parser.parse_object(values)
        if overrides:
            source = "command line"  # the file's values are of the right types
            parsed = parser.parse_args(list(overrides), namespace=parsed)
        config = RunConfig(**parser.instantiate(parsed))
    except Exception as error:
        reason = shorten(str(error), 500)
        raise ConfigError(f"{source}: {reason}") from None
    check_ranges(config)
    check_combinations(config)
    return config


@functools.cache
def _parser() -> ArgumentParser:
    """Cached: building it takes as long as reading a file."""
    parser = ArgumentParser(exit_on_error=False, default_env=False)
    parser.add_class_arguments(RunConfig)
    return parser


def find_config(source: str | Path) -> Path:
    """Returns the file for a path, a run folder or a bare name."""
    path = Path(source)
    if is_weights_file(path):
        raise ConfigError(
            f"{path} looks like a file of weights: `dcnv2 convert {path} FOLDER` makes a run of a "
            "detector of detectron2 or mmdetection"
        )
    if path.is_file():
        return path
    for folder in (path, PRETRAINED / path):
        file = folder / "config.yaml"
        if file.is_file():
            return file
        if os.path.lexists(file):
            what = "a folder" if file.is_dir() else "not a file, or a link to a missing one"
            raise ConfigError(f"{file}: cannot be read: {what}")
    named = CONFIGS / f"{path}.yaml"
    if named.is_file():
        return named
    names = [*shipped(), *pretrained()]
    near = difflib.get_close_matches(str(path), names, n=3, cutoff=0.4)
    hint = f"; near names: {', '.join(near)}" if near else ""
    if path.is_dir():
        raise FileNotFoundError(f"{source}: the folder has no config.yaml{hint}")
    raise FileNotFoundError(f"{source}: no such configuration file or name{hint}")


def is_weights_file(path: str | Path) -> bool:
    """Whether a path is that of a file of weights, by its name."""
    return is_weights_name(path) and Path(path).is_file()


def read_yaml(path: Path, above: Sequence[Path] = ()) -> dict[str, Any]:
    """Reads a file, merged over its `base:` file, whose path is relative to it.

    Args:
        path: the file.
        above: the files that have it as a base, resolved.
    """
    values = load_yaml(path)
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"{path}: base: wanted the path of a file, got {reprlib.repr(base)}")
    base_path = path.parent / base
    if not base_path.is_file():
        raise ConfigError(f"{path}: base: {base}: no such file")
    above = [*above, path.resolve()]
    if base_path.resolve() in above:
        names = " -> ".join(str(file) for file in [*above, base_path.resolve()])
        raise ConfigError(f"{path}: base: {base} has this file as its own base: {names}")
    merged = drop_replaced(read_yaml(base_path, above), known_values(values))
    # These describe the base file itself, not the files that build on it.
    for key in ("name", "published"):
        merged.pop(key, None)
    _forget_expected(merged)
    return merge(merged, values)


def merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Returns `base` with the leaves of `change` over it; lists are replaced, not merged."""
    merged = dict(base)
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            value = merge(merged[key], value)
        merged[key] = value
    return merged


def shipped() -> list[str]:
    """Returns the names of the package's configurations, without the base files."""
    rows = (path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.yaml"))
    return sorted(row.with_suffix("").as_posix() for row in rows if row.parts[0] != "base")


def pretrained() -> list[str]:
    """Returns the names of the package's trained models."""
    return sorted(path.parent.name for path in PRETRAINED.glob("*/config.yaml"))


def known_keys(kind: type, prefix: str = "") -> list[str]:
    """Returns the dotted names of all fields of a dataclass, nested ones included."""
    keys = []
    for name, hint in get_type_hints(kind).items():
        keys.append(prefix + name)
        if _is_section(hint):
            keys += known_keys(hint, f"{prefix}{name}.")
    return keys


def _is_section(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def known_values(values: dict[str, Any]) -> set[str]:
    """Returns the dotted names of what a file sets, two levels deep."""
    sections = {key: entry for key, entry in values.items() if isinstance(entry, dict)}
    return {f"{name}.{key}" for name, section in sections.items() for key in section}


def check_keys(values: dict[str, Any], kind: type, source: str, prefix: str = "") -> None:
    """Raises `ConfigError` at the first key that the dataclass lacks, or that has no value."""
    hints = get_type_hints(kind)
    for key, value in values.items():
        if key not in hints:
            raise ConfigError(f"{source}: unknown key {prefix}{key}{nearest_key(f'{prefix}{key}')}")
        optional = type(None) in get_args(hints[key])
        if value is None and not optional:
            raise ConfigError(f"{source}: {prefix}{key}: has no value")
        for section in filter(_is_section, [hints[key], *get_args(hints[key])]):
            if value is None:
                continue
            if not isinstance(value, dict):
                got = reprlib.repr(value)
                raise ConfigError(f"{source}: {prefix}{key}: wanted a mapping, got {got}")
            check_keys(value, section, source, f"{prefix}{key}.")


def check_words(words: Sequence[str]) -> None:
    """Raises `ConfigError` at the first word that is not `--known.key=value`."""
    known = set(known_keys(RunConfig))
    for word in words:
        key, equals, _ = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not equals:
            raise ConfigError(f"command line: wanted --key=value, got {word}")
        if key not in known:
            raise ConfigError(f"command line: unknown key {key}{nearest_key(key)}")


def nearest_key(dotted: str) -> str:
    """Suggests the known key nearest to an unknown one: same parent first, then same leaf."""
    known = known_keys(RunConfig)
    parent, _, leaf = dotted.rpartition(".")
    leaves = {key.rpartition(".")[2]: key for key in known if key.rpartition(".")[0] == parent}
    near = difflib.get_close_matches(leaf, leaves, n=1)
    if near:
        return f"; did you mean {leaves[near[0]]}?"
    near = [key for key in known if key.rpartition(".")[2] == leaf]
    near = near or difflib.get_close_matches(dotted, known, n=1, cutoff=0)
    return f"; did you mean {near[0]}?"


def to_yaml(config: RunConfig) -> str:
    """Returns the complete configuration as YAML that `load_config` accepts."""
    return yaml.safe_dump(_plain(dataclasses.asdict(config)), sort_keys=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value
