"""Tiny labelled videos, made on the spot, and a recipe small enough to learn from them in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from adafocus.training.recipe import Recipe, parse_recipe

SIDE = 48


def write_clip(path: Path, red: int, frames: int = 12, seed: int = 0) -> Path:
    """A moving square on a background whose colour tells the class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, SIDE, "yuv420p"
        stream.codec_context.thread_count = 1
        for index in range(frames):
            picture = np.full((SIDE, 64, 3), (red, 90, 255 - red), dtype=np.uint8)
            picture[10:20, index : index + 10] = 255
            picture += random.integers(0, 20, picture.shape, dtype=np.uint8) // 2
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of five clips each."""
    root = tmp_path_factory.mktemp("clips")
    for index in range(5):
        write_clip(root / "blue sky" / f"clip {index}.mp4", red=20, seed=index)
        write_clip(root / "rød" / f"klipp {index}.mp4", red=220, seed=10 + index)
    return root


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tests share their processors."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_recipe() -> Callable[..., Recipe]:
    """A recipe of two steps at 32 pixels; keyword arguments replace whole tables."""

    def make(**changes: object) -> Recipe:
        content: dict[str, object] = {
            "name": "tiny",
            "threads": 1,
            "model": {
                "steps": 2,
                "frame_size": 32,
                "patch_size": 32,
                "policy_channels": 4,
                "policy_hidden": 8,
                "mlp_width": 16,
                "glance": {"name": "resnet18", "width": 0.125, "depth": [1, 1]},
                "focus": {"name": "resnet18", "width": 0.125, "depth": [1, 1]},
            },
            "data": {"resize": 32, "source_size": 36, "candidates": 2, "first_frame": 3, "colour": 0.2, "balance": 0.5},
            "optimiser": {"epochs": 2, "batch_size": 4, "lr": 0.02, "average": 0.5, "warmup_epochs": 1},
            "multipliers": {"policy": 1.0, "glance": 1.0, "focus": 1.0, "classifier": 1.0},
            **changes,
        }
        return parse_recipe(content)

    return make


@pytest.fixture(scope="session")
def clip_recipe(tiny_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """A clip model of two glance and three focus frames at 32 pixels, patches as large as the frame."""

    def make(**changes: object) -> Recipe:
        network = {"name": "resnet18", "width": 0.125, "depth": [1, 1]}
        model = {
            "kind": "clip",
            "steps": 1,
            "frame_size": 48,
            "patch_size": 32,
            "glance_frames": 2,
            "focus_frames": 3,
            "policy_channels": 4,
            "clip_policy_widths": [8, 8],
            "dropout": 0.5,
            "glance": network,
            "focus": network,
        }
        optimiser = {"epochs": 2, "batch_size": 4, "lr": 0.02, "clip_gradient": 20.0}
        kept: dict[str, object] = {"model": model, "data": {"resize": 48, "flip": 0.0}, "optimiser": optimiser}
        return tiny_recipe(**{**kept, **changes})

    return make
