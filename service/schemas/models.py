"""The schemas of the models that a service has: for ``GET /models`` and for the repository of ``/v2``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

State = Literal["READY", "LOADING", "UNAVAILABLE"]
"""Whether a model answers; ``UNAVAILABLE``: it has been unloaded, or its engine is being started again."""


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True)


class ModelState(_Schema):
    """One model of the repository, as Triton's model repository extension describes it."""

    name: str
    version: str
    state: State
    reason: str = Field(default="", description="Why the newest bundle could not be loaded; empty if it could.")


class ModelSummary(ModelState):
    """One model of the service."""

    kind: Literal["frame", "clip"]
    labels: int = Field(description="Number of labels.")
    operating_points: tuple[str, ...]
    default_point: str


class ModelList(_Schema):
    """All models of the service."""

    default: str = Field(description="The model of requests that name none.")
    models: tuple[ModelSummary, ...]
