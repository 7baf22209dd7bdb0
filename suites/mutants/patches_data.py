# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of the data sets: reading, targets, sampling, augmentation, joining.

A mutant's file is below dcnv2/; `detected_by` is the path of a test in the project.
"""

from suites.mutants.patches import Patch

_TESTS = "tests/data"
_LOADER = f"{_TESTS}/test_loader.py"
_COCO = f"{_TESTS}/test_coco.py"
_VOC = f"{_TESTS}/test_voc.py"
_IMAGES = f"{_TESTS}/test_images.py"
_CONCAT = f"{_TESTS}/test_concat.py"
_CROPPED = f"{_LOADER}::test_objects_that_a_crop_leaves_empty_are_dropped_from_every_entry"
_SEEDS = f"{_LOADER}::test_epochs_show_every_image_in_another_order_and_seeds_never_repeat"
_DRAWS = f"{_LOADER}::test_items_draw_from_their_own_seed_and_leave_the_generators_alone"
_EXIF = f"{_IMAGES}::test_exif_orientation_is_followed_unless_annotations_were_made_without"
_FAR = f"{_TESTS}/test_segmentation.py::test_polygons_that_reach_far_are_those_with_exact_edges"
_PARSED = f"{_TESTS}/test_segmentation.py::test_codes_are_parsed_as_pycocotools_decodes_them"
_MOVED = "tests/structures/test_masks.py::test_transforms_do_to_run_lengths_what_they_do_to_tensors"
_REFIT = (
    "tests/structures/test_masks.py::test_boxes_follow_masks_only_where_objects_were_turned_or_cut"
)


DATA = [
    # ---- sampling
    Patch(
        "the order of images the same in each epoch",
        "data/loader.py",
        "np.random.default_rng((self.seed, number))",
        "np.random.default_rng(self.seed)",
        _SEEDS,
    ),
    Patch(
        "the seeds of images the same in each step",
        "data/loader.py",
        "np.random.SeedSequence((self.seed, step))",
        "np.random.SeedSequence((self.seed, 0))",
        _SEEDS,
    ),
    Patch(
        "every rank takes the whole batch's first share",
        "data/loader.py",
        "yield pairs[self.rank :: self.world_size]",
        "yield pairs[:: self.world_size]",
        f"{_LOADER}::test_ranks_share_each_batch",
    ),
    Patch(
        "a resumed run begins its epoch anew",
        "data/loader.py",
        "step, number = self.start, -1",
        "step, number = self.start - self.start % self.steps_per_epoch, -1",
        f"{_LOADER}::test_a_sampler_that_starts_later_goes_on_as_the_first_did",
    ),
    Patch(
        "wide and tall images in one batch",
        "data/loader.py",
        "tall = np.asarray(aspect_ratios) < 1",
        "tall = np.asarray(aspect_ratios) < 0",
        f"{_LOADER}::test_wide_and_tall_images_do_not_meet",
    ),
    Patch(
        "images beyond the last full batch never seen",
        "data/loader.py",
        "filled = -(-len(group) // self.batch_size) * self.batch_size",
        "filled = max(len(group) // self.batch_size, 1) * self.batch_size",
        _SEEDS,
    ),
    Patch(
        "augmentation draws from the global generator",
        "data/loader.py",
        "            torch.manual_seed(seed)\n",
        "",
        _DRAWS,
    ),
    Patch(
        "the generator of numpy not restored",
        "data/loader.py",
        "                np.random.set_state(states[1])\n",
        "",
        _DRAWS,
    ),
    Patch(
        "evaluation gives each rank the same images",
        "data/loader.py",
        "sampler=range(rank, len(dataset), world_size)",
        "sampler=range(0, len(dataset), world_size)",
        f"{_LOADER}::test_evaluation_sees_each_image_once",
    ),
    # ---- transforms
    Patch(
        "objects without a mask kept after a crop",
        "data/transforms.py",
        "keep = keep & ~masks.empty()",
        "pass",
        _CROPPED,
    ),
    Patch(
        "boxes of turned objects not refitted to their masks",
        "data/transforms.py",
        "if masks.refit.any():",
        "if False:",
        f"{_LOADER}::test_boxes_of_turned_and_cut_objects_fit_their_masks",
    ),
    Patch(
        "boxes of cut objects not refitted to their masks",
        "structures/resampling.py",
        "return np.asarray(outside.any(axis=1))",
        "return np.zeros(len(masks), bool)",
        _REFIT,
    ),
    Patch(
        "boxes of resized objects refitted to their masks",
        "structures/resampling.py",
        "        return np.zeros(len(masks), bool)",
        "        return np.ones(len(masks), bool)",
        _REFIT,
    ),
    Patch(
        "masks not flipped upside down",
        "structures/resampling.py",
        "low, high = len(rows) - high, len(rows) - low",
        "pass",
        _MOVED,
    ),
    Patch(
        "masks of padded pictures not moved down",
        "structures/resampling.py",
        "first_row = y[0] if len(y) else 0",
        "first_row = 0",
        _MOVED,
    ),
    Patch(
        "turned masks read down columns of the new height",
        "structures/resampling.py",
        "* source_height + rows[target] - 1",
        "* height + rows[target] - 1",
        _MOVED,
    ),
    Patch(
        "the colour that fills an image fills masks",
        "data/transforms.py",
        '"others": 0}',
        '"others": arguments["fill"]}',
        f"{_LOADER}::test_boxes_of_turned_and_cut_objects_fit_their_masks",
    ),
    Patch(
        "labels of dropped objects kept",
        "data/transforms.py",
        '("boxes", "labels", "masks", "area", "iscrowd")',
        '("boxes", "masks", "area", "iscrowd")',
        _CROPPED,
    ),
    Patch(
        "flips of another probability",
        "data/transforms.py",
        "v2.RandomHorizontalFlip(flip)",
        "v2.RandomHorizontalFlip(flip / 2)",
        f"{_LOADER}::test_flips_move_boxes_with_masks",
    ),
    Patch(
        "images in 0 to 255",
        "data/transforms.py",
        "scale=True)",
        "scale=False)",
        f"{_LOADER}::test_pipelines_give_plain_tensors_and_evaluation_keeps_all",
    ),
    # ---- targets
    Patch(
        "boxes as x, y, width, height",
        "data/dataset.py",
        "        boxes[:, 2:] += boxes[:, :2]\n",
        "",
        f"{_COCO}::test_items_have_torchvision_s_form",
    ),
    Patch(
        "boxes clipped to the transposed image",
        "data/dataset.py",
        "boxes.clip(0, [width, height, width, height])",
        "boxes.clip(0, [height, width, height, width])",
        f"{_COCO}::test_boxes_that_stick_out_are_clipped",
    ),
    Patch(
        "crowd regions in training targets that asked for none",
        "data/dataset.py",
        "if not self.crowd:",
        "if False:",
        f"{_COCO}::test_crowds_are_for_evaluation_unless_asked_for",
    ),
    Patch(
        "ground truth by label in place of category id",
        "data/dataset.py",
        "table.category_ids[table.labels[row] - 1]",
        "int(table.labels[row])",
        f"{_COCO}::test_labels_are_contiguous_in_the_order_of_category_ids",
    ),
    Patch(
        "an object of id 0, which COCOeval takes for none",
        "data/dataset.py",
        '"id": row + 1,',
        '"id": row,',
        f"{_COCO}::test_no_object_has_the_id_that_cocoeval_takes_for_none",
    ),
    Patch(
        "height by width in place of width by height",
        "data/dataset.py",
        "self.table.sizes[:, 0] / self.table.sizes[:, 1]",
        "self.table.sizes[:, 1] / self.table.sizes[:, 0]",
        f"{_COCO}::test_ratios_are_of_width_to_height",
    ),
    # ---- segmentations
    Patch(
        "runs from the third on not differences",
        "data/run_lengths.py",
        "np.where(position == 0, 0, 2 - position % 2)",
        "np.where(position < 2, 0, 2 - position % 2)",
        _PARSED,
    ),
    Patch(
        "the sign of a run length not read",
        "data/run_lengths.py",
        "np.where(digits[last] & SIGN,",
        "np.where(digits[last] & 0,",
        _PARSED,
    ),
    Patch(
        "run lengths along the rows",
        "data/run_lengths.py",
        "mask.T.ravel()",
        "mask.ravel()",
        f"{_TESTS}/test_raster.py::test_run_lengths_are_coco_s",
    ),
    Patch(
        "far polygons cut at the picture's own border",
        "data/polygons.py",
        "points = _half_plane(points, axis, 2 * reach[axis], -1.0)",
        "points = _half_plane(points, axis, 0.5 * reach[axis], -1.0)",
        _FAR,
    ),
    Patch(
        "crossings of a cut polygon on the wrong edge",
        "data/polygons.py",
        "crossing = before + share * (here - before)",
        "crossing = here + share * (here - before)",
        _FAR,
    ),
    Patch(
        "odd counts of coordinates accepted",
        "data/polygons.py",
        "if len(polygon) % 2:",
        "if False:",
        f"{_TESTS}/test_segmentation.py::test_polygons_that_are_none_say_why",
    ),
    Patch(
        "a bad part drops the whole object",
        "data/segmentation.py",
        "    if codes:\n",
        "    if codes and not faults:\n",
        f"{_TESTS}/test_bad_data.py::test_good_parts_of_a_segmentation_are_kept",
    ),
    Patch(
        "runs that touch written as runs of no pixel between them",
        "data/run_lengths.py",
        "edges = np.delete(edges, np.concatenate([touching, touching + 1]))",
        "pass",
        "tests/structures/test_masks.py::test_codes_are_pycocotools",
    ),
    # ---- images and Pascal VOC
    Patch(
        "EXIF orientation never followed",
        "data/images.py",
        "return image.transpose(turn) if follow else image",
        "return image",
        _EXIF,
    ),
    Patch(
        "EXIF orientation followed in spite of the annotated size",
        "data/images.py",
        "follow = size in (None, image.size[::-1] if exchanged else image.size)",
        "follow = True",
        _EXIF,
    ),
    Patch(
        "deep grey scaled to its brightest pixel",
        "data/images.py",
        "    bits += bits % 2\n",
        "",
        f"{_IMAGES}::test_deep_grey_has_an_even_number_of_bits",
    ),
    Patch(
        "VOC's boxes counted from zero",
        "data/forms/voc.py",
        "box = (x0 - 1, y0 - 1,",
        "box = (x0, y0,",
        f"{_VOC}::test_boxes_count_from_one_and_hold_their_last_pixel",
    ),
    Patch(
        "VOC's boxes without their last pixel",
        "data/forms/voc.py",
        "x1 - x0 + 1, y1 - y0 + 1)",
        "x1 - x0, y1 - y0)",
        f"{_VOC}::test_boxes_count_from_one_and_hold_their_last_pixel",
    ),
    Patch(
        "VOC's difficult objects trained on",
        "data/forms/voc.py",
        "box[2] * box[3], FLAGS[difficult])",
        "box[2] * box[3], False)",
        f"{_VOC}::test_difficult_objects_are_neither_trained_on_nor_missed",
    ),
    # ---- joined sets
    Patch(
        "ids of two joined sets meet",
        "data/concat.py",
        "if len(np.unique(ids)) < len(ids):",
        "if False:",
        f"{_CONCAT}::test_ids_that_meet_are_given_anew",
    ),
    Patch(
        "joined sets of other categories",
        "data/concat.py",
        "if other.names != first.names:",
        "if len(other.names) != len(first.names):",
        f"{_CONCAT}::test_other_categories_and_sets_without_masks_are_refused",
    ),
    Patch(
        "masks of a joined set read from the first one",
        "data/concat.py",
        'running("ends", [len(table.codes) for table in tables])',
        'running("ends", [0 for table in tables])',
        f"{_CONCAT}::test_sets_are_joined_with_their_objects_and_masks",
    ),
]
