# SPDX-License-Identifier: BSD-3-Clause
"""Tables in Markdown."""

import pandas as pd


def markdown_table(table: pd.DataFrame) -> str:
    """A GitHub table: three significant digits, missing values empty, bars escaped."""

    def cell(value: object) -> str:
        if value is None or value is pd.NA or (isinstance(value, float) and value != value):
            return ""
        if isinstance(value, float):
            return format_number(value)
        return str(value).replace("|", "\\|")

    texts = table.astype(object).map(cell)
    return texts.to_markdown(index=False, disable_numparse=True)


def format_number(value: float) -> str:
    """Three significant digits, or all before the point."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
