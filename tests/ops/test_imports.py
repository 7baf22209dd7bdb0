# SPDX-License-Identifier: BSD-3-Clause
"""What importing the package costs: not the compiler, and no clash with a user's own files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dcnv2

_SCRIPT = """
import sys
import torch
before = set(sys.modules)
import dcnv2, dcnv2.ops, dcnv2.nn, dcnv2.export
import dcnv2.compat.basicsr, dcnv2.compat.mmcv, dcnv2.compat.torchvision
dcnv2.replace, dcnv2.deformable, dcnv2.convert_state_dict
new = sorted(set(sys.modules) - before)
print([name for name in new if name.split(".")[:2] in (["torch", "_dynamo"], ["torchvision"])])
"""


@pytest.mark.slow
def test_a_fresh_import_loads_neither_the_compiler_nor_torchvision(tmp_path):
    """Beside a script whose folder holds a name that the compiler imports: cProfile's `profile`."""
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    (tmp_path / "profile.py").write_text("raise ImportError('the profile of the user')")
    environment = os.environ | {"PYTHONPATH": str(Path(dcnv2.__file__).parents[1])}
    run = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "[]", run.stdout
