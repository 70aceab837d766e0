"""The clip model (TSM) equals the authors' code, end to end and stage by stage, in float32 and float64."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from adafocus.model import AdaFocusTSM
from adafocus.model.backbones import spatial_mean
from adafocus.model.patch import crop_patches
from tests import tolerances
from tests.parity import authors
from tests.parity.authors import Arrays, assert_close

pytestmark = pytest.mark.parity


@dataclass(frozen=True)
class Case:
    model: AdaFocusTSM
    glance_frames: torch.Tensor  # (4, 8, 3, 224, 224)
    focus_frames: torch.Tensor  # (4, 12, 3, 224, 224)
    expected: Arrays


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    model = authors.load("sth_tsm_p128", authors.CLIP_CONFIG, tmp_path_factory.mktemp("clip"))
    assert isinstance(model, AdaFocusTSM)
    glance_frames, focus_frames = authors.videos(4, 8, first=10), authors.videos(4, 12, first=20)
    return Case(model.requires_grad_(False), glance_frames, focus_frames, authors.expected("expected_sth_tsm_p128"))


def test_end_to_end_in_float32(case: Case) -> None:
    out = case.model(case.glance_frames, case.focus_frames)
    want = case.expected
    assert_close(out.patch_centre, want["actions"], tolerances.ACTIONS)
    assert_close(out.logits, want["pred"], tolerances.LOGITS_MAX, tolerances.LOGITS_RMS)
    assert_close(out.glance_logits, want["global_reg_logit"], tolerances.LOGITS_MAX, tolerances.LOGITS_RMS)
    assert_close(out.focus_logits, want["local_reg_logit"], tolerances.LOGITS_MAX, tolerances.LOGITS_RMS)


def test_glance_stage_by_stage(case: Case) -> None:
    model, want = case.model, case.expected
    maps = model.glance(case.glance_frames.flatten(0, 1))
    assert_close(maps.mean(dim=(1, 2, 3)).view(4, 8), want["fm_mean"], tolerances.FEATURE_MAP)
    assert_close(maps.std(dim=(1, 2, 3), correction=0).view(4, 8), want["fm_std"], tolerances.FEATURE_MAP)
    assert_close(maps.flatten(1)[:, :64].view(4, 8, 64), want["fm_first64"], tolerances.FEATURE_MAP)
    assert_close(spatial_mean(maps).view(4, 8, -1), want["global_feat"], tolerances.FEATURE_MAP)
    glance = model.glance_part(case.glance_frames)
    assert_close(glance.logits, want["global_logit"], tolerances.LOGITS_MAX, tolerances.LOGITS_RMS)


def test_focus_on_the_reference_patches(case: Case) -> None:
    want = case.expected
    centre = torch.from_numpy(want["actions"])
    centres = centre[:, None].expand(-1, 12, -1).flatten(0, 1)
    patches = crop_patches(case.focus_frames.flatten(0, 1), centres, 128)
    first = patches.view(4, 12, 3, 128, 128)[:1, :2]
    assert_close(first, want["patches_video0_first2"], tolerances.STAGED_PATCHES)
    assert_close(patches.mean(dim=(1, 2, 3)).view(4, 12), want["patch_mean"], tolerances.STAGED_PATCHES)
    assert_close(patches.std(dim=(1, 2, 3), correction=0).view(4, 12), want["patch_std"], tolerances.STAGED_PATCHES)
    features = spatial_mean(case.model.focus(patches)).view(4, 12, -1)
    assert_close(features, want["local_feat"], tolerances.STAGED_FEATURES)
    focus = case.model.focus_part(case.focus_frames, centre)
    assert_close(focus.logits, want["local_logit"], tolerances.STAGED_LOGITS)


def test_in_float64(case: Case) -> None:
    """One video, the shared model widened for it: the way back is exact."""
    try:
        out = case.model.double()(case.glance_frames[:1].double(), case.focus_frames[:1].double())
    finally:
        case.model.float()
    assert_close(out.patch_centre, case.expected["actions_f64"][:1], tolerances.FLOAT64)
    assert_close(out.logits, case.expected["pred_f64"][:1], tolerances.FLOAT64)
