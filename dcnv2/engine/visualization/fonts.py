# SPDX-License-Identifier: BSD-3-Clause
"""Fonts for names in any script.

Pillow's own font has little more than ASCII. DejaVu Sans, which comes with matplotlib, has Latin,
Greek, Cyrillic, Arabic, Hebrew and others. For Chinese, Japanese, Korean and Indic scripts the
system must have a font: those of all scripts together take more than 100 MB.
"""

from __future__ import annotations

import functools
import logging
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten

from PIL import ImageFont

log = logging.getLogger("dcnv2")

SIZE = 12
LONGEST_NAME = 60
# Fonts with a placeholder for every character.
EMPTY = ("lastresort", "blank", "tofu")
# Other styles than an upright sans serif of regular weight are taken only if there is no other.
STYLES = ("bold", "black", "heavy", "light", "thin", "italic", "oblique", "serif", "mono")


@functools.cache
def label(name: str, number: int) -> tuple[str, str | None]:
    """Returns what to draw for a class, and in which font.

    Args:
        name: name of the class.
        number: its label, drawn as `class 3` if no font has the characters of the name; the log
            then has a warning, once.

    Returns:
        The text, and the file of the font; None for Pillow's own.
    """
    text = shorten(name, LONGEST_NAME, placeholder="...") or f"class {number}"
    if text.isascii():
        return text, None
    font = find_font(text)
    if font is not None:
        return text, str(font)
    log.warning(
        "no font has the characters of %s, which is drawn as class %d; install one, such as "
        "Debian's fonts-noto-cjk or fonts-noto-core",
        *(text, number),
    )
    return f"class {number}", None


def find_font(text: str) -> Path | None:
    """Returns the file of a font with digits and every visible character of a text, or None."""
    invisible = {"Zs", "Cf"}  # spaces, and marks that join letters or choose variants
    wanted = {ord(c) for c in text if unicodedata.category(c) not in invisible}
    wanted |= set(b"0123456789.")
    return next((path for path in _fonts() if _has(path, wanted)), None)


def dejavu() -> Path:
    """Returns the file of DejaVu Sans."""
    # Imported late, here and below: it takes a second, and most names are in ASCII.
    from matplotlib import get_data_path

    return Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def _fonts() -> Iterator[Path]:
    from matplotlib import font_manager

    yield dejavu()
    paths = [Path(name) for name in font_manager.findSystemFonts()]
    yield from sorted(
        (path for path in paths if not any(word in path.name.lower() for word in EMPTY)),
        key=lambda path: (sum(style in path.name.lower() for style in STYLES), path.name),
    )


def _has(path: Path, characters: set[int]) -> bool:
    from matplotlib.ft2font import FT2Font

    try:
        if not characters <= FT2Font(str(path)).get_charmap().keys():
            return False
        ImageFont.truetype(str(path), SIZE)  # fails for bitmaps of another size, such as emoji
    except (OSError, RuntimeError):
        return False
    return True
