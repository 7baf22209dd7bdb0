# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of training, checkpoints, evaluation and configurations.

A mutant's file is below dcnv2/; `detected_by` is the path of a test in the project.
"""

from suites.mutants.patches import Patch

_TESTS = "tests/engine"
_DAMAGED = f"{_TESTS}/test_damaged_runs.py"
_PASSED_OVER = f"{_DAMAGED}::test_a_checkpoint_with_a_damaged_file_is_passed_over"
_BEST = f"{_DAMAGED}::test_the_best_is_one_that_exists_and_of_the_same_metric"
_NAN = f"{_DAMAGED}::test_weights_that_are_not_finite_are_passed_over_by_name"
_FAILURES = f"{_TESTS}/test_failing_runs.py"
_DETECTIONS = f"{_TESTS}/test_detections.py"
_EVALUATION = f"{_TESTS}/test_evaluation.py"
_STEP = f"{_TESTS}/test_train_step.py"
_CLIPPED = f"{_STEP}::test_gradients_are_clipped_to_the_bound"
_CURVE = f"{_EVALUATION}::test_a_curve_is_that_of_its_label"
_ONCE = f"{_EVALUATION}::test_every_image_counts_once"
_SUMMARY = f"{_EVALUATION}::test_numbers_are_those_of_pycocotools_summary"
_COUNTED = f"{_EVALUATION}::test_as_many_detections_count_as_are_asked_for"
_VOC = f"{_EVALUATION}::test_voc_by_hand"
_GROUPS = f"{_TESTS}/test_optim.py::test_every_trainable_parameter_is_in_one_group"
_STEPS = f"{_TESTS}/test_optim.py::test_step_schedule_warms_up_and_drops_at_milestones"
_RANGES = f"{_TESTS}/test_config.py::test_numbers_outside_their_range_are_refused"
_OUTLIVES = f"{_TESTS}/test_recovery.py::test_the_best_checkpoint_outlives_newer_ones"
_RESUMED = f"{_TESTS}/test_training.py::test_resuming_gives_what_an_uninterrupted_run_gives"
_LOCK = f"{_TESTS}/test_run_lock.py"
_HOOK = f"{_FAILURES}::test_an_error_in_a_hook_costs_no_work"
_SIGNAL = f"{_TESTS}/test_signals.py::test_only_a_repeated_ctrl_c_has_its_usual_effect"


ENGINE = [
    # ---- updates
    Patch(
        "gradients never clipped",
        "engine/training/train_step.py",
        "if self.optim.clip_norm is not None and norm.isfinite():",
        "if False:",
        _CLIPPED,
    ),
    Patch(
        "gradients clipped at twice the bound",
        "engine/training/train_step.py",
        "self.model.parameters(), self.optim.clip_norm, norm",
        "self.model.parameters(), 2 * self.optim.clip_norm, norm",
        _CLIPPED,
    ),
    Patch(
        "scaled gradients clipped",
        "engine/training/train_step.py",
        "        self.scaler.unscale_(self.optimizer)\n        gradients",
        "        gradients",
        _CLIPPED,
    ),
    Patch(
        "averages without buffers",
        "engine/training/train_step.py",
        "use_buffers=True",
        "use_buffers=False",
        f"{_STEP}::test_averages_have_buffers_too",
    ),
    Patch(
        "micro-batches summed instead of averaged",
        "engine/training/train_step.py",
        "(own.sum() / options.accumulate)",
        "own.sum()",
        f"{_STEP}::test_micro_batches_give_the_gradient_of_their_mean",
    ),
    Patch(
        "weights of the losses not applied",
        "engine/training/train_step.py",
        "name: weights[name] * loss for",
        "name: loss for",
        f"{_TESTS}/test_training.py::test_loss_weights_scale_the_terms",
    ),
    Patch(
        "skipped updates averaged",
        "engine/training/train_step.py",
        "if self.average is not None and not skipped:",
        "if self.average is not None and skipped:",
        f"{_STEP}::test_average_of_weights_is_kept_saved_and_preferred",
    ),
    Patch(
        "an update that failed half way taken for finished",
        "engine/training/train_step.py",
        "self.skips, self.consistent = 0, False",
        "self.skips, self.consistent = 0, True",
        f"{_FAILURES}::test_an_update_that_failed_half_way_is_not_saved",
    ),
    # ---- optimiser and schedule
    Patch(
        "offsets learn as fast as the rest",
        "engine/training/optim.py",
        '"offset": config.offset_lr_factor, "norm"',
        '"offset": 1.0, "norm"',
        _GROUPS,
    ),
    Patch(
        "norms decay in spite of decay_norms",
        "engine/training/optim.py",
        "config.weight_decay if config.decay_norms else 0.0",
        "config.weight_decay",
        _GROUPS,
    ),
    Patch(
        "warm-up one step longer",
        "engine/training/optim.py",
        "* step / warmup",
        "* step / (warmup + 1)",
        _STEPS,
    ),
    Patch(
        "milestones one step late",
        "engine/training/optim.py",
        "bisect_right(config.milestones, step)",
        "bisect_right(config.milestones, step - 1)",
        _STEPS,
    ),
    # ---- checkpoints
    Patch(
        "no checkpoint at an evaluation",
        "engine/training/hooks.py",
        "if regular or ends or trainer.evaluation_due:",
        "if regular or ends:",
        _OUTLIVES,
    ),
    Patch(
        "the best checkpoint pruned",
        "engine/runtime/checkpoint.py",
        'if best is None or old.name != checkpoint_name(best["step"]):',
        "if True:",
        _OUTLIVES,
    ),
    Patch(
        "the newest result taken for the best",
        "engine/runtime/checkpoint.py",
        '["metric"] == metric and before["value"] >= value',
        '["metric"] == metric and False',
        _OUTLIVES,
    ),
    Patch(
        "a best step without a checkpoint",
        "engine/runtime/checkpoint.py",
        "if math.isnan(value) or not (folder / checkpoint_name(step) / META).is_file():",
        "if math.isnan(value):",
        _BEST,
    ),
    Patch(
        "values of two metrics compared",
        "engine/runtime/checkpoint.py",
        'before["metric"] == metric and ',
        "",
        _BEST,
    ),
    Patch(
        "checksums not compared",
        "engine/runtime/checkpoint_files.py",
        "if _digest(file) != digest:",
        "if False:",
        f"{_TESTS}/test_checkpoint.py::test_harm_to_a_checkpoint_is_noticed",
    ),
    Patch(
        "checksums need not list the weights",
        "engine/runtime/checkpoint_files.py",
        "for name in (WEIGHTS, META, *present):",
        "for name in present:",
        f"{_DAMAGED}::test_checksums_have_to_list_the_files",
    ),
    Patch(
        "NaN in averages loaded",
        "engine/runtime/checkpoint_files.py",
        "for name in (WEIGHTS, AVERAGE):",
        "for name in (WEIGHTS,):",
        _NAN,
    ),
    Patch(
        "infinite weights loaded",
        "engine/runtime/checkpoint_files.py",
        "not wide.isfinite().all()",
        "wide.isnan().any()",
        _NAN,
    ),
    Patch(
        "a checkpoint that is given not checked",
        "engine/runtime/checkpoint.py",
        "    fault = damage(checkpoint)\n    if fault is not None:\n        raise ValueError",
        "    fault = None\n    if fault is not None:\n        raise ValueError",
        f"{_DAMAGED}::test_a_checkpoint_that_does_not_match_its_checksums_is_refused",
    ),
    Patch(
        "averages not preferred",
        "engine/runtime/checkpoint.py",
        "AVERAGE if (checkpoint / AVERAGE).is_file() else WEIGHTS",
        "WEIGHTS",
        f"{_STEP}::test_average_of_weights_is_kept_saved_and_preferred",
    ),
    Patch(
        "the means since the last row not resumed",
        "engine/training/checkpointer.py",
        'self.meter.load(meta["meter"])',
        "pass",
        _RESUMED,
    ),
    Patch(
        "the optimiser's state not resumed",
        "engine/training/checkpointer.py",
        'restore_optimizer(train_step.optimizer, state["optimizer"])',
        "pass",
        _RESUMED,
    ),
    # ---- failures, signals and locks
    Patch(
        "a failure saves nothing",
        "engine/training/trainer.py",
        "                self._save_after_failure()\n",
        "",
        _HOOK,
    ),
    Patch(
        "a result recorded after its pictures",
        "engine/training/hooks.py",
        "            trainer.logger.record_result(row)\n",
        "",
        f"{_FAILURES}::test_a_result_is_recorded_before_anything_is_drawn",
    ),
    Patch(
        "pictures that fail end the run",
        "engine/runtime/attempt.py",
        "except Exception as error:",
        "except ZeroDivisionError as error:",
        f"{_FAILURES}::test_a_picture_that_cannot_be_drawn_is_left_out",
    ),
    Patch(
        "a dead loader process noticed in the middle of an update",
        "data/worker_signals.py",
        "with _stop_signals_blocked(), _child_handler_kept():",
        "with _stop_signals_blocked():",
        f"{_FAILURES}::test_a_killed_loader_process_costs_no_work",
    ),
    Patch(
        "the folder not locked",
        "engine/runtime/run_lock.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        f"{_LOCK}::test_a_folder_in_use_names_its_holder_until_that_dies",
    ),
    Patch(
        "loader processes hold the lock",
        "engine/runtime/run_lock.py",
        "os.register_at_fork(after_in_child=_close_in_child)",
        "pass",
        f"{_LOCK}::test_a_folder_in_use_names_its_holder_until_that_dies",
    ),
    Patch(
        "a refusal over NFS taken for a missing lock",
        "engine/runtime/run_lock.py",
        "errno.EAGAIN, errno.EACCES)",
        "errno.EAGAIN)",
        f"{_LOCK}::test_a_refusal_over_nfs_is_one_too",
    ),
    Patch(
        "a second signal ends the run before it saves",
        "engine/runtime/signals.py",
        "elif number == signal.SIGINT and time",
        "elif time",
        _SIGNAL,
    ),
    # ---- evaluation
    Patch(
        "last weights evaluated instead of the average",
        "engine/training/hooks.py",
        "trainer.model if average is None else average.module",
        "trainer.model",
        f"{_STEP}::test_the_average_is_evaluated_and_drawn",
    ),
    Patch(
        "curve labelled 0.75 drawn at 0.70",
        "engine/evaluation/coco_eval.py",
        "{0: 0.5, 5: 0.75}",
        "{0: 0.5, 4: 0.75}",
        _CURVE,
    ),
    Patch(
        "one image twice and another missing",
        "engine/evaluation/evaluate.py",
        "if any(wrong.values()):",
        "if wrong.total():",
        _ONCE,
    ),
    Patch(
        "AP75 at 0.70",
        "engine/evaluation/coco_eval.py",
        '"AP75": slice(5, 6)',
        '"AP75": slice(4, 5)',
        _SUMMARY,
    ),
    Patch(
        "AP capped at 100 detections",
        "engine/evaluation/coco_eval.py",
        "if n <= max_detections]",
        "if n <= min(max_detections, 100)]",
        _COUNTED,
    ),
    Patch(
        "areas of recall shifted",
        "engine/evaluation/coco_eval.py",
        'mean(recall[:, :, i, -1]) for i, s in enumerate("sml", start=1)}',
        'mean(recall[:, :, i, -1]) for i, s in enumerate("sml")}',
        _SUMMARY,
    ),
    Patch(
        "masks where the probability is above 0.3",
        "engine/evaluation/detections.py",
        "MASK_THRESHOLD = 0.5",
        "MASK_THRESHOLD = 0.3",
        f"{_DETECTIONS}::test_a_mask_is_where_the_probability_is_above_one_half",
    ),
    Patch(
        "masks pasted into the corner of the picture",
        "engine/evaluation/detections.py",
        "[left, top, top]",
        "[0, 0, 0]",
        f"{_DETECTIONS}::test_masks_are_pasted_as_torchvision_pastes_them",
    ),
    Patch(
        "pixels of two masks drawn in the second's colour",
        "engine/visualization/draw.py",
        "painted[:, count > 1] = 0",
        "pass",
        f"{_DETECTIONS}::test_masks_are_drawn_as_torchvision_draws_them",
    ),
    Patch(
        "masks sized by their boxes",
        "engine/evaluation/coco_eval.py",
        "if key != field}",
        "if key}",
        f"{_EVALUATION}::test_a_mask_is_sized_by_its_own_area",
    ),
    Patch(
        "VOC's IoU of exactly one half counted",
        "engine/evaluation/voc_eval.py",
        "overlaps[best] > IOU_THRESHOLD",
        "overlaps[best] >= IOU_THRESHOLD",
        f"{_EVALUATION}::test_voc_needs_more_than_half_the_area_and_looks_at_given_images_alone",
    ),
    Patch(
        "VOC's second match counted as right",
        "engine/evaluation/voc_eval.py",
        'first = hit and objects[best]["id"] not in taken',
        "first = hit",
        _VOC,
    ),
    Patch(
        "VOC's difficult objects counted",
        "engine/evaluation/voc_eval.py",
        'if hit and objects[best]["iscrowd"]:',
        "if False:",
        _VOC,
    ),
    Patch(
        "an expected result of NaN accepted",
        "engine/evaluation/evaluate.py",
        "if not abs(got - value) <= band:",
        "if abs(got - value) > band:",
        f"{_EVALUATION}::test_expected_results_have_a_band",
    ),
    Patch(
        "objects beyond the limit not reported",
        "engine/evaluation/evaluate.py",
        "for key, n in counts.items() if n > limit}",
        "for key, n in counts.items() if n > 2 * limit}",
        f"{_EVALUATION}::test_images_with_more_objects_than_count_are_reported",
    ),
    # ---- configuration
    Patch(
        "a bound itself refused or accepted",
        "engine/config/ranges.py",
        "value > self.low if self.open_low else value >= self.low",
        "value >= self.low",
        _RANGES,
    ),
    Patch(
        "numbers in lists not checked",
        "engine/config/ranges.py",
        "            yield from _numbers(entry)",
        "            yield from ()",
        _RANGES,
    ),
    Patch(
        "a cut configuration read",
        "engine/config/loading.py",
        "        _check_complete(path, values)\n",
        "",
        f"{_DAMAGED}::test_a_damaged_configuration_of_a_run_is_named",
    ),
    Patch(
        "damaged rows dropped without a copy",
        "engine/training/csv_rows.py",
        "if len(complete) < len(rows):",
        "if False:",
        f"{_DAMAGED}::test_good_rows_of_a_damaged_table_remain",
    ),
]
