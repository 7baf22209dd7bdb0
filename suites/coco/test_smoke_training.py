# SPDX-License-Identifier: BSD-3-Clause
"""The training suite's instant tests: it runs, resumes, and trains alike on other operators."""

import json
import math
from itertools import islice

import pandas as pd
import pytest
import torch

import reference
from dcnv2.data.shapes import write_shapes
from dcnv2.engine.config import load_config
from dcnv2.engine.runtime.datasets import train_batches
from dcnv2.engine.training.trainer import Trainer, train
from suites.coco import smoke, smoke_suite
from suites.coco.report import advantages, differences, learned, missed_marks, summary, times

TWIN_STEPS = 50


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes")
    return write_shapes(root, train=16, val=4, size=128, classes=smoke_suite.CLASSES)


def _config(model, shapes, output, **words):
    given = {"data.root": shapes, "output": output, "device": "cpu", **words}
    given["model.num_classes"] = len(smoke_suite.CLASSES)
    return load_config(f"smoke/{model}", [f"--{key}={value}" for key, value in given.items()])


@pytest.mark.parametrize("name", smoke_suite.MODELS)
def test_every_operator_trains_with_finite_losses(name, shapes, tmp_path):
    trainer = Trainer(_config(name, shapes, tmp_path))
    trainer.model.train()
    batches = train_batches(trainer.train_set, trainer.config, 0, trainer.comm)
    for batch in islice(batches, 3):
        values = trainer.train_step.update(*batch)
        assert all(math.isfinite(value) for value in values.values())
    gradients = {name: p.grad for name, p in trainer.model.named_parameters()}
    assert not [name for name, grad in gradients.items() if grad is None]


