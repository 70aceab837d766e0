"""A runner without a model: logits are a stated function of the frame, so that tests can say what must come out."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from adafocus.bundle.manifest import Precision
from adafocus.service.engine.runners.base import (
    Float32,
    FocusOutput,
    GlanceOutput,
    Int64,
    RunnerError,
    StateWidths,
    UInt8,
)


class FakeRunner:
    """Logits that grow with every step for the class that the frame's mean brightness names.

    The policy state counts steps and the pooled state holds the brightest mean seen, so that a row fed with another
    row's state gives a visibly wrong answer.

    Args:
        classes: number of classes C.
        gain: logit added per step to the class; larger is surer sooner.
        glance_gain: the same of the glance's own logits; None: it gives none.
        fails_on: called with the frames of one row; True makes the batch that holds it fail.
        gate: if given, every glance waits for it: tests hold the device with it.
        look_ahead: steps of one video that a batch may hold.

    Attributes:
        entered: set when a glance begins, before it waits for the gate.
        tried: rows of every glance that began.
        batches: rows of every glance that did not fail.
        focused: rows of every focus.
    """

    backend = "fake"
    precision: Precision = "fp32"
    widths = StateWidths(policy=1, pooled=1)

    def __init__(
        self,
        classes: int,
        *,
        gain: float = 1.0,
        glance_gain: float | None = None,
        fails_on: Callable[[UInt8], bool] | None = None,
        gate: threading.Event | None = None,
        look_ahead: int = 1,
    ) -> None:
        self.classes = classes
        self.gain = gain
        self.glance_gain = glance_gain
        self.focused: list[int] = []
        self.fails_on = fails_on
        self.gate = gate
        self.entered = threading.Event()
        self.look_ahead = look_ahead
        self.tried: list[int] = []
        self.batches: list[int] = []

    def padded(self, rows: int) -> int:
        """No padding."""
        return rows

    def glance(self, frames: UInt8, policy_state: Float32) -> GlanceOutput:
        """Feature: the mean brightness of each row; patch centre: the middle."""
        self.entered.set()
        self.tried.append(len(frames))
        if self.gate is not None and not self.gate.wait(timeout=30):
            raise RunnerError("the test never opened the gate")
        if self.fails_on is not None and any(self.fails_on(row) for row in frames):
            raise RunnerError("a row of this batch fails by design")
        self.batches.append(len(frames))
        brightness = frames.reshape(len(frames), -1).mean(axis=1, keepdims=True).astype(np.float32)
        return GlanceOutput(
            feature=brightness,
            patch_centre=np.full((len(frames), 2), 0.5, dtype=np.float32),
            policy_state=policy_state + (1 if len(policy_state) == len(frames) else _counted(len(frames))),
            logits=None if self.glance_gain is None else self._logits(brightness, self.glance_gain),
        )

    def focus(
        self, frames: UInt8, patch_centre: Float32, glance_feature: Float32, pooled_state: Float32, step: Int64
    ) -> FocusOutput:
        """Logit ``gain * (step + 1)`` for class ``brightest mean * C / 256``, zero elsewhere."""
        if len(pooled_state) < len(frames):
            glance_feature = np.maximum.accumulate(glance_feature)
        pooled = np.maximum(pooled_state, glance_feature)
        self.focused.append(len(frames))
        return FocusOutput(logits=self._logits(pooled, self.gain * (step + 1)), pooled_state=pooled)

    def _logits(self, brightness: Float32, value: npt.ArrayLike) -> Float32:
        logits = np.zeros((len(brightness), self.classes), dtype=np.float32)
        label = np.minimum(brightness[:, 0] * self.classes / 256, self.classes - 1).astype(np.int64)
        logits[np.arange(len(brightness)), label] = value
        return logits

    def warm_up(self) -> None:
        """Nothing to warm."""

    def close(self) -> None:
        """Nothing to give back."""


def _counted(steps: int) -> Float32:
    return np.arange(1, steps + 1, dtype=np.float32)[:, None]
