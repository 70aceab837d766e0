"""The authors' checkpoints, made from the recipe, and the outputs of their code for them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from adafocus.model import PUBLISHED, AdaFocus, AdaFocusTSM, ModelConfig
from adafocus.model.checkpoint import load_authors
from tests.fixtures.authors import weights

FOLDER = Path(weights.__file__).parent

FRAME_CONFIGS = {"act_mbv2_p128": PUBLISHED["actnet_mbv2_p128"], "act_res50_p128": PUBLISHED["actnet_res50_p128"]}
CLIP_CONFIG = PUBLISHED["sthv2_tsm_p128"]
TRAIN_CONFIG = replace(PUBLISHED["actnet_mbv2_p128"], num_classes=10, steps=4, dropout=0.0)

Arrays = dict[str, np.ndarray]


def load(name: str, config: ModelConfig, folder: Path, profile: str = "eval") -> AdaFocus | AdaFocusTSM:
    """Write the checkpoint of the recipe as the authors would, and read it the way a user's file is read."""
    path = folder / f"{name}.pth.tar"
    spec = json.loads((FOLDER / f"state_dict_spec_{name}.json").read_text())
    state = weights.make_state(spec["entries"], keep_module=True, profile=profile)
    torch.save({"state_dict": {key: torch.from_numpy(value) for key, value in state.items()}}, path)
    del state
    model = load_authors(path, config)
    path.unlink()
    return model


def expected(name: str) -> Arrays:
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return dict(arrays)


def videos(count: int, frames: int, first: int = 0, amp: int = 3) -> torch.Tensor:
    return torch.from_numpy(weights.make_batch(count, frames, first=first, amp=amp))


def difference(ours: torch.Tensor, theirs: np.ndarray) -> np.ndarray:
    assert tuple(ours.shape) == theirs.shape
    return ours.detach().double().numpy() - theirs.astype(np.float64)


def assert_close(ours: torch.Tensor, theirs: np.ndarray, tolerance: float, rms: float | None = None) -> None:
    delta = difference(ours, theirs)
    assert np.abs(delta).max() <= tolerance
    if rms is not None:
        assert np.sqrt(np.mean(delta**2)) <= rms
