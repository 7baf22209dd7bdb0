# SPDX-License-Identifier: BSD-3-Clause
"""Configurations: files, bases, overrides, and the messages for wrong ones."""

import dataclasses
import functools
import re
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
import yaml

from dcnv2.engine.config import (
    ConfigError,
    RunConfig,
    load_config,
    parse_values,
    shipped,
    to_yaml,
)
from dcnv2.engine.config.combinations import schedule_warnings
from dcnv2.engine.config.loading import CONFIGS, find_config
from dcnv2.engine.config.ranges import RANGES


def _few_in_the_fast_tests(names):
    """Marks most of them as slow: reading all takes seconds."""
    return [
        pytest.param(name, marks=[pytest.mark.slow] if number % 24 else [])
        for number, name in enumerate(names)
    ]


@pytest.mark.parametrize("name", _few_in_the_fast_tests(shipped()))
def test_shipped_rows_load_and_hold_only_their_difference(name):
    config = load_config(name)
    assert config.name == name.replace("/", "_")
    values = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    values.pop("published", None)
    values.get("eval", {}).pop("expected", None)
    base_path = (CONFIGS / name).parent / values.pop("base")
    assert not list(_repeated(values, _complete_values(base_path.resolve())))


@functools.cache  # many rows share a base
def _complete_values(path):
    return yaml.safe_load(to_yaml(load_config(path)))


def _repeated(values, base):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _repeated(value, base[key])
        elif value == base[key]:
            yield key


def test_precedence_is_default_base_file_command_line(tmp_path):
    (tmp_path / "base.yaml").write_text("optim: {lr: 1e-3, gamma: 0.5}\ntrain: {steps: 7}\n")
    (tmp_path / "row.yaml").write_text("base: base.yaml\ntrain: {steps: 8, seed: 3}\n")
    config = load_config(tmp_path / "row.yaml", ["--train.seed=4", "--model.mimic.enabled=true"])
    assert (config.optim.lr, config.optim.gamma, config.optim.momentum) == (1e-3, 0.5, 0.9)
    assert (config.train.steps, config.train.seed) == (8, 4)
    assert config.model.mimic.enabled


def test_a_resolved_configuration_reads_back_equal(tmp_path):
    config = load_config("smoke/dcnv2", ["--optim.clip_norm=35", "--model.mask.convs=[8,8]"])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "config.yaml") == config
    moved = load_config(tmp_path)
    assert moved.folder.resolve() == tmp_path.resolve(), "a run is where its folder is"
    moved.name, moved.output = config.name, config.output
    assert moved == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train": {"stepz": 1}}, r"unknown key train\.stepz; did you mean train\.steps\?"),
        ({"steps": 1}, r"unknown key steps; did you mean train\.steps\?"),
        (
            {"model": {"box": {"pool": {"knd": "dpool"}}}},
            r"unknown key model\.box\.pool\.knd; did you mean model\.box\.pool\.kind\?",
        ),
        ({"model": 3}, "model: wanted a mapping, got 3"),
        ({"train": {"steps": "many"}}, r"train\.steps.*many"),
        ({"model": {"backbone": {"convs": ["plain"] * 3}}}, r"model\.backbone\.convs"),
        ({"model": {"backbone": {"convs": ["dcnv3"] * 4}}}, "dcnv3"),
        ({"optim": {"lr": float("nan")}}, r"optim\.lr: wanted a finite number, got nan"),
        ({"train": {"batch_size": 0}}, r"train\.batch_size: wanted at least 1, got 0"),
    ],
)
def test_bad_values_name_their_key(values, message):
    with pytest.raises(ConfigError, match=message):
        parse_values(values)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--train.step=1", r"unknown key train\.step; did you mean train\.steps\?"),
        ("train.steps=1", "wanted --key=value, got train.steps=1"),
        ("--train.steps=x", r"train\.steps"),
    ],
)
def test_bad_words_name_their_key(word, message):
    with pytest.raises(ConfigError, match=message):
        parse_values({}, [word])


