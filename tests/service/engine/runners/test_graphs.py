"""Every runner answers as the torch model does, for frame and clip models, alone and in padded batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from adafocus.bundle.instructions import has_bf16
from adafocus.bundle.manifest import Precision
from adafocus.bundle.store import Bundle
from adafocus.export.example_frames import noise, texture
from adafocus.export.verify import IMAGENET_MEAN, IMAGENET_STD
from adafocus.model.adafocus import AdaFocus
from adafocus.model.tsm import AdaFocusTSM
from adafocus.service.engine.runners.base import Runner, RunnerError
from adafocus.service.engine.runners.selection import RunnerOptions, open_runner
from tests import tolerances
from tests.export.models import CLIP, FRAME
from tests.model.factory import clip_model, frame_model

VARIANTS = (
    ("onnxruntime-cpu", "fp32"),
    ("onnxruntime-cpu", "int8"),
    ("openvino", "int8"),
    ("torchscript", "fp32"),
    ("openvino", "fp32"),
    pytest.param(("openvino", "bf16"), marks=pytest.mark.skipif(not has_bf16(), reason="needs a processor with bf16")),
)


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda variant: "-".join(variant))
def variant(request: pytest.FixtureRequest) -> tuple[str, Precision]:
    backend, precision = request.param
    return backend, precision


@pytest.fixture(scope="module")
def frame_runner(variant: tuple[str, Precision], frame_bundle: Bundle) -> Iterator[Runner]:
    runner = open_runner(frame_bundle, options(*variant))
    runner.warm_up()
    yield runner
    runner.close()


def options(backend: str, precision: Precision) -> RunnerOptions:
    return RunnerOptions(threads=1, batch_sizes=(1, 2, 4), backend=backend, precision=precision, look_ahead=8)


def normalised(frames: np.ndarray) -> torch.Tensor:
    pixels = (torch.from_numpy(frames).float() / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    return pixels.movedim(-1, -3)


def test_a_frame_model_answers_as_torch(frame_runner: Runner) -> None:
    """Three videos, each a step behind the one before: rows of a padded batch are at different steps."""
    videos, steps = np.stack([texture(4, 64, seed=2), texture(4, 64), texture(4, 64, seed=1)]), 4
    model = frame_model(FRAME)
    assert isinstance(model, AdaFocus)
    with torch.no_grad():
        wanted = model(normalised(videos))
    policy = np.zeros((3, frame_runner.widths.policy), np.float32)
    pooled = np.zeros((3, frame_runner.widths.pooled), np.float32)
    logits, centres = np.empty((3, steps, 5), np.float32), np.empty((3, steps, 2), np.float32)
    for turn in range(steps + 2):
        rows = np.array([video for video in range(3) if 0 <= turn - video < steps])
        step = turn - rows
        frames = videos[rows, step]
        glance = frame_runner.glance(frames, policy[rows])
        focus = frame_runner.focus(frames, glance.patch_centre, glance.feature, pooled[rows], step.astype(np.int64))
        policy[rows], pooled[rows] = glance.policy_state, focus.pooled_state
        centres[rows, step], logits[rows, step] = glance.patch_centre, focus.logits
    precision = frame_runner.precision
    assert np.abs(centres - wanted.patch_centres.numpy()).max() <= tolerances.CENTRES[precision]
    assert np.abs(logits - wanted.step_logits.numpy()).max() <= tolerances.LOGITS[precision]


def test_steps_of_one_video_in_a_batch_answer_as_one_by_one(frame_runner: Runner) -> None:
    if frame_runner.backend == "torchscript":
        assert frame_runner.look_ahead == 1
        return
    assert frame_runner.look_ahead == 4
    video, found = texture(4, 64), []
    for turns in ((1, 1, 1, 1), (1, 3), (4,)):
        policy = np.zeros((1, frame_runner.widths.policy), np.float32)
        pooled = np.zeros((1, frame_runner.widths.pooled), np.float32)
        logits, begin = [], 0
        for steps in turns:
            frames, step = video[begin : begin + steps], np.arange(begin, begin + steps)
            glance = frame_runner.glance(frames, policy)
            focus = frame_runner.focus(frames, glance.patch_centre, glance.feature, pooled, step)
            assert len(glance.policy_state) == len(focus.pooled_state) == steps
            policy, pooled = glance.policy_state[-1:], focus.pooled_state[-1:]
            logits.append(focus.logits)
            begin += steps
        found.append(np.concatenate(logits))
    for ahead in found[1:]:
        np.testing.assert_allclose(ahead, found[0], atol=tolerances.LOGITS[frame_runner.precision] / 10)


def test_a_clip_model_answers_as_torch(variant: tuple[str, Precision], clip_bundle: Bundle) -> None:
    runner = open_runner(clip_bundle, options(*variant))
    model = clip_model(CLIP)
    assert isinstance(model, AdaFocusTSM)
    first = texture(3 * CLIP.glance_frames, 64).reshape(3, CLIP.glance_frames, 64, 64, 3)
    second = texture(3 * CLIP.focus_frames, 64, seed=1).reshape(3, CLIP.focus_frames, 64, 64, 3)
    with torch.no_grad():
        wanted = model(normalised(first), normalised(second))
    none = np.zeros((3, 0), np.float32)
    glance = runner.glance(first, none)
    focus = runner.focus(second, glance.patch_centre, glance.feature, none, np.zeros(3, np.int64))
    assert np.abs(glance.patch_centre - wanted.patch_centre.numpy()).max() <= tolerances.CENTRES[runner.precision]
    assert np.abs(focus.logits - wanted.logits.numpy()).max() <= tolerances.LOGITS[runner.precision]
    assert (glance.policy_state.shape, focus.pooled_state.shape) == ((3, 0), (3, 0))
    runner.close()


def test_what_a_call_returned_outlives_the_next(frame_runner: Runner) -> None:
    policy = np.zeros((2, frame_runner.widths.policy), np.float32)
    first = frame_runner.glance(noise(2, 64), policy)
    kept = [array.copy() for array in (first.feature, first.patch_centre, first.policy_state)]
    frame_runner.glance(texture(2, 64), policy)
    for array, copy in zip((first.feature, first.patch_centre, first.policy_state), kept, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_inputs_that_do_not_fit_are_errors_of_the_runner(frame_runner: Runner) -> None:
    too_wide = np.zeros((1, frame_runner.widths.policy + 1), np.float32)
    with pytest.raises(RunnerError, match="the glance graph failed"):
        frame_runner.glance(noise(1, 64), too_wide)
    with pytest.raises(RunnerError, match="5 rows do not fit the largest batch, 4"):
        frame_runner.padded(5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_torchscript_in_bf16_takes_a_gpu(frame_bundle: Bundle) -> None:
    with pytest.raises(RunnerError, match="computes in bf16 on CUDA only, and there is none here; openvino does it"):
        open_runner(frame_bundle, options("torchscript", "bf16"))
