"""The protocol between the engine and a runtime: arrays in, arrays out, nothing else.

Letters: B rows of a batch, H and W the side of the cropped frame in pixels, S policy state, G glance feature,
F pooled state, C classes. A clip model's frames are ``[B, N, H, W, 3]`` and its states have width 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from adafocus.bundle.manifest import Precision
from adafocus.service.frame_memory import FrameSegment

UInt8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
Array = UInt8 | Int64 | Float32
Component = Literal["glance", "focus"]
Kind = TypeVar("Kind", np.bool_, np.float32)

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
    """What a glance leaves: feature ``[B, G]``, patch centre ``[B, 2]`` as (y, x) in 0..1, policy state ``[B, S]``.

    ``logits`` are those of its auxiliary head, ``[B, C]``; None if the graph does not give them.
    """

    feature: Float32
    patch_centre: Float32
    policy_state: Float32
    logits: Float32 | None = None

    def rows(self, rows: slice) -> Self:
        """Return some of the rows, without copying."""
        logits = None if self.logits is None else self.logits[rows]
        return type(self)(self.feature[rows], self.patch_centre[rows], self.policy_state[rows], logits)


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
    """What a glance and a focus left: ``patch_centre [B, 2]``, ``logits [B, C]`` and the states, with their times.

    ``after_glance [B]`` tells which rows exited before the focus: their logits are the glance's, and their pooled state
    is what it was. None: no row did. ``feature`` is that of the glance, where the focus runs in another batch.
    """

    patch_centre: Float32
    logits: Float32
    policy_state: Float32
    pooled_state: Float32
    glance_seconds: float
    focus_seconds: float
    after_glance: Bool | None = None
    feature: Float32 | None = None

    def first(self, rows: int) -> Self:
        """The first rows only, without copying."""
        return self._rows(slice(rows))

    def take(self, rows: Int64) -> Self:
        """Copies of some of the rows."""
        return self._rows(rows)

    def like(self, rows: int) -> Self:
        """Zeros of the same widths."""
        return self._of(np.zeros((rows, *array.shape[1:]), dtype=np.float32) for array in self._arrays())

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The rows of all parts, one after the other; the times are lost."""
        arrays = zip(*(part._arrays() for part in parts), strict=True)
        sizes = [len(part.logits) for part in parts]
        after = _joined([part.after_glance for part in parts], sizes)
        feature = _joined([part.feature for part in parts], sizes)
        return parts[0]._of((np.concatenate(array) for array in arrays), after, feature)

    def _rows(self, rows: slice | Int64) -> Self:
        after = None if self.after_glance is None else self.after_glance[rows]
        feature = None if self.feature is None else self.feature[rows]
        return self._of((array[rows] for array in self._arrays()), after, feature)

    def _arrays(self) -> tuple[Float32, ...]:
        return self.patch_centre, self.logits, self.policy_state, self.pooled_state

    def _of(self, arrays: Iterable[Float32], after_glance: Bool | None = None, feature: Float32 | None = None) -> Self:
        centre, logits, policy, pooled = arrays
        seconds = self.glance_seconds, self.focus_seconds
        return type(self)(centre, logits, policy, pooled, *seconds, after_glance, feature)


def _joined(arrays: Sequence[npt.NDArray[Kind] | None], rows: Sequence[int]) -> npt.NDArray[Kind] | None:
    """Return arrays one after the other, with zeros where one of them is None; None if all are."""
    there = [array for array in arrays if array is not None]
    if not there:
        return None
    first: npt.NDArray[Kind] = there[0]
    return np.concatenate(
        [
            np.zeros((size, *first.shape[1:]), dtype=first.dtype) if array is None else array
            for array, size in zip(arrays, rows, strict=True)
        ]
    )


@dataclass(frozen=True, slots=True)
class FramePlaces:
    """Where the frames of a batch lie, for a runner that fetches them itself.

    Attributes:
        segments: ``[B]``, number of the segment of each frame.
        places: ``[B]``, its place there.
    """

    segments: Int64
    places: Int64


class BatchInputs(Protocol):
    """The arrays of a batch as `submit` reads them; `service.engine.batch.Batch` is one."""

    @property
    def rows(self) -> int:
        """Real rows; the arrays hold as many as the size that the runner has planned for them."""

    @property
    def frame_places(self) -> FramePlaces | None:
        """Where the frames of the real rows lie, if the runner fetches frames; the frame arrays then hold nothing."""

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


@runtime_checkable
class FrameFetcher(Protocol):
    """What an `AsyncRunner` is besides if its device fetches each frame from where its decoder wrote it.

    No frame is then copied by the processor. A frame stays where it is until its batch has been waited for, unless its
    row is not wanted any more.
    """

    def attach(self, segment: FrameSegment) -> None:
        """Know a segment that batches submitted later name.

        Raises:
            RunnerError: the device cannot read it.
        """

    def detach(self, segment: FrameSegment) -> None:
        """Forget a segment that no batch names any more."""
