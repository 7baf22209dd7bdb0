# SPDX-License-Identifier: BSD-3-Clause
"""Checkpoints are whole or absent."""

import errno
from pathlib import Path

import pytest
import torch
from torch import nn

from dcnv2.engine.config import RunConfig
from dcnv2.engine.runtime import checkpoint
from dcnv2.engine.runtime.checkpoint import (
    find_checkpoint,
    last_checkpoint,
    list_checkpoints,
    mark_best,
    save_checkpoint,
)
from dcnv2.engine.runtime.checkpoint_files import load_meta, load_model, load_state


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def _adam(net):
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.rand(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    return optimizer


def _state(optimizer):
    return {"optimizer": optimizer.state_dict()}


def test_what_was_saved_comes_back(tmp_path, net):
    net.to(memory_format=torch.channels_last)
    optimizer = _adam(net)
    path = save_checkpoint(tmp_path, 12, net, _state(optimizer), {"classes": ["a"]})
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    state = torch.optim.AdamW(other.parameters())
    load_model(path, other)
    state.load_state_dict(load_state(path)["optimizer"])
    assert load_meta(path) == {"step": 12, "classes": ["a"]}
    for name, value in net.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    for index, moments in optimizer.state_dict()["state"].items():
        for key, value in moments.items():
            assert torch.equal(value, state.state_dict()["state"][index][key])


def test_only_the_newest_are_kept(tmp_path, net):
    optimizer = _adam(net)
    for step in (5, 10, 15, 15):
        save_checkpoint(tmp_path, step, net, _state(optimizer), {}, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_00000010", "step_00000015"]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("victim", ["save_file", "torch.save", "os.fsync", "Path.rename"])
def test_dying_while_writing_leaves_the_last_whole_one(tmp_path, net, monkeypatch, victim):
    optimizer = _adam(net)
    first = save_checkpoint(tmp_path, 5, net, _state(optimizer), {})

    def die(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"dcnv2.engine.runtime.checkpoint.{victim}", die)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, 10, net, _state(optimizer), {})
    monkeypatch.undo()
    assert last_checkpoint(tmp_path) == first
    load_model(first, net)
    save_checkpoint(tmp_path, 10, net, _state(optimizer), {})
    assert len(list(tmp_path.iterdir())) == 2, "leftovers are removed by the next one"


def test_a_full_disk_is_the_reason_that_is_named(tmp_path, net, monkeypatch):
    """torch.save by itself reports a position in its archive instead."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        "dcnv2.engine.runtime.checkpoint.torch.save", lambda _, file: file.write(b"x") and full()
    )
    with pytest.raises(OSError, match=r"checkpoint not written: .*No space left"):
        save_checkpoint(tmp_path, 5, net, _state(_adam(net)), {})
    assert not list(tmp_path.iterdir())


def test_broken_and_foreign_weights_are_named(tmp_path, net):
    path = save_checkpoint(tmp_path, 1, net, _state(_adam(net)), {})
    with pytest.raises(ValueError, match=r"0\.bias is \[4\].* has \[5\]"):
        load_model(path, nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)))
    with pytest.raises(ValueError, match=r"lacks 2\.bias"):
        load_model(path, nn.Sequential(*net, nn.Linear(1, 1)))
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged file"):
        load_model(path, net)


def test_a_folder_without_meta_is_no_checkpoint(tmp_path):
    assert checkpoint.last_checkpoint(tmp_path / "nowhere") is None
    with pytest.raises(FileNotFoundError, match="not a checkpoint"):
        load_meta(tmp_path)


def test_harm_to_a_checkpoint_is_noticed(tmp_path, net, caplog):
    """Even one bit; test_damaged_runs.py has more."""
    state = _state(_adam(net))
    first, second = (save_checkpoint(tmp_path, step, net, state, {}) for step in (1, 2))
    assert last_checkpoint(tmp_path) == second
    data = bytearray((second / "state.pt").read_bytes())
    data[-5] ^= 4
    (second / "state.pt").write_bytes(data)
    assert last_checkpoint(tmp_path) == first
    assert "step_00000002: state.pt" in caplog.text


def test_the_best_and_the_last_checkpoint_have_names(tmp_path, net):
    config = RunConfig(output=str(tmp_path), name="run")
    folder = config.folder / "checkpoints"
    with pytest.raises(FileNotFoundError, match="no checkpoint: train it first"):
        find_checkpoint(config, "last")
    first, second = (save_checkpoint(folder, n, net, _state(_adam(net)), {}) for n in (1, 2))
    with pytest.raises(FileNotFoundError, match="no evaluation marked a best checkpoint"):
        find_checkpoint(config, "best")
    mark_best(folder, 1, "box_AP", 0.5)
    assert find_checkpoint(config, "best") == first
    assert find_checkpoint(config, "last") == find_checkpoint(config, None) == second
    assert find_checkpoint(config, "./best") == Path("best"), "a folder of that name"
    (folder / "best.json").write_text("{")
    with pytest.raises(ValueError, match=r"best\.json: not JSON"):
        find_checkpoint(config, "best")
