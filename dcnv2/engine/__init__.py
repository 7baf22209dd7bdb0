# SPDX-License-Identifier: BSD-3-Clause
"""Configuration, training, checkpoints, evaluation and prediction of detectors."""