def test_resuming_gives_the_weights_of_an_uninterrupted_run(shapes, tmp_path):
    words = {"train.steps": 3, "train.batch_size": 4}
    whole = _config("dcnv2", shapes, tmp_path, name="whole", **words)
    train(whole)
    parts = _config("dcnv2", shapes, tmp_path, name="parts", **words)
    trainer = Trainer(parts)
    trainer.model.train()
    trainer.train_step.update(*next(iter(train_batches(trainer.train_set, parts, 0, trainer.comm))))
    trainer.checkpointer.save()
    train(parts, resume=True)
    wanted, got = Trainer(whole, resume=True).model, Trainer(parts, resume=True).model
    for (name, one), other in zip(
        wanted.state_dict().items(), got.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name


def test_twins_on_kernels_and_on_the_reference_have_equal_losses(shapes, tmp_path, monkeypatch):
    """In float64, so that rounding stays far below what would change a choice of proposals. Both
    kinds of convolution and of pooling are in the one detector."""
    words = {"train.batch_size": 2, "model.min_size": "[64]", "model.max_size": 64}
    words |= {"model.backbone.convs": "[plain,plain,dcnv1,dcnv2]", "model.box.pool.kind": "dpool"}
    config = _config("dcnv2", shapes, tmp_path, **words)

    def losses():
        trainer = Trainer(config)
        trainer.model.double().train()
        batches = train_batches(trainer.train_set, config, 0, trainer.comm)
        for images, targets in islice(batches, TWIN_STEPS):
            yield trainer.train_step.update([image.double() for image in images], targets)

    fast = list(losses())
    calls = []

    def count(operator):
        def counted(*operands):
            calls.append(operator)
            return operator(*operands)

        return counted

    monkeypatch.setattr("dcnv2.nn.conv.deform_conv2d", count(reference.deform_conv2d))
    monkeypatch.setattr("dcnv2.nn.roi_pool.deform_roi_pool", count(reference.deform_roi_pool))
    for step, (one, other) in enumerate(zip(fast, losses(), strict=True)):
        for term, value in one.items():
            assert other[term] == pytest.approx(value, rel=1e-6), f"{term} of step {step}"
    assert set(calls) == {reference.deform_conv2d, reference.deform_roi_pool}


def test_smoke_writes_its_reports_and_fails_a_model_that_learns_nothing(
    tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(smoke_suite, "TRAIN_IMAGES", 8)
    monkeypatch.setattr(smoke_suite, "VAL_IMAGES", 3)
    words = ["--train.steps=2", "--train.log_every=1", "--device=cpu", "--optim.lr=0"]
    words += ["--folder", str(tmp_path / "runs"), "--report", str(tmp_path / "reports")]
    words += ["--models", "plain", "dcnv2"]
    assert smoke.main([*words, "--jobs=2"]) == 1
    output = capfd.readouterr()
    assert "[1/2] dcnv2 step 0/2, [2/2] plain step 0/2; time left" in output.err
    assert "[2/2] plain: trained and evaluated" in output.err
    assert "plain learned nothing" in output.err
    assert "dcnv2: mask_AP50 is 0.000, required is at least 0.65" in output.err
    assert f"report: {tmp_path / 'reports' / 'coco_smoke.md'}" in output.out
    assert "step 2/2" in (tmp_path / "runs" / "dcnv2.txt").read_text()
    written = {path.name for path in (tmp_path / "reports").iterdir()}
    endings = (".csv", ".md", "_curves.png", "_predictions.png")
    assert written == {f"coco_smoke{ending}" for ending in endings}
    rows = pd.read_csv(tmp_path / "reports" / "coco_smoke.csv")
    assert rows["model"].tolist() == ["plain", "dcnv2"]

    # Another seed is added; the finished trainings are not repeated.
    before = (tmp_path / "runs" / "plain" / "metrics.csv").stat().st_mtime_ns
    assert smoke.main([*words, "--jobs=1", "--seeds=2", "--resume"]) == 1
    assert (tmp_path / "runs" / "plain" / "metrics.csv").stat().st_mtime_ns == before
    again = pd.read_csv(tmp_path / "reports" / "coco_smoke.csv")
    assert again[["model", "seed"]].to_numpy().tolist() == [
        *(["plain", 0], ["dcnv2", 0], ["plain", 1], ["dcnv2", 1])
    ]
    assert again["first_loss"].tolist()[:2] == pytest.approx(rows["first_loss"].tolist())
    assert again["first_loss"][0] != again["first_loss"][2]
    text = (tmp_path / "reports" / "coco_smoke.md").read_text()
    assert "0.000 ± 0.000" in text
    assert "dcnv2 - plain" in text
    assert again["cpu_share"].tolist()[:2] == rows["cpu_share"].tolist()


def _rows(**values):
    columns = ("box_AP", "box_AP50", "mask_AP", "mask_AP50", "mask_AP75")
    table = pd.DataFrame({"model": ["plain", "dcnv2"] * 2, "seed": [0, 0, 1, 1], **values})
    others = {"parameters": 10, "minutes": 2.0, "cpu_share": 0.95, "images": 150}
    return table.assign(**{k: v for k, v in others.items() if k not in table}).assign(
        **{column: [0.4, 0.5, 0.5, 0.52] for column in columns}
    )


def test_seeds_are_summed_up_by_mean_and_deviation():
    lines = summary(_rows()).set_index("model")
    assert lines["box_AP"].tolist() == ["0.450 ± 0.071", "0.510 ± 0.014"]
    assert lines["seeds"].tolist() == [2, 2]
    assert "2 seeds were run" in " ".join(differences(_rows()).split())
    one = summary(_rows()[:2]).set_index("model")
    assert one["box_AP"].tolist() == [0.4, 0.5]
    assert "With one seed" in " ".join(differences(_rows()[:2]).split())


def test_gains_are_taken_seed_by_seed():
    gained = advantages(_rows()).iloc[0]
    assert gained["model"] == "dcnv2 - plain"
    assert gained["mask_AP"] == "0.060 ± 0.057"
    assert gained["ahead in mask_AP"] == "2 of 2"
    assert advantages(_rows()[:2]).empty


@pytest.mark.parametrize("shares", [[0.9, 0.9, 0.9, 0.5], [0.9, 0.9, 0.9, float("nan")]])
def test_times_of_a_busy_machine_are_not_shown_off(shares):
    assert summary(_rows())["minutes"].tolist() == [2.0, 2.0]
    assert "busy" not in times(_rows())
    assert "minutes" not in summary(_rows(cpu_share=shares))
    assert "busy" in times(_rows(cpu_share=shares))


def test_a_coco_folder_takes_the_same_road(shapes, tmp_path, monkeypatch):
    """COCO's layout and its 80 categories, here with drawn pictures."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        document = json.loads((shapes / "annotations" / f"instances_{split}.json").read_text())
        names = [f"class {i}" for i in range(len(smoke_suite.CLASSES) + 1, 81)]
        document["categories"] += [{"id": 10 * i + 1000, "name": n} for i, n in enumerate(names)]
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(document))
        (root / f"{split}2017").symlink_to(shapes / "images" / split)
    monkeypatch.setenv("DCNV2_COCO", str(root))
    words = ["--train.steps=2", "--train.log_every=1", "--device=cpu", "--data.workers=0"]
    folders = ["--folder", str(tmp_path / "runs"), "--report", str(tmp_path / "reports")]
    smoke.main([*folders, "--models", "dcnv2_mimic", *words, "--train.batch_size=2"])
    rows = pd.read_csv(tmp_path / "reports" / "coco_slice.csv")
    assert rows["images"].tolist() == [4]
    assert rows["mask_AP50"].notna().all()


def test_nan_counts_as_failed_marks_and_learning():
    rows = pd.DataFrame({"model": ["dcnv1", "dcnv2"], "mask_AP50": [0.7, float("nan")]})
    rows["seed"] = [0, 2]
    marks = {("dcnv1", "mask_AP50"): 0.7, ("dcnv2", "mask_AP50"): 0.65, ("plain", "box_AP"): 1.0}
    assert missed_marks(rows, marks) == [
        "dcnv2, seed 2: mask_AP50 is nan, required is at least 0.65"
    ]
    assert learned(4.0, 2.0)
    assert not learned(4.0, 3.5)
    assert not learned(4.0, float("nan"))


def test_results_are_compared_with_what_the_configurations_expect():
    suite = smoke_suite.Suite("", "", "smoke", "", [])
    box, mask = (load_config("smoke/dcnv1").eval.expected[name] for name in ("box_AP", "mask_AP"))
    rows = pd.DataFrame([{"model": "dcnv1", "seed": 1, "first_loss": 4.0, "last_loss": 1.0}])
    rows = rows.assign(box_AP=box[0], mask_AP=mask[0])
    assert smoke.faults_of(suite, rows, []) == []
    rows["box_AP"] += 2 * box[1]
    (fault,) = smoke.faults_of(suite, rows, [])
    assert fault.startswith("dcnv1, seed 1: box_AP is")
    assert smoke.faults_of(suite, rows, ["--train.steps=3"]) == []
