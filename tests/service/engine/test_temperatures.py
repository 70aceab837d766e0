from __future__ import annotations

import asyncio
import threading

import pytest

from adafocus.bundle.exit_rule import confidence
from adafocus.service.engine.request import Outcome
from adafocus.service.engine.runners.base import Float32, FocusOutput, Int64, UInt8
from adafocus.service.engine.runners.fake import FakeRunner
from tests.bundle.factory import make_manifest
from tests.service.engine.factory import Frames, make_engine, never_leave, running_batch, until

TEMPERATURES = (0.5, 1.0, 2.0, 4.0)


@pytest.mark.parametrize("temperatures", [TEMPERATURES, None])
async def test_each_row_of_a_batch_is_judged_at_the_temperature_of_its_step(
    temperatures: tuple[float, ...] | None,
) -> None:
    """One video is a step ahead when the device is held; its second step and another's first then share a batch."""
    manifest = make_manifest(temperatures=temperatures, temperature=1.5)
    gate, hold = threading.Event(), asyncio.Event()
    gate.set()
    runner = StepsRunner(3, gate)
    async with make_engine(runner, manifest) as (engine, recorder):
        ahead, holds_the_device, behind = (
            Frames([shade, 120, 200, 90], hold=hold, held_after=after) for shade, after in ((10, 1), (80, 4), (30, 4))
        )

        def start(frames: Frames) -> asyncio.Task[Outcome]:
            return asyncio.create_task(engine.classify(never_leave(), frames))

        tasks = [start(ahead)]
        await until(lambda: ("focus", 1) in recorder.batches)
        gate.clear()
        runner.entered.clear()
        tasks.append(start(holds_the_device))
        await running_batch(runner)
        tasks.append(start(behind))
        hold.set()
        await until(lambda: ahead.taken >= 2 and behind.taken >= 1)
        await recorder.settle()
        gate.set()
        outcomes = await asyncio.gather(*tasks)
    assert {0, 1} in runner.steps
    for outcome in outcomes:
        assert len(outcome.steps) == 4
        for step, temperature in zip(outcome.steps, temperatures or (1.5,) * 4, strict=True):
            assert step.confidence == float(confidence(step.logits, "max_softmax", temperature))


class StepsRunner(FakeRunner):
    """Remembers the steps of the rows of every focus batch."""

    def __init__(self, classes: int, gate: threading.Event) -> None:
        super().__init__(classes, gate=gate)
        self.steps: list[set[int]] = []

    def focus(
        self, frames: UInt8, patch_centre: Float32, glance_feature: Float32, pooled_state: Float32, step: Int64
    ) -> FocusOutput:
        self.steps.append(set(step.tolist()))
        return super().focus(frames, patch_centre, glance_feature, pooled_state, step)
