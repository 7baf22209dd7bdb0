# SPDX-License-Identifier: BSD-3-Clause
"""Timing whole training steps, at toy size on a CPU."""

import dataclasses
import time
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch.autograd import DeviceType
from torchvision.ops import box_iou, deform_conv2d

from dcnv2.engine.config import shipped
from dcnv2.models import build_model
from dcnv2.models.offsets import offset_planes
from dcnv2.nn import ModulatedDeformConv2dPack
from suites.perf import step_case, step_sets, step_time, timed_step, training_step
from suites.perf.cases import Selection
from suites.perf.device_activity import activity_of, covered
from suites.perf.device_timer import DeviceTimer
from suites.perf.report import Rows
from suites.perf.step_case import StepCase, running
from suites.perf.tables import steps_table
from suites.perf.test_training_step import test_step as measure_step
from suites.perf.training_step import add_proposals_near_objects, random_batch, spread_offsets

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def narrow(monkeypatch, shallow):
    """Narrow heads, few boxes, one timed step."""
    monkeypatch.setattr(timed_step, "WARM_UP_STEPS", 1)
    monkeypatch.setattr(timed_step, "FEWEST_RUNS", 1)
    monkeypatch.setattr(timed_step, "STEPS_IN_A_ROW", 2)
    monkeypatch.setattr(training_step, "NEAR_PROPOSALS", 1)
    load = StepCase.load

    def narrow(case):
        config = load(case)
        model = config.model
        model.backbone.channels, model.box.hidden_channels, model.box.batch_per_image = 32, 16, 8
        model.mask.convs, model.mask.deconv_channels = (32,), 16
        model.rpn.post_nms_train = 20
        return config

    monkeypatch.setattr(StepCase, "load", narrow)


def _case(operator="dcnv2", config="mask_rcnn/r50_fpn_mdconv_c3-c5"):
    return StepCase(config, operator, 1, (64, 96), 64, "float32")


def test_a_report_has_operators_and_configurations(tmp_path, capsys):
    words = ["--device=cpu", "--side=64", "--precision=float32", "--seconds=0"]
    words += ["--operator-batch=1", "--batches", "1", "2", "--configs", "mask_rcnn/r50_c5"]
    words += ["--set", "operators", "configs"]
    assert step_time.main([*words, "--reports", str(tmp_path)]) == 0
    rows = pd.read_csv(tmp_path / "step_time.csv")
    assert rows["operator"].tolist() == ["conv2d", "dcnv2", "torchvision", "dcnv2", "dcnv2"]
    assert rows["input"].tolist() == [*["64x128"] * 3, *["64x96"] * 2]
    assert (rows["p50_ms"] > 0).all()
    loss = rows.set_index("operator")["loss"]
    assert loss["torchvision"] == pytest.approx(loss["dcnv2"].iloc[0], rel=1e-4)
    text = (tmp_path / "step_time.md").read_text()
    assert "step ms, batch 2" in text
    assert "times conv2d" in text


def test_detectors_stand_beside_torchvisions(monkeypatch, tmp_path):
    monkeypatch.setattr(step_sets, "TRAINING_BATCHES", (1,))
    monkeypatch.setattr(step_sets, "INFERENCE_BATCHES", (1,))
    monkeypatch.setattr(step_sets, "DETECTORS", step_sets.DETECTORS[:3])
    words = ["--device=cpu", "--side=64", "--precision=float32", "--seconds=0"]
    words += ["--set", "detectors", "inference", "--reports", str(tmp_path)]
    assert step_time.main(words) == 0
    rows = pd.read_csv(tmp_path / "step_time.csv")
    assert rows["set"].tolist() == ["detectors"] * 3 + ["inference"] * 3
    assert (rows["operator"] == "torchvision").tolist() == [True, False, False] * 2
    # Scores of objects: some proposals have one, and there are no more than detections allowed.
    assert rows["loss"].between(1, 100)[3:].all()
    text = (tmp_path / "step_time.md").read_text()
    assert "## Inference, beside torchvision's Mask R-CNN" in text
    assert "times torchvision" in text


