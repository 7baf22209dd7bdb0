# SPDX-License-Identifier: BSD-3-Clause
"""Renews reports/README.md, the index that marks stale reports.

`python -m suites.reporting --readme` also renews the headlines of reports that README.md and the
pages of docs/ and reports/ quote.
"""

import argparse
from collections.abc import Sequence

from suites.reporting.folders import REPORTS
from suites.reporting.index import index_text
from suites.reporting.pages import PAGES, fill_page


def main(words: Sequence[str] | None = None) -> None:
    """Renew the index and, if asked, the headlines on pages."""
    parser = argparse.ArgumentParser(prog="python -m suites.reporting", description=__doc__)
    parser.add_argument(
        "--readme", action="store_true", help="also renew README.md, docs/ and reports/"
    )
    options = parser.parse_args(words)
    (REPORTS / "README.md").write_text(index_text())
    if options.readme:
        for page in PAGES:
            page.write_text(fill_page(page.read_text(), page=page))


if __name__ == "__main__":
    main()
