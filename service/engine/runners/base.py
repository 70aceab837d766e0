"""The protocol between the engine and a runtime: arrays in, arrays out, nothing else.

Letters: B rows of a batch, H and W the side of the cropped frame in pixels, S policy state, G glance feature,
F pooled state, C classes. A clip model's frames are ``[B, N, H, W, 3]`` and its states have width 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from bundle.manifest import Precision

UInt8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Array = UInt8 | Int64 | Float32
Component = Literal["glance", "focus"]


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
