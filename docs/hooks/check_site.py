# SPDX-License-Identifier: BSD-3-Clause
"""Visits every page of the built site in headless Chromium, as wide as a desk's screen and a phone.

    python docs/hooks/check_site.py [site]

Reports links and anchors that lead nowhere, pages wider than the screen, errors in the console and
requests to other hosts; ends with status 1 if there are any. With no Chromium on PATH it says so
and ends well.
"""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag

from playwright.sync_api import Page, sync_playwright

SCREENS = {"desktop": (1280, 900), "phone": (360, 740)}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
LINKS = "[...document.querySelectorAll('a[href], img[src]')].map(e => e.href || e.src)"
NAMES = "[...document.querySelectorAll('[id]')].map(e => e.id)"
# What sticks out of the screen, unless something round it scrolls or hides it.
WIDE = """() => document.documentElement.scrollWidth > innerWidth
  ? [...document.querySelectorAll('article *')]
      .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
      .map(e => e.tagName.toLowerCase()).slice(0, 3).join(' ') || 'something'
  : ''"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and tells nobody."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def visit(page: Page, url: str) -> Iterator[str]:
    """Open a page; yield what is wrong with how it loads and how wide it is."""
    seen: list[str] = []
    host = url.split("/", 3)[2]
    listeners = {
        "console": lambda m: seen.append(f"console: {m.text}") if m.type == "error" else None,
        "pageerror": lambda error: seen.append(f"script: {error}"),
        "requestfailed": lambda request: seen.append(f"not loaded: {request.url}"),
        "request": lambda r: None if host in r.url else seen.append(f"other host: {r.url}"),
    }
    for event, listener in listeners.items():
        page.on(event, listener)
    page.goto(url, wait_until="networkidle")
    for event, listener in listeners.items():
        page.remove_listener(event, listener)
    yield from (text for text in seen if "other host: data:" not in text)
    if wide := page.evaluate(WIDE):
        yield f"wider than the screen: {wide}"


def check(site: Path, address: str, page: Page) -> list[str]:
    """Return everything wrong with the pages of a site that is served at an address."""
    faults = []
    names: dict[str, set[str]] = {}  # by the address of a page
    links: dict[str, set[str]] = {}
    pages = sorted(p for p in site.rglob("*.html") if p.name != "404.html")
    for screen, (width, height) in SCREENS.items():
        page.set_viewport_size({"width": width, "height": height})
        for path in pages:
            url = address + path.relative_to(site).as_posix().removesuffix("index.html")
            faults += [f"{url} ({screen}): {fault}" for fault in visit(page, url)]
            names[url], links[url] = set(page.evaluate(NAMES)), set(page.evaluate(LINKS))
    for url, targets in links.items():
        for target, anchor in (urldefrag(link) for link in sorted(targets)):
            if not target.startswith(address):
                continue
            file = site / unquote(target.removeprefix(address))
            lost = not (file / "index.html" if target.endswith("/") else file).is_file()
            if lost or (anchor and unquote(anchor) not in names.get(target, {anchor})):
                faults.append(f"{url}: no {target}{'#' * bool(anchor)}{anchor}")
    print(f"{len(pages)} pages, {sum(map(len, links.values()))} links, {len(faults)} faults")
    return faults


def main(folder: str = "site") -> int:
    """Serve, visit, report; returns the exit status."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print("the pages were not looked at: no Chromium on PATH")
        return 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        address = f"http://127.0.0.1:{server.server_port}/"
        faults = check(Path(folder), address, chromium.new_page())
        chromium.close()
    server.shutdown()
    print("\n".join(faults))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
