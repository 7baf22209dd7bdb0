# SPDX-License-Identifier: BSD-3-Clause
"""Mutants that replace a text of a source file: what a patch is, and how it is applied."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Claims, by the paths of their tests.
_CONV, _GRADIENTS, _POOLS = "test_conv_definition.py", "test_conv_gradients.py", "test_pools.py"
EQUALS = f"{_CONV}::test_equals_the_reference"
WIDE = f"{_CONV}::test_channels_in_whole_vectors_equal_the_reference"
ONE_PIXEL = f"{_CONV}::test_one_output_pixel_of_many_channels_equals_the_reference"
TILES = f"{_CONV}::test_many_pixels_of_many_channels_equal_the_reference"
FAR = f"{_CONV}::test_coordinates_are_exact_far_from_the_origin"
GROUPS = f"{_CONV}::test_groups_equal_the_reference"
NOT_FINITE = f"{_CONV}::test_a_group_that_is_not_finite_leaves_the_others_as_they_are"
EXTREME = f"{_CONV}::test_non_finite_or_out_of_range_offsets_affect_only_their_samples"
COLUMN = "test_conv_identities.py::test_layout_of_one_column_changes_nothing"
KINK = f"{_CONV}::test_slope_at_a_kink_is_the_right_sided_one"
FROZEN = f"{_GRADIENTS}::test_frozen_operands_leave_the_other_gradients_as_they_are"
VECTORS = "test_pool_vectors.py::test_pool_gives_the_published_values"
POOL = f"{_POOLS}::test_pool_equals_the_reference"
PYRAMID = "test_multiscale.py::test_multiscale_equals_the_reference"
POOL_NON_FINITE = f"{_POOLS}::test_non_finite_offsets_affect_only_their_bins"

SUPPRESSION = "test_suppression.py::test_kept_boxes_equal_the_reference"
MANY_TILES = f"{_CONV}::test_more_tiles_than_a_gpu_holds_at_once_equal_the_reference"
STREAM = "test_execution.py::test_side_stream_waits_for_its_own_work"
MANY_BINS = "test_large.py::test_bins_beyond_a_grid_of_blocks_equal_those_within"
SPREAD = "test_large.py::test_operand_may_spread_over_2_31_elements"
LARGE = "test_large.py::test_conv_reads_pixels_beyond_2_31_elements"
LARGE_POOL = "test_large.py::test_pool_reads_pixels_beyond_2_31_elements"

KERNELS_OF_CPU = ("kernels_baseline.cpp", "kernels_avx2.cpp", "kernels_avx512.cpp")
CONV_OF_CPU = (
    "conv_samples.cpp",
    "deform_conv2d_forward.cpp",
    "deform_conv2d_grad_input.cpp",
    "deform_conv2d_grad_offset_mask.cpp",
    "deform_conv2d_grad_samples.cpp",
    "deform_conv2d_grad_weight.cpp",
    "one_pixel.cpp",
    "one_pixel_forward.cpp",
    "one_pixel_grad_weight.cpp",
    *KERNELS_OF_CPU,
)
POOLS_OF_CPU = ("deform_roi_pool.cpp", "deform_psroi_pool.cpp")


def find_source(place: str, csrc: Path = ROOT / "csrc") -> Path:
    """Path below csrc/ of a source: as given, or of "cpu/NAME" and "cuda/NAME" in any subfolder.

    Raises:
        ValueError: if not exactly one source has the name.
    """
    device, _, name = place.rpartition("/")
    if (csrc / place).is_file():
        return Path(place)
    found = [path.relative_to(csrc) for path in (csrc / device).rglob(name)]
    if len(found) != 1:
        raise ValueError(f"csrc/{device} has {len(found)} sources of the name {name}, wanted 1")
    return found[0]


@dataclass(frozen=True)
class Patch:
    """One mutant: a text in a source file, and the text that replaces it.

    Attributes:
        name: what is wrong, in a few words.
        path: the file, for `find_source`; of a mutant of Python code, from the project's folder.
        old: a text that is in the file once.
        new: the faulty text.
        detected_by: the claim that must find it, as a test's place below suites/correctness, or in
            the project for a mutant of Python code.
        cpu: sources in csrc/cpu to compile with the faulty file; none if it is not for the CPU.
        cuda: the same for csrc/cuda. With a faulty header, only one pass is compiled.
        kernels: the CUDA path (mma, wgmma) that runs; by default the library chooses.
        emulated: whether the emulated CUDA kernels show it too.
        message: what the failure's message must contain, where the library has to report it.
    """

    name: str
    path: str
    old: str
    new: str
    detected_by: str
    cpu: tuple[str, ...] = ()
    cuda: tuple[str, ...] = ()
    kernels: str = ""
    emulated: bool = True
    message: str = ""

    def sources(self, device: str) -> tuple[Path, ...]:
        """The sources to compile, below csrc/."""
        names = self.cpu if device == "cpu" else self.cuda
        return tuple(find_source(f"{device}/{name}") for name in names)

    def apply(self, text: str) -> str:
        """The mutant's text of the file.

        Raises:
            ValueError: if the text to replace is not in the file exactly once.
        """
        found = text.count(self.old)
        if found != 1:
            raise ValueError(f"{self.name}: {self.path} has {found} times {self.old!r}, wanted 1")
        return text.replace(self.old, self.new)

    def mutate(self, folder: Path, csrc: Path = ROOT / "csrc") -> Path:
        """Copy the sources to a folder and apply the patch there; returns the copy's csrc/."""
        copy = folder / "csrc"
        shutil.copytree(csrc, copy, dirs_exist_ok=True)
        file = copy / find_source(self.path, csrc)
        file.write_text(self.apply(file.read_text()))
        return copy
