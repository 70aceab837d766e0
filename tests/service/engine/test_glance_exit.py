"""Exits after the glance: the focus does not run, is not charged, and the others of the batch do not notice."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus.bundle.manifest import Manifest, OperatingPoint
from adafocus.service.engine.request import EngineRequest, Outcome, Step
from adafocus.service.engine.runners.fake import FakeRunner
from adafocus.video.decoder import Frame
from tests.bundle.factory import make_clip_manifest, make_graph, make_manifest
from tests.service.engine.factory import ALWAYS, NEVER, Frames, make_engine, never_leave

pytestmark = pytest.mark.usefixtures("transport")

DARK, GREY, BRIGHT = 10, 120, 250
LAST = (NEVER, NEVER, NEVER, ALWAYS)


def manifest() -> Manifest:
    """With a head on the glance, and a point that uses it."""
    full = OperatingPoint(name="full", thresholds=(None,) * 4, expected_gflops=0.02)
    early = OperatingPoint(
        name="early", thresholds=(0.9, 0.8, None, None), glance_thresholds=(0.9,) * 4, expected_gflops=0.01
    )
    return make_manifest(
        operating_points=(full, early),
        default_point="early",
        graphs=(make_graph("glance", glance_exit=True), make_graph("focus")),
        glance_temperatures=(1.0, 1.0, 1.0, 2.0),
    )


def at(*glance: float) -> EngineRequest:
    """A request that exits nowhere but after glances."""
    return EngineRequest(thresholds=LAST, glance_thresholds=glance)


async def ask(runner: FakeRunner, request: EngineRequest, brightness: list[int]) -> Outcome:
    async with make_engine(runner, manifest()) as (engine, _):
        return await engine.classify(request, Frames(brightness))


async def test_a_sure_glance_ends_the_video_before_its_focus() -> None:
    runner = FakeRunner(3, glance_gain=9.0)
    frames = Frames([BRIGHT] * 4)
    async with make_engine(runner, manifest()) as (engine, recorder):
        outcome = await engine.classify(at(0.9, NEVER, NEVER, NEVER), frames)
    flops = engine.manifest.flops
    assert (outcome.reason, len(outcome.steps), outcome.last.component) == ("confident", 1, "glance")
    assert (outcome.glance_flops, outcome.focus_flops) == (flops.glance, 0)
    assert outcome.last.confidence >= outcome.threshold == 0.9
    assert int(outcome.last.logits.argmax()) == 2
    assert outcome.focus_seconds == 0
    assert (recorder.batches, runner.focused) == ([("glance", 1)], [])


async def test_an_unsure_glance_goes_on_as_ever() -> None:
    unsure = await ask(FakeRunner(3, glance_gain=0.1), at(0.9, 0.9, 0.9, 0.9), [GREY] * 4)
    plain = await ask(FakeRunner(3), never_leave(), [GREY] * 4)
    assert (unsure.reason, unsure.last.component) == ("all_steps", "focus")
    assert (unsure.glance_flops, unsure.focus_flops) == (plain.glance_flops, plain.focus_flops)
    for ours, theirs in zip(unsure.steps, plain.steps, strict=True):
        assert np.array_equal(ours.logits, theirs.logits)


async def test_a_later_glance_has_its_own_threshold_and_temperature() -> None:
    outcome = await ask(FakeRunner(3, glance_gain=9.0), at(NEVER, NEVER, NEVER, 0.95), [GREY] * 4)
    assert (outcome.reason, len(outcome.steps), outcome.last.component) == ("confident", 4, "glance")
    assert outcome.last.confidence == pytest.approx(np.exp(4.5) / (np.exp(4.5) + 2), rel=1e-5)
    focused = [step.component for step in outcome.steps]
    assert focused == ["focus", "focus", "focus", "glance"]
    assert outcome.focus_flops == 3 * manifest().flops.focus


async def test_a_model_without_the_head_is_never_left_after_its_glance() -> None:
    outcome = await ask(FakeRunner(3), at(0.1, 0.1, 0.1, 0.1), [GREY] * 4)
    assert (outcome.reason, outcome.last.component) == ("all_steps", "focus")


async def test_who_watches_is_told_of_the_glance() -> None:
    seen: list[tuple[Step, int]] = []

    def watch(step: Step, frame: Frame) -> None:
        seen.append((step, frame.index))

    request = EngineRequest(thresholds=LAST, glance_thresholds=(NEVER, 0.9, NEVER, NEVER), on_step=watch)
    await ask(FakeRunner(3, glance_gain=9.0), request, [GREY] * 4)
    assert [(step.component, index) for step, index in seen] == [("focus", 0), ("glance", 10)]


async def test_steps_before_a_possible_exit_still_run_together() -> None:
    runner = FakeRunner(3, glance_gain=9.0, look_ahead=4)
    outcome = await ask(runner, at(NEVER, NEVER, NEVER, 0.9), [GREY] * 4)
    assert (len(outcome.steps), outcome.last.component) == (4, "glance")
    assert (sum(runner.batches), sum(runner.focused)) == (4, 3)
    assert runner.batches[-1] == 1, "the step that may end after its glance runs alone"


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_an_answer_does_not_depend_on_who_else_exits_after_a_glance(data: st.DataObject) -> None:
    """Each video alone, then all together in batches of up to four."""
    videos = data.draw(st.lists(st.sampled_from([DARK, GREY, BRIGHT]), min_size=2, max_size=6))
    rows = [data.draw(st.tuples(*[st.sampled_from([NEVER, 0.9])] * 4)) for _ in videos]

    async def alone_and_together() -> tuple[list[Outcome], list[Outcome]]:
        alone = [
            await ask(FakeRunner(3, glance_gain=9.0), at(*row), [video] * 4)
            for row, video in zip(rows, videos, strict=True)
        ]
        async with make_engine(FakeRunner(3, glance_gain=9.0), manifest()) as (engine, _):
            together = await asyncio.gather(
                *(engine.classify(at(*row), Frames([video] * 4)) for row, video in zip(rows, videos, strict=True))
            )
        return alone, together

    for one, other in zip(*asyncio.run(alone_and_together()), strict=True):
        assert (one.reason, one.last.component, one.focus_flops) == (
            other.reason,
            other.last.component,
            other.focus_flops,
        )
        for ours, theirs in zip(one.steps, other.steps, strict=True):
            assert np.array_equal(ours.logits, theirs.logits)


async def test_a_failing_neighbour_does_not_change_who_exits() -> None:
    runner = FakeRunner(3, glance_gain=9.0, fails_on=lambda frames: bool(frames.max() == DARK))
    async with make_engine(runner, manifest()) as (engine, _):
        answers = await asyncio.gather(
            *(engine.classify(at(0.9, 0.9, 0.9, 0.9), Frames([value] * 4)) for value in (GREY, DARK, BRIGHT)),
            return_exceptions=True,
        )
    assert isinstance(answers[1], Exception)
    for answer in (answers[0], answers[2]):
        assert isinstance(answer, Outcome)
        assert answer.last.component == "glance"


def clip_manifest() -> Manifest:
    early = OperatingPoint(name="early", thresholds=(None,), glance_thresholds=(0.9,), expected_gflops=0.004)
    return make_clip_manifest(
        operating_points=(make_clip_manifest().point("full"), early),
        default_point="early",
        graphs=(
            make_graph("glance", kind="clip", glance_exit=True),
            make_graph("focus", kind="clip", frames=6),
        ),
    )


def clip_request(threshold: float = 0.9) -> EngineRequest:
    return EngineRequest(thresholds=(ALWAYS,), glance_thresholds=(threshold,))


async def test_a_clip_that_exits_after_its_glances_never_asks_for_the_frames_of_its_focus() -> None:
    runner, frames = FakeRunner(3, glance_gain=9.0), Frames([BRIGHT] * 10)
    async with make_engine(runner, clip_manifest()) as (engine, recorder):
        outcome = await engine.classify(clip_request(), frames)
    flops = engine.manifest.flops
    assert (outcome.reason, outcome.last.component, frames.taken) == ("confident", "glance", 4)
    assert (outcome.glance_flops, outcome.focus_flops, outcome.frames_used) == (flops.glance, 0, 4)
    assert (recorder.batches, runner.focused) == ([("glance", 1)], [])


async def test_a_clip_that_goes_on_runs_its_glances_once_and_answers_as_ever() -> None:
    frames = Frames([GREY] * 10)
    async with make_engine(FakeRunner(3, glance_gain=0.1), clip_manifest()) as (engine, recorder):
        unsure = await engine.classify(clip_request(), frames)
        plain = await engine.classify(EngineRequest(thresholds=(ALWAYS,)), Frames([GREY] * 10))
    assert (unsure.reason, unsure.last.component, frames.taken) == ("all_steps", "focus", 10)
    assert np.array_equal(unsure.last.logits, plain.last.logits)
    assert (unsure.glance_flops, unsure.focus_flops) == (plain.glance_flops, plain.focus_flops)
    assert unsure.frames_used == plain.frames_used == 10
    assert recorder.batches[:2] == [("glance", 1), ("focus", 1)]
    assert unsure.glance_seconds > 0
    assert unsure.focus_seconds > 0


@pytest.mark.parametrize("frames", [2, 4, 7])
async def test_a_clip_that_ends_early_is_answered_from_what_there_is(frames: int) -> None:
    async with make_engine(FakeRunner(3, glance_gain=0.1), clip_manifest()) as (engine, _):
        unsure = await engine.classify(clip_request(), Frames([GREY] * frames))
    assert (unsure.reason, unsure.last.component) == ("end_of_video", "focus")
    async with make_engine(FakeRunner(3, glance_gain=9.0), clip_manifest()) as (engine, _):
        sure = await engine.classify(clip_request(), Frames([GREY] * frames))
    assert (sure.reason, sure.last.component) == ("confident", "glance")


async def test_clips_of_every_kind_share_the_device() -> None:
    rows = [(DARK, 0.9), (GREY, NEVER), (BRIGHT, 0.999999), (GREY, 0.9), (BRIGHT, NEVER), (DARK, 0.999999)]
    async with make_engine(FakeRunner(3, glance_gain=4.0), clip_manifest()) as (engine, _):
        together = await asyncio.gather(
            *(engine.classify(clip_request(threshold), Frames([value] * 10)) for value, threshold in rows)
        )
    assert [outcome.last.component for outcome in together] == ["glance", "focus", "focus", "glance", "focus", "focus"]
    assert [int(outcome.last.logits.argmax()) for outcome in together] == [0, 1, 2, 1, 2, 0]


async def test_who_watches_a_clip_is_told_once() -> None:
    for gain, component in ((9.0, "glance"), (0.1, "focus")):
        seen: list[str] = []

        def watch(step: Step, frame: Frame, seen: list[str] = seen) -> None:
            seen.append(step.component)

        request = EngineRequest(thresholds=(ALWAYS,), glance_thresholds=(0.9,), on_step=watch)
        async with make_engine(FakeRunner(3, glance_gain=gain), clip_manifest()) as (engine, _):
            await engine.classify(request, Frames([GREY] * 10))
        assert seen == [component]
