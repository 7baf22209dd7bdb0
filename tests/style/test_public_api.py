# SPDX-License-Identifier: BSD-3-Clause
"""What the package promises changes on purpose only."""

import re
import subprocess
import sys

import public_api
from style_files import ROOT

import dcnv2


def test_public_names_and_arguments_are_those_written_down():
    written = (ROOT / "tests/style/public_api.txt").read_text().splitlines()
    assert public_api.lines() == written, "python tests/style/public_api.py says what is new"


def test_every_public_name_is_found_lazily_and_documented():
    assert {*dcnv2.__all__} <= {*dir(dcnv2)}
    for name in dcnv2.__all__:
        assert getattr(dcnv2, name).__doc__


def test_importing_the_package_alone_loads_nothing_heavy():
    code = "import sys, dcnv2; assert 'torch' not in sys.modules and dcnv2.__version__"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_one_version_everywhere():
    version = re.escape(dcnv2.__version__)
    project = (ROOT / "pyproject.toml").read_text()
    assert re.search(rf'^version = "{version}"$', project, re.MULTILINE)
    assert re.search(rf"^## {version}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert re.search(rf"^version: {version}$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)


def test_types_are_shipped():
    assert (ROOT / "dcnv2/py.typed").is_file()
    assert '"py.typed"' in (ROOT / "pyproject.toml").read_text()
