"""A second model for a share of the videos: whether its answers are those that were given."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from adafocus.bundle.manifest import Manifest
from adafocus.service.models.registry import Models
from adafocus.service.runtime import Runtime
from adafocus.service.shadows import Background


class AgreementObserver(Protocol):
    """Receives each comparison; metrics implement it."""

    def model_compared(self, name: str, *, agrees: bool) -> None:
        """Count whether the second model gave the answer that this model had given."""


class SecondModel(Background):
    """Classifies a share of the videos of other models too, after they were answered.

    Args:
        models: of the service.
        name: of the second model.
        share: of the answers of the other models that are compared.
        observer: told of each comparison.
        chance: gives a number in 0..1 for each answer.

    Raises:
        UnknownModel: there is no model of that name.
    """

    def __init__(
        self,
        models: Models,
        name: str,
        share: float,
        observer: AgreementObserver,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__()
        self._models = models
        self._model = models.of(name)
        self._share = share
        self._observer = observer
        self._chance = chance

    def wants_another(self, answered: Manifest) -> bool:
        """Return whether the next answer is compared: only that of a model with the same labels. Draws lots."""
        if self.busy or self._chance() >= self._share:
            return False
        second = self._model.manifest
        return second.name != answered.name and set(second.labels) == set(answered.labels)

    @contextmanager
    def use(self) -> Iterator[Runtime]:
        """The runtime of the second model; it is not closed during the block.

        Raises:
            Draining: it is not ready.
            UnknownModel: it has been unloaded.
        """
        version = self._models.version_of(self._model.manifest.name)
        try:
            yield version.take()
        finally:
            version.give_back()

    def compared(self, name: str, *, agrees: bool) -> None:
        """Count the result of one."""
        self._observer.model_compared(name, agrees=agrees)
