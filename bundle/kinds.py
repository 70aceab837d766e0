"""The two kinds of models in a bundle: the rules for their steps, and their descriptions.

A frame model sees one frame a step; a clip model has one step, which takes all its frames at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

ModelKind = Literal["frame", "clip"]


class SampledFrames(Protocol):
    """The part of `bundle.manifest.Sampling` that the rules need."""

    @property
    def frames(self) -> int:
        """Frames of the glance."""

    @property
    def focus_frames(self) -> int | None:
        """Frames of a clip model's focus."""

    @property
    def order(self) -> Sequence[int]:
        """Position in time of the frame at each step."""


class KindRules(Protocol):
    """The rules that depend on the kind of a model."""

    @property
    def step_unit(self) -> str:
        """The input of one step: ``frame`` or ``clip``."""

    def check(self, steps: int, sampling: SampledFrames) -> None:
        """Raise `ValueError` if steps and sampled frames do not fit together."""

    def describe_steps(self, steps: int, sampling: SampledFrames) -> str:
        """The steps in words."""


class FrameRules:
    """A frame model: a step for each sampled frame."""

    step_unit = "frame"

    def check(self, steps: int, sampling: SampledFrames) -> None:
        """See `KindRules`."""
        if steps != sampling.frames:
            raise ValueError(f"a frame model has one step per sampled frame: {steps} != {sampling.frames}")
        if sampling.focus_frames is not None:
            raise ValueError(f"a frame model samples no focus_frames, got {sampling.focus_frames}")

    def describe_steps(self, steps: int, sampling: SampledFrames) -> str:
        """See `KindRules`."""
        return f"{steps}, one frame each, visited {', '.join(str(place + 1) for place in sampling.order)}"


class ClipRules:
    """A clip model: one step for all sampled frames."""

    step_unit = "clip"

    def check(self, steps: int, sampling: SampledFrames) -> None:
        """See `KindRules`."""
        if steps != 1 or sampling.focus_frames is None:
            raise ValueError("a clip model has one step and names its focus_frames")

    def describe_steps(self, steps: int, sampling: SampledFrames) -> str:
        """See `KindRules`."""
        return f"1, with {sampling.frames} frames for the glance and {sampling.focus_frames} for the focus"


KINDS: Mapping[ModelKind, KindRules] = {"frame": FrameRules(), "clip": ClipRules()}
