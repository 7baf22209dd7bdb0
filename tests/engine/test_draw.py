# SPDX-License-Identifier: BSD-3-Clause
"""Pictures of detections: names of classes in any script."""

from pathlib import Path

import pytest
import torch
from matplotlib import font_manager

from dcnv2.engine.visualization import fonts
from dcnv2.engine.visualization.draw import draw

# No character, and no font has a glyph for it.
NOTHING = "\U0010fffe"


@pytest.fixture(autouse=True)
def _nothing_remembered():
    fonts.label.cache_clear()


def _picture(*names):
    """One box a name, from top to bottom."""
    count = len(names)
    tops = 60.0 * torch.arange(count)
    boxes = torch.stack([torch.full((count,), 10.0), tops + 20, torch.full((count,), 250.0)])
    result = {
        "boxes": torch.cat([boxes.T, tops.unsqueeze(1) + 55], dim=1),
        "labels": torch.arange(1, count + 1),
    }
    return draw(torch.zeros(3, 60 * count, 256, dtype=torch.uint8), result, names, 0.5)


@pytest.mark.parametrize(
    ("first", "second"),
    [("кот", "пёс"), ("γάτα", "σκύλ"), ("חתול", "כלב"), ("قط", "كلب"), ("ß", "ø")],
)
def test_names_in_other_scripts_are_drawn_as_letters(first, second):
    """Not as one square a letter, which would look alike for names of one length."""
    assert not torch.equal(_picture(first), _picture(second))
    text, font = fonts.label(first, 1)
    assert text == first
    assert Path(font) == fonts.dejavu()


def test_names_in_ascii_keep_the_plain_font():
    assert fonts.label("cat", 1) == ("cat", None)
    assert fonts.label("two\n lines", 1) == ("two lines", None)
    assert len(fonts.label("long " * 100, 1)[0]) <= fonts.LONGEST_NAME


def test_names_that_no_font_has_are_numbers_with_one_warning(caplog):
    drawn = _picture("cat", NOTHING)
    assert torch.equal(drawn, _picture("cat", "class 2"))
    _picture("cat", NOTHING)
    assert caplog.text.count("drawn as class 2") == 1
    assert caplog.text.count("fonts-noto-cjk") == 1


def test_one_picture_may_have_names_in_several_fonts():
    both = _picture("cat", "кот", "dog")
    alone = _picture("cat", "dog", "dog")
    assert torch.equal(both[:, :60], alone[:, :60])
    assert torch.equal(both[:, 120:], _picture("cat", "x", "dog")[:, 120:])
    assert not torch.equal(both[:, 60:120], _picture("cat", "пёс", "dog")[:, 60:120])


def test_a_system_font_is_used_where_the_bundled_one_lacks_the_letters(monkeypatch, tmp_path):
    damaged = tmp_path / "damaged.ttf"
    damaged.write_bytes(b"\0\1\0\0" + bytes(100))
    sans = fonts.dejavu()
    found = [str(damaged)]
    found += [str(sans.with_name(f"{name}.ttf")) for name in ("LastResortHE-Regular", sans.stem)]
    found.insert(0, str(sans.with_name("DejaVuSans-Bold.ttf")))
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: found)
    mathematical = sans.with_name("cmr10.ttf")  # without Cyrillic
    monkeypatch.setattr(fonts, "dejavu", lambda: mathematical)
    assert fonts.find_font("кот") == sans
    assert fonts.find_font("cat") == mathematical
    assert fonts.find_font("猫") is None
