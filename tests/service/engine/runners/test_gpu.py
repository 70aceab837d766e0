"""The runners on a GPU, held to what the processor answers. Without one they are skipped, or fail if it is required."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from adafocus.bundle.manifest import Precision
from adafocus.bundle.store import Bundle, write_bundle
from adafocus.export.describe import graph_entry
from adafocus.export.example_frames import texture
from adafocus.export.fp16 import to_half
from adafocus.export.graphs import graphs_in
from adafocus.service.engine.runners.base import Runner, RunnerError
from adafocus.service.engine.runners.selection import RunnerOptions, open_runner
from tests import tolerances
from tests.export.models import FRAME
from tests.model.factory import frame_model
from tests.once import Once

pytestmark = pytest.mark.gpu

VARIANTS: tuple[tuple[str, Precision], ...] = (
    ("onnxruntime-cuda", "fp32"),
    ("onnxruntime-cuda", "fp16"),
    ("torchscript", "fp32"),
    ("torchscript", "bf16"),
)

STEPS = 4


@pytest.fixture(scope="module")
def bundle(frame_bundle: Bundle, once: Once, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small frame model with fp16 graphs, too."""
    entries, contents = [], {}
    for graph in graphs_in(frame_model(FRAME), "fp16"):
        content = to_half(once.to_onnx(graph), graph.signature())
        entries.append(graph_entry(graph, "onnx", "fp16", content))
        contents[entries[-1].file] = content
    for entry in frame_bundle.manifest.graphs:
        contents[entry.file] = frame_bundle.file(entry).read_bytes()
    manifest = frame_bundle.manifest.model_copy(update={"graphs": (*frame_bundle.manifest.graphs, *entries)})
    return write_bundle(tmp_path_factory.mktemp("half") / "bundle", manifest, contents)


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda variant: "-".join(variant))
def on_gpu(frame_bundle: Bundle, request: pytest.FixtureRequest) -> Iterator[Runner]:
    """A warmed runner on the GPU; the fp16 graphs are made only where there is one."""
    backend, precision = request.param
    try:
        if backend == "torchscript":
            _require_torchs_device()
        open_runner(frame_bundle, RunnerOptions(1, (1,), backend, "fp32")).close()
        bundle = request.getfixturevalue("bundle")
        opened = open_runner(bundle, RunnerOptions(1, (1, 2, 4), backend, precision, look_ahead=4))
    except RunnerError as error:
        if os.environ.get("ADAFOCUS_REQUIRE_GPU") == "1":
            pytest.fail(f"a GPU is required here: {error}")
        pytest.skip(f"needs a GPU: {error}")
    opened.warm_up()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def on_processor(bundle: Bundle) -> Iterator[Runner]:
    """What the others are held to."""
    opened = open_runner(bundle, RunnerOptions(1, (1, 2, 4), "onnxruntime-cpu", "fp32", look_ahead=4))
    yield opened
    opened.close()


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_every_step_of_a_batch_is_the_processors(on_gpu: Runner, on_processor: Runner, rows: int) -> None:
    videos = np.stack([texture(STEPS, FRAME.frame_size, seed=row) for row in range(rows)], axis=1)
    np.testing.assert_allclose(
        step_by_step(on_gpu, videos), step_by_step(on_processor, videos), atol=tolerances.LOGITS[on_gpu.precision]
    )


def test_steps_of_one_video_in_a_batch_are_the_processors(on_gpu: Runner, on_processor: Runner) -> None:
    if on_gpu.look_ahead == 1:
        assert on_gpu.backend == "torchscript"
        return
    video = texture(STEPS, FRAME.frame_size)
    policy = np.zeros((1, on_gpu.widths.policy), np.float32)
    pooled = np.zeros((1, on_gpu.widths.pooled), np.float32)
    glance = on_gpu.glance(video, policy)
    focus = on_gpu.focus(video, glance.patch_centre, glance.feature, pooled, np.arange(STEPS))
    np.testing.assert_allclose(
        focus.logits, step_by_step(on_processor, video[:, None])[:, 0], atol=tolerances.LOGITS[on_gpu.precision]
    )


def test_frames_of_another_size_are_an_error(on_gpu: Runner) -> None:
    if on_gpu.backend == "torchscript":
        return  # whose graphs take any
    with pytest.raises(RunnerError, match="the glance graph failed"):
        on_gpu.glance(texture(1, FRAME.frame_size // 2), np.zeros((1, on_gpu.widths.policy), np.float32))


def step_by_step(runner: Runner, frames: np.ndarray) -> np.ndarray:
    """Frames [T, B, H, W, 3] -> logits [T, B, C]."""
    rows = frames.shape[1]
    policy = np.zeros((rows, runner.widths.policy), np.float32)
    pooled = np.zeros((rows, runner.widths.pooled), np.float32)
    logits = []
    for step, seen in enumerate(frames):
        glance = runner.glance(seen, policy)
        focus = runner.focus(seen, glance.patch_centre, glance.feature, pooled, np.full(rows, step))
        policy, pooled = glance.policy_state, focus.pooled_state
        logits.append(focus.logits)
    return np.stack(logits)


def _require_torchs_device() -> None:
    """TorchScript serves on the processor where torch has no GPU, which is not what is tested here.

    Raises:
        RunnerError: it has none.
    """
    import torch

    if not torch.cuda.is_available():
        raise RunnerError("torch finds no CUDA device")
