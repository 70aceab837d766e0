"""What ``GET /cameras`` of `adafocus watch` answers."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

CameraPhase = Literal["connecting", "live", "lost", "ended"]


class CameraReport(BaseModel):
    """What is known of a camera now, and what was counted since the start.

    Its URL is left out, because it may hold a password.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    state: CameraPhase = Field(description="`lost`: the stream stopped, and is opened again after a pause.")
    reason: str | None = Field(description="Why the stream was lost; null unless it is.")
    label: str | None = Field(description="Best label of the latest window.")
    score: float | None = Field(description="Its score, 0 to 1.")
    event: str | None = Field(description="Label of the event that goes on now.")
    last_window: str | None = Field(description="When the latest window was classified: a date in UTC.")
    lag_s: float | None = Field(description="From the last byte of that window to its answer, seconds.")
    black: bool = Field(description="Its key picture is dark all over.")
    frozen: bool = Field(description="Its key picture is the same as before.")
    windows: int = Field(description="Windows that were classified.")
    dropped: int = Field(description="Windows that made room for a newer one, or found no capacity.")
    failed: int = Field(description="Windows that cannot be classified.")
    reconnects: int = Field(description="How often the stream had to be opened again.")
    gflops: float = Field(description="Of all windows; one multiply-add counts one.")


class CamerasReport(BaseModel):
    """All cameras of this process, in the order of ``cameras.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cameras: tuple[CameraReport, ...]
