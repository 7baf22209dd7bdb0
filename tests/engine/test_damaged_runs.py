# SPDX-License-Identifier: BSD-3-Clause
"""A damaged file in a run folder is passed over, or refused, with its path; nothing is lost."""

import json
import math
import shutil

import pandas as pd
import pytest
import torch
from harm import HARMS, copy_run
from safetensors.torch import load_file, save_file
from torch import nn
from toy_runs import toy_config

from dcnv2 import cli
from dcnv2.data.shapes import write_shapes
from dcnv2.engine.config import ConfigError, load_config, to_yaml
from dcnv2.engine.runtime.checkpoint import (
    best_checkpoint,
    last_checkpoint,
    list_checkpoints,
    mark_best,
    prune,
    restore,
    save_checkpoint,
)
from dcnv2.engine.runtime.checkpoint_files import load_state, write_checksums
from dcnv2.engine.runtime.files import DamagedFileError
from dcnv2.engine.training.csv_rows import append_row, drop_rows_after, steps_of
from dcnv2.engine.training.init_weights import read_weights
from dcnv2.engine.training.trainer import Trainer, train
from dcnv2.models.backbone import load_imagenet_weights

META = {"classes": ["a"], "meter": {"sums": {}, "counts": {}}}


@pytest.fixture
def net():
    return nn.Conv2d(2, 3, 1)


@pytest.fixture
def folder(tmp_path, net):
    """Two checkpoints, with averages."""
    for step in (1, 2):
        save_checkpoint(tmp_path, step, net, {"a": {"b": 1}}, META, average=net.state_dict())
    return tmp_path


FILES = ["checksums.json", "meta.json", "model.safetensors", "average.safetensors", "state.pt"]


@pytest.mark.parametrize("harm", [*HARMS, "missing"])
@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_with_a_damaged_file_is_passed_over(folder, net, caplog, name, harm):
    newest = folder / "step_00000002"
    (newest / name).unlink() if harm == "missing" else HARMS[harm](newest / name)
    assert last_checkpoint(folder) == folder / "step_00000001"
    assert f"{newest}: " in caplog.text
    assert name in caplog.text
    save_checkpoint(folder, 2, net, {}, META)
    assert last_checkpoint(folder) == newest, "written again when the run gets there"


@pytest.mark.parametrize("harm", ["empty", "dangling_link", "link_to_itself", "fifo"])
def test_something_else_in_place_of_a_checkpoint_is_passed_over(folder, net, caplog, harm):
    HARMS[harm](_as_file(folder / "step_00000002"))
    assert last_checkpoint(folder) == folder / "step_00000001"
    assert "step_00000002: it has no checksums.json" in caplog.text
    save_checkpoint(folder, 2, net, {}, META)
    assert last_checkpoint(folder) == folder / "step_00000002"
    HARMS[harm](_as_file(folder / "step_00000001"))
    prune(folder, keep=1)
    assert [path.name for path in folder.iterdir()] == ["step_00000002"]


def _as_file(path):
    """Puts a file in place of a folder."""
    shutil.rmtree(path)
    path.write_text("x")
    return path


@pytest.mark.parametrize("name", [*FILES[1:], "all of them"])
def test_checksums_have_to_list_the_files(folder, caplog, name):
    path = folder / "step_00000002" / "checksums.json"
    sums = json.loads(path.read_text())
    left = {key: value for key, value in sums.items() if name not in (key, "all of them")}
    path.write_text(json.dumps(left))
    assert last_checkpoint(folder) == folder / "step_00000001"
    assert "checksums.json: does not list " in caplog.text


@pytest.mark.parametrize("value", ["", 3, None, [], "0" * 64])
def test_checksums_of_a_wrong_type_match_nothing(folder, caplog, value):
    path = folder / "step_00000002" / "checksums.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model.safetensors": value}))
    assert last_checkpoint(folder) == folder / "step_00000001"
    assert "model.safetensors: does not match its checksum" in caplog.text


