# SPDX-License-Identifier: BSD-3-Clause
"""Settings of the loop: precision, layout, averages, rates, compilation, bad values."""

import json
import logging

import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from toy_runs import toy_config, weights_of

from dcnv2.data.coco import CocoDataset
from dcnv2.data.shapes import write_shapes
from dcnv2.engine.config import ConfigError, OptimConfig
from dcnv2.engine.runtime.checkpoint import last_checkpoint, restore
from dcnv2.engine.runtime.checkpoint_files import load_state
from dcnv2.engine.runtime.datasets import train_batches
from dcnv2.engine.training import hooks
from dcnv2.engine.training import train_step as step_module
from dcnv2.engine.training.nonfinite import NonFiniteLossError, first_nonfinite_module
from dcnv2.engine.training.optim import lr_factor, scale_lr
from dcnv2.engine.training.trainer import Trainer, train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("shapes"), train=6, val=2, size=64)


def _first_batch(trainer):
    return next(iter(train_batches(trainer.train_set, trainer.config, 0, trainer.comm)))


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"precision": "bfloat16"}, 0.1),
        ({"precision": "float16"}, 0.02),
        ({"channels_last": True}, 1e-4),
        ({"compile": "eager"}, 1e-4),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_change_the_first_loss_no_more_than_rounding(shapes, tmp_path, options, tolerance):
    plain = Trainer(toy_config(shapes, tmp_path, "plain"))
    other = Trainer(toy_config(shapes, tmp_path, "other", train=options))
    batch = _first_batch(plain)
    expected, got = plain.train_step.update(*batch), other.train_step.update(*batch)
    assert got["loss"] == pytest.approx(expected["loss"], rel=tolerance)
    changed = [p for p in other.model.parameters() if p.grad is not None]
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in changed)


def test_half_precision_scales_the_loss_and_resumes_the_scale(shapes, tmp_path, monkeypatch):
    config = toy_config(shapes, tmp_path, train={"precision": "float16", "steps": 2})
    trainer = Trainer(config)
    batch = _first_batch(trainer)
    first = trainer.train_step.update(*batch)
    assert first["loss_scale"] == 2.0**16
    before = [p.detach().clone() for p in trainer.model.parameters()]
    weights = trainer.train_step.optimizer.param_groups[0]["params"]
    with monkeypatch.context() as patch:
        backward = torch.Tensor.backward

        def overflow(self, *operands, **options):
            backward(self, *operands, **options)
            weights[0].grad.view(-1)[0] = float("inf")

        patch.setattr(torch.Tensor, "backward", overflow)
        second = trainer.train_step.update(*batch)
    assert second["skipped"] == 1
    assert all(torch.equal(p, q) for p, q in zip(trainer.model.parameters(), before, strict=True))
    trainer.checkpointer.save()
    state = load_state(last_checkpoint(config.folder / "checkpoints"))
    assert state["scaler"]["scale"] == 2.0**15
    assert Trainer(config, resume=True).train_step.scaler.get_scale() == 2.0**15


def test_average_of_weights_is_kept_saved_and_preferred(shapes, tmp_path):
    config = toy_config(shapes, tmp_path, train={"ema_decay": 0.5, "steps": 3})
    trainer = Trainer(config)
    history = []
    update = trainer.train_step.update

    def noting(*batch):
        values = update(*batch)
        history.append({k: v.clone() for k, v in trainer.model.state_dict().items()})
        return values

    trainer.train_step.update = noting
    trainer.run()
    checkpoint = last_checkpoint(config.folder / "checkpoints")
    average = load_file(checkpoint / "average.safetensors")
    name = "roi_heads.box_predictor.cls_score.weight"
    expected = 0.25 * history[0][name] + 0.25 * history[1][name] + 0.5 * history[2][name]
    torch.testing.assert_close(average[name], expected)
    model, _ = restore(config, None, torch.device("cpu"))
    assert torch.equal(model.state_dict()[name], average[name])
    assert not torch.equal(average[name], weights_of(config)[name])


def test_averages_have_buffers_too(shapes, tmp_path):
    """Statistics of batch norms belong to the weights that they were measured with."""
    config = toy_config(shapes, tmp_path, train={"ema_decay": 0.25})
    trainer = Trainer(config)
    model, average = trainer.model, trainer.train_step.average
    model.register_buffer("statistic", torch.zeros(()))
    average.module.register_buffer("statistic", torch.zeros(()))
    batch = _first_batch(trainer)
    for value in (1.0, 2.0, 4.0):
        model.statistic.fill_(value)
        trainer.train_step.update(*batch)
    assert average.module.statistic.item() == 0.25 * (0.25 * 1 + 0.75 * 2) + 0.75 * 4


