# SPDX-License-Identifier: BSD-3-Clause
"""Right first: every measured problem, before it is timed.

Output and gradients are compared with torchvision's in float64, kept boxes with torchvision's.
"""

from suites.perf.float64_check import (
    conv_reference,
    conv_tolerance,
    pool_tolerance,
    relative_errors,
)
from suites.perf.implementations import IMPLEMENTATIONS
from suites.perf.problems import DTYPES, LayerPasses, matmul_mode, named_results

OURS = ("dcnv2", "portable")
_CHECKED_ROIS = 8


def test_layer_is_right(variant, selection, rows):
    layer, name, dtype, layout = variant
    implementation = IMPLEMENTATIONS[name]
    with matmul_mode(dtype):
        problem = LayerPasses(layer, implementation, dtype, selection.device, layout, "sixteenths")
        problem.grad_output[1:] = 0  # only the first image is checked
        assert problem.grad_output.dtype == DTYPES[dtype]
        errors = relative_errors(
            named_results(problem, implementation.gradients), conv_reference(problem)
        )
    _check((layer.name, name, dtype, layout), errors, conv_tolerance(layer, dtype), rows)


def test_pool_is_right(pool_variant, rows):
    case = pool_variant
    problem = case.problem(case.device)
    problem.grad_output[_CHECKED_ROIS:] = 0
    errors = relative_errors(named_results(problem), problem.reference(_CHECKED_ROIS))
    tolerance = pool_tolerance(case.load.width, case.dtype)
    _check((case.name, case.implementation, case.dtype, case.layout), errors, tolerance, rows)


def test_suppression_is_right(nms_variant, rows):
    case = nms_variant
    errors = {"images with other boxes": case.problem(case.device).wrong_images()}
    _check((case.name, case.implementation, case.dtype, case.layout), errors, 0, rows)


def _check(variant: tuple[str, str, str, str], errors: dict[str, float], tolerance: float, rows):
    """Record the errors; those of our own implementations must be within the tolerance."""
    rows.errors.append(
        dict(zip(("layer", "implementation", "dtype", "layout"), variant, strict=True)) | errors
    )
    if variant[1] in OURS:
        wrong = {key: error for key, error in errors.items() if not error <= tolerance}
        if wrong:
            rows.wrong.add(variant)
        assert not wrong, f"relative errors beyond {tolerance:.2g}: {wrong}"
