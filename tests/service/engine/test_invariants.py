"""Invariants for every video: its answer does not depend on other videos, and no request waits for ever."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus.service.engine.request import EngineRequest, Outcome
from adafocus.service.engine.runners.base import Float32, GlanceOutput, UInt8
from adafocus.service.engine.runners.fake import FakeRunner
from adafocus.service.errors import Internal
from tests.bundle.factory import make_manifest
from tests.service.engine.factory import ALWAYS, NEVER, Frames, make_engine, never_leave, until

pytestmark = pytest.mark.usefixtures("transport")

BROKEN = 77
STEPS = 4
PER_STEP = make_manifest().flops.per_step

Fate = Literal["stays", "leaves", "breaks its batch", "has a broken source", "is capped"]


@dataclass(frozen=True)
class Plan:
    shades: list[int]
    threshold: float
    turns: int
    fate: Fate


class PaddedRunner(FakeRunner):
    """Runs batches of four only, and remembers what lay in the padding."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes, fails_on=lambda frame: bool(frame.mean() == BROKEN))
        self.dirt = 0

    def padded(self, rows: int) -> int:
        return -(-rows // 4) * 4

    def glance(self, frames: UInt8, policy_state: Float32) -> GlanceOutput:
        real = frames.reshape(len(frames), -1).any(axis=1)
        self.dirt += int(np.abs(policy_state[~real]).sum())
        return super().glance(frames, policy_state)


plans = st.lists(
    st.builds(
        Plan,
        shades=st.lists(st.integers(1, 255).filter(lambda shade: shade != BROKEN), min_size=1, max_size=STEPS),
        threshold=st.floats(0.3, 1.0),
        turns=st.integers(0, 2),
        fate=st.sampled_from(("stays", "stays", "leaves", "breaks its batch", "has a broken source", "is capped")),
    ),
    min_size=1,
    max_size=8,
)


def request_of(plan: Plan) -> EngineRequest:
    return EngineRequest(
        thresholds=(plan.threshold, plan.threshold, NEVER, ALWAYS),
        max_flops=2 * PER_STEP if plan.fate == "is capped" else None,
    )


def frames_of(plan: Plan) -> Frames:
    shades = [*plan.shades[:1], BROKEN] if plan.fate == "breaks its batch" else plan.shades
    return Frames(shades, plan.turns, fails_after=0 if plan.fate == "has a broken source" else None)


def same(one: Outcome, other: Outcome) -> bool:
    numbers = ("reason", "threshold", "glance_flops", "focus_flops", "frames_used")
    return all(getattr(one, name) == getattr(other, name) for name in numbers) and all(
        mine.frame_index == yours.frame_index
        and mine.confidence == yours.confidence
        and mine.logits.tolist() == yours.logits.tolist()
        for mine, yours in zip(one.steps, other.steps, strict=True)
    )


def test_an_answer_is_the_same_alone_and_among_others_that_leave_fail_and_end() -> None:
    videos_in_a_batch: set[int] = set()

    @settings(max_examples=25)
    @given(plans)
    def check(crowd: list[Plan]) -> None:
        outcomes, runner, batches = asyncio.run(together(crowd))
        videos_in_a_batch.update(batches)
        for plan, outcome in zip(crowd, outcomes, strict=True):
            if plan.fate in ("stays", "is capped"):
                assert isinstance(outcome, Outcome)
                assert same(outcome, asyncio.run(alone(plan)))
            elif plan.fate == "has a broken source":
                assert isinstance(outcome, ConnectionResetError)
        answered = sum(len(outcome.steps) for outcome in outcomes if isinstance(outcome, Outcome))
        assert sum(batches) >= answered, "padding is in no count, and every step of an answer is in one"
        assert sum(batches) <= sum(STEPS for _ in crowd)
        assert runner.dirt == 0

    check()
    assert max(videos_in_a_batch) > 1


async def together(crowd: list[Plan]) -> tuple[list[Outcome | BaseException], PaddedRunner, list[int]]:
    """The outcomes of videos that run at once, their runner, and the rows of every batch of the glance."""
    runner = PaddedRunner(3)
    async with make_engine(runner) as (engine, recorder):
        tasks = [asyncio.create_task(engine.classify(request_of(plan), frames_of(plan))) for plan in crowd]
        for plan, task in zip(crowd, tasks, strict=True):
            if plan.fate == "leaves":
                for _ in range(plan.turns):
                    await asyncio.sleep(0)
                task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        return outcomes, runner, [rows for component, rows in recorder.batches if component == "glance"]


async def alone(plan: Plan) -> Outcome:
    async with make_engine(PaddedRunner(3)) as (engine, _):
        return await engine.classify(request_of(plan), frames_of(plan))


async def test_a_video_starts_with_states_of_zeros_in_a_slot_that_was_used() -> None:
    async with make_engine(slots=1, max_batch=1) as (engine, _):
        first = await engine.classify(never_leave(), Frames([250] * STEPS))
        second = await engine.classify(never_leave(), Frames([10] * STEPS))
    assert [int(outcome.last.logits.argmax()) for outcome in (first, second)] == [2, 0]


async def test_a_patient_video_is_answered_among_a_stream_of_urgent_ones() -> None:
    async with make_engine(slots=4, max_batch=1) as (engine, _):
        loop = asyncio.get_running_loop()
        patient = asyncio.create_task(engine.classify(never_leave(), Frames([10] * STEPS)))
        urgent = 0
        while not patient.done() and urgent < 400:
            await engine.classify(never_leave(deadline=loop.time() + 60), Frames([250] * STEPS))
            urgent += 1
        assert (await patient).reason == "all_steps"


async def test_slots_are_used_again_and_none_is_lost() -> None:
    async with make_engine(slots=2, max_batch=2) as (engine, _):
        for round_ in range(6):
            tasks = [asyncio.create_task(engine.classify(never_leave(), Frames([10] * STEPS))) for _ in range(4)]
            await asyncio.sleep(0)
            tasks[round_ % 4].cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert sum(isinstance(outcome, Outcome) for outcome in done) == 3
        free = engine._client._free
        await until(lambda: len(free) == 6)
        assert sorted(free) == list(range(6))


async def test_an_error_outside_the_graphs_fails_its_batch_and_the_engine_goes_on() -> None:
    class Odd(FakeRunner):
        def glance(self, frames: UInt8, policy_state: Float32) -> GlanceOutput:
            if frames.mean() == BROKEN:
                raise ZeroDivisionError("no runner should raise this")
            return super().glance(frames, policy_state)

    async with make_engine(Odd(3)) as (engine, _):
        with pytest.raises(Internal):
            await engine.classify(never_leave(), Frames([BROKEN] * STEPS))
        assert (await engine.classify(never_leave(), Frames([10] * STEPS))).reason == "all_steps"
