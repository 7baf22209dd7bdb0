# SPDX-License-Identifier: BSD-3-Clause
"""Brings into the site what lies beside its pages, and mends links to it.

Reports and the changelog are taken from outside docs/; the notebook becomes a page.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = "tour.ipynb"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what every page may link to."""
    found = [
        path for path in (ROOT / "reports").rglob("*") if path.suffix in (".md", ".png", ".py")
    ]
    for path in [*found, ROOT / "CHANGELOG.md"]:
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    notebook = json.loads((ROOT / "docs" / NOTEBOOK).read_text())
    page, pictures = _as_markdown(notebook)
    files.append(File.generated(config, NOTEBOOK.replace(".ipynb", ".md"), content=page))
    for name, content in pictures.items():
        files.append(File.generated(config, name, content=content))
    return files


def _as_markdown(notebook: dict) -> tuple[str, dict[str, bytes]]:
    """A notebook's cells and outputs as a page, and its pictures by name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {"text/plain": output.get("text", ())})
            if "image/png" in data:
                name = f"tour_{len(pictures)}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                parts.append(f"![what the cell above draws]({name})")
            else:
                parts.append("```text\n" + "".join(data["text/plain"]).rstrip() + "\n```")
    return "\n\n".join([*parts, f"[This page as a notebook]({NOTEBOOK})"]), pictures


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links that leave docs/, as they must in the checkout, to the copies in the site."""
    if page.file.src_uri != NOTEBOOK.replace(".ipynb", ".md"):
        markdown = markdown.replace(f"]({NOTEBOOK})", f"]({NOTEBOOK.replace('.ipynb', '.md')})")
    up = "../" * page.file.src_uri.count("/")
    return markdown.replace(f"]({up}../reports/", f"]({up}reports/")