def test_bad_files_are_named(tmp_path):
    path = tmp_path / "bad.yaml"
    for text, message in [
        ("train: [", "not YAML"),
        ("- 1", "wanted a mapping"),
        ("base: nowhere.yaml", r"nowhere\.yaml: no such file"),
    ]:
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_config(path)


def test_expected_results_hold_for_the_file_itself_alone(tmp_path):
    (tmp_path / "row.yaml").write_text("eval: {expected: {box_AP: [0.4, 0.01]}, batch_size: 2}\n")
    (tmp_path / "other.yaml").write_text("base: row.yaml\ntrain: {steps: 8}\n")

    def expected(name, *words):
        return load_config(tmp_path / name, words).eval.expected

    assert expected("row.yaml") == {"box_AP": [0.4, 0.01]}
    assert expected("row.yaml", "--data.root=x", "--train.seed=3") == {"box_AP": [0.4, 0.01]}
    assert expected("row.yaml", "--train.steps=8") == {}
    given = expected("row.yaml", "--train.steps=8", "--eval.expected={box_AP: [0.3, 0.1]}")
    assert given == {"box_AP": [0.3, 0.1]}
    assert expected("other.yaml") == {}
    assert load_config(tmp_path / "other.yaml").eval.batch_size == 2


def test_a_configuration_that_is_changed_leaves_the_next_alone():
    def spoil(part):
        for entry in dataclasses.fields(part):
            value = getattr(part, entry.name)
            if dataclasses.is_dataclass(value):
                spoil(value)
            elif isinstance(value, list):
                value.append(77)
            elif isinstance(value, dict):
                value["box_AP"] = [7, 7]

    before = to_yaml(load_config("smoke/plain"))
    spoil(load_config("smoke/plain", ["--data.train=[one,two]"]))
    assert to_yaml(load_config("smoke/plain")) == before


def test_unknown_names_get_near_ones():
    with pytest.raises(FileNotFoundError, match="near names: smoke/dcnv2"):
        find_config("smoke/dcnv3")


NO_NAMES = ("", ".", "..", "a/../../b", "/tmp/run", "a\0b")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optim.clip_norm", -1.0, "more than 0"),
        ("optim.milestones", [30, 10], "ascending steps"),
        ("train.eval_every", -1, "at least 0"),
        ("model.box.nms", -1.0, "at least 0 and at most 1"),
        ("optim.weight_decay", -1e-4, "at least 0"),
        ("optim.momentum", 2.0, "at least 0 and less than 1"),
        ("data.train_limit", -5, "at least 1"),
        ("model.rpn.aspect_ratios", [1.0, 0.0], "at least 0.01"),
        ("optim.clip_norm", 0.0, "more than 0"),
        ("model.rpn.anchor_sizes", [[16], [-32]], "at least 1"),
        ("model.rpn.negative_iou", 0.9, "at most positive_iou = 0.7"),
        ("eval.expected", {"box_AP": [0.4, -0.1]}, "tolerance of at least 0"),
        ("data.train", [], "the name of a split"),
        ("data.train", ["train", " "], "the name of a split"),
        ("data.val", "", "the name of a split"),
        ("data.workers", 10**6, "at most 1024"),
        ("model.min_size", [], "at least one value"),
        ("model.min_size", [10**9], "at most 32768"),
        ("model.max_size", 10, "at least min_size = 800"),
        ("model.image_mean", [0.5], "a value for each of R, G, B"),
        ("model.image_std", [0.5] * 4, "a value for each of R, G, B"),
        ("model.rpn.anchor_sizes", [], "at least one value"),
        ("model.rpn.anchor_sizes", [[]], "at least one value"),
        ("model.rpn.anchor_sizes", [[16], [32, 64]], "equally many sizes on each level"),
        ("model.rpn.aspect_ratios", [], "at least one value"),
        ("model.rpn.aspect_ratios", [1e-30], "at least 0.01"),
        ("model.box.pool.sampling_ratio", 70000, "at most 64"),
        *(("name", name, "the name of a folder below output") for name in NO_NAMES),
    ],
)
def test_numbers_outside_their_range_are_refused(key, value, message):
    values = value
    for name in reversed(key.split(".")):
        values = {name: values}
    with pytest.raises(ConfigError, match=rf"{re.escape(key)}.*wanted .*{re.escape(message)}"):
        parse_values(values)


