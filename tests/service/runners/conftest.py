from __future__ import annotations

from pathlib import Path

import pytest

from bundle.store import Bundle, write_bundle
from export.compose import Request, export
from model.checkpoint import save_checkpoint
from tests.export.models import CLIP, FRAME
from tests.model.factory import clip_model, frame_model

FORMATS = ("onnx", "torchscript")


@pytest.fixture(scope="session")
def frame_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small frame model in every format."""
    folder = tmp_path_factory.mktemp("frame")
    save_checkpoint(folder / "frame.pt", frame_model(FRAME))
    return _bundle(folder / "frame.pt", folder / "frame")


@pytest.fixture(scope="session")
def clip_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small clip model in every format."""
    folder = tmp_path_factory.mktemp("clip")
    save_checkpoint(folder / "clip.pt", clip_model(CLIP))
    return _bundle(folder / "clip.pt", folder / "clip")


def _bundle(checkpoint: Path, folder: Path) -> Bundle:
    made = export(Request(checkpoint, "toy", formats=FORMATS))
    return write_bundle(folder, made.manifest, made.files)
