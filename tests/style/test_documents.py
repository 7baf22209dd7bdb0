# SPDX-License-Identifier: BSD-3-Clause
"""README, docs and reports agree with the code and with the results of the suites."""

import pkgutil
import re

import pytest
from style_files import ROOT, names, project_files

from suites.reporting.folders import REPORTS
from suites.reporting.index import all_reports, index_text
from suites.reporting.pages import PAGES, fill_page
from suites.reporting.provenance import PROVENANCE, read_provenance

READS = re.compile(r"""(?:environ(?:\.get\(|\.setdefault\(|\.pop\(|\[)|getenv\()\s*["'](\w+)["']""")
MEMBER = re.compile(r"""["']([A-Z][A-Z0-9_]+)["'] (?:not )?in os\.environ""")
README = ROOT / "README.md"


def _variables_read() -> set[str]:
    found = set()
    for path in project_files():
        if path.suffix in (".py", ".h", ".inl", ".cuh", ".cpp", ".cu"):
            if path.is_relative_to(ROOT / "tests"):
                continue
            text = path.read_text()
            found.update(READS.findall(text), MEMBER.findall(text))
    return found


def test_docs_list_the_environment_variables_that_are_read():
    page = (ROOT / "docs/environment.md").read_text()
    listed = re.findall(r"^\| `(\w+)`", page, flags=re.MULTILINE)
    assert sorted(listed) == sorted(_variables_read())


def test_readme_links_have_targets():
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text())
    assert not [link for link in links if not (ROOT / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_quote_the_current_figures(page):
    text = page.read_text()
    assert fill_page(text, page=page) == text, "run: python -m suites.reporting --readme"


def test_index_of_the_reports_is_current():
    index = (REPORTS / "README.md").read_text()
    assert index == index_text(), "run: python -m suites.reporting"


def test_every_report_has_its_provenance():
    tables = [path for path in project_files() if path.suffix == ".csv" and REPORTS in path.parents]
    assert not names([path for path in [*all_reports(), *tables] if _lacking(path)])


def _lacking(path) -> set[str]:
    return set(PROVENANCE) - {key for key, value in read_provenance(path).items() if value}


@pytest.mark.slow
def test_readme_code_runs():
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert blocks
    names_in_use: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names_in_use)
    assert names_in_use["y"].shape == (1, 16, 32, 48)


def test_every_entry_of_the_reference_exists():
    entries = re.findall(r"^::: ([\w.]+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    assert len(entries) > 20
    for entry in entries:
        assert pkgutil.resolve_name(entry) is not None, entry
