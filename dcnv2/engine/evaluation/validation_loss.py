# SPDX-License-Identifier: BSD-3-Clause
"""The loss on a validation set, without an update of the weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import nn

from dcnv2.data.dataset import DetectionDataset
from dcnv2.data.transforms import train_transforms
from dcnv2.engine.config import RunConfig
from dcnv2.engine.runtime.datasets import val_batches
from dcnv2.engine.runtime.distributed import Communicator
from dcnv2.engine.runtime.seeds import set_seed
from dcnv2.models.detector import Detector


@torch.no_grad()
def validation_loss(
    model: Detector,
    dataset: DetectionDataset,
    config: RunConfig,
    comm: Communicator,
    between: Callable[[], None] | None = None,
) -> dict[str, float]:
    """Returns `loss` and its weighted terms, the means over the images of a validation set.

    Each image is a batch of its own, with random numbers that follow from its id, so the result
    does not depend on the batch size and the number of ranks. Images have their test size.

    Args:
        model: on this rank's device; its weights, statistics and mode stay as they are.
        dataset: as for an evaluation.
        config: the run, for the weights of the terms.
        comm: the processes that evaluate together.
        between: called after each batch; may raise to stop early.

    Returns:
        The means on the first rank, an empty dict on the others.
    """
    labelled = copy.copy(dataset)
    labelled.crowd, labelled.transforms = True, train_transforms(flip=0.0)
    weights, training = vars(config.train.loss_weights), model.training
    found: list[tuple[int, dict[str, float]]] = []
    model.train()
    model.transform.eval()  # trains with one of several sizes
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    try:
        for images, targets in val_batches(labelled, config, comm):
            for image, target in zip(images, targets, strict=True):
                image_id = int(target["image_id"])
                seed = image_id % 2**32
                set_seed(seed, comm.device)
                terms = model([image.to(comm.device)], [{**target, "seed": seed}])
                found.append((image_id, {name: float(loss) for name, loss in terms.items()}))
            if between is not None:
                between()
    finally:
        model.train(training)
    ranks = comm.gather(found)
    if not ranks:
        return {}
    images_terms = [terms for rank in ranks for _, terms in rank]
    means = {
        name: weights[name] * math.fsum(terms[name] for terms in images_terms) / len(images_terms)
        for name in images_terms[0]
    }
    return {"loss": sum(means.values()), **means}
