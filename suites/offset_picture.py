# SPDX-License-Identifier: BSD-3-Clause
"""Draw what the offsets do: where an output of a trained net looks, without them and with them.

`python -m suites.offset_picture RUN IMAGE... --out FILE` draws the newest checkpoint of a run, as
`dcnv2 offsets` does, for the README.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from dcnv2.engine.config.loading import load_config
from dcnv2.engine.inference.predict import as_tensor
from dcnv2.engine.training.checkpoint import restore
from dcnv2.engine.visualization.offsets import draw_offsets


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(prog="python -m suites.offset_picture", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a training run")
    parser.add_argument("images", nargs="+", help="image files")
    parser.add_argument("--out", type=Path, default=Path("reports/pictures/offsets.png"))
    options = parser.parse_args(words)
    config = load_config(options.run)
    model, _ = restore(config, None, torch.device("cpu"))
    draw_offsets(model, [as_tensor(path) for path in options.images], options.out)


if __name__ == "__main__":
    main()
