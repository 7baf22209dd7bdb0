# SPDX-License-Identifier: BSD-3-Clause
"""Data sets from Python: the two methods, and what is said of others."""

import re

import pytest
from format_folders import picture, text

from dcnv2 import cli
from dcnv2.data.folders import open_dataset
from dcnv2.engine.config import DataConfig
from dcnv2.engine.runtime.datasets import open_train

MODULE = """
from pathlib import Path
FOLDER = Path(__file__).parent


class Pets:
    def names(self):
        return ["cat", "dog"]

    def images(self):
        square = [5, 4, 25, 4, 25, 20, 5, 20]
        dog = {"class": "dog", "segmentation": [square]}
        cat = {"class": "cat", "box": (10, 10, 20, 15), "segmentation": [square], "crowd": True}
        yield {"file": FOLDER / "a.png", "objects": [dog, cat]}
        yield {"file": str(FOLDER / "b.png"), "id": 77, "width": 40, "height": 30}


def train():
    return Pets()


def changed(**changes):
    pets = Pets()
    vars(pets).update(changes)
    return pets
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of a new name in the working directory, with two pictures."""
    name = f"pets_{re.sub(r'[^a-z0-9]', '_', tmp_path.name)}"
    text(tmp_path / f"{name}.py", MODULE)
    for file in ("a.png", "b.png"):
        picture(tmp_path / file)
    monkeypatch.chdir(tmp_path)
    return name


def test_a_function_is_a_split(module, capsys):
    dataset = open_dataset("anywhere", f"{module}:train", crowd=True)
    assert dataset.names == ["cat", "dog"]
    assert dataset.image_ids.tolist() == [1, 77]
    target = dataset.target(0)
    assert target["boxes"].tolist() == [[5, 4, 25, 20], [10, 10, 30, 25]]
    assert target["iscrowd"].tolist() == [0, 1]
    assert target["masks"].dense().sum(dim=(1, 2)).tolist() == [320, 320]
    assert len(open_train(DataConfig(train=f"{module}:train"), masks=True)) == 2
    assert cli.main(["data", "check", f"{module}:train"]) == 0
    assert f"{module}:train" in capsys.readouterr().out


FAILURES = {
    "nothing.at.all:train": "ModuleNotFoundError: No module named 'nothing'",
    "{}:val": "has no function val",
    "{}:FOLDER": "has no function FOLDER",
    "{}:Path": "returns PosixPath, which has no method names and no images",
}


@pytest.mark.parametrize("spec", FAILURES)
def test_functions_that_are_none_are_named(module, spec):
    with pytest.raises(ValueError, match=f"data set .*{FAILURES[spec]}"):
        open_dataset(".", spec.format(module))


BAD = {
    "{'names': lambda: []}": "names: wanted different names",
    "{'names': lambda: ['a', 'a']}": "names: wanted different names",
    "{'names': lambda: [1, 2]}": "names: wanted texts, got 1",
    "{'names': lambda: 1 / 0}": "ZeroDivisionError: division by zero",
    "{'images': lambda: 3}": "TypeError: 'int' object is not iterable",
    "{'images': lambda: [7]}": "invalid image entry: image 0: wanted a mapping with 'file'",
    "{'images': lambda: [{'file': ''}]}": "invalid image entry: image 0: wanted a mapping",
    "{'images': lambda: [{'file': 'c.png'}]}": "missing image: image c.png",
    "{'images': lambda: [{'file': 'a.png', 'width': 41}]}": "broken image: image a.png",
    "{'images': lambda: [{'file': 'a.png', 'width': 'x'}]}": "wanted whole numbers",
    "{'images': lambda: [{'file': 'a.png', 'id': float('nan')}]}": "wanted whole numbers",
    "{'images': lambda: [{'file': 'a.png'}, {'file': 'b.png', 'id': 1}]}": "the id 1 occurred",
    "{'images': lambda: [{'file': 'a.png', 'objects': 'cat'}]}": "objects: wanted a list",
    **{
        f"{{'images': lambda: [{{'file': 'a.png', 'objects': [{entry}]}}]}}": message
        for entry, message in {
            "3": "object 0 of image a.png: wanted a mapping with 'class'",
            "{'class': 'cow', 'box': [1, 1, 9, 9]}": "category 'cow' is not among cat, dog",
            "{'class': 'cat'}": "wanted a box or polygons",
            "{'class': 'cat', 'box': 3}": "wanted a box of four finite numbers, got 3",
            "{'class': 'cat', 'box': [1, 2, 3]}": "wanted a box of four finite numbers",
            "{'class': 'cat', 'box': [1, 2, 3, float('nan')]}": "wanted a box of four finite",
            "{'class': 'cat', 'box': [1, 2, 0, 4]}": "zero-area box",
            "{'class': 'cat', 'segmentation': [[1, 2, 3, 4, 5]]}": "an odd count",
            "{'class': 'cat', 'segmentation': [3]}": "wanted a list of coordinates",
        }.items()
    },
}


@pytest.mark.parametrize("changes", BAD)
def test_bad_entries_are_named(module, changes):
    code = f"\ndef bad():\n    return changed(**{changes})\n"
    path = f"{module}.py"
    with open(path, "a") as file:
        file.write(code)
    with pytest.raises(ValueError, match=BAD[changes]):
        open_dataset(".", f"{module}:bad", masks=False)
