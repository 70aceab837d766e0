"""The model cache: the same answers, files written once and only by this user, and no failure if it cannot be used."""

from __future__ import annotations

import logging
import mmap
from pathlib import Path

import numpy as np
import pytest

from adafocus.bundle.manifest import Precision
from adafocus.bundle.store import Bundle
from adafocus.export.example_frames import texture
from adafocus.service.engine.runners import model_cache as kept
from adafocus.service.engine.runners import onnx
from adafocus.service.engine.runners.base import Runner, RunnerError
from adafocus.service.engine.runners.selection import RunnerOptions, open_runner


def opened(bundle: Bundle, backend: str, precision: Precision, cache: Path | None) -> Runner:
    return open_runner(bundle, RunnerOptions(1, (1, 2), backend, precision, cache))


def a_step(runner: Runner) -> list[np.ndarray]:
    frames = texture(2, 64)
    glance = runner.glance(frames, np.zeros((2, runner.widths.policy), np.float32))
    pooled = np.zeros((2, runner.widths.pooled), np.float32)
    focus = runner.focus(frames, glance.patch_centre, glance.feature, pooled, np.array([0, 1]))
    return [glance.feature, glance.patch_centre, glance.policy_state, focus.logits, focus.pooled_state]


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("backend", "precision"),
    [("onnxruntime-cpu", "fp32"), ("onnxruntime-cpu", "int8"), ("openvino", "fp32"), ("openvino", "int8")],
)
def test_a_kept_model_answers_as_the_graph(
    frame_bundle: Bundle, backend: str, precision: Precision, tmp_path: Path
) -> None:
    wanted = a_step(opened(frame_bundle, backend, precision, None))
    first = a_step(opened(frame_bundle, backend, precision, tmp_path))
    made = files(tmp_path)
    assert made
    again = a_step(opened(frame_bundle, backend, precision, tmp_path))
    assert files(tmp_path) == made
    for value, kept_value, same in zip(wanted, first, again, strict=True):
        np.testing.assert_array_equal(kept_value, value)
        np.testing.assert_array_equal(same, value)


def test_weights_are_mapped_from_the_kept_file(frame_bundle: Bundle, tmp_path: Path) -> None:
    runner = opened(frame_bundle, "onnxruntime-cpu", "fp32", tmp_path)
    weights = [path for path in files(tmp_path) if path.suffix == ".weights" and path.stat().st_size > mmap.PAGESIZE]
    assert weights
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert all(str(path) in maps for path in weights)
    runner.close()


def test_another_version_of_the_runtime_prepares_for_itself(
    frame_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = frame_bundle.manifest.graph("glance", "onnx", "fp32")
    file = frame_bundle.file(graph)
    paths = {kept.kept_model(tmp_path, file, graph, version, onnx.write_prepared) for version in ("1.32.0", "1.33.0")}
    assert len(paths) == 2
    monkeypatch.setattr(kept, "features", lambda: frozenset({"avx2"}))
    assert kept.kept_model(tmp_path, file, graph, "1.33.0", onnx.write_prepared) not in paths


def test_what_cannot_be_written_is_done_without(
    frame_bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    graph = frame_bundle.manifest.graph("glance", "onnx", "fp32")

    def full(file: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError("no space left on device")

    assert kept.kept_model(tmp_path, frame_bundle.file(graph), graph, "1", full) == frame_bundle.file(graph)
    assert [record.fields["because"] for record in caplog.records if record.levelno == logging.WARNING] == [  # type: ignore[attr-defined]
        "no space left on device"
    ]
    assert not files(tmp_path)


def test_one_that_another_process_has_made_meanwhile_is_taken(frame_bundle: Bundle, tmp_path: Path) -> None:
    graph = frame_bundle.manifest.graph("glance", "onnx", "fp32")
    file = frame_bundle.file(graph)

    def slower(given: Path, target: Path) -> None:
        kept.kept_model(tmp_path, file, graph, "1", onnx.write_prepared)
        onnx.write_prepared(given, target)

    path = kept.kept_model(tmp_path, file, graph, "1", slower)
    assert path.exists()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("backend", ["onnxruntime-cpu", "openvino"])
def test_a_folder_that_others_can_write_to_is_refused(frame_bundle: Bundle, backend: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(RunnerError, match="must belong to the service's user, and be writable by no other user"):
        opened(frame_bundle, backend, "fp32", tmp_path)


def test_a_folder_that_cannot_be_made_is_named(frame_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunnerError, match=r"file/cache cannot be used: Not a directory"):
        opened(frame_bundle, "onnxruntime-cpu", "fp32", tmp_path / "file" / "cache")
