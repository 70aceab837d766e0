from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus.service.engine.request import EngineRequest, Outcome
from adafocus.service.engine.runners.fake import FakeRunner
from adafocus.service.errors import DeadlinePassed, Internal, Undecodable
from tests.bundle.factory import make_clip_manifest, make_manifest
from tests.service.engine.factory import (
    ALWAYS,
    NEVER,
    Frames,
    make_engine,
    never_leave,
    running_batch,
    until,
)

pytestmark = pytest.mark.usefixtures("transport")

DARK, GREY, BRIGHT = 10, 120, 250  # of classes 0, 1 and 2 of three


def label(outcome: Outcome) -> int:
    return int(outcome.last.logits.argmax())


async def test_every_step_runs_when_nothing_is_sure_enough() -> None:
    async with make_engine() as (engine, recorder):
        outcome = await engine.classify(never_leave(), Frames([GREY] * 4))
    flops = engine.manifest.flops
    assert (outcome.reason, len(outcome.steps), label(outcome)) == ("all_steps", 4, 1)
    assert (outcome.glance_flops, outcome.focus_flops) == (4 * flops.glance, 4 * flops.focus)
    assert outcome.frames_used == 4
    assert recorder.batches == [("glance", 1), ("focus", 1)] * 4


async def test_leaves_as_soon_as_it_is_sure_and_pulls_no_further_frame_than_its_look_ahead() -> None:
    frames = Frames([GREY] * 4)
    async with make_engine(FakeRunner(3, gain=5.0)) as (engine, _):
        outcome = await engine.classify(EngineRequest(thresholds=(0.9, 0.9, 0.9, ALWAYS)), frames)
    assert (outcome.reason, len(outcome.steps)) == ("confident", 1)
    assert outcome.last.confidence >= outcome.threshold == 0.9
    assert outcome.glance_flops == engine.manifest.flops.glance
    assert frames.taken <= 2


@pytest.mark.parametrize(("chance", "pulled"), [(0.9, 2), (0.1, 1)])
async def test_a_frame_is_pulled_ahead_only_for_a_video_that_probably_goes_on(chance: float, pulled: int) -> None:
    gate, frames = threading.Event(), Frames([GREY] * 4)
    request = EngineRequest(thresholds=(ALWAYS,) * 4, continue_probability=(chance,) * 4)
    runner = FakeRunner(3, gate=gate)
    async with make_engine(runner) as (engine, recorder):
        task = asyncio.create_task(engine.classify(request, frames))
        await running_batch(runner)
        await until(lambda: frames.taken >= pulled)
        await recorder.settle()
        gate.set()
        outcome = await task
    assert (outcome.reason, len(outcome.steps)) == ("confident", 1)
    assert frames.taken == pulled


async def test_a_watcher_sees_each_step_with_its_frame_as_it_finishes() -> None:
    seen: list[tuple[int, int]] = []
    async with make_engine() as (engine, _):
        request = never_leave(on_step=lambda step, frame: seen.append((step.frame_index, int(frame.pixels[0, 0, 0]))))
        await engine.classify(request, Frames([1, 2, 3, 4]))
    assert seen == [(0, 1), (10, 2), (20, 3), (30, 4)]


async def test_the_budget_is_never_passed() -> None:
    per_step = make_manifest().flops.per_step
    async with make_engine() as (engine, _):
        outcome = await engine.classify(never_leave(max_flops=3 * per_step - 1), Frames([GREY] * 4))
    assert (outcome.reason, len(outcome.steps)) == ("max_gflops", 2)
    assert outcome.glance_flops + outcome.focus_flops == 2 * per_step


async def test_a_video_that_ends_early_is_answered_from_what_there_was() -> None:
    async with make_engine() as (engine, _):
        outcome = await engine.classify(never_leave(), Frames([GREY] * 2))
        assert (outcome.reason, len(outcome.steps)) == ("end_of_video", 2)
        with pytest.raises(Undecodable):
            await engine.classify(never_leave(), Frames([]))


