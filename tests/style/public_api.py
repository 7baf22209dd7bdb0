# SPDX-License-Identifier: BSD-3-Clause
"""Lists what the package promises: public names, arguments and defaults.

    python tests/style/public_api.py > tests/style/public_api.txt    # after a change that is meant

What is promised changes with the version only, and CHANGELOG.md says so.
"""

import inspect
from importlib import import_module

MODULES = (
    "dcnv2",
    "dcnv2.ops",
    "dcnv2.nn",
    "dcnv2.export",
    "dcnv2.compat.torchvision",
    "dcnv2.compat.mmcv",
    "dcnv2.compat.basicsr",
    "dcnv2.compat.dcnv2_pytorch",
    "dcnv2.compat.detectron2",
    "dcnv2.compat.flop_counters",
)


def _arguments(function) -> str:
    """Names, kinds and defaults; annotations may be made better without breaking a call."""
    signature = inspect.signature(function)
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(inspect.Signature(bare))


def lines() -> list[str]:
    """One line a promise, sorted within each module."""
    found = []
    for name in MODULES:
        module = import_module(name)
        for public in sorted(module.__all__):
            value = getattr(module, public)
            place = f"{name}.{public}"
            if not callable(value):
                found.append(place)
                continue
            found.append(place + _arguments(value))
            if inspect.isclass(value):
                found.append(f"{place}.forward{_arguments(value.forward)}")
    return found


if __name__ == "__main__":
    print("\n".join(lines()))