@pytest.mark.parametrize("name", ["..", "", "/etc", "../step_00000001"])
def test_checksums_name_files_of_their_own_folder(folder, caplog, name):
    path = folder / "step_00000002" / "checksums.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: "0"}))
    assert last_checkpoint(folder) == folder / "step_00000001"
    assert "step_00000002: " in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"step": "2"},
        {"step": -1},
        {"step": True},
        {"classes": "a"},
        {"classes": [1]},
        {"category_ids": ["1"]},
        {"category_ids": [1, 2]},
    ],
)
def test_meta_of_a_wrong_type_is_named_even_if_its_checksum_is_right(folder, caplog, change):
    newest = folder / "step_00000002"
    (newest / "meta.json").write_text(json.dumps({"step": 2, **META, **change}))
    write_checksums(newest)
    assert last_checkpoint(folder) == folder / "step_00000001"
    assert f"{newest}: meta.json: {next(iter(change))}: wanted" in caplog.text


@pytest.mark.parametrize("kind", ["file", "dangling_link"])
def test_a_folder_of_checkpoints_that_is_none_is_not_taken_for_a_new_run(tmp_path, kind):
    path = tmp_path / "checkpoints"
    path.write_text("")
    if kind == "dangling_link":  # to a disk that is not mounted, for example
        HARMS["dangling_link"](path)
    with pytest.raises(DamagedFileError, match="checkpoints: not a folder"):
        last_checkpoint(path)


WRONG_VALUES = {"words": "high", "nan": math.nan, "huge": 10**400, "true": True}


@pytest.mark.parametrize("harm", [*HARMS, *WRONG_VALUES])
def test_a_damaged_best_json_costs_no_checkpoint(folder, net, caplog, harm):
    mark_best(folder, 1, "box_AP", 0.5)
    best = folder / "best.json"
    if harm in WRONG_VALUES:
        best.write_text(json.dumps({"step": 1, "metric": "box_AP", "value": WRONG_VALUES[harm]}))
    else:
        HARMS[harm](best)
    assert best_checkpoint(folder) is None
    assert str(best) in caplog.text
    save_checkpoint(folder, 3, net, {}, META, keep=1)
    assert len(list_checkpoints(folder)) == 3, "any of them may be the best"
    assert mark_best(folder, 3, "box_AP", 0.4)
    assert best_checkpoint(folder) == folder / "step_00000003"
    assert (folder / "best.json.damaged").is_symlink() or (folder / "best.json.damaged").exists()
    prune(folder, keep=1)
    assert len(list_checkpoints(folder)) == 1


def test_the_best_is_one_that_exists_and_of_the_same_metric(folder):
    assert not mark_best(folder, 7, "box_AP", 0.9), "no checkpoint of that step"
    assert mark_best(folder, 1, "box_AP", 0.5)
    assert not mark_best(folder, 2, "box_AP", 0.5)
    assert mark_best(folder, 2, "mask_AP", 0.2)
    assert not mark_best(folder, 1, "mask_AP", math.nan)
    assert best_checkpoint(folder) == folder / "step_00000002"


@pytest.mark.parametrize("harm", HARMS)
def test_damaged_tables_are_kept_aside_and_begun_anew(tmp_path, caplog, harm):
    path = tmp_path / "metrics.csv"
    for step in (5, 10, 15):
        append_row(path, {"step": step, "loss": 0.5})
    HARMS[harm](path)
    drop_rows_after(path, 10)
    append_row(path, {"step": 15, "loss": 0.25})
    assert steps_of(path)[-1] == 15
    assert pd.read_csv(path)["loss"].iloc[-1] == 0.25
    # Where only the last row is cut, the process died while it wrote: nothing is lost.
    torn = harm in ("empty", "cut", "last_bytes_cut", "zeros", "nested")
    assert (str(path) in caplog.text) != torn


