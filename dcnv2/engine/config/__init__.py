# SPDX-License-Identifier: BSD-3-Clause
"""Configurations of runs: `load_config` reads one, `RunConfig` describes what it may contain."""

from dcnv2.engine.config.loading import (
    load_config,
    parse_values,
    pretrained,
    shipped,
    to_yaml,
)
from dcnv2.engine.config.options import (
    DataConfig,
    EvalConfig,
    LossWeights,
    OptimConfig,
    Published,
    RunConfig,
    TrainConfig,
)
from dcnv2.engine.config.ranges import ConfigError

__all__ = [
    "ConfigError",
    "DataConfig",
    "EvalConfig",
    "LossWeights",
    "OptimConfig",
    "Published",
    "RunConfig",
    "TrainConfig",
    "load_config",
    "parse_values",
    "pretrained",
    "shipped",
    "to_yaml",
]
