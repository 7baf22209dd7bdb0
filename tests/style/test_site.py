# SPDX-License-Identifier: BSD-3-Clause
"""The pages of docs/: their code runs, and their links and the site's menu lead somewhere."""

import re

import pytest
import yaml
from style_files import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
# The tutorial's wants a data set; tests/engine types what it says.
WITH_CODE = [page for page in PAGES if CODE.search(page.read_text()) and page.stem != "tutorial"]


def _name(page):
    return page.relative_to(DOCS).as_posix()


def test_links_between_pages_lead_somewhere():
    broken = [
        f"{_name(page)}: {link}"
        for page in PAGES
        for link in LINK.findall(page.read_text())
        if not (page.parent / link).exists()
    ]
    assert not broken


def _targets(entry):
    if isinstance(entry, str):
        yield entry
    for part in entry.values() if isinstance(entry, dict) else entry * isinstance(entry, list):
        yield from _targets(part)


def test_the_menu_leads_to_pages_only():
    menu = set(_targets(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert not [
        name for name in menu if not (DOCS / name).is_file() and not (ROOT / name).is_file()
    ]
    assert {"index.md", "tutorial.md", "faq.md"} <= menu


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", WITH_CODE, ids=_name)
def test_code_of_a_page_runs(page):
    names = {}
    for block in CODE.findall(page.read_text()):
        exec(compile(block, str(page), "exec"), names)
