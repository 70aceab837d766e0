"""What of the CUDA path can be seen without a GPU; `test_gpu` has what takes one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from adafocus.bundle.onnx_runtime import ort
from adafocus.bundle.store import Bundle
from adafocus.export.example_frames import texture
from adafocus.service.engine.runners import onnx
from adafocus.service.engine.runners.base import Array, Component, Float32, Runner, RunnerError
from adafocus.service.engine.runners.graphs import COMPONENTS, Executor, GraphRunner, Graphs, _check_finite, graphs_of
from adafocus.service.engine.runners.onnx_device import DeviceSessions
from tests import tolerances


class Sent:
    """An executor that remembers which of its inputs the call before had, or gave."""

    def __init__(self, inner: Executor) -> None:
        self.inner = inner
        self.known: list[Array] = []
        self.again: dict[str, bool] = {}

    def run(self, component: Component, feeds: Mapping[str, Array]) -> Mapping[str, Float32]:
        self.again = {name: any(array is known for known in self.known) for name, array in feeds.items()}
        outputs = self.inner.run(component, feeds)
        self.known = [*feeds.values(), *outputs.values()]
        return outputs

    def close(self) -> None:
        self.inner.close()


def parts(bundle: Bundle) -> tuple[dict[Component, Path], Graphs]:
    graphs = graphs_of(bundle.manifest, "onnx", "fp32")
    return {name: bundle.file(graphs[name]) for name in COMPONENTS}, graphs


def runner(executor: Executor, graphs: Graphs) -> GraphRunner:
    return GraphRunner(executor, graphs, backend="onnxruntime-cpu", precision="fp32", batch_sizes=(1, 2, 4))


def two_steps(opened: Runner, rows: int) -> np.ndarray:
    """Logits of two steps."""
    policy = np.zeros((rows, opened.widths.policy), np.float32)
    pooled = np.zeros((rows, opened.widths.pooled), np.float32)
    logits = []
    for step in range(2):
        frames = texture(rows, 64, seed=step)
        glance = opened.glance(frames, policy)
        focus = opened.focus(frames, glance.patch_centre, glance.feature, pooled, np.full(rows, step, np.int64))
        policy, pooled = glance.policy_state, focus.pooled_state
        logits.append(focus.logits)
    return np.stack(logits)


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_bound_inputs_and_outputs_change_no_answer(frame_bundle: Bundle, rows: int) -> None:
    files, graphs = parts(frame_bundle)
    options = ort.SessionOptions()
    executor = DeviceSessions(lambda name: ort.InferenceSession(str(files[name]), options), graphs, "cpu")
    bound = runner(executor, graphs)
    plain = runner(onnx.open_cpu(files, graphs, 1, "fp32"), graphs)
    np.testing.assert_array_equal(two_steps(bound, rows), two_steps(plain, rows))
    with pytest.raises(RunnerError, match="the glance graph failed"):
        bound.glance(texture(1, 32), np.zeros((1, bound.widths.policy), np.float32))
    bound.close()
    plain.close()


def test_no_convolution_on_a_device_meets_a_second_size(frame_bundle: Bundle) -> None:
    """Steps of one video are padded to a planned size, and each size has a session: another would plan anew."""
    files, graphs = parts(frame_bundle)
    options = ort.SessionOptions()
    executor = DeviceSessions(lambda name: ort.InferenceSession(str(files[name]), options), graphs, "cpu")
    sizes = (1, 2, 4)
    ahead = GraphRunner(
        executor, graphs, backend="x", precision="fp32", batch_sizes=sizes, look_ahead=4, pad_ahead=True
    )
    ahead.warm_up()
    warmed = executor.sizes
    assert warmed == {"glance": list(sizes), "focus": list(sizes)}
    one_by_one = two_steps(ahead, 1)[:, 0]
    video = np.concatenate([texture(1, 64, seed=step) for step in range(2)] + [texture(1, 64, seed=2)])
    glance = ahead.glance(video, np.zeros((1, ahead.widths.policy), np.float32))
    start = np.zeros((1, ahead.widths.pooled), np.float32)
    focus = ahead.focus(video, glance.patch_centre, glance.feature, start, np.arange(3))
    assert focus.logits.shape[0] == focus.pooled_state.shape[0] == glance.policy_state.shape[0] == 3
    np.testing.assert_allclose(focus.logits[:2], one_by_one, atol=tolerances.KERNELS)
    assert executor.sizes == warmed
    ahead.close()


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_the_focus_is_given_what_the_glance_had_and_made(frame_bundle: Bundle, rows: int) -> None:
    files, graphs = parts(frame_bundle)
    sent = Sent(onnx.open_cpu(files, graphs, 1, "fp32"))
    two_steps(runner(sent, graphs), rows)
    assert sent.again == {
        "frames": True,
        "patch_centre": True,
        "glance_feature": True,
        "pooled_state": False,
        "step": False,
    }


def test_no_driver_is_one_line(
    frame_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files, graphs = parts(frame_bundle)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [onnx.CUDA, onnx.CPU])
    monkeypatch.setattr(onnx, "DRIVER", "libnosuchdriver.so.1")
    with pytest.raises(RunnerError, match=r"no CUDA device here: .*with error: libnosuchdriver\.so\.1") as raised:
        onnx.open_cuda(files, graphs, 1, "fp32")
    assert "\n" not in str(raised.value)
    assert capsys.readouterr().out == ""


def test_falling_back_to_the_processor_is_an_error(frame_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the driver is there and the device is not: ONNX Runtime then gives a session on the processor."""
    files, graphs = parts(frame_bundle)
    monkeypatch.setattr(onnx, "_load_cuda", lambda: " (cuDNN is missing)")
    monkeypatch.setattr(onnx, "cuda_options", lambda precision, *, replays: {})
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(
            RunnerError, match=r"finds no CUDA device that it can use \(cuDNN is missing\); look at nvidia-smi"
        ),
    ):
        onnx.open_cuda(files, graphs, 1, "fp32")


def test_a_model_that_answers_with_nonsense_is_not_ready() -> None:
    with pytest.raises(RunnerError, match="'logits' that is not finite"):
        _check_finite("focus", {"logits": np.array([[1.0, np.nan]], dtype=np.float32)})
    _check_finite("focus", {"logits": np.zeros((1, 2), dtype=np.float32)})
