from __future__ import annotations

from pathlib import Path

import pytest

from adafocus.export.exporter import Export, Request, export
from adafocus.model.adafocus import AdaFocus
from adafocus.model.checkpoint import save_checkpoint
from adafocus.model.tsm import AdaFocusTSM
from tests.export.models import CLIP, FRAME
from tests.model.factory import clip_model, frame_model
from tests.once import Once

METADATA = {
    "labels": ["one", "two", "three", "four", "five"],
    "geometry": {"resize": 72, "crop": 64},
    "sampling": {"first_frame": 3},
    "provenance": {"data": "toy clips", "data_licence": "MIT", "seed": 7, "metrics": {"accuracy": 0.5}},
    "licence": "CC0-1.0",
}


@pytest.fixture(scope="session", autouse=True)
def _exports_are_shared(exports_once: Once) -> None:
    """Most of these tests export the same few networks."""


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``frame.pt`` and ``clip.pt``."""
    folder = tmp_path_factory.mktemp("checkpoints")
    save_checkpoint(folder / "frame.pt", frame_model(FRAME), **METADATA)
    save_checkpoint(folder / "clip.pt", clip_model(CLIP))
    return folder


@pytest.fixture(scope="session")
def frame_network() -> AdaFocus:
    return frame_model(FRAME)


@pytest.fixture(scope="session")
def clip_network() -> AdaFocusTSM:
    return clip_model(CLIP)


@pytest.fixture(scope="session")
def frame_export(checkpoints: Path) -> Export:
    return export(Request(checkpoints / "frame.pt", "toy"))


@pytest.fixture(scope="session")
def clip_export(checkpoints: Path) -> Export:
    return export(Request(checkpoints / "clip.pt", "toy_clip", version="2.1"))
