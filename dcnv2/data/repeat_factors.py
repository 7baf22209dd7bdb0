# SPDX-License-Identifier: BSD-3-Clause
"""Repeat-factor sampling: images with rare classes occur several times in an epoch."""

import numpy as np

from dcnv2.data.annotations import Table


def repeat_factors(table: Table, threshold: float) -> np.ndarray:
    """Returns how often an epoch has each image (Gupta et al. 2019, LVIS, appendix B).

    The factor of a class is max(1, sqrt(threshold / f)), where f is the share of images that have
    it; the factor of an image is the largest of its classes. Crowd regions do not count.

    Args:
        table: The images and annotations.
        threshold: Share of images below which a class is rare.

    Returns:
        float64 [I], at least 1.
    """
    owner = np.repeat(np.arange(len(table.files)), np.diff(table.first))
    objects = ~table.crowd.astype(bool)
    pairs = np.unique(np.stack([owner[objects], table.labels[objects]]), axis=1)
    images = np.bincount(pairs[1], minlength=len(table.names) + 1)
    share = np.maximum(images, 1) / max(len(table.files), 1)
    of_class = np.maximum(1.0, np.sqrt(threshold / share))
    factors = np.ones(len(table.files))
    np.maximum.at(factors, pairs[0], of_class[pairs[1]])
    return factors
