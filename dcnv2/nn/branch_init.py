# SPDX-License-Identifier: BSD-3-Clause
"""Layers of the branches that predict offsets, which return to their own start when reset.

A branch starts at zero, so that training starts at the regular sampling grid. Whatever calls
`reset_parameters` on every module (initialisation after the meta device, FSDP, cross-validation)
must not undo that; hence the start belongs to the layer, not to the module that holds it. Code that
initialises by itself whatever is an nn.Conv2d or nn.Linear has to leave these classes out.

Each layer first draws as its base class does, so that a seed gives the layers after it the same
weights.
"""

from __future__ import annotations

from torch import nn


class _StartsAtZero(nn.Module):
    """A layer, named as the next base class, whose weight and bias start at zero."""

    def reset_parameters(self) -> None:
        """Set weight and bias to zero."""
        super().reset_parameters()  # type: ignore[misc]
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


class ZeroConv2d(_StartsAtZero, nn.Conv2d):
    """An nn.Conv2d whose weight and bias start at zero."""


class ZeroLinear(_StartsAtZero, nn.Linear):
    """An nn.Linear whose weight and bias start at zero."""


class HiddenLinear(nn.Linear):
    """A hidden layer of a RoI pooling branch: weight from N(0, 0.01^2), bias zero.

    The initialisation is that of arXiv 1811.11168, section 3.2.
    """

    def reset_parameters(self) -> None:
        """Draw the weight and set the bias to zero."""
        super().reset_parameters()
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.bias)
