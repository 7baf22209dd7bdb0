# SPDX-License-Identifier: BSD-3-Clause
"""The numbers of an update, which stay on the device until somebody reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

import torch
from torch import Tensor

Batch = tuple[Sequence[Tensor], Sequence[dict[str, Any]]]
"""Images and targets."""


class HostCopy:
    """A copy of a vector to the host that nobody waits for before its numbers are read."""

    def __init__(self, numbers: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._numbers = numbers
        if numbers.is_cuda:
            self._numbers = torch.empty_like(numbers, device="cpu", pin_memory=True)
            self._numbers.copy_(numbers, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> list[float]:
        """Returns the numbers, as soon as the device has computed them."""
        if self._event is not None:
            self._event.synchronize()
        return self._numbers.tolist()


class Outcome:
    """Losses and gradient of an update.

    Args:
        step: number of updates before it.
        batch: images and targets of this rank.
        terms: names of the terms of the loss.
        parameters: names of the parameters that have a gradient.
        means: [parts, terms], weighted terms of each micro-batch, means over all ranks.
        flags: [parts], above 0 where a term of any rank is not finite.
        own: [parts, terms], those of this rank.
        norms: [parameters], of the gradients.
        norm: [], of the whole gradient before it is clipped.
    """

    def __init__(
        self,
        step: int,
        batch: Batch,
        terms: Sequence[str],
        parameters: Sequence[str],
        means: Tensor,
        flags: Tensor,
        own: Tensor,
        norms: Tensor,
        norm: Tensor,
    ) -> None:
        self.step, self.batch, self.terms, self.parameters = step, batch, terms, parameters
        self.nonfinite = (flags > 0).any() | ~norm.isfinite()
        parts = [means.flatten(), flags, own.flatten(), norms, norm.reshape(1)]
        self._sizes = [len(part) for part in parts]
        self._copy = HostCopy(torch.cat([part.to(means.dtype) for part in parts]))
        self._read: list[list[float]] | None = None

    def _numbers(self, which: int) -> list[float]:
        if self._read is None:
            numbers, self._read = iter(self._copy.read()), []
            for size in self._sizes:
                self._read.append([next(numbers) for _ in range(size)])
        return self._read[which]

    def _of_parts(self, which: int) -> list[dict[str, float]]:
        numbers, count = self._numbers(which), len(self.terms)
        rows = [numbers[begin : begin + count] for begin in range(0, len(numbers), count)]
        return [dict(zip(self.terms, row, strict=True)) for row in rows]

    def losses(self) -> dict[str, float]:
        """Means of the terms over micro-batches and ranks."""
        parts = self._of_parts(0)
        return {term: sum(part[term] / len(parts) for part in parts) for term in self.terms}

    def own_terms(self, part: int) -> dict[str, float]:
        """The terms of a micro-batch of this rank."""
        return self._of_parts(2)[part]

    def grad_norm(self) -> float:
        """The norm of the whole gradient before it is clipped."""
        return self._numbers(4)[0]

    def bad_part(self) -> int | None:
        """The first micro-batch in which a term of any rank is not finite."""
        return next((part for part, flag in enumerate(self._numbers(1)) if flag > 0), None)

    def bad_term(self, part: int) -> str:
        """The first term of a micro-batch that is not finite, and its value."""
        terms = self._of_parts(0)[part].items()
        return next(f"{name} is {value}" for name, value in terms if not isfinite(value))

    def bad_gradients(self) -> list[str]:
        """Names of the parameters with a gradient that is not finite."""
        norms = zip(self.parameters, self._numbers(3), strict=True)
        return [name for name, norm in norms if not isfinite(norm)]


class StepValues(Mapping[str, float]):
    """What an update returns; reading a value waits for the device.

    Args:
        outcome: losses and gradient.
        known: what the host knows at once, such as the learning rate.
        half: whether overflows are the loss scale's business.
    """

    def __init__(self, outcome: Outcome, known: Mapping[str, float], half: bool) -> None:
        self._outcome, self._half = outcome, half
        self._known = dict(known)
        self._values: dict[str, float] | None = None

    def add(self, **values: float) -> None:
        """Adds values that the host knows."""
        self._known |= values

    def void(self) -> None:
        """Removes all values: the update did not happen."""
        self._values, self._known = {}, {}

    def _all(self) -> dict[str, float]:
        if self._values is None:
            outcome, values = self._outcome, {"skipped": 0.0}
            finite = outcome.bad_part() is None
            if finite and (self._half or isfinite(outcome.grad_norm())):
                losses = outcome.losses()
                values |= {"loss": sum(losses.values()), **losses}
                values["grad_norm"] = outcome.grad_norm()
            elif not self._half:
                values["skipped"] = 1.0
            self._values = values
        return {**self._values, **self._known}

    def __getitem__(self, key: str) -> float:
        return self._all()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())