def test_activity_counts_overlapping_work_once():
    def event(name, start, end, kind):
        span = SimpleNamespace(start=start, end=end)
        return SimpleNamespace(name=name, time_range=span, device_type=kind)

    cpu, cuda = DeviceType.CPU, DeviceType.CUDA
    events = [event("cudaLaunchKernel", 0, 1, cpu), event("cudaLaunchKernelExC", 1, 2, cpu)]
    events += [event("cudaStreamSynchronize", 2, 9, cpu), event("aten::add", 0, 1, cpu)]
    events += [event("a", 1000, 3000, cuda), event("b", 2000, 4000, cuda)]
    assert activity_of(events) == {"gpu_ms": 3.0, "launches": 2, "waits": 1}
    assert covered([(5, 7), (1, 2), (1, 4), (6, 6)]) == 5


def test_the_perf_suite_has_the_step_as_a_benchmark(benchmark):
    rows = Rows()
    measure_step(benchmark, _case(), DeviceTimer("cpu"), rows)
    (row,) = rows.steps
    assert row == benchmark.extra_info
    assert (row["operator"], row["input"]) == ("dcnv2", "64x96")
    table = steps_table([row, {**row, "operator": "conv2d", "p50_ms": row["p50_ms"] / 2}])
    assert table["x conv2d"].tolist() == [2.0, 1.0]
    chosen = Selection("cpu", ["step"], ["fp32"], ["conv2d", "dcnv2"], ["both"], ["contiguous"])
    assert [case.operator for case in chosen.training_steps()] == ["conv2d", "dcnv2"]
    assert chosen.training_steps()[0].load().model.min_size == [800]
    assert dataclasses.replace(chosen, sets=["pools"]).training_steps() == []


def test_cases_without_time_or_memory_are_named(monkeypatch, tmp_path):
    def full(*_):
        raise torch.OutOfMemoryError

    case = _case()
    (row,) = step_time.measure([case], CPU, 0.0, time.monotonic() - 1)
    assert row["status"] == "no time left"
    monkeypatch.setattr(step_time, "time_step", full)
    (row,) = step_time.measure([case], CPU, 0.0, time.monotonic() + 60)
    assert row["status"] == "out of memory"
    words = ["--device=cpu", "--set", "operators", "--reports", str(tmp_path)]
    assert step_time.main(words) == 1
    assert not list(tmp_path.iterdir())


def test_cases_left_out_are_in_the_table_and_added_later(monkeypatch, tmp_path, capsys):
    """Batch 2 has no memory; the second configuration has no time, and is measured another day."""
    measured, begun = step_time.time_step, []

    def small(case, *rest):
        begun.append((case.config, case.batch))
        if case.batch == 2:
            raise torch.OutOfMemoryError
        return measured(case, *rest)

    monkeypatch.setattr(step_time, "time_step", small)
    words = ["--device=cpu", "--side=64", "--precision=float32", "--seconds=0", "--set=configs"]
    words += ["--batches", "1", "2", "--reports", str(tmp_path), "--configs"]
    names = ["faster_rcnn/r50_fpn", "rpn/r50_fpn"]
    assert step_time.main([*words, names[0]]) == 0
    text = (tmp_path / "step_time.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith(f"| {names[0]} "))
    assert "| out of memory " in line
    assert f"- {names[0]} on dcnv2, batch 2: out of memory" in text
    assert step_time.main([*words, *names, "--add"]) == 0
    assert begun == [(name, batch) for name in names for batch in (1, 2)]
    rows = pd.read_csv(tmp_path / "step_time.csv")
    assert rows["config"].tolist() == [names[0], names[0], names[1], names[1]]
    assert rows["status"].tolist() == ["measured", "out of memory"] * 2
    changed = (tmp_path / "step_time.csv").read_text().replace(torch.__version__, "1.0")
    (tmp_path / "step_time.csv").write_text(changed)
    with pytest.raises(ValueError, match="cannot add rows, it has another torch"):
        step_time.main([*words, *names, "--add"])


def test_every_detector_of_the_catalogue_is_timed():
    """Rows of the same model at another size, or with other classes or schedule, go without."""

    def key(name):
        model = StepCase(name, "dcnv2", 2, (480, 640), 1000).load().model
        model.num_classes, model.rpn.pre_nms_train, model.rpn.pre_nms_test = 80, 0, 0
        return repr(model)

    timed = {key(name) for name in step_sets.CONFIGS}
    assert len(timed) == len(step_sets.CONFIGS)
    small = ("smoke/", "coco_slice/", "quick/")
    others = set(shipped()) - set(step_sets.CONFIGS)
    others = [name for name in sorted(others) if not name.startswith(small)]
    assert [name for name in others if key(name) not in timed] == []


def test_a_case_that_fails_leaves_the_others_their_report(monkeypatch, tmp_path, capsys):
    measured = step_time.time_step

    def broken(case, *rest):
        if case.operator == "torchvision":
            raise FloatingPointError("losses are nan\nand more")
        return measured(case, *rest)

    monkeypatch.setattr(step_time, "time_step", broken)
    words = ["--device=cpu", "--side=64", "--precision=float32", "--seconds=0", "--set=operators"]
    assert step_time.main([*words, "--operator-batch=1", "--reports", str(tmp_path)]) == 1
    assert "on torchvision, batch 1: FloatingPointError: losses are nan" in capsys.readouterr().err
    assert "FloatingPointError: losses are nan" in (tmp_path / "step_time.md").read_text()
    statuses = pd.read_csv(tmp_path / "step_time.csv")["status"].tolist()
    assert statuses == ["measured", "measured", "FloatingPointError: losses are nan"]


def test_operators_that_disagree_are_named():
    rows = pd.DataFrame({"operator": ["conv2d", "dcnv2", "torchvision"], "loss": [9.0, 2.0, 2.04]})
    rows["status"] = "measured"
    assert step_time.disagreements(rows) == []
    rows["loss"] = [2.0, 2.0, 3.0]
    assert step_time.disagreements(rows) == ["loss: 2 on dcnv2, 3 on torchvision"]
    rows["loss"] = [2.0, float("nan"), 2.0]
    assert len(step_time.disagreements(rows)) == 1


def test_operators_change_what_the_layers_call_and_no_more():
    layer = ModulatedDeformConv2dPack(4, 4, 3)
    x = torch.rand(1, 4, 6, 5)
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            step_case, "torchvision_conv_in_float32", lambda *operands: calls.append(operands)
        )
        with running("torchvision"):
            layer(x)
        assert len(calls) == 1
        layer(x)
        with running("dcnv2"):
            layer(x)
    assert len(calls) == 1


