"""Both kinds of model keep the interface that training, evaluation and export rely on."""

from __future__ import annotations

import pytest
import torch

from adafocus.model import AdaFocus, AdaFocusTSM, VideoModel
from adafocus.model.flops import step_flops
from tests.model.factory import SMALL_CLIP, SMALL_FRAME, clip, clip_model, frame_model

MODELS = {"frame": frame_model, "clip": clip_model}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> VideoModel:
    made: VideoModel = MODELS[request.param]()
    assert made.kind == request.param
    return made


def frames_of(model: VideoModel) -> torch.Tensor:
    sampling = model.config.sampling
    return clip(2, sampling.frames + (sampling.focus_frames or 0))


@torch.no_grad()
def test_glance_then_focus_is_the_answer(model: VideoModel) -> None:
    frames, config = frames_of(model), model.config
    glance = model.glance_clip(frames)
    focus = model.focus_clip(frames, glance.features, glance.patch_centres)
    assert glance.patch_centres.shape == (2, config.steps, 2)
    for logits in (glance.logits, focus.logits, focus.step_logits):
        assert logits.shape == (2, config.steps, config.num_classes)
    torch.testing.assert_close(model.answer(frames), focus.step_logits)
    if isinstance(model, AdaFocus):
        torch.testing.assert_close(model.answer(frames), model(frames).step_logits)
    else:
        first = config.glance_frames
        torch.testing.assert_close(model.answer(frames)[:, 0], model(frames[:, :first], frames[:, first:]).logits)


def test_every_weight_belongs_to_one_learning_part(model: VideoModel) -> None:
    parts = model.learning_parts()
    ours = [id(p) for modules in parts.values() for module in modules for p in module.parameters()]
    assert sorted(ours) == sorted(id(p) for p in model.parameters())
    assert parts["glance"][0] is model.glance
    assert parts["focus"][0] is model.focus


def test_every_weight_has_a_released_name(model: VideoModel) -> None:
    assert model.released_names().keys() == model.state_dict().keys()


def test_the_served_cost_is_part_of_the_published_one(model: VideoModel) -> None:
    flops = step_flops(model)
    assert 0 < flops.glance + flops.focus == flops.per_step < flops.paper_per_step
    assert {part.component for part in flops.parts} == {"glance", "focus", None}


def test_another_kind_of_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match="AdaFocus needs kind 'frame', got 'clip'"):
        AdaFocus(SMALL_CLIP)
    with pytest.raises(ValueError, match="AdaFocusTSM needs kind 'clip', got 'frame'"):
        AdaFocusTSM(SMALL_FRAME)
