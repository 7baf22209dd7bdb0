# SPDX-License-Identifier: BSD-3-Clause
"""Where reports are."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
REPORTS = ROOT / "reports"


def report_dir(device: str = "cpu") -> Path:
    """Folder for reports made on `device`: reports/, or a subfolder by GPU model (reports/h200)."""
    if not device.startswith("cuda"):
        return REPORTS
    import torch

    return REPORTS / gpu_slug(torch.cuda.get_device_name(device))


def gpu_slug(name: str) -> str:
    """Folder name of a GPU: 'NVIDIA H200' becomes h200, 'NVIDIA GeForce RTX 4090' rtx4090."""
    model = re.search(r"[A-Za-z]*\s?\d+[A-Za-z]*", name)
    return re.sub(r"\W", "", (model.group() if model else name).lower())
