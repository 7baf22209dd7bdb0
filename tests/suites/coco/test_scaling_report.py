# SPDX-License-Identifier: BSD-3-Clause
"""The report on training: speed by ranks, parity of ranks, and resumption."""

import argparse
import sys

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import save_file

from dcnv2.engine.runtime.checkpoint import WEIGHTS, write_checksums
from suites.coco import scaling
from suites.coco.runs import Launch, compare_runs, interrupt, pace

pytestmark = pytest.mark.slow

TOY = {
    "model": {
        "backbone": {
            "arch": "small",
            "channels": 16,
            "convs": ["plain", "plain", "plain", "dcnv2"],
        },
        "rpn": {"anchor_sizes": [[16, 32]], "batch_per_image": 32, "post_nms_train": 20},
        "box": {"hidden_channels": 16, "batch_per_image": 8},
        "mask": {"convs": [8], "deconv_channels": 8},
        "min_size": [64],
        "max_size": 64,
    },
    "data": {"workers": 0},
    "optim": {"name": "adamw", "lr": 0.001, "warmup_steps": 1},
    "train": {"batch_size": 2},
}


def test_a_report_has_two_ranks_and_a_resumed_run(tmp_path, monkeypatch, capsys):
    """All of it as it will run on GPUs, at toy size: torchrun, SIGTERM, resumption."""
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(TOY))
    for name, value in {"TRAIN_IMAGES": 4, "VAL_IMAGES": 2, "RESUMED_SIDE": 64}.items():
        monkeypatch.setattr(scaling, name, value)
    monkeypatch.setattr(scaling, "RESUMED_CONFIG", str(tmp_path / "toy.yaml"))
    words = ["--device=cpu", "--ranks", "1", "--config", str(tmp_path / "toy.yaml"), "--batches=1"]
    words += ["--steps=3", "--pictures=64", "--side=64", "--workers=0", "--resumed-steps=8"]
    words += ["--parity-steps=2"]
    words += ["--folder", str(tmp_path / "runs"), "--reports", str(tmp_path / "reports")]
    status = scaling.main([*words, "--seconds=300", "--train.precision=float32"])
    assert (status, capsys.readouterr().err) == (0, "")
    rows = pd.read_csv(tmp_path / "reports" / "training.csv")
    assert rows["ranks"].tolist()[:2] == [1, 8]
    assert rows["images/s"][0] > 0
    assert rows["times one rank"].tolist()[:2] == pytest.approx([1, 8])
    assert rows["pace"].tolist()[:2] == ["measured", "projected"]
    two = rows.iloc[2]
    assert two["compared"] == "two ranks with one"
    assert (two["steps"], two["rate"], two["same_steps"]) == (2, 0, True)
    assert two["loss"] < 1e-6
    again = rows.iloc[3]
    assert (again["loss"], again["rate"], again["status"]) == (0, 0, 75)
    assert again["equal"] == again["tensors"]
    assert 4 <= again["stopped"] < 8
    text = (tmp_path / "reports" / "training.md").read_text()
    assert "## Two ranks compared with one" in text
    assert not list((tmp_path / "runs" / "timed").rglob("*.png")), "pictures are JPEG"
    assert "interrupted by SIGTERM after step" in " ".join(text.split())
    assert (tmp_path / "reports" / "training_resumed.png").stat().st_size