def test_good_rows_of_a_damaged_table_remain(tmp_path, caplog):
    path = tmp_path / "eval.csv"
    path.write_text("step,box_AP\n5,0.5\n7,x\n6\n\n8,0.25\n")
    drop_rows_after(path, 10)
    assert path.read_text() == "step,box_AP\n5,0.5\n8,0.25\n"
    assert "eval.csv: 3 damaged rows" in caplog.text
    assert "7,x" in (tmp_path / "eval.csv.damaged").read_text()


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """The text of a run's configuration, which can be read."""
    folder, config = tmp_path_factory.mktemp("intact"), load_config("smoke/dcnv2")
    (folder / "config.yaml").write_text(to_yaml(config))
    assert load_config(folder).train == config.train
    return to_yaml(config)


@pytest.mark.parametrize(
    "harm", [pytest.param(h, marks=[pytest.mark.slow] * (h == "nested")) for h in HARMS]
)
def test_a_damaged_configuration_of_a_run_is_named(tmp_path, intact, harm):
    path = tmp_path / "config.yaml"
    path.write_text(intact)
    HARMS[harm](path)
    with pytest.raises(ConfigError, match=r"config\.yaml: "):
        load_config(tmp_path)


def test_a_folder_without_configuration_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the folder has no config\.yaml"):
        load_config(tmp_path)


def _poison(checkpoint, name, value):
    """Puts a NaN or an infinity into a file of weights, with the right checksum."""
    weights = load_file(checkpoint / name)
    key = next(key for key, tensor in weights.items() if tensor.is_floating_point())
    weights[key].view(-1)[0] = value
    save_file(weights, checkpoint / name)
    write_checksums(checkpoint)
    return key


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["model.safetensors", "average.safetensors"])
def test_weights_that_are_not_finite_are_passed_over_by_name(folder, caplog, name, value):
    key = _poison(folder / "step_00000002", name, value)
    assert last_checkpoint(folder) == folder / "step_00000001"
    assert f"step_00000002: {name}: {key} has NaN or infinite values" in caplog.text


def test_weights_that_are_not_finite_are_not_saved(folder, net):
    nn.init.constant_(net.bias, math.inf)
    with pytest.raises(DamagedFileError, match="step_00000003: bias has NaN or infinite values"):
        save_checkpoint(folder, 3, net, {}, META)
    assert last_checkpoint(folder) == folder / "step_00000002"


