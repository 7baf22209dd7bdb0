# SPDX-License-Identifier: BSD-3-Clause
"""`dcnv2 convert` with files that are no checkpoints: one sentence, and nothing half-written."""

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

import dcnv2
from dcnv2 import cli
from dcnv2.convert import weight_files

STATE = {"dcn.weight": torch.ones(2, 2, 3, 3), "dcn.conv_offset_mask.bias": torch.ones(27)}


class _Code:
    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


def _zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", "y")


def _cut(path, end):
    path.write_bytes(path.read_bytes()[:end])


def _cycle():
    state = {}
    state["model"] = state
    return state


def _save(state):
    return lambda path: torch.save(state, path)


def _cut_save(path):
    torch.save(STATE, path)
    _cut(path, 300)


def _cut_safetensors(path):
    safetensors.torch.save_file(STATE, path)
    _cut(path, -4)


def _script(path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(path)


DAMAGED = "is damaged, or not a file of torch.save or safetensors"
WRONG = {
    "missing.pth": (lambda path: None, "No such file"),
    "folder.pth": (lambda path: path.mkdir(), "is not a regular file"),
    "fifo.pth": (lambda path: os.mkfifo(path), "is not a regular file"),
    "empty.pth": (lambda path: path.touch(), DAMAGED),
    "empty.safetensors": (lambda path: path.touch(), DAMAGED),
    "text.pth": (lambda path: path.write_text("hello\n"), DAMAGED),
    "page.pth": (lambda path: path.write_text("<!DOCTYPE html>\n<html>"), "looks like a web page"),
    "header.safetensors": (lambda path: path.write_bytes(b"\xff" * 40), DAMAGED),
    "cut.pth": (_cut_save, DAMAGED),
    "cut.safetensors": (_cut_safetensors, DAMAGED),
    "archive.pth": (_zip, DAMAGED),
    "scripted.pth": (_script, DAMAGED),
    "plain.pkl": (lambda path: path.write_bytes(pickle.dumps({"w": [1, 2]})), "no tensors in the"),
    "list.pth": (_save([1, 2]), "holds a list, not a state_dict"),
    "tensor.pth": (_save(torch.ones(3)), "holds a Tensor, not a state_dict"),
    "nothing.pth": (_save({}), "nothing.pth: no tensors in the checkpoint"),
    "cycle.pth": (_save(_cycle()), "no tensors in the checkpoint; its entries are: model"),
    "numbers.pth": (_save({1: torch.ones(2)}), "the names of tensors must be text, got 1"),
    "meta.pth": (_save({"w": torch.ones(2, device="meta")}), "w is on the meta device"),
    "sparse.pth": (_save({"w": torch.ones(2).to_sparse()}), "w is sparse or quantized: write a"),
    "clash.pth": (
        _save({"a.conv_offset.bias": torch.ones(2), "a.conv_offset_mask.bias": torch.ones(1)}),
        "two tensors would become a.conv_offset.bias",
    ),
    "odd.pth": (
        _save({"a.conv.weight": torch.ones(1), "a.p_conv.weight": torch.ones(3, 2, 3, 3)}),
        "a.p_conv must predict as many y as x, got a tensor of [3, 2, 3, 3]",
    ),
}


def _refused(capsys, source, target, message):
    assert cli.main(["convert", str(source), str(target)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1, error


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_no_checkpoint_is_named(tmp_path, capsys, name):
    make, message = WRONG[name]
    source, out = tmp_path / name, tmp_path / "out"
    out.mkdir()
    make(source)
    _refused(capsys, source, out / "new.safetensors", message)
    assert list(out.iterdir()) == []


def test_code_is_not_run(tmp_path, capsys):
    for number, save in enumerate(
        (torch.save, lambda state, path: pickle.dump(state, path.open("wb")))
    ):
        source = tmp_path / f"{number}.pth"
        save({"w": torch.ones(1), "code": _Code(tmp_path / "run")}, source)
        assert cli.main(["convert", str(source), str(tmp_path / "out.pth")]) == 1
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_target_is_checked_before_the_source_is_read(tmp_path, capsys):
    source = tmp_path / "in.pth"
    torch.save(STATE, source)
    before = source.read_bytes()
    _refused(capsys, source, tmp_path / "no" / "out.pth", "is not a folder: create it")
    _refused(capsys, source, tmp_path, "exists: choose another folder")
    (tmp_path / "link.pth").symlink_to(source)
    for same in (source, tmp_path / "link.pth"):
        _refused(capsys, source, same, "is the source itself: choose another name")
    assert source.read_bytes() == before


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch, capsys, suffix):
    source, target = tmp_path / "in.pth", tmp_path / f"out{suffix}"
    torch.save(STATE, source)
    target.write_text("older")

    def fail(state, place, *_):
        (place.write_bytes if isinstance(place, Path) else place.write)(b"half")
        raise RuntimeError("No space left on device. More text")

    monkeypatch.setattr(torch, "save", fail)
    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    _refused(capsys, source, target, f"{target} cannot be written (No space left on device)")
    assert target.read_text() == "older"
    assert {path.name for path in tmp_path.iterdir()} == {"in.pth", target.name}


def test_two_tensors_never_become_one():
    for state in (
        {"a.offset_mask_fc.0.bias": torch.ones(1), "a.offset_fc.0.bias": torch.ones(2)},
        {"a.weight": torch.ones(2, 2, 3, 3), "a_offset.weight": torch.ones(27, 2, 3, 3),
         "a.conv_offset.weight": torch.ones(1)},
        {"a.conv.weight": torch.ones(1), "a.weight": torch.ones(1),
         "a.p_conv.weight": torch.ones(18, 2, 3, 3)},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"two tensors would become a\."):
            dcnv2.convert_state_dict(state)


def test_sparse_tensors_can_be_saved_by_torch(tmp_path):
    torch.save({"w": torch.ones(2).to_sparse()}, tmp_path / "in.pth")
    weight_files.convert_file(tmp_path / "in.pth", tmp_path / "out.pth")
    assert weight_files.load_weights(tmp_path / "out.pth")["w"].is_sparse
