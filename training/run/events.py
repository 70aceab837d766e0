"""The log of a run for TensorBoard: the same numbers as ``log.csv``, an event file per start of the training."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from tensorboardX import SummaryWriter

from adafocus.training.run.folder import Row

GROUPS = {"holdout": "holdout", "validation": "validation", "s": "seconds"}
"""Heading under which a column is shown, by its first or its last word; the others are of the loss."""


class EventLog:
    """Writes a row per epoch. A context manager, so that the last row is on disk when the training ends.

    Args:
        folder: for the event files; None writes nothing.
        epochs_done: of an earlier start. Its rows of later epochs, which are now repeated, are hidden.
    """

    def __init__(self, folder: Path | None, epochs_done: int = 0) -> None:
        self._writer = None
        if folder:  # files are named by the second; the first epoch distinguishes two starts within one
            own = f".{epochs_done:06d}"
            self._writer = SummaryWriter(str(folder), purge_step=epochs_done + 1, filename_suffix=own)

    def write(self, row: Row) -> None:
        """The row of an epoch."""
        if self._writer is None:
            return
        epoch = int(row["epoch"])
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(f"{heading(name)}/{name}", value, epoch)
        self._writer.flush()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()


def heading(column: str) -> str:
    """The group under which TensorBoard shows a column of the log."""
    words = column.split("_")
    return GROUPS.get(words[0]) or GROUPS.get(words[-1]) or "training"
