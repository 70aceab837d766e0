"""Patches on the plate, and what a paired bootstrap over clips says of arms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adafocus.model import AdaFocus
from adafocus.training.data.crop_plan import serving_plan
from adafocus.training.data.manifests import list_clips
from adafocus.training.recipe_files import load_recipe
from benchmarks.evidence import hatching
from benchmarks.evidence.places import MIDDLE, PLATE, POLICY, Judged, judge, patches_hold_plate, table
from tests.conftest import ROOT

SIZE, PATCH = 144, 48


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_patch_that_is_aimed_at_a_plate_holds_it(row: float, column: float) -> None:
    middle = torch.tensor([[row, column]], dtype=torch.float64)
    aimed = ((middle * SIZE - PATCH / 2) / (SIZE - PATCH)).clamp(0, 1)
    slack = 1e-6  # of rounding, where the plate lies on the edge of the frame
    inside = middle.clamp(slack, 1 - slack)
    assert patches_hold_plate(aimed, inside, SIZE, PATCH).all()


def test_a_patch_in_a_corner_does_not_hold_the_opposite_one() -> None:
    corners = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    plates = torch.tensor([[0.9, 0.9], [0.1, 0.9]])
    assert patches_hold_plate(corners, plates, SIZE, PATCH).tolist() == [False, True]


def said(right: np.ndarray) -> np.ndarray:
    """Logits [N, 1, 2] of clips of class 0 that are right or not."""
    return np.stack([right, 1.0 - right], axis=1)[:, None].astype(np.float32)


def test_the_interval_of_a_gain_is_that_of_the_same_clips() -> None:
    learned = (np.random.default_rng(0).random(1000) < 0.8).astype(float)
    worse = learned.copy()
    worse[np.flatnonzero(learned)[:100]] = 0.0
    labels, held = np.zeros(1000, dtype=np.int64), np.full(1000, 0.9, dtype=np.float32)
    judged = Judged({POLICY: said(learned), MIDDLE: said(worse)}, held, labels)
    rows = {str(row["patch"]): row for row in table("made", [judged])}
    assert rows[MIDDLE]["policy_gains"] == pytest.approx(0.1)
    assert 0.08 < float(str(rows[MIDDLE]["gains_low"])) < 0.1 < float(str(rows[MIDDLE]["gains_high"])) < 0.12
    assert float(str(rows[POLICY]["gains_low"])) == float(str(rows[POLICY]["gains_high"])) == 0.0
    assert rows[POLICY]["patch_holds_plate"] == 0.9


def test_every_clip_is_judged_in_every_place(tmp_path: Path) -> None:
    hatching.make(tmp_path, {"train": 0, "val": 18})
    recipe = load_recipe(str(ROOT / "benchmarks" / "evidence" / "hatching_smooth.toml"))
    torch.manual_seed(0)
    model = AdaFocus(recipe.model_config(hatching.CLASSES))
    found = judge(model, serving_plan(recipe), list_clips(tmp_path, "val"))
    assert {own.shape for own in found.logits.values()} == {(18, 4, hatching.CLASSES)}
    assert found.held.shape == found.labels.shape == (18,)
    assert not np.allclose(found.logits[PLATE], found.logits[MIDDLE])
