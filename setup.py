# SPDX-License-Identifier: BSD-3-Clause
"""Adds the libraries of csrc/ and the test suites to the package (see pyproject.toml)."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import setuptools

# pyproject.toml names the licence as setuptools 77 and newer read it.
if int(setuptools.__version__.split(".")[0]) < 77:
    sys.exit(
        f"dcnv2: setuptools {setuptools.__version__} is too old for --no-build-isolation: leave "
        "that option out, or run `pip install -U 'setuptools>=77'` first"
    )

from setuptools import Command, Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.command.dist_info import dist_info

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from build_support import jobs, libraries, torch_install  # noqa: E402

csrc_digest = runpy.run_path(str(ROOT / "dcnv2" / "csrc_digest.py"))["csrc_digest"]


def _or_exit(function, *arguments, **options):
    """Call a function; an error that it explains ends the build with that sentence."""
    try:
        return function(*arguments, **options)
    except (RuntimeError, ValueError) as error:
        sys.exit(f"dcnv2: {error}")


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
        """Build what can be built here; report and record what can't be, and why."""
        in_checkout = self.inplace or self.editable_mode
        progress = jobs.Progress(terminal=True)
        planned, skipped = _or_exit(libraries.plan, ROOT, csrc_digest, for_wheel=not in_checkout)
        for reason in dict.fromkeys(skipped.values()):
            devices = " and ".join(name.upper() for name, why in skipped.items() if why == reason)
            progress.say(f"built without the {devices} library: {reason}")
        out_dir = self._out_dir()
        if not in_checkout:
            shutil.rmtree(out_dir, ignore_errors=True)  # may hold what is now left out
        _or_exit(libraries.build, planned, ROOT / "build" / "csrc", out_dir, progress)
        (out_dir / "skipped.json").write_text(json.dumps(skipped, indent=1) + "\n")

    def _out_dir(self) -> Path:
        here = self.inplace or self.editable_mode
        return (ROOT if here else Path(self.build_lib)) / "dcnv2" / "lib"

    def get_source_files(self):
        """Sources for the source distribution."""
        found = (ROOT / "csrc").rglob("*")
        return [str(p.relative_to(ROOT)) for p in found if p.is_file()]

    def get_outputs(self):
        """The files of a built package's folder `lib`."""
        return [str(p) for p in self._out_dir().glob("*")]

    def get_output_mapping(self):
        """Nothing is mapped: an editable install finds the libraries in the checkout."""
        return {}


class BuildHarness(Command):
    """Copy the test suites into the wheel, inside the package; an editable install has its own.

    A copy, not `package_dir`: that would list every folder as a package, and make the suites of an
    editable install importable by two names.
    """

    description = "copy the test suites into dcnv2/harness"
    user_options = []  # noqa: RUF012

    def initialize_options(self):
        """Begin with the defaults that setuptools sets for any build step."""
        self.editable_mode = False
        self.build_lib = None

    def finalize_options(self):
        """Take the build folder from the build command."""
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self):
        """Copy all but what works only in a checkout."""
        if self.editable_mode:
            return
        harness = Path(self.build_lib) / "dcnv2" / "harness"
        for name in ("suites", "reference"):
            shutil.rmtree(harness / name, ignore_errors=True)  # may hold what has been deleted
        for source in self.get_source_files():
            target = harness / source
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / source, target)

    def get_source_files(self):
        """Files that are copied, relative to the checkout."""
        found = [p for name in ("suites", "reference") for p in (ROOT / name).rglob("*.*")]
        kept = [p.relative_to(ROOT) for p in found if p.is_file() and p.suffix != ".pyc"]
        return [str(p) for p in kept if not {"coco", "sanitizers", "emulator"} & {*p.parts}]

    def get_outputs(self):
        """The files of a built package; an editable install gets none."""
        if self.editable_mode:
            return []
        harness = Path(self.build_lib) / "dcnv2" / "harness"
        return [str(harness / source) for source in self.get_source_files()]

    def get_output_mapping(self):
        """Nothing is mapped: an editable install finds the suites in the checkout."""
        return {}


class Build(build):
    """setuptools' build, with the libraries and the suites."""

    sub_commands = [  # noqa: RUF012
        *build.sub_commands,
        ("build_libraries", None),
        ("build_harness", None),
    ]


class DistInfo(dist_info):
    """setuptools' metadata; the first step of an installation."""

    def run(self):
        """Refuse before pip downloads every dependency, not after."""
        _or_exit(torch_install.find_torch)
        super().run()


class Wheel(bdist_wheel):
    """The libraries depend on the platform, but on no version of Python and not on its ABI."""

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
    cmdclass={
        "build": Build,
        "build_libraries": BuildLibraries,
        "build_harness": BuildHarness,
        "bdist_wheel": Wheel,
        "dist_info": DistInfo,
    },
)
