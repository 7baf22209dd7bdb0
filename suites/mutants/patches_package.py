# SPDX-License-Identifier: BSD-3-Clause
"""Mutants of the package's own Python: options, checks, dtypes, modules, checkpoints, export.

A mutant's file is below dcnv2/; `detected_by` is the path of a test in the project.
"""

from suites.mutants.patches import Patch

_CLAIMS, _TESTS = "suites/correctness", "tests"
_EQUALS = f"{_CLAIMS}/test_conv_definition.py::test_equals_the_reference"
_MIXTURES = f"{_CLAIMS}/test_pytorch.py::test_autocast_takes_every_mixture_of_dtypes"
_MIXED_POOLS = f"{_CLAIMS}/test_pytorch.py::test_autocast_of_pools_takes_every_mixture_of_dtypes"
_CHECKS = f"{_TESTS}/ops/test_checks.py::test_a_wrong_operand_is_named"
_MODULES = f"{_TESTS}/nn/test_conv_modules.py"
_START = f"{_MODULES}::test_a_converted_convolution_starts_at_its_full_or_half_output"
_PARTS = f"{_MODULES}::test_pack_equals_its_branch_and_its_operator"


def _file(file, name, old, new, detected_by) -> Patch:
    return Patch(name, file, old, new, detected_by)


