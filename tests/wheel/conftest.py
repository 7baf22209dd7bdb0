# SPDX-License-Identifier: BSD-3-Clause
"""A wheel that is built without a compiler, and installed into a folder of its own."""

import os
import subprocess
import sys
import zipfile

import pytest
from check_pip_compiler import copy_sources


class Installation:
    """A wheel in a folder; programs run in a working directory that is no checkout.

    Attributes:
        folder: the working directory.
        names: the files of the wheel.
    """

    def __init__(self, folder):
        self.folder = folder
        sources, site = folder / "sources", folder / "site"
        sources.mkdir()
        copy_sources(sources)
        self._environment = {k: v for k, v in os.environ.items() if k not in ("CXX", "CUDA_HOME")}
        self._environment |= {"PATH": str(folder), "PYTHONPATH": str(site)}
        options = ("--no-build-isolation", "--no-deps", "--wheel-dir", folder)
        built = self.run("-m", "pip", "wheel", *options, sources)
        assert built.returncode == 0, built.stdout + built.stderr
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            self.names = archive.namelist()
            archive.extractall(site)

    def run(self, *words):
        """Run Python there."""
        command = [sys.executable, *map(str, words)]
        return subprocess.run(
            command, env=self._environment, cwd=self.folder, capture_output=True, text=True
        )


@pytest.fixture(scope="session")
def installation(tmp_path_factory):
    """The wheel, built once."""
    return Installation(tmp_path_factory.mktemp("wheel"))