def test_failures_are_reported_with_the_other_results(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("out of memory\nexit status 1, expected 0")

    found = {"steps": 8, "stopped": 4, "status": 75, "loss": 0.1, "rate": 0.5, "equal": 1}
    monkeypatch.setattr(scaling, "write_shapes", lambda *_: None)
    monkeypatch.setattr(scaling, "write_photos", lambda *_: None)
    monkeypatch.setattr(scaling, "write_weights", lambda *_: None)
    monkeypatch.setattr(scaling, "timed_run", fail)
    monkeypatch.setattr(
        scaling, "resumed_run", lambda _: {**found, "tensors": 2, "same_steps": True}
    )
    for name in ("whole", "cut"):
        _run(tmp_path / "runs" / name, [1.0, 2.0])
    monkeypatch.setattr(scaling, "parity_run", lambda *_: {**found, "batch": 8})
    words = ["--ranks", "2", "--folder", str(tmp_path / "runs"), "--reports", str(tmp_path)]
    monkeypatch.setattr(scaling.shutil, "rmtree", lambda *_, **__: None)
    assert scaling.main([*words, "--device=cpu"]) == 1
    errors = capsys.readouterr().err
    assert "2 rank(s), 8 images each: out of memory" in errors
    assert "the resumed run took other steps" in errors
    assert "two ranks and one took different steps: the loss differs by 0.1" in errors
    assert "exit status 1, expected 0" in (tmp_path / "training.md").read_text()


def test_a_run_that_fails_or_takes_too_long_says_so(tmp_path):
    options = argparse.Namespace(folder=tmp_path, device="cpu", seconds=0.5)
    launch = Launch(options, "no/such", {"name": "x"})
    launch.command = [sys.executable, "-c", "print('no such thing'); raise SystemExit(3)"]
    launch.seconds = 60.0
    with pytest.raises(RuntimeError, match="no such thing\\n\\nexit status 3, expected 0"):
        launch.run()
    with pytest.raises(RuntimeError, match="exit status 3, expected 75"):
        interrupt(launch, 1)
    launch.seconds = 0.2
    launch.command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(RuntimeError, match="not done in"):
        launch.run()


def test_ranks_are_started_by_torchrun(tmp_path):
    options = argparse.Namespace(folder=tmp_path, device="cpu", seconds=1.0)
    one = Launch(options, "smoke/plain", {"name": "a", "train.steps": 2}, ["--optim.lr=1"]).command
    assert one[1:4] == ["-m", "dcnv2", "train"]
    assert one[-2:] == ["--train.steps=2", "--optim.lr=1"]
    two = Launch(options, "smoke/plain", {"name": "a"}, ranks=2).command
    assert two[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def test_a_whole_training_is_projected_for_more_gpus():
    runs = {"ranks": [1, 2, 2], "images a rank": [8, 8, 2], "images/s": [10.0, 18.0, 12.0]}
    runs |= {"step ms": 1.0, "waiting for data": 0.0, "GiB a rank": [20.0, 21.0, 7.0]}
    table = scaling.pace_table(pd.DataFrame(runs), 36 * 1800)
    assert table["ranks"].tolist() == [1, 2, 8, 2, 8]
    assert table["images a rank"].tolist() == [8, 8, 8, 2, 2]
    assert table["times one rank"].tolist() == pytest.approx([1, 1.8, 7.2, 2, 8])
    assert table["hours"].tolist() == pytest.approx([1.8, 1.0, 0.25, 1.5, 0.375])
    assert table["GiB a rank"].tolist() == [20, 21, 21, 7, 7]
    assert table["pace"].tolist() == ["measured", "measured", "projected", "measured", "projected"]
    runs = {**runs, "ranks": [8, 8, 8]}
    assert set(scaling.pace_table(pd.DataFrame(runs), 1)["pace"]) == {"measured"}


def test_pace_leaves_out_the_beginning(tmp_path):
    columns = {"images_per_s": [1.0, 8.0, 6.0], "step_ms": [900.0, 90.0, 110.0]}
    rows = {"step": [3, 6, 9], **columns, "data_ms": [50.0, 10.0, 40.0], "memory_MiB": 2048.0}
    pd.DataFrame(rows).to_csv(tmp_path / "metrics.csv")
    found = pace(tmp_path)
    assert found == {"images/s": 7.0, "step ms": 100.0, "waiting for data": 0.2, "GiB a rank": 2.0}


def _run(folder, losses, first=1):
    checkpoint = folder / "checkpoints" / "step_00000002"
    checkpoint.mkdir(parents=True)
    steps = range(first, first + len(losses))
    pd.DataFrame({"step": steps, "loss": losses, "lr": 0.1}).to_csv(folder / "metrics.csv")
    save_file({"a": torch.ones(2), "b": torch.tensor(losses)}, checkpoint / WEIGHTS)
    (checkpoint / "meta.json").write_text('{"step": 2}')
    write_checksums(checkpoint)


def test_runs_are_compared_step_by_step(tmp_path):
    for name, losses in {"one": [1.0, 2.0], "two": [1.0, 2.5]}.items():
        _run(tmp_path / name, losses)
    found = compare_runs(tmp_path / "one", tmp_path / "two")
    assert found == {"loss": 0.25, "rate": 0.0, "same_steps": True, "equal": 1, "tensors": 2}
    _run(tmp_path / "late", [1.0, 2.0], first=2)
    found = compare_runs(tmp_path / "one", tmp_path / "late")
    assert not found["same_steps"]
    assert found["loss"] != found["loss"]