PACKAGE = [
    # ---- options and checks
    _file(
        "ops/checks.py",
        "first of two numbers used for both",
        "return whole(name, value[0]), whole(name, value[1])",
        "return whole(name, value[0]), whole(name, value[0])",
        _EQUALS,
    ),
    _file(
        "ops/checks.py",
        "one number applied only to rows",
        "return value, value",
        "return value, 1",
        f"{_CLAIMS}/test_conv_definition.py::test_integers_and_pairs_mean_the_same",
    ),
    _file(
        "ops/checks.py",
        "input smaller than the kernel refused in spite of padding",
        "if out_height < 1 or out_width < 1:",
        "if height < kh or width < kw:",
        _EQUALS,
    ),
    _file(
        "ops/checks.py",
        "height and width of an offset not checked",
        "(batch, deform_groups * 2 * taps, out_height, out_width)",
        "(batch, deform_groups * 2 * taps, *offset.shape[2:])",
        _CHECKS,
    ),
    _file(
        "ops/checks.py",
        "batch of a mask not checked",
        "(batch, deform_groups * taps, out_height, out_width)",
        "(mask.shape[0], deform_groups * taps, out_height, out_width)",
        _CHECKS,
    ),
    _file(
        "ops/checks.py",
        "length of a bias not checked",
        '_check_shape("bias", bias, (out_channels,), "[O]")',
        "pass",
        _CHECKS,
    ),
    _file(
        "ops/checks.py",
        "device of an offset not checked",
        "_check_device(input, offset=offset, weight=weight)",
        "_check_device(input, weight=weight)",
        _CHECKS,
    ),
    _file(
        "ops/checks.py",
        "RoI of an image after the last one accepted",
        "if not (least >= 0 and most < input.shape[0]):",
        "if not least >= 0:",
        _CHECKS,
    ),
    # ---- dtypes
    _file(
        "ops/autocast.py",
        "bias not cast under autocast",
        "_cast(weight, dtype), _cast(bias, dtype)",
        "_cast(weight, dtype), bias",
        _MIXTURES,
    ),
    _file(
        "ops/autocast.py",
        "weight not cast under autocast",
        "_cast(weight, dtype), _cast(bias, dtype)",
        "weight, _cast(bias, dtype)",
        _MIXTURES,
    ),
    _file(
        "ops/autocast.py",
        "offset rounded to autocast's dtype",
        "return input, _cast_coordinates(offset, input), weight",
        "return input, _cast(offset, dtype), weight",
        f"{_TESTS}/ops/test_autocast.py::test_float32_offsets_are_not_rounded",
    ),
    _file(
        "ops/autocast.py",
        "RoIs rounded to the features' dtype under autocast",
        "_cast_coordinates(rois, input),",
        "_cast(rois, input.dtype),",
        _MIXED_POOLS,
    ),
    _file(
        "ops/functional.py",
        "result under autocast not cast to the promoted dtype",
        "return out.to(autocast.conv_dtype(input, weight, bias))",
        "return out",
        f"{_TESTS}/ops/test_autocast_compute_dtype.py"
        "::test_every_mix_of_dtypes_gives_float32s_result_and_gradients_rounded_once",
    ),
    # ---- registrations with PyTorch
    _file(
        "ops/schema.py",
        "traced results always contiguous",
        "memory_format = torch.channels_last if channels_last else torch.contiguous_format",
        "memory_format = torch.contiguous_format",
        f"{_TESTS}/ops/test_conv.py::test_results_take_the_memory_format_of_their_operand",
    ),
    _file(
        "ops/schema.py",
        "traced result on the default device",
        "dtype=like.dtype, device=like.device, memory_format",
        "dtype=like.dtype, memory_format",
        f"{_TESTS}/ops/test_registration.py::test_fakes_stay_on_the_device_of_their_operands",
    ),
    _file(
        "ops/autograd.py",
        "second derivatives through aliased operands",
        "return tensor.view_as(tensor) if tensor.requires_grad else",
        "return tensor if tensor.requires_grad else",
        f"{_TESTS}/ops/test_registration.py"
        "::test_derivatives_of_derivatives_are_those_of_plain_autograd",
    ),
    _file(
        "ops/transforms.py",
        "forward-mode tangents silently zero",
        "if forward_ad._current_level >= 0:",
        "if forward_ad._current_level >= 9:",
        f"{_TESTS}/ops/test_transforms.py"
        "::test_functions_and_operators_have_the_portable_paths_derivatives",
    ),
    # ---- modules
    _file(
        "nn/conv.py",
        "offset branch of a pack ignores the dilation",
        "            self.padding,\n            self.dilation,\n        )",
        "            self.padding,\n        )",
        _START,
    ),
    _file(
        "nn/conv.py",
        "offset branch of a pack ignores the stride",
        "            self.kernel_size,\n            self.stride,\n            self.padding,",
        "            self.kernel_size,\n            1,\n            self.padding,",
        _START,
    ),
    _file(
        "nn/conv.py",
        "offset branch of a pack initialised at random",
        "self.conv_offset = ZeroConv2d(",
        "self.conv_offset = nn.Conv2d(",
        _START,
    ),
    _file(
        "nn/conv.py",
        "mask of a pack starts at one",
        "mask = logits.sigmoid()",
        "mask = logits.sigmoid() * 2",
        _START,
    ),
    _file(
        "nn/conv.py",
        "a pack's offsets are its first 18 channels, its mask the last 9",
        "offset, logits = self.conv_offset(input).split([2 * taps, taps], dim=1)",
        "both = self.conv_offset(input); offset, logits = both[:, :18], both[:, -9:]",
        _PARTS,
    ),
    _file(
        "nn/conv.py",
        "bias of a module ignored",
        "            self.weight,\n            self.bias,\n",
        "            self.weight,\n            None,\n",
        _PARTS,
    ),
    _file(
        "engine/training/optim.py",
        "offset parameters use the full learning rate",
        'scale = config.offset_lr_factor if group["name"] == "offset" else 1.0',
        "scale = 1.0",
        f"{_TESTS}/engine/test_optim.py::test_rates_keep_their_ratio_along_the_schedule",
    ),
    # ---- neighbours
    _file(
        "convert/checkpoints.py",
        "y and x planes of a checkpoint not interleaved",
        "return planes.transpose(0, 1).flatten(0, 1)",
        "return places",
        f"{_TESTS}/convert/test_convert.py::test_4uiiurz1s_planes_are_interleaved",
    ),
    _file(
        "convert/checkpoints.py",
        "modulated branches with one deform group not recognised",
        "for fields in (2, 3))",
        "for fields in (2,))",
        f"{_TESTS}/convert/test_convert.py::test_families_that_differ_in_names",
    ),
    _file(
        "convert/checkpoints.py",
        "offset branches with one deform group not recognised",
        "for fields in (2, 3))",
        "for fields in (3,))",
        f"{_TESTS}/convert/test_convert.py::test_families_that_differ_in_names",
    ),
    _file(
        "convert/checkpoints.py",
        "of two tensors with one name the first lost",
        '    if name in tensors:\n        raise ValueError(f"two',
        '    if False:\n        raise ValueError(f"two',
        f"{_TESTS}/convert/test_weight_files.py::test_two_tensors_never_become_one",
    ),
    _file(
        "convert/weight_files.py",
        "a result written in place",
        "_save(tensors, part, target.suffix)",
        "_save(tensors, target, target.suffix)",
        f"{_TESTS}/convert/test_weight_files.py::test_a_failed_write_leaves_nothing",
    ),
    _file(
        "compat/basicsr.py",
        "mask and weight exchanged in BasicSR's signature",
        "    mask: Tensor,\n    weight: Tensor,\n",
        "    weight: Tensor,\n    mask: Tensor,\n",
        f"{_TESTS}/compat/test_compat.py::test_functions_have_each_projects_argument_order",
    ),
    _file(
        "export/nodes.py",
        "exported without its bias",
        "if build.absent(bias) and not build.absent(mask) and own in _DTYPES:",
        "if not build.absent(mask) and own in _DTYPES:",
        f"{_TESTS}/export/test_onnx_conv.py::test_onnxruntime_equals_pytorch_for_a_net_of_all_layers",
    ),
]
