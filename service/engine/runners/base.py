"""The protocol between the engine and a runtime: arrays in, arrays out, nothing else.

Letters: B rows of a batch, H and W the side of the cropped frame in pixels, S policy state, G glance feature,
F pooled state, C classes. A clip model's frames are ``[B, N, H, W, 3]`` and its states have width 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from adafocus.bundle.manifest import Precision

UInt8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Array = UInt8 | Int64 | Float32
Component = Literal["glance", "focus"]

LARGE_STEP_FLOPS = 100_000_000
"""Below, a step's time is that of its many calls, which no precision makes cheaper (docs/backends.md)."""


class RunnerError(RuntimeError):
    """A runtime that cannot be had, or a graph that failed; the text says which and what would help."""


def first_line(error: BaseException) -> str:
    """The first line of what a foreign exception says, or its type if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@dataclass(frozen=True, slots=True)
class StateWidths:
    """Lengths of the two recurrent states of a row; 0 where the model has none."""

    policy: int
    pooled: int


@dataclass(frozen=True, slots=True)
class GlanceOutput:
    """What a glance leaves: feature ``[B, G]``, patch centre ``[B, 2]`` as (y, x) in 0..1, policy state ``[B, S]``."""

    feature: Float32
    patch_centre: Float32
    policy_state: Float32


@dataclass(frozen=True, slots=True)
class FocusOutput:
    """What a focus leaves: logits ``[B, C]`` of the row's step, and the pooled state ``[B, F]``."""

    logits: Float32
    pooled_state: Float32


class Runner(Protocol):
    """One loaded bundle on one device. Rows are independent; calls come from one thread at a time."""

    @property
    def backend(self) -> str:
        """Name as in ``--backend``."""

    @property
    def precision(self) -> Precision:
        """Precision of the loaded graphs."""

    @property
    def widths(self) -> StateWidths:
        """Sizes of the states that a new row starts with, as zeros."""

    @property
    def look_ahead(self) -> int:
        """Steps of one video that a batch may hold: such a batch has one state, that before the first of them."""

    def padded(self, rows: int) -> int:
        """The batch size that really runs for that many rows."""

    def glance(self, frames: UInt8, policy_state: Float32) -> GlanceOutput:
        """Run the glance graph on ``frames [B, H, W, 3]`` RGB and ``policy_state [B, S]``, or ``[1, S]`` to look ahead.

        Raises:
            RunnerError: the graph failed.
        """

    def focus(
        self, frames: UInt8, patch_centre: Float32, glance_feature: Float32, pooled_state: Float32, step: Int64
    ) -> FocusOutput:
        """Run the focus graph; ``step [B]`` counts from 0 and picks each row's head; ``pooled_state`` as the glance's.

        Raises:
            RunnerError: the graph failed.
        """

    def warm_up(self) -> None:
        """Run every batch size once, so that no request pays for the first."""

    def close(self) -> None:
        """Give the device back."""


@dataclass(frozen=True, slots=True)
class BatchOutputs:
    """What a glance and a focus left: ``patch_centre [B, 2]``, ``logits [B, C]`` and the states, with their times."""

    patch_centre: Float32
    logits: Float32
    policy_state: Float32
    pooled_state: Float32
    glance_seconds: float
    focus_seconds: float

    def first(self, rows: int) -> Self:
        """The first rows only, without copying."""
        return self._of(array[:rows] for array in self._arrays())

    def take(self, rows: Int64) -> Self:
        """Copies of some of the rows."""
        return self._of(array[rows] for array in self._arrays())

    def like(self, rows: int) -> Self:
        """Zeros of the same widths."""
        return self._of(np.zeros((rows, *array.shape[1:]), dtype=np.float32) for array in self._arrays())

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The rows of all parts, one after the other; the times are lost."""
        return parts[0]._of(np.concatenate(arrays) for arrays in zip(*(part._arrays() for part in parts), strict=True))

    def _arrays(self) -> tuple[Float32, ...]:
        return self.patch_centre, self.logits, self.policy_state, self.pooled_state

    def _of(self, arrays: Iterable[Float32]) -> Self:
        centre, logits, policy, pooled = arrays
        return type(self)(centre, logits, policy, pooled, self.glance_seconds, self.focus_seconds)


class BatchInputs(Protocol):
    """The arrays of a batch as `submit` reads them; `service.engine.batch.Batch` is one."""

    @property
    def rows(self) -> int:
        """Real rows; the arrays hold as many as the size that the runner has planned for them."""

    @property
    def glance_frames(self) -> UInt8:
        """``[B, H, W, 3]``, or ``[B, N, H, W, 3]`` of a clip model."""

    @property
    def focus_frames(self) -> UInt8:
        """The same array, or the focus's own frames of a clip model."""

    @property
    def policy_state(self) -> Float32:
        """``[B, S]``, or ``[1, S]`` to look ahead."""

    @property
    def pooled_state(self) -> Float32:
        """``[B, F]``, or ``[1, F]`` to look ahead."""

    @property
    def step(self) -> Int64:
        """``[B]``, from 0."""


@runtime_checkable
class AsyncRunner(Runner, Protocol):
    """A runner whose device works on its own: a batch is submitted, and waited for by another thread.

    Batches run in the order in which they were submitted, two of them at most at a time. Waiting does not hold the
    interpreter's lock.
    """

    def submit(self, inputs: BatchInputs) -> object:
        """Start a batch and return what `wait` takes. The inputs stay as they are until it has been waited for.

        Raises:
            RunnerError: it could not be started.
        """

    def wait(self, ticket: object) -> BatchOutputs:
        """Outputs of the oldest batch that was not waited for yet; they may include padding.

        Raises:
            RunnerError: a graph failed.
        """
