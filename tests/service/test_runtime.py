"""What is served follows from the bundle and the settings together."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adafocus.bundle.manifest import Manifest, OperatingPoint, Precision, Reduced
from adafocus.bundle.store import Bundle, BundleError, load_bundle, write_bundle
from adafocus.service.classify import classify
from adafocus.service.cores import load_core
from adafocus.service.engine.supervised import SupervisedCore
from adafocus.service.models.registry import served_as
from adafocus.service.reception import Body
from adafocus.service.runtime import make_runner, open_runtime
from adafocus.service.schemas.parameters import Parameters
from adafocus.service.settings import Settings
from adafocus.service.telemetry.metrics import Metrics
from tests.e2e.tiny import write_tiny_bundle
from tests.media.clips import make_clip

SHY = 0.1
"""How much lower the thresholds of the other precision are."""


def lower(point: OperatingPoint) -> OperatingPoint:
    thresholds = tuple(None if value is None else value - SHY for value in point.thresholds)
    return point.model_copy(update={"thresholds": thresholds})


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """The tiny bundle with the same graphs once more as int8, and thresholds of their own for those."""
    tiny = write_tiny_bundle(tmp_path / "tiny")
    files = {graph.file: tiny.file(graph).read_bytes() for graph in tiny.manifest.graphs}
    others = tuple(
        graph.model_copy(update={"precision": "int8", "file": f"{graph.component}.int8.onnx"})
        for graph in tiny.manifest.graphs
    )
    contents = files | {graph.file: files[f"{graph.component}.onnx"] for graph in others}
    manifest = Manifest.model_validate(
        tiny.manifest.model_dump()
        | {
            "graphs": [graph.model_dump() for graph in (*tiny.manifest.graphs, *others)],
            "reduced": [
                Reduced(
                    precision="int8",
                    data="toy clips",
                    clips=1,
                    accuracy=1,
                    accuracy_fp32=1,
                    agreement=1,
                    exit_step_shift={},
                    operating_points=tuple(map(lower, tiny.manifest.operating_points)),
                ).model_dump()
            ],
        }
    )
    return write_bundle(tmp_path / "both", manifest, contents)


@pytest.mark.parametrize(("precision", "threshold"), [("fp32", 0.75), ("int8", 0.65)])
async def test_each_precision_is_served_with_its_own_thresholds(
    bundle: Bundle, precision: Precision, threshold: float
) -> None:
    settings = Settings(bundle=bundle.path, decode_workers=1, max_batch=2, intra_op_threads=1, precision=precision)
    async with open_runtime(load_bundle(bundle.path), settings, Metrics(4), make_runner) as runtime:
        assert runtime.engine.runner.precision == precision
        assert runtime.manifest.threshold_row("balanced")[0] == pytest.approx(threshold)


async def test_the_engine_runs_in_a_process_of_its_own_if_it_is_asked_to(bundle: Bundle) -> None:
    settings = Settings(
        bundle=bundle.path,
        decode_workers=1,
        max_batch=2,
        slots=5,
        intra_op_threads=1,
        precision="int8",
        engine_process=True,
    )
    metrics = Metrics(4)
    async with open_runtime(load_bundle(bundle.path), settings, metrics, make_runner) as runtime:
        assert (runtime.engine.runner.backend, runtime.engine.runner.precision) == ("onnxruntime-cpu", "int8")
        assert runtime.manifest.threshold_row("balanced")[0] == pytest.approx(0.65)
        assert runtime.engine.admission.slots == 5
        assert runtime.decoder.settings.slots == runtime.manifest.steps, "a lone video could not look ahead"
        assert runtime.engine.alive
    assert not runtime.engine.alive
    assert "adafocus_slots 5.0" in metrics.render("")[0].decode()


async def test_a_core_that_is_killed_costs_no_request(bundle: Bundle) -> None:
    settings = Settings(bundle=bundle.path, decode_workers=2, max_batch=2, intra_op_threads=1, engine_process=True)
    data = make_clip(20)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield data[: len(data) // 2]
        begun.set()
        await go_on.wait()
        yield data[len(data) // 2 :]

    async def at_once() -> AsyncIterator[bytes]:
        yield data

    async with open_runtime(load_bundle(bundle.path), settings, Metrics(4), make_runner) as runtime:
        ask = Parameters(exit="full", top_k=3)
        expected = await classify(runtime, Body(at_once()), ask, "first")
        slow = asyncio.create_task(classify(runtime, Body(slowly(), expected_bytes=len(data)), ask, "slow"))
        await begun.wait()
        while not runtime.engine.admission.slots_taken:
            await asyncio.sleep(0)
        transport = runtime.engine._transport
        assert isinstance(transport, SupervisedCore)
        os.kill(transport.pid, signal.SIGKILL)
        while runtime.engine.alive:
            await asyncio.sleep(0)
        go_on.set()
        answer = await slow
        assert runtime.engine.alive
        assert (answer.predictions, answer.exit) == (expected.predictions, expected.exit)


def test_a_core_that_is_started_again_does_not_take_another_bundle_for_its_own(bundle: Bundle) -> None:
    settings = Settings(bundle=bundle.path, decode_workers=1, max_batch=2, intra_op_threads=1, precision="fp32")
    known = load_bundle(bundle.path)
    manifest, runner = load_core(settings, make_runner, served_as(known, "other"))
    runner.close()
    assert manifest.name == "other"
    write_bundle(
        bundle.path,
        known.manifest.model_copy(update={"version": "2"}),
        {graph.file: known.file(graph).read_bytes() for graph in known.manifest.graphs},
    )
    with pytest.raises(BundleError, match="has changed since the service read it"):
        load_core(settings, make_runner, known)
