from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus.export.example_frames import noise, texture
from adafocus.export.graphs import IMAGENET_MEAN, IMAGENET_STD, PixelNorm, cut_patches, served_graphs
from adafocus.model.adafocus import AdaFocus
from adafocus.model.patch import crop_patches
from adafocus.model.tsm import AdaFocusTSM
from tests import tolerances
from tests.model.factory import frame_model
from tests.once import Once


def as_images(frames: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return ((frames.float() / 255 - mean) / std).movedim(-1, -3)


@settings(deadline=None, max_examples=60)
@given(y=st.floats(0, 1, width=32), x=st.floats(0, 1, width=32), height=st.integers(9, 40), width=st.integers(9, 40))
def test_a_patch_is_what_grid_sampling_cuts(y: float, x: float, height: int, width: int) -> None:
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8))
    centre = torch.tensor([[y, x], [1, 1], [0, 0]], dtype=torch.float32)
    ours = cut_patches(frames, centre, 8)
    theirs = crop_patches(frames.permute(0, 3, 1, 2).double(), centre.double(), 8)
    assert ours.shape == (3, 3, 8, 8)
    assert (ours - theirs).abs().max() <= tolerances.PATCH_PIXELS


def test_patches_at_the_corners_are_the_frames_own_pixels() -> None:
    frames = torch.from_numpy(noise(2, 24))
    cut = cut_patches(frames, torch.tensor([[0.0, 0.0], [1.0, 1.0]]), 10)
    assert torch.equal(cut[0], frames[0, :10, :10].permute(2, 0, 1).float())
    assert torch.equal(cut[1], frames[1, 14:, 14:].permute(2, 0, 1).float())


def test_pixels_are_normalised_per_colour() -> None:
    frames = torch.from_numpy(noise(2, 8))
    assert torch.allclose(PixelNorm()(frames.permute(0, 3, 1, 2)), as_images(frames), atol=tolerances.PIXELS_NORMALISED)


@pytest.fixture(params=["max", "mean"])
def pooled_network(request: pytest.FixtureRequest, frame_network: AdaFocus) -> AdaFocus:
    """The network, pooling in each of the ways there are."""
    return frame_model(replace(frame_network.config, pooling=request.param))


def test_the_frame_graphs_step_as_the_model_does(pooled_network: AdaFocus) -> None:
    glance, focus = served_graphs(pooled_network, look_ahead=False)
    frames = torch.from_numpy(texture(3, 64))
    policy_state, pooled_state = (torch.rand_like(state) for state in pooled_network.initial_states(3))
    step = torch.tensor([2, 0, 3])
    with torch.no_grad():
        feature, centre, next_policy = glance(frames, policy_state)
        logits, next_pooled = focus(frames, centre, feature, pooled_state, step)
        expected = pooled_network.glance_step(as_images(frames), policy_state)
        wanted = pooled_network.focus_step(as_images(frames), centre, feature, pooled_state, step)
    for ours, theirs in zip((feature, centre, next_policy, logits, next_pooled), (*expected, *wanted), strict=True):
        assert torch.allclose(ours, theirs, atol=tolerances.KERNELS)


def test_frame_graphs_that_look_ahead_step_as_the_model_does(pooled_network: AdaFocus) -> None:
    videos, steps = 2, 3
    ahead = served_graphs(pooled_network)
    frames = torch.from_numpy(texture(videos * steps, 64))
    policy_state, pooled_state = (torch.rand_like(state) for state in pooled_network.initial_states(videos))
    numbers = torch.arange(steps).repeat_interleave(videos)
    with torch.no_grad():
        feature, centre, policy_states = ahead[0](frames, policy_state)
        logits, pooled_states = ahead[1](frames, centre, feature, pooled_state, numbers)
        for rows in torch.arange(videos * steps).split(videos):
            images = as_images(frames[rows])
            expected = pooled_network.glance_step(images, policy_state)
            wanted = pooled_network.focus_step(images, expected[1], expected[0], pooled_state, numbers[rows])
            found = (feature, centre, policy_states, logits, pooled_states)
            for ours, theirs in zip(found, (*expected, *wanted), strict=True):
                assert torch.allclose(ours[rows], theirs, atol=tolerances.KERNELS)
            policy_state, pooled_state = expected[2], wanted[1]


def test_frames_that_are_joined_together_are_added_in_the_order_of_one_by_one(
    frame_network: AdaFocus, once: Once
) -> None:
    """A sum of floats depends on the order, and which steps share a batch depends on time: an answer must not."""
    network = frame_model(replace(frame_network.config, pooling="mean"))
    linear, steps = network.classifier.linear, 4
    features = linear.out_features
    with torch.no_grad():  # a feature is a number of the glance's, which no order of multiplication changes
        linear.weight.zero_()[:, :features].fill_diagonal_(1.0)
    session = onnxruntime.InferenceSession(once.to_onnx(served_graphs(network)[1]), providers=["CPUExecutionProvider"])
    chance = np.random.default_rng(0)
    given = {
        "frames": texture(steps, 64),
        "patch_centre": np.full((steps, 2), 0.5, np.float32),
        "glance_feature": chance.random((steps, network.glance.channels), np.float32),
        "step": np.arange(steps),
    }

    def states(turns: tuple[int, ...]) -> list[np.ndarray]:
        found, begin = [np.full((1, features), 0.1, np.float32)], 0
        for count in turns:
            rows = {name: value[begin : begin + count] for name, value in given.items()}
            found += np.split(session.run(["next_pooled_state"], rows | {"pooled_state": found[-1]})[0], count)
            begin += count
        return found

    one_by_one = states((1, 1, 1, 1))
    for turns in ((4,), (1, 3), (2, 2)):
        np.testing.assert_array_equal(states(turns), one_by_one)


def test_the_clip_graphs_answer_as_the_model_does(clip_network: AdaFocusTSM) -> None:
    glance, focus = served_graphs(clip_network)
    config = clip_network.config
    first = torch.from_numpy(texture(2 * config.glance_frames, 64)).unflatten(0, (2, -1))
    second = torch.from_numpy(noise(2 * config.focus_frames, 64)).unflatten(0, (2, -1))
    with torch.no_grad():
        feature, centre = glance(first)
        (logits,) = focus(second, centre, feature)
        expected = clip_network(as_images(first), as_images(second))
    assert torch.allclose(centre, expected.patch_centre, atol=tolerances.KERNELS)
    assert torch.allclose(logits, expected.logits, atol=tolerances.KERNELS)


@pytest.mark.parametrize("which", [0, 1])
def test_arguments_are_named_as_the_tensors(frame_network: AdaFocus, clip_network: AdaFocusTSM, which: int) -> None:
    for network in (frame_network, clip_network):
        graph = served_graphs(network)[which]
        names = list(graph.forward.__annotations__)[:-1]
        assert names == [spec.name for spec in graph.signature().inputs]
        assert not graph.training
