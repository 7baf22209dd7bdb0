# SPDX-License-Identifier: BSD-3-Clause
"""Words that only insiders understand do not occur in names, comments or pages.

Each entry has the plain term. Only whole words count, and words inside names: `killer` is found in
`_KILLER` and `killer_name`, but `seller` does not contain it.
"""

import re

import pytest
from style_files import ROOT, SOURCE_SUFFIXES, project_files

# A word, and what to write instead.
WORDS = {
    "absurd": "out-of-range",
    "crowds?|crowded": "oversized cell",
    "dotter": "OffsetMaskEpilogue",
    "drawn (?:problem|geometr|case|tensor)\\w*": "generated, random",
    "gatherer": "the name of the part",
    "gauge": "DeviceTimer",
    "killers?": "detected_by",
    "learner": "train_step",
    "in our favour": "dcnv2 is faster",
    "ledger": "recorder",
    "made to hurt": "adversarial",
    "only look down|rooms|import arrows": "packages, import layers",
    "planted": "mutant, deliberate fault",
    "prices?|priced": "tolerance",
    "rivals?": "other library",
    "slabs?": "shared-memory row, K tile",
    "strange": "non-finite, out-of-range",
    "strangers?": "foreign import, other library",
    "tell of|tells of|told": "report, set",
    "there already": "existing",
    "what came of": "the result",
}
# Folders where a word is right (annotations of COCO have crowds) or not replaced yet.
ALLOWED = {
    "crowds?|crowded": (
        "dcnv2/",
        "docs/",
        "suites/coco/",
        "tests/data/",
        "tests/engine/",
        "tests/models/",
    ),
    "strange": ("suites/peers/notes.py",),  # a claim's name in earlier reports
}
# Reports are renewed by the suites, not by hand.
GENERATED = ("reports/", "dcnv2/pretrained/")
TEXTS = (*SOURCE_SUFFIXES, ".md", ".toml", ".ini", ".yaml", ".yml", ".cfg", ".cff")


def _pattern(word):
    return re.compile(rf"(?<![a-z])(?:{word})(?![a-z])", re.IGNORECASE)


def _split(text):
    """The text with the words of names apart: `kTileSlab` becomes `k Tile Slab`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", text)


def _texts():
    own = ("tests/style/test_words.py",)
    for path in project_files():
        name = path.relative_to(ROOT).as_posix()
        if path.suffix in TEXTS and not name.startswith((*GENERATED, *own)):
            yield name, path.read_text()


@pytest.fixture(scope="module")
def lines():
    return [
        (f"{name}:{number}", line, _split(line))
        for name, text in _texts()
        for number, line in enumerate(text.splitlines(), start=1)
    ]


@pytest.mark.parametrize("word", WORDS)
def test_no_private_word(lines, word):
    pattern, allowed = _pattern(word), ALLOWED.get(word, ())
    found = [
        f"{place}: {line.strip()}"
        for place, line, split in lines
        if pattern.search(split) and not place.startswith(allowed)
    ]
    assert not found, f"write instead: {WORDS[word]}"