def test_an_optimizer_state_that_is_not_finite_is_named(folder):
    state = {"optimizer": {"state": {0: {"exp_avg": torch.tensor([math.nan])}}}}
    torch.save(state, folder / "step_00000002" / "state.pt")
    with pytest.raises(DamagedFileError, match=r"state\.pt: optimizer\.state\.0\.exp_avg has NaN"):
        load_state(folder / "step_00000002")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_initial_weights_that_are_not_finite_are_refused(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    weights = {"a": torch.ones(3), "conv.weight": torch.tensor([1.0, math.nan])}
    (save_file if suffix == ".safetensors" else torch.save)(weights, path)
    with pytest.raises(ValueError, match=r"weights\.\w+: conv\.weight has NaN"):
        read_weights(path)
    body = nn.ModuleDict({"conv": nn.Linear(1, 2, bias=False)})
    body.conv.weight.data.fill_(0)
    weights["conv.weight"] = torch.tensor([[1.0], [math.inf]])
    (save_file if suffix == ".safetensors" else torch.save)(weights, path)
    with pytest.raises(ValueError, match=r"weights\.\w+: conv\.weight has NaN"):
        load_imagenet_weights([body], "resnet50", str(path))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("harm", ["empty", "cut", "zeros", "list"])
def test_damaged_initial_weights_are_named(tmp_path, suffix, harm):
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)({"weight": torch.ones(9)}, path)
    HARMS[harm](path)
    with pytest.raises(ValueError, match=r"weights\.\w+ is (damaged|no file of weights)"):
        read_weights(path)
    with pytest.raises(ValueError, match=r"weights\.\w+ is (damaged|no file of weights)"):
        load_imagenet_weights([nn.Linear(1, 1)], "resnet50", str(path))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two updates with a checkpoint of each."""
    output = tmp_path_factory.mktemp("runs")
    root = write_shapes(output / "shapes", train=2, val=1, size=64)
    parts = {"mask": {"enabled": False}, "mimic": {"enabled": False}}
    config = toy_config(root, output, model=parts, train={"steps": 2, "checkpoint_every": 1})
    train(config)
    return config


@pytest.fixture
def run(trained, tmp_path):
    """A copy of that run."""
    return copy_run(trained.folder, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["eval", "predict", "export-run", "resume"])
def test_commands_name_a_checkpoint_that_is_given_and_damaged(
    trained, run, tmp_path, capsys, caplog, command
):
    """A damaged checkpoint is refused where it is given, and otherwise passed over."""
    newest = run / "checkpoints" / "step_00000002"
    _poison(newest, "model.safetensors", math.nan)
    image = f"{trained.data.root}/images/val/000001.png"
    words = {
        "eval": ["eval", str(run), f"--csv={tmp_path / 'row.csv'}"],
        "predict": ["predict", str(run), image, f"--out={tmp_path / 'out'}"],
        "export-run": ["export-run", str(run), str(tmp_path / "out")],
        "resume": ["train", str(run), "--resume"],
    }[command]
    if command != "resume":
        assert cli.main([*words, f"--checkpoint={newest}"]) == 1
        message = capsys.readouterr().err
        assert f"{newest}: model.safetensors: " in message
        assert "has NaN or infinite values" in message
    assert cli.main(words) == 0
    assert "run/checkpoints/step_00000002: model.safetensors: " in caplog.text
    if command == "eval":
        assert pd.read_csv(tmp_path / "row.csv")["step"].item() == 1


def test_a_checkpoint_that_does_not_match_its_checksums_is_refused(trained, run):
    config = load_config(run)
    newest = run / "checkpoints" / "step_00000002"
    data = bytearray((newest / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (newest / "model.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match=r"step_00000002: model\.safetensors: does not match"):
        restore(config, newest, torch.device("cpu"))
    _, meta = restore(config, None, torch.device("cpu"))
    assert meta["step"] == 1


def test_a_run_without_intact_checkpoints_is_not_overwritten(run):
    config = load_config(run)
    for path in list_checkpoints(run / "checkpoints"):
        HARMS["cut"](path / "model.safetensors")
    with pytest.raises(FileExistsError, match="step_00000002 exists"):
        Trainer(config)
    for resume in (True, "auto"):
        with pytest.raises(ValueError, match="no checkpoint is intact"):
            Trainer(config, resume=resume)
    with pytest.raises(FileNotFoundError, match=r"only damaged checkpoints \(2\)"):
        restore(config, None, torch.device("cpu"))


def test_an_exported_run_cannot_be_resumed(run, tmp_path):
    assert cli.main(["export-run", str(run), str(tmp_path / "small")]) == 0
    with pytest.raises(ValueError, match="lacks meter: not written by a training"):
        Trainer(load_config(tmp_path / "small"), resume=True)


@pytest.mark.slow
def test_averaging_that_begins_at_a_resume_is_refused(run):
    with pytest.raises(ValueError, match=r"has no averaged weights, as train\.ema_decay was not"):
        Trainer(load_config(run, ["--train.ema_decay=0.9"]), resume=True)


def test_a_checkpoint_of_another_optimizer_is_named(run):
    config = load_config(run, ["--optim.name=sgd", "--model.num_classes=8"])
    path = run / "checkpoints" / "step_00000002"
    state = torch.load(path / "state.pt", weights_only=True)
    del state["optimizer"]["param_groups"][0]
    torch.save(state, path / "state.pt")
    write_checksums(path)
    with pytest.raises(ValueError, match="does not fit this training"):
        Trainer(config, resume=True)
