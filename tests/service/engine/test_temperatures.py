from __future__ import annotations

import asyncio

import pytest

from adafocus.bundle.exit_rule import confidence
from adafocus.service.engine.runners.fake import FakeRunner
from tests.bundle.factory import make_manifest
from tests.service.engine.factory import Frames, make_engine, never_leave

TEMPERATURES = (0.5, 1.0, 2.0, 4.0)


@pytest.mark.parametrize("temperatures", [TEMPERATURES, None])
async def test_each_row_of_a_batch_is_judged_at_the_temperature_of_its_step(
    temperatures: tuple[float, ...] | None,
) -> None:
    """Videos that start at different moments share batches, so a batch holds rows of different steps."""
    manifest = make_manifest(temperatures=temperatures, temperature=1.5)
    async with make_engine(FakeRunner(3), manifest) as (engine, _):
        videos = [Frames([10 * number, 120, 200, 90], turns=1 + 3 * number) for number in range(4)]
        outcomes = await asyncio.gather(*(engine.classify(never_leave(), video) for video in videos))
    for outcome in outcomes:
        assert len(outcome.steps) == 4
        for step, temperature in zip(outcome.steps, temperatures or (1.5,) * 4, strict=True):
            assert step.confidence == float(confidence(step.logits, "max_softmax", temperature))
