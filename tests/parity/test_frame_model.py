"""The frame model equals the authors' code, end to end and stage by stage, in float32 and float64."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from adafocus.model import AdaFocus
from adafocus.model.backbones import spatial_mean
from adafocus.model.patch import crop_patches
from tests import tolerances
from tests.parity import authors
from tests.parity.authors import Arrays, assert_close

pytestmark = pytest.mark.parity


@dataclass(frozen=True)
class Case:
    model: AdaFocus
    frames: torch.Tensor  # (2, 16, 3, 224, 224)
    expected: Arrays


@pytest.fixture(scope="module", params=authors.FRAME_CONFIGS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    name = request.param
    model = authors.load(name, authors.FRAME_CONFIGS[name], tmp_path_factory.mktemp(name))
    assert isinstance(model, AdaFocus)
    return Case(model.requires_grad_(False), authors.videos(2, 16), authors.expected(f"expected_{name}"))


def test_end_to_end_in_float32(case: Case) -> None:
    out = case.model(case.frames)
    want = case.expected
    assert_close(out.patch_centres, want["actions"], tolerances.ACTIONS)
    assert_close(out.step_logits, want["cat_logits"], tolerances.LOGITS_MAX, tolerances.LOGITS_RMS)
    assert_close(out.step_logits[:, -1], want["pred"], tolerances.LOGITS_MAX, tolerances.LOGITS_RMS)
    assert_close(out.glance_logits, want["global_logits"], tolerances.LOGITS_MAX, tolerances.LOGITS_RMS)
    assert_close(out.focus_logits, want["local_logits"], tolerances.LOGITS_MAX, tolerances.LOGITS_RMS)


def test_frame_by_frame_in_float32(case: Case) -> None:
    policy_state, pooled_state = case.model.initial_states(2)
    logits, centres = [], []
    for t in range(16):
        frames = case.frames[:, t]
        feature, centre, policy_state = case.model.glance_step(frames, policy_state)
        step = torch.full((2,), t)
        now, pooled_state = case.model.focus_step(frames, centre, feature, pooled_state, step)
        logits.append(now)
        centres.append(centre)
    assert_close(torch.stack(centres, 1), case.expected["actions"], tolerances.ACTIONS)
    assert_close(torch.stack(logits, 1), case.expected["cat_logits"], tolerances.LOGITS_MAX, tolerances.LOGITS_RMS)


def test_glance_and_policy_stage_by_stage(case: Case) -> None:
    model, want = case.model, case.expected
    images = case.frames.flatten(0, 1)
    maps = model._feature_map(images)
    assert_close(maps.mean(dim=(1, 2, 3)).view(2, 16), want["fm_mean"], tolerances.FEATURE_MAP)
    assert_close(maps.std(dim=(1, 2, 3), correction=0).view(2, 16), want["fm_std"], tolerances.FEATURE_MAP)
    assert_close(maps.flatten(1)[:, :64].view(2, 16, 64), want["fm_first64"], tolerances.FEATURE_MAP)
    assert_close(spatial_mean(maps).view(2, 16, -1), want["global_feat"], tolerances.FEATURE_MAP)
    encoded = model.policy.encoder(maps).view(2, 16, -1)
    assert_close(encoded[..., :64], want["policy_encoder_first64"], tolerances.POLICY_HIDDEN)
    state = model.initial_states(2)[0]
    states = []
    for x in encoded.unbind(1):
        state = model.policy.recurrence(x, state)
        states.append(state[:, :64])
    assert_close(torch.stack(states, 1), want["gru_first64"], tolerances.POLICY_HIDDEN)


def test_focus_on_the_reference_patches(case: Case) -> None:
    model, want = case.model, case.expected
    centres = torch.from_numpy(want["actions"]).flatten(0, 1)
    patches = crop_patches(case.frames.flatten(0, 1), centres, 128)
    assert_close(patches.view(2, 16, 3, 128, 128)[:, :2], want["patches_first2"], tolerances.STAGED_PATCHES)
    assert_close(patches.mean(dim=(1, 2, 3)).view(2, 16), want["patch_mean"], tolerances.STAGED_PATCHES)
    assert_close(patches.std(dim=(1, 2, 3), correction=0).view(2, 16), want["patch_std"], tolerances.STAGED_PATCHES)
    features = spatial_mean(model.focus(patches))
    assert_close(features.view(2, 16, -1), want["local_feat"], tolerances.STAGED_FEATURES)
    glance_features = torch.from_numpy(want["global_feat"]).flatten(0, 1)
    mlp = model.classifier.features(glance_features, features).view(2, 16, -1)
    assert_close(mlp[..., :64], want["mlp_first64"], tolerances.STAGED_FEATURES)
    logits = model.classifier(glance_features.view(2, 16, -1), features.view(2, 16, -1))
    assert_close(logits, want["cat_logits"], tolerances.STAGED_LOGITS)


def test_answers_do_not_depend_on_later_frames(case: Case) -> None:
    changed = torch.cat([case.frames[:1, :4], case.frames[1:, 4:6]], dim=1)
    out = case.model(changed)
    assert_close(out.patch_centres[:, :4], case.expected["actions"][:1, :4], tolerances.ACTIONS)
    assert_close(out.step_logits[:, :4], case.expected["cat_logits"][:1, :4], tolerances.LOGITS_MAX)


def test_in_float64(case: Case) -> None:
    """One video, the shared model widened for it: the way back is exact."""
    want, frames = case.expected, case.frames[:1].double()
    try:
        model = case.model.double()
        out = model(frames)
        patches = crop_patches(frames[0], torch.from_numpy(want["actions_f64"])[0], 128)
        features = spatial_mean(model.focus(patches))
    finally:
        case.model.float()
    assert_close(out.patch_centres, want["actions_f64"][:1], tolerances.FLOAT64)
    assert_close(out.step_logits, want["cat_logits_f64"][:1], tolerances.FLOAT64)
    assert_close(features, want["local_feat_f64"][0], tolerances.FLOAT64_STORED_AS_FLOAT32)