@pytest.mark.slow
@pytest.mark.parametrize("key", [key for key in RANGES if not key.startswith("published")])
def test_no_numeric_option_takes_what_is_no_number_for_it(key):
    """One word in every form: alone, in lists, in a mapping; other values in the option's own."""
    forms = (lambda v: v, lambda v: [v], lambda v: [[v]], lambda v: {"box_AP": [v, 0.1]})
    hint = str(dict(_leaves(RunConfig))[key])
    own = forms[3 if "dict" in hint else hint.count("list[") + hint.count("tuple[")]
    others = (True, float("nan"), float("inf"), 10**30, -(10**30), {})
    for entry in (*(form("x") for form in forms), *map(own, others)):
        values = entry
        for name in reversed(key.split(".")):
            values = {name: values}
        with pytest.raises(ConfigError, match=r"\w+"):
            parse_values(values)


def test_the_largest_seed_fits_every_generator():
    """`TrainStep` makes a number of at most 64 bits of it for each step."""
    largest = 2**32 - 1
    assert largest in RANGES["train.seed"]
    assert largest + 1 not in RANGES["train.seed"]
    torch.Generator().manual_seed((largest * 1_000_003 + 10**9) * 4099)
    np.random.default_rng((largest, 1))


def test_names_that_no_result_has_are_refused():
    with pytest.raises(ConfigError, match="no result is named AP; one is box_AP"):
        parse_values({"eval": {"expected": {"AP": [0.4, 0.1]}}})
    names = ["box_AP", "mask_AP75", "box_AR100", "mask_ARl", "box_mAP50", "box_AR324"]
    parse_values({"eval": {"expected": {name: [0.4, 0.1] for name in names}}})


def test_a_split_that_is_named_twice_is_refused():
    with pytest.raises(ConfigError, match=r"data\.train: a split is named twice"):
        parse_values({"data": {"train": ["train", "val", "train"]}})


def test_parts_of_a_schedule_that_are_never_reached_are_reported():
    short = parse_values(
        {"train": {"steps": 100, "eval_every": 200}, "optim": {"milestones": [50, 100]}}
    )
    texts = schedule_warnings(short)
    for text, key in zip(texts, ["warmup_steps", "milestones", "eval_every"], strict=True):
        assert key in text
    assert schedule_warnings(parse_values({})) == []


def test_every_numeric_option_has_a_range():
    numeric = {key for key, hint in _leaves(RunConfig) if re.search(r"\b(int|float)\b", str(hint))}
    assert numeric == set(RANGES)


def _leaves(kind, prefix=""):
    for name, hint in get_type_hints(kind).items():
        nested = next((t for t in (hint, *get_args(hint)) if dataclasses.is_dataclass(t)), None)
        if nested is None:
            yield prefix + name, hint
        else:
            yield from _leaves(nested, f"{prefix}{name}.")


def test_every_field_is_documented_by_type():
    """Configurations are plain data: nothing in them needs torch, and all of it is YAML."""
    yaml.safe_load(to_yaml(RunConfig()))
    assert dataclasses.is_dataclass(RunConfig)


def test_the_rate_follows_a_batch_that_the_command_line_changes(tmp_path):
    def rate(*words):
        optim = load_config("mask_rcnn/r50_fpn", words).optim
        return optim.lr, optim.lr_batch

    assert rate() == (0.02, None)
    assert rate("--train.batch_size=4") == (0.02, 16)
    assert rate("--train.batch_size=4", "--optim.lr=0.01") == (0.01, None)
    config = load_config("mask_rcnn/r50_fpn", ["--train.batch_size=4"])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    again = load_config(tmp_path, ["--train.batch_size=8"]).optim
    assert (again.lr, again.lr_batch) == (0.02, 16), "a resumed run knows what its rate is for"