def test_the_average_is_evaluated_and_drawn(shapes, tmp_path, monkeypatch):
    trainer = Trainer(toy_config(shapes, tmp_path, train={"ema_decay": 0.5, "steps": 1}))
    evaluated, used = hooks.evaluate_sets, []
    monkeypatch.setattr(hooks, "evaluate_sets", lambda *o: used.append(o[0]) or evaluated(*o))
    monkeypatch.setattr(hooks, "prediction_sheet", lambda *ops: (used.append(ops[0]) or [], []))
    trainer.run()
    assert len(used) == 2
    assert all(model is trainer.train_step.average.module for model in used)


def test_micro_batches_give_the_gradient_of_their_mean(shapes, tmp_path):
    """A batch of twice the same image has the gradient of one, in one pass or in two."""
    norms = []
    for accumulate in (1, 2):
        config = toy_config(
            *(shapes, tmp_path),
            model={"mimic": {"enabled": False}},
            train={"accumulate": accumulate},
        )
        trainer = Trainer(config)
        images, targets = _first_batch(trainer)
        twice = [images[0]] * 2, [dict(targets[0]), dict(targets[0])]
        norms.append(trainer.train_step.update(*twice)["grad_norm"])
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_are_clipped_to_the_bound(shapes, tmp_path, monkeypatch, precision, accumulate):
    """The norm of all gradients together, of the whole batch, and without the loss scale."""
    bound = 0.01
    config = toy_config(
        *(shapes, tmp_path),
        train={"precision": precision, "accumulate": accumulate},
        optim={"clip_norm": bound},
    )
    train_step = Trainer(config).train_step
    step, norms = type(train_step.optimizer).step, []

    def noting(optimizer, *operands, **options):
        gradients = [p.grad for p in train_step.model.parameters() if p.grad is not None]
        norms.append(torch.nn.utils.get_total_norm(gradients).item())
        return step(optimizer, *operands, **options)

    monkeypatch.setattr(train_step.optimizer, "step", noting.__get__(train_step.optimizer))
    batch = _first_batch(Trainer(config))
    before = train_step.update(*batch)["grad_norm"]
    assert before > 2 * bound
    train_step.optim.clip_norm = 1e6
    train_step.update(*batch)
    train_step.optim.clip_norm = None
    after = train_step.update(*batch)["grad_norm"]
    assert norms[0] == pytest.approx(bound, rel=1e-3)
    assert norms[1] > 2 * bound, "a gradient within the bound is left as it is"
    assert norms[2] == pytest.approx(after, rel=1e-5)


def test_rate_is_scaled_to_the_batch_and_says_so(shapes, tmp_path, caplog):
    options, text = scale_lr(OptimConfig(lr=0.02, lr_batch=16), 4)
    assert options.lr == 0.005
    assert text == "learning rate 0.005 = 0.02 x 4 / 16 images a step"
    with caplog.at_level(logging.INFO, "dcnv2"):
        train(toy_config(shapes, tmp_path, train={"steps": 1}, optim={"lr_batch": 4}))
    assert "learning rate 0.005 = 0.01 x 2 / 4 images a step" in caplog.text
    metrics = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert metrics["lr"].item() == pytest.approx(0.005 * 0.001)


def test_poly_schedule_falls_by_its_power():
    config = OptimConfig(schedule="poly", poly_power=2.0, warmup_steps=10, warmup_factor=0.5)
    factors = [lr_factor(step, 110, config) for step in (0, 10, 60, 110)]
    assert factors == pytest.approx([0.5, 1, 0.25, 0])


