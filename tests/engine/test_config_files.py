# SPDX-License-Identifier: BSD-3-Clause
"""Whatever a configuration file holds, it is read or rejected with its name and the reason."""

import pytest

from dcnv2.engine.config import ConfigError, load_config
from dcnv2.engine.config.yaml_file import MAX_VALUES as MOST

NINE = ",".join
TENFOLD = [f"a{k}: &a{k} [{NINE([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 10)]
MERGES = [f"a{k}: &a{k}\n  <<: [{NINE([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 10)]
SPOILED = {
    "anchors that multiply": ("a0: &a0 [x]\n" + "".join(TENFOLD), "with its aliases"),
    "merged anchors that multiply": ("a0: &a0 {k: 1}\n" + "".join(MERGES), "with its aliases"),
    "an anchor inside itself": ("data: &a\n  augment: [*a]\n", "with its aliases"),
    "too many values": (
        f"data: [{NINE('x' * (MOST + 1))}]",
        f"more than {MOST} values",
    ),
    "deep lists": ("[" * 500, "nested too deeply"),
    "deep mappings": ("".join(" " * k + "k:\n" for k in range(500)), "nested too deeply"),
    "a key twice": ("name: a\nname: b\n", "line 2: the key name occurs twice"),
    "an option twice": ("train: {steps: 1, steps: 2}", "the key steps occurs twice"),
    "a tab": ("\ta: 1", "not YAML"),
    "a date of month 99": ("name: 2020-99-99", "not YAML: month"),
    "a tag of Python": ("!!python/object/apply:os.system ['x']", "not YAML"),
    "a list as key": ("? [a]\n: b", "not YAML"),
    "a number of 5000 digits": ("train: {steps: " + "9" * 5000 + "}", "not YAML"),
    "two documents": ("a: 1\n---\nb: 2\n", "not YAML: expected a single document"),
    "nothing": ("", "wanted a mapping"),
    "a list": ("- a", "wanted a mapping, got list"),
    "text": ("abc", "wanted a mapping, got str"),
    "base of a number": ("base: 3", "base: wanted the path of a file, got 3"),
    "base of a list": ("base: [a.yaml]", "base: wanted the path of a file"),
    "base of a mapping": ("base: {a: 1}", "base: wanted the path of a file"),
    "base of a folder": ("base: .", "base: .: no such file"),
    "base of itself": ("base: c.yaml", "c.yaml -> .*c.yaml"),
    "a section of a list": ("optim: [1]", r"optim: wanted a mapping, got \[1\]"),
    "a section of text": ("train: many", "train: wanted a mapping, got 'many'"),
    "an empty section": ("optim:\n", "optim: has no value"),
    "an inner section of a list": ("model: {backbone: [1]}", "model.backbone: wanted a mapping"),
    "an optional section of a number": ("published: 3", "published: wanted a mapping, got 3"),
    "an unknown key of it": ("published: {box: 3}", "unknown key published.box"),
    "null for text": ("name: null", "name: has no value"),
    "null for a number": ("train: {steps: null}", "train.steps: has no value"),
    "a list for text": ("name: [a]", 'key "name": Expected'),
    "a number for text": ("name: 3", 'key "name": Expected'),
    "text for a number": ("train: {steps: many}", 'key "train.steps": Expected'),
    "half for a whole number": ("train: {steps: 1.5}", 'key "train.steps": Expected'),
    "true for a number": ("train: {steps: true}", 'key "train.steps": Expected'),
    "a whole number beyond 64 bits": (f"train: {{steps: {10**400}}}", "steps: wanted at most 64"),
    "bytes": ("name: !!binary aGk=", 'key "name": Expected'),
    "a long list for text": (f"data: {{root: [{NINE('x' * 3000)}]}}", 'key "data.root": Expected'),
    "a number as key": ("3: 4", "unknown key 3"),
    "null as key": ("~: 4", "unknown key None"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_file_that_cannot_be_used_is_named(tmp_path, name):
    text, message = SPOILED[name]
    path = tmp_path / "c.yaml"
    path.write_text(text)
    # The command line's batch size makes the rate of the file, of whatever type, be looked up.
    words = ["--train.batch_size=2"] if "section" in name else []
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path, words)
    assert len(str(caught.value)) < 700
    if "64 bits" not in str(caught.value):
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"name: \xe9", "name: x".encode("utf-16")])
def test_other_encodings_are_rejected(tmp_path, content):
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"c\.yaml: not YAML: 'utf-8' codec"):
        load_config(tmp_path / "c.yaml")


def test_a_byte_order_mark_and_anchors_are_read(tmp_path):
    text = "train: &t {steps: 3}\noptim: {milestones: [1, 2]}\n"
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8-sig")
    (tmp_path / "d.yaml").write_text("eval: &e {batch_size: 4}\nbase: c.yaml\n")
    config = load_config(tmp_path / "d.yaml")
    assert (config.train.steps, config.eval.batch_size) == (3, 4)


def test_files_that_are_each_other_s_base_are_named(tmp_path):
    (tmp_path / "folder").mkdir()
    for name, base in (("a", "folder/../b"), ("b", "c"), ("c", "a")):
        (tmp_path / f"{name}.yaml").write_text(f"base: {base}.yaml")
    with pytest.raises(ConfigError, match=r"a\.yaml -> \S*b\.yaml -> \S*c\.yaml -> \S*a\.yaml"):
        load_config(tmp_path / "a.yaml")


def test_a_word_of_a_wrong_type_is_of_the_command_line():
    with pytest.raises(ConfigError, match=r'^command line: .*"eval\.scales": Expected'):
        load_config("smoke/dcnv2", ["--eval.scales=0.8"])
