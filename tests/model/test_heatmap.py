"""The heatmap policy looks at the best cell, agrees between training and serving, and passes gradients on."""

from __future__ import annotations

import pytest
import torch

from adafocus.model import AdaFocus, BackboneConfig, ModelConfig, build
from adafocus.model.flops import step_flops
from adafocus.model.heatmap import HeatmapPolicy

CONFIG = ModelConfig(
    num_classes=3,
    steps=4,
    frame_size=128,
    patch_size=32,
    policy="heatmap",
    policy_channels=8,
    mlp_width=16,
    glance=BackboneConfig("mobilenet_v2", width=0.25, depth=(1, 2, 3, 4, 3), input_size=64, shrink="area"),
    focus=BackboneConfig("mobilenet_v2", width=0.25, input_size=64),
)


@pytest.fixture
def model() -> AdaFocus:
    torch.manual_seed(0)
    made = build(CONFIG)
    assert isinstance(made, AdaFocus)
    return made.eval()


def looking_at(row: int, column: int, side: int = 8) -> HeatmapPolicy:
    """A policy whose score is the first channel of a map in which one cell is bright."""
    policy = HeatmapPolicy(1, side, 1, frame_size=side * 16, patch_size=32).eval()
    for weight in (policy.squeeze.weight, policy.score.weight):
        torch.nn.init.constant_(weight, 40.0 if weight is policy.score.weight else 1.0)
    torch.nn.init.zeros_(policy.spatial.weight)
    policy.spatial.weight.data[0, 0, 1, 1] = 1.0
    return policy


@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 5), (7, 7)])
def test_the_patch_lies_around_the_best_cell(row: int, column: int) -> None:
    feature_map = torch.zeros(1, 1, 8, 8)
    feature_map[0, 0, row, column] = 1.0
    look = looking_at(row, column)(feature_map)
    middle = look.centres[0] * (128 - 32) + 32 / 2
    wanted = torch.tensor([row + 0.5, column + 0.5]) * 16
    torch.testing.assert_close(middle, wanted.clamp(16, 112), atol=0.1, rtol=0)
    assert int(look.scores[0].argmax()) == row * 8 + column


def test_a_second_maximum_far_away_does_not_pull_the_patch() -> None:
    feature_map = torch.zeros(1, 1, 8, 8)
    feature_map[0, 0, 1, 1], feature_map[0, 0, 6, 6] = 1.0, 0.999
    assert (looking_at(1, 1)(feature_map).centres < 0.2).all()


def test_two_equal_neighbours_share_the_patch() -> None:
    feature_map = torch.zeros(1, 1, 8, 8)
    feature_map[0, 0, 3, 3:5] = 1.0
    middle = looking_at(3, 3)(feature_map).centres[0] * 96 + 16
    torch.testing.assert_close(middle, torch.tensor([3.5 * 16, 4.0 * 16]), atol=0.1, rtol=0)


def test_steps_agree_with_the_whole_clip(model: AdaFocus) -> None:
    frames = torch.randn(2, 4, 3, 128, 128)
    whole = model(frames)
    policy_state, pooled = model.initial_states(2)
    assert policy_state.shape == (2, 1)
    for step in range(4):
        feature, centre, policy_state = model.glance_step(frames[:, step], policy_state)
        torch.testing.assert_close(centre, whole.patch_centres[:, step])
        logits, pooled = model.focus_step(frames[:, step], centre, feature, pooled, torch.tensor([step, step]))
        torch.testing.assert_close(logits, whole.step_logits[:, step], atol=1e-4, rtol=1e-4)
    assert not policy_state.any()


def test_steps_in_one_batch_agree_with_one_after_another(model: AdaFocus) -> None:
    frames = torch.randn(3, 2, 3, 128, 128)  # three steps of two videos
    together = model.glance_steps(frames.flatten(0, 1), model.initial_states(2)[0])
    assert together[2].shape == (6, 1)
    for step in range(3):
        alone = model.glance_step(frames[step], model.initial_states(2)[0])
        for one, other in zip(alone, together, strict=True):
            torch.testing.assert_close(one, other[2 * step : 2 * step + 2])


def test_gradients_reach_the_scores_through_the_patch(model: AdaFocus) -> None:
    frames = torch.randn(2, 4, 3, 128, 128)
    glance = model.glance_clip(frames, detach_policy=False)
    model.focus_clip(frames, glance.features.detach(), glance.patch_centres).logits.square().sum().backward()
    assert isinstance(model.policy, HeatmapPolicy)
    assert model.policy.score.weight.grad is not None and model.policy.score.weight.grad.abs().max() > 0
    assert model.glance.stem.conv.weight.grad is not None and model.glance.stem.conv.weight.grad.abs().max() > 0


def test_area_shrinking_skips_no_pixel(model: AdaFocus) -> None:
    """A dot of one pixel changes the glance wherever it lies."""
    plain = torch.zeros(1, 3, 128, 128)
    before = model.glance_step(plain, model.initial_states(1)[0])[0]
    for row, column in ((64, 64), (64, 65), (65, 64), (65, 65)):
        dotted = plain.clone()
        dotted[:, :, row, column] = 50.0
        assert not torch.allclose(model.glance_step(dotted, model.initial_states(1)[0])[0], before, atol=1e-4)


def test_an_enlarged_patch_costs_what_the_focus_sees(model: AdaFocus) -> None:
    small = build(ModelConfig.from_dict({**CONFIG.to_dict(), "focus": {"name": "mobilenet_v2", "width": 0.25}}))
    parts, fewer = step_flops(model).breakdown, step_flops(small).breakdown
    assert parts["focus network"] == 4 * fewer["focus network"]


def test_the_policy_is_counted_and_a_short_glance_costs_less(model: AdaFocus) -> None:
    parts = step_flops(model).breakdown
    assert parts["policy"] == 16 * (24 * 8 + 8 * 8 * 9 + 8)
    whole = build(ModelConfig(3, glance=BackboneConfig("mobilenet_v2", width=0.25, input_size=64), frame_size=128))
    assert parts["glance network"] < step_flops(whole).breakdown["glance network"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": "heat"}, "policy is 'heat'; permitted: recurrent, heatmap"),
        ({"kind": "clip", "steps": 1}, "policy is 'heatmap'; permitted: recurrent"),
        ({"frame_size": 120}, "glance input_size is 64; permitted with shrink 'area': a divisor of frame_size 120"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig.from_dict({**CONFIG.to_dict(), **changes})


def test_the_configuration_survives_as_plain_data() -> None:
    assert ModelConfig.from_dict(CONFIG.to_dict()) == CONFIG


def test_a_configuration_of_an_earlier_version_is_the_published_policy() -> None:
    plain = ModelConfig(3).to_dict()
    del plain["policy"], plain["glance"]["shrink"], plain["focus"]["shrink"]
    assert ModelConfig.from_dict(plain) == ModelConfig(3)
