# SPDX-License-Identifier: BSD-3-Clause
"""Builds the two shared libraries of csrc/ beside the pure Python package (see pyproject.toml)."""

import runpy
import shutil
import sys
from pathlib import Path

from setuptools import Command, Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from build_support import libraries  # noqa: E402

csrc_digest = runpy.run_path(str(ROOT / "dcnv2" / "csrc_digest.py"))["csrc_digest"]


class BuildLibraries(Command):
    """Compile csrc/: into the checkout for an editable install, else into the build folder."""

    description = "build the shared libraries of csrc/"
    user_options = [("inplace", "i", "put the libraries into the checkout")]  # noqa: RUF012

    def initialize_options(self):
        """Begin with the defaults that setuptools sets for any build step."""
        self.inplace = False
        self.editable_mode = False
        self.build_lib = None

    def finalize_options(self):
        """Take the build folder from the build command."""
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self):
        """Build what can be built here, and say what can't and why."""
        planned, left_out = libraries.plan(ROOT, csrc_digest)
        for reason in left_out:
            print(f"dcnv2: {reason}", file=sys.stderr)
        if not (self.inplace or self.editable_mode):
            shutil.rmtree(
                self._out_dir(), ignore_errors=True
            )  # an earlier build's may be left out now
        if planned:
            libraries.build(planned, ROOT / "build" / "csrc", self._out_dir())

    def _out_dir(self) -> Path:
        here = self.inplace or self.editable_mode
        return (ROOT if here else Path(self.build_lib)) / "dcnv2" / "lib"

    def get_source_files(self):
        """Sources for the source distribution."""
        found = (ROOT / "csrc").rglob("*")
        return [str(p.relative_to(ROOT)) for p in found if p.is_file()]

    def get_outputs(self):
        """The libraries, as setuptools wants to know them."""
        return [str(p) for p in self._out_dir().glob("*.so")]

    def get_output_mapping(self):
        """Nothing is mapped: an editable install finds the libraries in the checkout."""
        return {}


class Build(build):
    """setuptools' build, with the libraries."""

    sub_commands = [*build.sub_commands, ("build_libraries", None)]  # noqa: RUF012


class Wheel(bdist_wheel):
    """The libraries need neither a Python version nor its ABI, only the platform."""

    def finalize_options(self):
        """Mark the wheel as not pure."""
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self):
        """Any Python 3, this platform."""
        return ("py3", "none", super().get_tag()[2])


class BinaryDistribution(Distribution):
    """A distribution with compiled parts, so that it goes to the platform's folder."""

    def has_ext_modules(self):
        """True: the shared libraries."""
        return True


setup(
    distclass=BinaryDistribution,
    cmdclass={"build": Build, "build_libraries": BuildLibraries, "bdist_wheel": Wheel},
)
