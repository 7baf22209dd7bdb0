# SPDX-License-Identifier: BSD-3-Clause
"""Choose the C++ compiler, and try a compiler on a few lines before a build relies on it."""

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

_NAMES = ("c++", "g++", "clang++")
# Concepts and <span> came with C++20: an older compiler or standard library fails here.
PROBE = """#include <span>
template <typename T> concept Sized = requires(T t) { t.size(); };
unsigned long probe(Sized auto t) { return std::span<int>(t).size(); }
"""


def compiler() -> list[str] | None:
    """The command of the C++ compiler: CXX, which may be several words, or the first on PATH.

    Raises:
        ValueError: CXX names a program that does not exist.
    """
    if words := shlex.split(os.environ.get("CXX", "")):
        if shutil.which(words[0]) is None:
            raise ValueError(f"CXX={os.environ['CXX']}: '{words[0]}' is not found; correct CXX, or "
                             f"unset it to use the first of {', '.join(_NAMES)}")  # fmt: skip
        return words
    return next(([path] for name in _NAMES if (path := shutil.which(name))), None)


def compile_error(command: Sequence[str], suffix: str, text: str) -> str | None:
    """Compile `text` and return the compiler's first error line, or None if it compiles.

    Args:
        command: the compiler and its flags.
        suffix: the suffix of the source file, .cpp or .cu.
        text: the source.
    """
    with tempfile.TemporaryDirectory(prefix="dcnv2_probe_") as folder:
        source = Path(folder, "probe" + suffix)
        source.write_text(text)
        words = [*command, "-c", str(source), "-o", str(source.with_suffix(".o"))]
        try:
            done = subprocess.run(words, capture_output=True, text=True)
        except OSError as error:
            return str(error)
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    named = [line for line in lines if "error" in line or "fatal" in line]
    return next(iter(named or lines), f"exit status {done.returncode}").replace(f"{folder}/", "")
