# SPDX-License-Identifier: BSD-3-Clause
"""Brings reports and the changelog, which lie beside docs/, into the site; mends links to them."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what every page may link to."""
    found = [
        path for path in (ROOT / "reports").rglob("*") if path.suffix in (".md", ".png", ".py")
    ]
    for path in [*found, ROOT / "CHANGELOG.md"]:
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links that leave docs/, as they must in the checkout, to the copies in the site."""
    up = "../" * page.file.src_uri.count("/")
    return markdown.replace(f"]({up}../reports/", f"]({up}reports/")
