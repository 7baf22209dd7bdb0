# SPDX-License-Identifier: BSD-3-Clause
"""Loads the test and benchmark suites, which are not part of the library.

In a checkout they are its folders `suites` and `reference`. A wheel has copies of both inside this
package, so that an installation adds no packages of such general names. Either way they are
imported by the same names, and only in a process that asks for them here.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

# Import names of the packages that `dcnv2[harness]` installs.
EXTRA = frozenset(("pytest", "hypothesis", "pandas", "tabulate", "numpy", "torchvision"))
PACKAGES = ("suites", "reference")
_HERE = Path(__file__).resolve().parent


class UsageError(ValueError):
    """The command or the tested implementation cannot be used; the message says why."""

    exit_status = 2  # 1 is a verdict


def root() -> Path:
    """The folder that holds the suites.

    Raises:
        UsageError: There are no suites in this installation.
    """
    for folder in (_HERE, _HERE.parents[1]):
        if all((folder / name / "__init__.py").is_file() for name in PACKAGES):
            return folder
    raise UsageError(
        "this installation of dcnv2 has no test suites; install it from a wheel or a checkout"
    )


def load(name: str) -> ModuleType:
    """Import a module of the suites, such as `suites.verify.command`.

    The working directory comes next on the path, so that a file in it can be tested.

    Raises:
        UsageError: There are no suites, or modules of the same names have been imported.
    """
    folder = root()
    for package in PACKAGES:
        found = sys.modules.get(package)
        if found is not None and Path(str(found.__file__)).resolve().parent.parent != folder:
            raise UsageError(
                f"{found.__file__} hides the suites' package of the same name: rename it"
            )
    # Worker processes of the suites read the same path from the environment.
    ours = [str(folder), os.getcwd()]
    sys.path[:] = [*ours, *(path for path in sys.path if path not in (*ours, ""))]
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [path for path in inherited if path and path not in ours]
    os.environ["PYTHONPATH"] = os.pathsep.join([*ours, *kept])
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        raise UsageError(
            f'{error.name} is not installed; run: pip install "dcnv2-torch[harness]"'
        ) from error
