# SPDX-License-Identifier: BSD-3-Clause
"""The pages of docs/: their code runs, and every link and menu entry has a target."""

import json
import re
import tempfile

import pytest
import yaml
from style_files import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
# The tutorial's code needs a data set; tests/engine runs its commands.
WITH_CODE = [page for page in PAGES if CODE.search(page.read_text()) and page.stem != "tutorial"]


def _name(page):
    return page.relative_to(DOCS).as_posix()


def test_links_between_pages_have_targets():
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


def test_every_menu_entry_is_a_page():
    menu = set(_targets(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    menu.remove("tour.md")  # generated from the notebook
    assert not [
        name for name in menu if not (DOCS / name).is_file() and not (ROOT / name).is_file()
    ]
    assert {"index.md", "tutorial.md", "faq.md"} <= menu


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", WITH_CODE, ids=_name)
def test_code_of_a_page_runs(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in CODE.findall(page.read_text()):
        exec(compile(block, str(page), "exec"), names)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_notebook_runs_from_top_to_bottom(monkeypatch, tmp_path):
    import matplotlib.pyplot as plt

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(plt, "rcParams", plt.rcParams.copy())
    plt.switch_backend("agg")
    cells = json.loads((DOCS / "tour.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names = {}
    for number, source in enumerate(code):
        exec(compile(source, f"cell {number}", "exec"), names)
    plt.close("all")
    assert [len(result["boxes"]) > 0 for result in names["results"]] == [True] * 3


def test_the_notebook_holds_the_outputs_of_one_run():
    cells = json.loads((DOCS / "tour.ipynb").read_text())["cells"]
    counts = [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    kinds = [output["output_type"] for cell in cells for output in cell.get("outputs", ())]
    assert "display_data" in kinds
    assert "error" not in kinds
