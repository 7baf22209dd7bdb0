# SPDX-License-Identifier: BSD-3-Clause
"""The digest of csrc/ that ties a built library, and every report, to the code behind it.

A digest is of code: comments, white space and the folder of a file do not count, every other
character does. So a report stays current when a comment is reworded or a file is moved.
"""

import functools
import hashlib
import re
from pathlib import Path

_SUFFIXES = (".h", ".inl", ".cuh", ".cpp", ".cu")

# Raw strings come first, for their quotes; comments before the operator `/`; long operators before
# short ones. A line break counts only where it ends a preprocessor directive.
_TOKEN = re.compile(
    r"""
      (?P<raw>     (?:u8|[uUL])?R"(?P<mark>[^(\s\\]*)\(.*?\)(?P=mark)" )
    | (?P<comment> //(?:\\\n|[^\n])*|/\*.*?\*/ )
    | (?P<text>    (?:u8|[uUL])?"(?:\\.|[^"\\\n])*" | (?:u8|[uUL])?'(?:\\.|[^'\\\n])*' )
    | (?P<number>  \.?\d(?:[eEpP][+-]|'?[\w.])* )
    | (?P<name>    [^\W\d]\w* )
    | (?P<newline> \n )
    | (?P<space>   (?:[^\S\n]|\\\n)+ )
    | (?P<mark_>   <<<|>>>|<=>|<<=|>>=|->\*|\.\.\.|::|->|\.\*|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\|
                 |[-+*/%&|^]=|\#\#|. )
    """,
    re.VERBOSE | re.DOTALL,
)
_INCLUDE = re.compile(r'"(?:[^"/]*/)*([^"/]+)"')


def code_tokens(source: str) -> list[str]:
    """The tokens of C++ or CUDA source.

    Comments and white space are left out, and the folders of quoted `#include` names. The end of a
    preprocessor directive is a token of its own, a line break.
    """
    tokens: list[str] = []
    directive: int | None = None  # index of the `#` of the directive that the line belongs to
    at_line_start = True
    for match in _TOKEN.finditer(source):
        kind, token = match.lastgroup, match.group()
        if kind == "newline":
            if directive is not None:
                tokens.append("\n")
            directive, at_line_start = None, True
        elif kind not in ("comment", "space"):
            if token == "#" and at_line_start:
                directive = len(tokens)
            elif directive is not None and tokens[directive:] == ["#", "include"]:
                token = _INCLUDE.sub(r'"\1"', token)
            tokens.append(token)
            at_line_start = False
    return tokens


@functools.cache  # every training asks for several digests of the same files
def _joined_tokens(source: str) -> str:
    return "\0".join(code_tokens(source))


def csrc_digest(folder: Path | None = None, library: str | None = None) -> str:
    """Digest of the C++ and CUDA code: the names of files and their tokens.

    Args:
        folder: The source folder; by default the csrc/ of the checkout that holds this file.
        library: "cpu" or "cuda" for the sources of that library: its folder, and the shared files
            above it; by default the sources of both.

    Returns:
        The first 12 hexadecimal digits of a SHA-256.

    Raises:
        FileNotFoundError: `folder` has no sources, as in an installed package without a checkout.
    """
    folder = Path(folder or Path(__file__).resolve().parent.parent / "csrc")
    sources = [p for p in folder.rglob("*") if p.suffix in _SUFFIXES and p.is_file()]
    if library is not None:
        sources = [p for p in sources if p.relative_to(folder).parts[0] in (p.name, library)]
    if not sources:
        raise FileNotFoundError(f"no C++ or CUDA sources in {folder}")

    def key(path: Path) -> str:
        """`cpu/NAME` or `cuda/NAME`, or NAME of what both libraries share."""
        parts = path.relative_to(folder).parts
        return "/".join(dict.fromkeys((parts[0], parts[-1])))

    digest = hashlib.sha256()
    for path in sorted(sources, key=key):
        tokens = _joined_tokens(path.read_text())
        digest.update(f"{key(path)}\0{len(tokens)}\0{tokens}".encode())
    return digest.hexdigest()[:12]


def is_current(digest: str, library: str, folder: Path | None = None) -> bool:
    """Whether a digest is that of today's sources of a library, or of both libraries.

    Raises:
        FileNotFoundError: as `csrc_digest`.
    """
    return digest in (csrc_digest(folder, library), csrc_digest(folder))