async def test_what_the_source_raises_reaches_its_caller_and_nobody_else() -> None:
    async with make_engine() as (engine, _):
        broken = engine.classify(never_leave(), Frames([GREY] * 4, fails_after=1))
        sound = engine.classify(never_leave(), Frames([BRIGHT] * 4))
        error, outcome = await asyncio.gather(broken, sound, return_exceptions=True)
    assert isinstance(error, ConnectionResetError)
    assert isinstance(outcome, Outcome)
    assert label(outcome) == 2


async def test_a_row_that_fails_costs_its_batch_mates_nothing() -> None:
    gate = threading.Event()
    runner = FakeRunner(3, fails_on=lambda pixels: bool(pixels.mean() == 77), gate=gate)
    async with make_engine(runner) as (engine, recorder):
        tasks = [
            asyncio.create_task(engine.classify(never_leave(), Frames([shade] * 4))) for shade in (DARK, 77, BRIGHT)
        ]
        await running_batch(runner)
        await recorder.settle()
        gate.set()
        dark, failed, bright = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(runner.tried) - sum(runner.batches) > 1, "the row that fails was tried with others, then by itself"
    assert isinstance(failed, Internal)
    assert isinstance(dark, Outcome)
    assert isinstance(bright, Outcome)
    assert (label(dark), label(bright)) == (0, 2)
    assert dark.glance_flops == 4 * engine.manifest.flops.glance


async def test_a_logit_that_is_not_a_number_is_our_fault_and_says_so() -> None:
    async with make_engine(FakeRunner(3, gain=float("nan"))) as (engine, _):
        with pytest.raises(Internal):
            await engine.classify(never_leave(), Frames([GREY] * 4))


async def test_the_deadline_gives_the_best_so_far() -> None:
    hold = asyncio.Event()
    hold.set()
    frames = Frames([GREY] * 4, hold=hold)
    async with make_engine() as (engine, _):
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(engine.classify(never_leave(deadline=loop.time() + 2), frames))
        await until(lambda: frames.taken >= 2)
        hold.clear()
        outcome = await task
    assert outcome.reason == "deadline"
    assert 1 <= len(outcome.steps) < 4


async def test_a_deadline_before_the_first_step_is_an_error() -> None:
    async with make_engine() as (engine, _):
        with pytest.raises(DeadlinePassed):
            await engine.classify(
                never_leave(deadline=asyncio.get_running_loop().time() + 0.01), Frames([GREY], hold=asyncio.Event())
            )


async def test_whoever_leaves_takes_part_in_no_later_batch() -> None:
    gate = threading.Event()
    runner = FakeRunner(3, gate=gate)
    frames = Frames([GREY] * 4)
    async with make_engine(runner) as (engine, recorder):
        task = asyncio.create_task(engine.classify(never_leave(), frames))
        await running_batch(runner)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await recorder.settle()
        gate.set()
        await engine.classify(never_leave(), Frames([BRIGHT] * 4))
    assert runner.batches == [1] * 5, "one step of the one who left, four of the one who came after"


async def test_ready_rows_share_batches_no_larger_than_allowed() -> None:
    async with make_engine(max_batch=4) as (engine, recorder):
        outcomes = await asyncio.gather(*(engine.classify(never_leave(), Frames([GREY] * 4)) for _ in range(8)))
    sizes = [rows for component, rows in recorder.batches if component == "glance"]
    assert sum(sizes) == 8 * 4
    assert max(sizes) == 4
    assert all(outcome.reason == "all_steps" for outcome in outcomes)


