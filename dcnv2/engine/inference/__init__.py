# SPDX-License-Identifier: BSD-3-Clause
"""Prediction with trained detectors: `Predictor` for Python, `predict_files` for the command."""

from dcnv2.engine.inference.predict import Predictor, as_tensor

__all__ = ["Predictor", "as_tensor"]
