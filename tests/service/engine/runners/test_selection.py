"""Which backend and precision serve, for what is installed and what was asked for."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from adafocus.bundle.store import Bundle
from adafocus.service.engine.runners import selection as choose
from adafocus.service.engine.runners.base import RunnerError
from adafocus.service.engine.runners.selection import Abilities, RunnerOptions, open_runner
from tests.e2e.tiny import write_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    here = Abilities(frozenset(request.param), frozenset({"fp32"}))
    monkeypatch.setattr(choose, "abilities_here", lambda: here)


def options(backend: str | None = None) -> RunnerOptions:
    return RunnerOptions(threads=1, batch_sizes=(1, 2), backend=backend)


def test_without_a_gpu_the_processor_serves_and_nothing_is_said_of_cuda(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    runner = open_runner(bundle, options())
    assert (runner.backend, runner.precision) == ("onnxruntime-cpu", "fp32")
    assert not caplog.records


@pytest.mark.parametrize("installed", [{"onnxruntime-gpu"}], indirect=True)
def test_a_runtime_for_gpus_without_a_gpu_says_why_the_processor_serves(
    bundle: Bundle, installed: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "LARGE_STEP_FLOPS", 0)
    runner = open_runner(bundle, options())
    assert runner.backend == "onnxruntime-cpu"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "CUDA" in record.fields["because"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("installed", [{"onnxruntime-gpu"}], indirect=True)
def test_a_small_model_stays_on_the_processor_unless_a_gpu_is_asked_for(
    bundle: Bundle, installed: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert open_runner(bundle, options()).backend == "onnxruntime-cpu"
    (record,) = caplog.records
    assert "name its backend" in record.message
    with pytest.raises(RunnerError, match="CUDA"):
        open_runner(bundle, options("onnxruntime-cuda"))


@pytest.mark.parametrize(
    ("backend", "flops", "expected"),
    [
        (None, choose.LARGE_STEP_FLOPS, True),
        (None, choose.LARGE_STEP_FLOPS - 1, False),
        ("onnxruntime-cuda", 1, True),
        ("onnxruntime-cpu", choose.LARGE_STEP_FLOPS, False),
        ("abacus", choose.LARGE_STEP_FLOPS, False),
    ],
)
def test_a_gpu_serves_a_large_model_or_whoever_names_it(
    bundle: Bundle, backend: str | None, flops: int, expected: bool
) -> None:
    prices = bundle.manifest.flops.model_copy(update={"glance": flops, "focus": 0})
    manifest = bundle.manifest.model_copy(update={"flops": prices})
    here = Abilities(frozenset({"onnxruntime-gpu"}), frozenset({"fp32"}))
    assert choose.takes_gpu(manifest, backend, here) is expected
    assert not choose.takes_gpu(manifest, None, Abilities(frozenset({"onnxruntime"}), frozenset({"fp32"})))


def test_batches_on_a_gpu_are_larger() -> None:
    assert choose.default_max_batch(gpu=True) > choose.default_max_batch(gpu=False) == 8


@pytest.mark.parametrize(
    ("installed", "backend", "message"),
    [
        ({"onnxruntime"}, "abacus", "unknown backend 'abacus'; there are onnxruntime-cpu, onnxruntime-cuda"),
        ({"onnxruntime"}, "torchscript", r"needs torch, which is not installed; pip install -e '\.\[torch\]'"),
        ({"torch"}, "torchscript", "has no torchscript graphs in fp32; export it with --format torchscript"),
        ({"onnxruntime"}, "onnxruntime-cuda", "needs onnxruntime-gpu.*uninstall onnxruntime, then pip install"),
        ({"onnxruntime-gpu"}, "onnxruntime-cuda", "without CUDA|no CUDA device"),
        ({"onnxruntime-gpu"}, "onnxruntime-tensorrt", "without CUDA|no CUDA device"),
        ({"onnxruntime", "onnxruntime-gpu"}, None, "both installed.*uninstall both"),
        ({"onnxruntime", "onnxruntime-gpu"}, "onnxruntime-cpu", "both installed.*uninstall both"),
        (set(), None, r"needs onnxruntime, which is not installed; pip install -e '\.\[serve\]'"),
    ],
    indirect=["installed"],
)
def test_what_cannot_serve_is_an_error_of_one_line(
    bundle: Bundle, installed: None, backend: str | None, message: str
) -> None:
    with pytest.raises(RunnerError, match=message) as raised:
        open_runner(bundle, options(backend))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("installed", [{"onnxruntime"}], indirect=True)
def test_a_precision_that_does_not_pay_here_is_warned_of(
    frame_bundle: Bundle, installed: None, caplog: pytest.LogCaptureFixture
) -> None:
    asked = RunnerOptions(threads=1, batch_sizes=(1,), backend="onnxruntime-cpu", precision="int8")
    assert open_runner(frame_bundle, asked).precision == "int8"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.fields == {"precision": "int8"}  # type: ignore[attr-defined]


def test_a_file_that_is_no_graph_is_named(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny")
    bundle.file(bundle.manifest.graphs[0]).write_bytes(b"no graph")
    with pytest.raises(RunnerError, match=r"cannot load glance\.onnx"):
        open_runner(bundle, options("onnxruntime-cpu"))
