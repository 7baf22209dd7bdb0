# SPDX-License-Identifier: BSD-3-Clause
"""MkDocs hooks: add pages from outside docs/ to the site, and adapt the links to them.

Reports, CHANGELOG.md and CONTRIBUTING.md are copied; the notebook becomes a page.
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
    """Add the files outside docs/ that pages link to."""
    found = [
        path
        for path in (ROOT / "reports").rglob("*")
        if path.suffix in (".md", ".png", ".py", ".json")
    ]
    for path in [*found, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]:
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    notebook = json.loads((ROOT / "docs" / NOTEBOOK).read_text())
    page, pictures = _as_markdown(notebook)
    files.append(File.generated(config, NOTEBOOK.replace(".ipynb", ".md"), content=page))
    for name, content in pictures.items():
        files.append(File.generated(config, name, content=content))
    return files


def _as_markdown(notebook: dict) -> tuple[str, dict[str, bytes]]:
    """Return the cells and outputs of a notebook as a page, and its pictures by name."""
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
                parts.append(f"![output of the cell above]({name})")
            else:
                parts.append("```text\n" + "".join(data["text/plain"]).rstrip() + "\n```")
    return "\n\n".join([*parts, f"[This page as a notebook]({NOTEBOOK})"]), pictures


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links that leave docs/ in the checkout to the copies in the site."""
    if page.file.src_uri != NOTEBOOK.replace(".ipynb", ".md"):
        markdown = markdown.replace(f"]({NOTEBOOK})", f"]({NOTEBOOK.replace('.ipynb', '.md')})")
    up = "../" * page.file.src_uri.count("/")
    return markdown.replace(f"]({up}../reports/", f"]({up}reports/")
