from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus.model import AdaFocus, BackboneConfig, ModelConfig, build
from tests import tolerances
from tests.model.factory import SMALL_CLIP, SMALL_FRAME, SMALL_MEAN, SMALL_RESIZED, clip, frame_model

configs = pytest.mark.parametrize("config", [SMALL_FRAME, SMALL_RESIZED], ids=["mobilenet_v2", "resnet"])
poolings = pytest.mark.parametrize("config", [SMALL_FRAME, SMALL_MEAN], ids=["max", "mean"])


def walk(model: AdaFocus, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Every frame of a clip by single steps: logits [B, T, C], patch centres [B, T, 2]."""
    policy_state, pooled_state = model.initial_states(frames.shape[0])
    logits, centres = [], []
    for t in range(frames.shape[1]):
        feature, centre, policy_state = model.glance_step(frames[:, t], policy_state)
        step = torch.full((frames.shape[0],), t)
        now, pooled_state = model.focus_step(frames[:, t], centre, feature, pooled_state, step)
        logits.append(now)
        centres.append(centre)
    return torch.stack(logits, 1), torch.stack(centres, 1)


@pytest.mark.parametrize("config", [SMALL_FRAME, SMALL_RESIZED, SMALL_MEAN], ids=["mobilenet_v2", "resnet", "mean"])
@torch.no_grad()
def test_steps_agree_with_the_clip(config: ModelConfig) -> None:
    model, frames = frame_model(config), clip(3, 4)
    out = model(frames)
    logits, centres = walk(model, frames)
    torch.testing.assert_close(logits, out.step_logits, **tolerances.FRAME_MODEL_STEPS)
    torch.testing.assert_close(centres, out.patch_centres, **tolerances.FRAME_MODEL_STEPS)
    assert centres.flatten(0, 1).std(dim=0).min() > 0.01  # the patches do move, or this would show nothing


@poolings
@torch.no_grad()
def test_a_shorter_clip_is_the_beginning_of_a_longer_one(config: ModelConfig) -> None:
    model, frames = frame_model(config), clip(2, 4)
    torch.testing.assert_close(
        model(frames[:, :2]).step_logits, model(frames).step_logits[:, :2], **tolerances.FRAME_MODEL_STEPS
    )


@poolings
@settings(max_examples=20, deadline=None)
@given(steps=st.lists(st.integers(0, 3), min_size=1, max_size=6), seed=st.integers(0, 1000))
@torch.no_grad()
def test_a_row_answers_as_if_alone(config: ModelConfig, steps: list[int], seed: int) -> None:
    """Rows at different steps, with states of their own, share a batch and nothing else."""
    model, rows = frame_model(config), len(steps)
    frames = clip(rows, 1, seed=seed)[:, 0]
    policy_state = torch.randn(rows, 16)
    pooled_state = torch.rand(rows, 24)
    step = torch.tensor(steps)
    feature, centre, next_policy = model.glance_step(frames, policy_state)
    logits, next_pooled = model.focus_step(frames, centre, feature, pooled_state, step)
    for row in range(rows):
        one = slice(row, row + 1)
        alone = model.glance_step(frames[one], policy_state[one])
        for ours, batched in zip(alone, (feature, centre, next_policy), strict=True):
            torch.testing.assert_close(ours, batched[one], **tolerances.FRAME_MODEL_STEPS)
        answer = model.focus_step(frames[one], alone[1], alone[0], pooled_state[one], step[one])
        torch.testing.assert_close(answer[0], logits[one], **tolerances.FRAME_MODEL_STEPS)
        torch.testing.assert_close(answer[1], next_pooled[one], **tolerances.FRAME_MODEL_STEPS)


@torch.no_grad()
def test_mean_pooling_weighs_all_frames_alike_whatever_their_order() -> None:
    model = frame_model(SMALL_MEAN)
    classifier, (glances, patches) = (
        model.classifier,
        (torch.rand(2, 4, width) for width in (model.glance.channels, 256)),
    )
    answer = classifier(glances, patches)[:, -1]
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(classifier(glances[:, order], patches[:, order])[:, -1], answer)
    features = classifier.features(glances.flatten(0, 1), patches.flatten(0, 1)).view(2, 4, -1)
    torch.testing.assert_close(classifier.heads.at(features.mean(dim=1), torch.tensor([3, 3])), answer)


@torch.no_grad()
def test_each_step_has_a_head_of_its_own() -> None:
    model = frame_model()
    pooled = torch.rand(1, 24)
    answers = torch.stack([model.classifier.heads.at(pooled, torch.tensor([t])) for t in range(4)])
    assert (answers - answers[0]).abs().amax(dim=(1, 2))[1:].min() > 0.01


@torch.no_grad()
def test_given_patch_centres_replace_the_policys() -> None:
    model, frames = frame_model(), clip(2, 4)
    own = model(frames)
    torch.testing.assert_close(model(frames, own.patch_centres).step_logits, own.step_logits)
    other = model(frames, 1 - own.patch_centres)
    torch.testing.assert_close(other.patch_centres, 1 - own.patch_centres)
    torch.testing.assert_close(other.glance_logits, own.glance_logits)
    assert (other.step_logits - own.step_logits).abs().max() > 1e-3


@configs
def test_gradient_reaches_the_policy_through_the_patch_only(config: ModelConfig) -> None:
    model = frame_model(config).train()
    frames = clip(2, 4)
    glance = model.glance_clip(frames)
    model.focus_clip(frames, glance.features.detach(), glance.patch_centres).step_logits.square().sum().backward()
    assert model.policy.centre.weight.grad is not None
    for name, parameter in model.policy.named_parameters():
        assert parameter.grad is not None, name
        if name != "encoder.linear.bias":  # a norm follows and takes it away
            assert parameter.grad.norm() > 0, name
    assert all(parameter.grad is None for parameter in model.glance.parameters())


def test_without_the_remedy_the_policys_gradient_reaches_the_glance() -> None:
    model = frame_model().train()
    model.glance_clip(clip(2, 4), detach_policy=False).patch_centres.sum().backward()
    assert model.glance.stem.conv.weight.grad is not None


def test_one_glance_serves_two_focuses_in_training() -> None:
    model = frame_model().train()
    frames = clip(2, 4)
    glance = model.glance_clip(frames)
    for centres in (glance.patch_centres, torch.rand(2, 4, 2)):
        model.focus_clip(frames, glance.features, centres)
    counted = {name: int(buffer) for name, buffer in model.named_buffers() if name.endswith("num_batches_tracked")}
    assert {count for name, count in counted.items() if name.startswith(("glance", "policy"))} == {1}
    assert {count for name, count in counted.items() if name.startswith(("focus", "classifier"))} == {2}


@torch.no_grad()
def test_dropout_acts_in_training_only() -> None:
    model, frames = frame_model(replace(SMALL_FRAME, dropout=0.5)), clip(2, 4)
    assert torch.equal(model(frames).step_logits, model(frames).step_logits)
    model.dropout.train()
    model.classifier.dropout.train()
    for first, second in zip(model(frames)[:3], model(frames)[:3], strict=True):
        assert not torch.equal(first, second)


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(
            3,
            steps=8,
            frame_size=96,
            patch_size=patch,
            glance=BackboneConfig("mobilenet_v2", 0.5),
            focus=BackboneConfig(name, width, depth),
            policy_hidden=128,
            mlp_width=256,
            dropout=0.0,
        )
        for patch, name, width, depth in [
            (48, "resnet50", 0.25, (1, 1, 1, 1)),
            (64, "resnet18", 0.5, None),
            (32, "mobilenet_v2", 0.5, None),
        ]
    ],
    ids=["bottleneck-48", "basic-64", "mobilenet-32"],
)
def test_small_models_learn(config: ModelConfig) -> None:
    """A few steps on one batch bring the loss down: nothing is disconnected."""
    torch.manual_seed(0)
    model = AdaFocus(config).train()
    target = torch.tensor([0, 1, 2, 0])
    frames = clip(4, 4, size=96) + torch.eye(3)[target][:, None, :, None, None]  # a class is a colour
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(9):
        out = model(frames)
        loss = torch.nn.functional.cross_entropy(out.step_logits.flatten(0, 1), target.repeat_interleave(4))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_a_clip_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match="needs kind 'frame', got 'clip'"):
        AdaFocus(SMALL_CLIP)
    assert isinstance(build(SMALL_FRAME), AdaFocus)