def test_skipped_updates_leave_weights_and_are_counted(shapes, tmp_path, monkeypatch):
    config = toy_config(shapes, tmp_path, train={"steps": 4, "on_nonfinite": "skip"})
    trainer = Trainer(config)
    update = trainer.train_step.update
    kept = []

    def troubled(images, targets):
        if trainer.step == 1:
            images = [image * float("inf") for image in images]
            before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
            values = update(images, targets)
            after = trainer.model.state_dict()
            kept.append(all(torch.equal(before[k], after[k]) for k in before))
            return values
        return update(images, targets)

    trainer.train_step.update = troubled
    trainer.run()
    assert kept == [True]
    metrics = pd.read_csv(config.folder / "metrics.csv")
    assert metrics["skipped"].tolist() == [1, 0]
    assert metrics["loss"].notna().all()
    (path,) = config.folder.glob("nonfinite_*.json")
    record = json.loads(path.read_text())
    assert (record["step"], len(record["image_ids"]), len(record["seeds"])) == (1, 2, 2)
    assert record["first"] == f"image {record['image_ids'][0]} as it was loaded"
    monkeypatch.setattr(step_module, "MAX_SKIPS", 1)
    trainer.train_step.step, batch = 1, _first_batch(trainer)
    with pytest.raises(NonFiniteLossError):
        troubled(*batch)


def test_bad_gradients_are_named(shapes, tmp_path):
    trainer = Trainer(toy_config(shapes, tmp_path))
    weight = trainer.model.roi_heads.box_predictor.cls_score.weight
    weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(NonFiniteLossError, match=r"norm is nan, of roi_heads.box_predictor.cls"):
        trainer.train_step.update(*_first_batch(trainer))


def test_the_first_bad_module_is_the_innermost_and_earliest():
    class Root(torch.nn.Module):
        def forward(self, x):
            return x.sqrt()

    net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Sequential(Root()), torch.nn.Tanh())
    assert first_nonfinite_module(net, lambda: net(torch.ones(2))) is None
    net[0] = torch.nn.Identity()
    assert first_nonfinite_module(net, lambda: net(-torch.ones(2))) == "module 1.0"
    net.register_parameter("scale", torch.nn.Parameter(torch.tensor(float("inf"))))
    assert first_nonfinite_module(net, lambda: net(torch.ones(2))) == "parameter scale"


def test_batches_that_do_not_divide_are_refused(shapes, tmp_path):
    with pytest.raises(ConfigError, match=r"batch_size: 4 is not divisible by train.accumulate 3"):
        toy_config(shapes, tmp_path, train={"batch_size": 4, "accumulate": 3})


def test_scales_are_the_images_own_whatever_the_batch(shapes, tmp_path):
    """Two passes over one image each see the sizes that one pass over both does."""
    config = toy_config(shapes, tmp_path, model={"min_size": [48, 56, 64], "max_size": 128})
    trainer = Trainer(config)
    images, targets = next(iter(train_batches(trainer.train_set, config, 0, trainer.comm)))
    sizes = []
    trainer.model.transform.register_forward_hook(
        lambda _module, _inputs, output: sizes.append(output[0].image_sizes)
    )
    trainer.model.requires_grad_(False)
    for seeds in ([1, 2, 3, 4], [11, 2, 13, 4]):
        for parts in (1, 2, 4):
            for part in range(parts):
                own = [{**targets[0], "seed": seed} for seed in seeds[part::parts]]
                trainer.model([images[0]] * (4 // parts), own)
        whole, *rest = sizes
        assert [*rest[0], *rest[1]] == [whole[i] for i in (0, 2, 1, 3)]
        assert [size for part in rest[2:] for size in part] == whole
        sizes.clear()


def test_a_voc_folder_is_trained_on_and_scored(shapes, tmp_path):
    """The embedded set's first images, rewritten as Pascal VOC has them."""
    dataset, root = CocoDataset(shapes, "train"), tmp_path / "voc"
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    names = [f"{i:06d}" for i in dataset.image_ids]
    for index, name in enumerate(names):
        Image.open(dataset.table.files[index]).save(root / "JPEGImages" / f"{name}.jpg")
        objects = ""
        for box in dataset.target(index)["boxes"].tolist():
            corners = (box[0] + 1, box[1] + 1, *box[2:])
            sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
            box = "".join(f"<{side}>{value:.0f}</{side}>" for side, value in sides)
            objects += f"<object><name>cat</name><bndbox>{box}</bndbox></object>"
        size = "<size><width>64</width><height>64</height></size>"
        text = f"<annotation>{size}{objects}</annotation>"
        (root / "Annotations" / f"{name}.xml").write_text(text)
    for split in ("train", "val"):
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))
    config = toy_config(
        *(root, tmp_path),
        model={"num_classes": 1, "mask": {"enabled": False}},
        train={"steps": 1},
        eval={"metric": "voc"},
    )
    row = train(config)
    assert row["images"].item() == 6
    assert row["box_mAP50"].notna().all()
