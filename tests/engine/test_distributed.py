# SPDX-License-Identifier: BSD-3-Clause
"""Two ranks by gloo: they follow one rank, agree on what goes wrong, and end without hanging."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from toy_runs import rank_runs, toy_config, weights_of

from dcnv2.data.shapes import write_shapes
from dcnv2.engine.config import to_yaml
from dcnv2.engine.runtime.checkpoint import last_checkpoint
from dcnv2.engine.runtime.datasets import train_batches
from dcnv2.engine.runtime.distributed import Communicator
from dcnv2.engine.runtime.signals import EXIT_STOPPED
from dcnv2.engine.training.trainer import Trainer, train

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def _launch(*words: str) -> subprocess.CompletedProcess:
    paths = [
        str(HERE),
        str(HERE.parent / "support"),
        str(HERE.parents[1]),
        os.environ.get("PYTHONPATH", ""),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*TORCHRUN, *words], capture_output=True, text=True, env=environment, timeout=300
    )


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = write_shapes(tmp_path_factory.mktemp("shapes"), train=8, val=3, size=64)
    # A split in which only one image has objects: one rank or both have none.
    document = json.loads((root / "annotations" / "instances_train.json").read_text())
    kept = document["annotations"][0]["image_id"]
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] == kept]
    (root / "annotations" / "instances_hollow.json").write_text(json.dumps(document))
    (root / "images" / "hollow").symlink_to(root / "images" / "train")
    return root


@pytest.fixture(scope="module")
def both(shapes, tmp_path_factory):
    """What two ranks did: the notes of each, and their runs by name."""
    output = tmp_path_factory.mktemp("two")
    done = _launch(str(HERE / "distributed_program.py"), str(shapes), str(output))
    assert done.returncode == 0, done.stderr[-3000:]
    notes = [json.loads((output / f"rank_{rank}.json").read_text()) for rank in (0, 1)]
    return notes, rank_runs(shapes, output)


@pytest.fixture(scope="module")
def alone(shapes, tmp_path_factory):
    """One rank with two micro-batches, on as many threads as each of the two has: its configuration
    and its result."""
    output = tmp_path_factory.mktemp("one")
    config = toy_config(shapes, output, train={"batch_size": 4, "accumulate": 2})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return config, train(config)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("run", ["whole", "recorded"])
def test_two_ranks_are_two_micro_batches_to_the_bit(both, alone, run):
    notes, runs = both
    alone, _ = alone
    for name, value in weights_of(alone).items():
        assert torch.equal(value, weights_of(runs[run])[name]), name
    assert all((note[run]["recordings"] > 0) == (run == "recorded") for note in notes)


def test_two_ranks_with_half_the_batch_follow_one_with_the_whole(both, shapes, tmp_path):
    """Without masks and mimicking, whose losses are means over a varying number of objects."""
    _, runs = both
    alone = rank_runs(shapes, tmp_path)["boxes"]
    train(alone)
    losses = [pd.read_csv(c.folder / "metrics.csv")["loss"] for c in (alone, runs["boxes"])]
    assert losses[1].tolist() == pytest.approx(losses[0].tolist(), rel=1e-5)
    for name, value in weights_of(alone).items():
        torch.testing.assert_close(value, weights_of(runs["boxes"])[name], rtol=1e-4, atol=1e-6)


def test_evaluation_counts_each_image_once(both, alone):
    """Three images on two ranks; with the same weights the result is that of one rank."""
    notes, runs = both
    assert [note["whole"]["images"] for note in notes] == [3, 3]
    row = alone[1].drop(columns="image_ms")
    other = pd.read_csv(runs["whole"].folder / "eval.csv").drop(columns="image_ms")
    pd.testing.assert_frame_equal(row.reset_index(drop=True), other, check_dtype=False)


def test_distributed_without_objects_keep_step(both):
    notes, _ = both
    assert [note["empty"]["step"] for note in notes] == [3, 3]
    assert notes[0]["empty"]["weights"] == notes[1]["empty"]["weights"]


def test_a_bad_loss_on_one_rank_stops_both_or_is_skipped_by_both(both):
    notes, runs = both
    for note in notes:
        assert note["stop"]["error"] == "NonFiniteLossError"
        assert note["skip"]["step"] == 3
    assert notes[0]["skip"]["weights"] == notes[1]["skip"]["weights"]
    metrics = pd.read_csv(runs["skip"].folder / "metrics.csv")
    assert metrics["skipped"].tolist() == [1.0]
    (record,) = runs["stop"].folder.glob("nonfinite_*.json")
    assert record.name == "nonfinite_step_00000001_rank_1.json"


def test_a_signal_to_one_rank_ends_both_after_the_same_step(both):
    notes, runs = both
    for note in notes:
        assert (note["signal"]["error"], note["signal"]["step"]) == ("RunStoppedError", 2)
    assert (runs["signal"].folder / "checkpoints" / "step_00000002").is_dir()


def test_a_rank_that_cannot_load_its_batch_ends_both_after_the_same_step(both):
    notes, runs = both
    assert [note["lost"]["step"] for note in notes] == [2, 2]
    assert [note["lost"]["error"] for note in notes] == ["RunFailedError", "OSError"]
    assert (runs["lost"].folder / "checkpoints" / "step_00000002").is_dir()


def test_a_rank_that_dies_ends_the_run_after_the_other_saved(shapes, tmp_path):
    """By `torchrun -m dcnv2`: rank 1 is killed in an update, and nobody waits for it."""
    config = toy_config(shapes, tmp_path, train={"steps": 1000})
    (tmp_path / "toy.yaml").write_text(to_yaml(config))
    (tmp_path / "deadly.py").write_text(DEADLY)
    done = _launch(str(tmp_path / "deadly.py"), "train", str(tmp_path / "toy.yaml"))
    assert done.returncode != 0
    assert "SIGKILL" in done.stderr or "exitcode  : -9" in done.stderr
    assert last_checkpoint(config.folder / "checkpoints").name == "step_00000003"


def test_torchrun_says_that_a_run_was_saved(shapes, tmp_path):
    """Its own exit status is 1 in any case; its table has that of the rank that ended first."""
    config = toy_config(shapes, tmp_path, train={"steps": 1000})
    (tmp_path / "toy.yaml").write_text(to_yaml(config))
    (tmp_path / "stopped.py").write_text(DEADLY.replace("SIGKILL", "SIGTERM"))
    done = _launch(str(tmp_path / "stopped.py"), "train", str(tmp_path / "toy.yaml"))
    assert done.returncode == 1
    table = done.stderr.partition("Root Cause")[2]
    assert f"exitcode  : {EXIT_STOPPED}" in table, "another may get torchrun's SIGTERM as it ends"
    assert (
        "RunStoppedError: stopped after step 4 of 1000, which is saved: continue with --resume"
        in table
    )
    assert last_checkpoint(config.folder / "checkpoints").name == "step_00000004"


DEADLY = """
import os, signal, sys
from dcnv2 import cli
from dcnv2.engine.training.train_step import TrainStep

update = TrainStep.update

def dying(self, images, targets):
    if self.comm.rank == 1 and self.step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return update(self, images, targets)

TrainStep.update = dying
sys.exit(cli.main())
"""


def test_micro_batches_and_ranks_take_the_same_shares(shapes, tmp_path):
    config = toy_config(shapes, tmp_path, train={"batch_size": 8})
    trainer = Trainer(config)
    _, whole = next(iter(train_batches(trainer.train_set, config, 1, trainer.comm)))
    whole = [target["image_id"] for target in whole]
    config.train.accumulate = 2
    for rank in (0, 1):
        comm = Communicator(torch.device("cpu"), rank, 2)
        _, share = next(iter(train_batches(trainer.train_set, config, 1, comm)))
        ids = [target["image_id"] for target in share]
        for part in (0, 1):
            assert ids[part::2] == whole[part * 2 + rank :: 4]
    config.train.accumulate = 3
    with pytest.raises(ValueError, match="is not divisible by 1 ranks x 3 micro-batches"):
        train_batches(trainer.train_set, config, 0, trainer.comm)