async def test_a_step_in_the_background_shares_no_batch_with_one_of_the_foreground() -> None:
    gate = threading.Event()
    runner = FakeRunner(3, gate=gate)
    async with make_engine(runner) as (engine, recorder):
        first = asyncio.create_task(engine.classify(never_leave(), Frames([GREY] * 4)))
        await running_batch(runner)  # it holds the device until the others are ready
        others = [
            asyncio.create_task(engine.classify(never_leave(background=True), Frames([BRIGHT] * 4))) for _ in range(2)
        ]
        await recorder.settle()
        gate.set()
        outcomes = await asyncio.gather(first, *others)
    assert [label(outcome) for outcome in outcomes] == [1, 2, 2]
    alone, together = runner.batches[:5], runner.batches[5:]
    assert alone.count(1) >= 4, "the foreground runs alone, and so does the background beside it"
    assert sum(alone) + sum(together) == 12
    assert all(len(outcome.steps) == 4 for outcome in outcomes)


async def test_a_clip_model_takes_all_its_frames_in_one_step() -> None:
    manifest = make_clip_manifest()
    async with make_engine(manifest=manifest) as (engine, recorder):
        outcome = await engine.classify(never_leave(1), Frames([BRIGHT] * 10))
        assert (outcome.reason, len(outcome.steps), outcome.frames_used, label(outcome)) == ("all_steps", 1, 10, 2)
        short = await engine.classify(never_leave(1), Frames([BRIGHT] * 3))
        assert (short.reason, short.frames_used, label(short)) == ("end_of_video", 3, 2)
    assert recorder.batches[0] == ("glance", 1)


async def test_closing_fails_what_is_in_flight_instead_of_hanging() -> None:
    async with make_engine() as (engine, _):
        task = asyncio.create_task(engine.classify(never_leave(), Frames([GREY] * 4, hold=asyncio.Event())))
        await asyncio.sleep(0)
        assert engine.alive
    with pytest.raises(Internal):
        await task
    assert not engine.alive


videos = st.lists(
    st.tuples(
        st.lists(st.integers(0, 255), min_size=1, max_size=4),  # brightness of its frames
        st.floats(0.3, 1.0),  # threshold
        st.integers(0, 3),  # turns of the loop per frame
    ),
    min_size=1,
    max_size=8,
)


def test_an_answer_does_not_depend_on_batch_mates_or_arrival() -> None:
    shared_rows: set[int] = set()

    @settings(max_examples=40)
    @given(videos, st.integers(1, 4))
    def check(plans: list[tuple[list[int], float, int]], max_batch: int) -> None:
        together, batches = asyncio.run(answers(plans, max_batch, together=True))
        by_itself, _ = asyncio.run(answers(plans, max_batch, together=False))
        shared_rows.update(batches)
        for shared, alone in zip(together, by_itself, strict=True):
            assert shared.reason == alone.reason
            assert shared.glance_flops == alone.glance_flops
            assert [step.frame_index for step in shared.steps] == [step.frame_index for step in alone.steps]
            for ours, theirs in zip(shared.steps, alone.steps, strict=True):
                np.testing.assert_array_equal(ours.logits, theirs.logits)

    check()
    assert max(shared_rows) > 1


async def answers(
    plans: list[tuple[list[int], float, int]], max_batch: int, *, together: bool
) -> tuple[list[Outcome], list[int]]:
    """The outcomes, and the rows of every glance."""
    runner = FakeRunner(3)
    async with make_engine(runner, max_batch=max_batch) as (engine, _):

        async def one(plan: tuple[list[int], float, int]) -> Outcome:
            shades, threshold, turns = plan
            async with engine.admission.slot(None):
                request = EngineRequest(thresholds=(threshold, threshold, NEVER, ALWAYS))
                return await engine.classify(request, Frames(shades, turns))

        if together:
            return list(await asyncio.gather(*(one(plan) for plan in plans))), runner.batches
        return [await one(plan) for plan in plans], runner.batches


async def test_a_deadline_is_kept_before_the_first_step_though_the_device_hangs() -> None:
    gate = threading.Event()
    async with make_engine(FakeRunner(3, gate=gate)) as (engine, _):
        loop = asyncio.get_running_loop()
        with pytest.raises(DeadlinePassed):
            await engine.classify(never_leave(deadline=loop.time() + 0.05), Frames([GREY] * 4))
        gate.set()
        assert (await engine.classify(never_leave(), Frames([BRIGHT] * 4))).reason == "all_steps"