def test_torchvision_computes_in_float32_what_comes_in_bfloat16():
    torch.manual_seed(0)
    x, offset, mask = torch.randn(1, 4, 7, 6), torch.randn(1, 18, 5, 4), torch.rand(1, 9, 5, 4)
    operands = [t.bfloat16() for t in (x, offset, torch.randn(3, 4, 3, 3))]
    options = (None, (1, 1), (0, 0), (1, 1), mask.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        got = step_case.torchvision_conv_in_float32(*operands, *options)
    assert got.dtype == torch.bfloat16
    wanted = deform_conv2d(*(t.float() for t in operands), mask=options[-1].float())
    torch.testing.assert_close(got, wanted.bfloat16())


def test_offsets_are_spread_in_every_layer():
    model = build_model(_case().load().model)
    packs = [m for m in model.modules() if isinstance(m, ModulatedDeformConv2dPack)]
    assert len(packs) == 3
    image = random_batch(1, (64, 96), 80, CPU)[0][0][None]
    spread_offsets(model, image)
    seen = []
    for pack in packs:
        pack.conv_offset.register_forward_hook(
            lambda _, __, out, pack=pack: seen.append(offset_planes(pack, out).std().item())
        )
    with torch.no_grad():
        model.backbone(image)
    assert seen == pytest.approx([training_step.OFFSET_PIXELS] * 3, rel=0.3)


def test_proposals_lie_near_the_objects():
    config = _case().load().model
    model = build_model(config)
    images, targets = random_batch(2, (64, 96), 80, CPU)
    before, after = [], []
    model.rpn.register_forward_hook(lambda _, __, out: before.append(out[0]))
    add_proposals_near_objects(model)
    model.rpn.register_forward_hook(lambda _, __, out: after.append(out[0]))
    model(images, targets)
    assert before[0].boxes.shape == after[0].boxes.shape
    count = training_step.OBJECTS * training_step.NEAR_PROPOSALS
    for boxes, target in zip(after[0].boxes, targets, strict=True):
        objects = target["boxes"].repeat_interleave(training_step.NEAR_PROPOSALS, dim=0)
        iou = box_iou(objects, boxes[:count]).diagonal()
        assert (iou > 0.5).float().mean() > 0.7
