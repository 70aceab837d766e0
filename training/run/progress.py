"""The progress bar of a training: steps done and left, remaining time, the last epoch's figures."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

from adafocus.training.run.folder import Row

SHOWN = ("loss", "_accuracy", "_macro_f1", "_map")
"""Endings of the columns that are shown behind the bar."""


class StepBar:
    """A bar over all optimiser steps of a training, including those of earlier starts.

    The remaining time is computed from the mean over this start, so it includes the evaluation between epochs.

    Args:
        epochs: of the whole training.
        steps_per_epoch: optimiser steps in each.
        history: rows of the epochs that are done.
        hidden: show nothing.
    """

    def __init__(self, epochs: int, steps_per_epoch: int, history: list[Row], *, hidden: bool) -> None:
        self._epochs = epochs
        self._bar = tqdm(
            total=epochs * steps_per_epoch,
            initial=len(history) * steps_per_epoch,
            unit="step",
            disable=hidden or not sys.stderr.isatty(),
            leave=False,
            smoothing=0,
            dynamic_ncols=True,
        )
        if history:
            self.end_epoch(history[-1])

    def begin_epoch(self, number: int) -> None:
        """Show the number of the current epoch, counted from 1."""
        self._bar.set_description_str(f"epoch {number}/{self._epochs}")

    def step(self) -> None:
        """Count an optimiser step."""
        self._bar.update()

    def end_epoch(self, row: Row) -> None:
        """Show the epoch's figures behind the bar."""
        self._bar.set_postfix({name: f"{value:.4g}" for name, value in row.items() if name.endswith(SHOWN)})

    def above(self, say: Callable[[str], None], line: str) -> None:
        """Print a line above the bar."""
        with self._bar.external_write_mode(file=sys.stderr):
            say(line)

    def __enter__(self) -> StepBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()
