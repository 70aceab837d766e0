"""The decoder runs ahead of the engine only for a video that probably needs all of its frames."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from adafocus.bundle.manifest import Manifest, OperatingPoint, Sampling
from adafocus.service.classify import course_of, may_spare_focus_frames, slots_for
from adafocus.service.engine.step_plan import prefetch_targets
from adafocus.service.resources import pool_settings
from adafocus.service.runtime import Runtime
from adafocus.service.schemas.parameters import Parameters
from adafocus.service.settings import Settings
from adafocus.video.limits import MediaLimits
from tests.bundle.factory import make_clip_manifest, make_graph, make_manifest


@pytest.mark.parametrize(
    ("shares", "max_gflops", "slots"),
    [
        (None, None, None),  # nothing is known of it
        ((0.0, 0.0, 0.0, 1.0), None, None),  # as at `full`
        ((0.1, 0.1, 0.1, 0.7), None, None),
        ((0.1, 0.1, 0.4, 0.4), None, 2),  # the second step is likely, the last one is not
        ((0.9, 0.1, 0.0, 0.0), None, 1),
        (None, 0.001, 1),  # it ends when it has spent that
    ],
)
def test_frames_are_decoded_unasked_only_where_they_are_needed(
    shares: tuple[float, ...] | None, max_gflops: float | None, slots: int | None
) -> None:
    full, *others = make_manifest().operating_points
    point = full.model_copy(update={"exit_shares": shares})
    manifest = make_manifest(operating_points=(point, *others))
    assert slots_for(manifest, Parameters(exit=full.name, top_k=1, max_gflops=max_gflops)) == slots


def runtime_of(
    manifest: Manifest, *, most_ahead: int | None = None, in_flight: int = 0, in_foreground: int | None = None
) -> Runtime:
    """What is asked of a runtime here, with so many videos in flight, all in the foreground unless told otherwise."""
    foreground = in_flight if in_foreground is None else in_foreground
    admission = SimpleNamespace(slots_taken=in_flight, slots_in_foreground=lambda: foreground)
    engine = SimpleNamespace(manifest=manifest, admission=admission)
    settings = SimpleNamespace(media_limits=MediaLimits())
    return Runtime(engine, None, None, settings, None, None, most_ahead)  # type: ignore[arg-type] # only these are used


@pytest.mark.parametrize("background", [False, True])
def test_decoders_run_ahead_while_the_videos_in_flight_leave_processors_idle(background: bool) -> None:
    manifest = make_manifest()
    counts = {1: True, 2: True, 3: False}
    ahead = {
        count: runtime_of(manifest, most_ahead=2, in_flight=count).decodes_ahead(background=background)
        for count in counts
    }
    assert ahead == counts
    assert runtime_of(manifest, in_flight=100).decodes_ahead(background=background), "on a device of its own"


def test_a_flood_in_the_background_does_not_keep_other_decoders_from_running_ahead() -> None:
    runtime = runtime_of(make_manifest(), most_ahead=2, in_flight=4, in_foreground=1)
    assert runtime.decodes_ahead(background=False)
    assert not runtime.decodes_ahead(background=True)


def test_a_decoder_that_does_not_run_ahead_decodes_a_frame_when_its_step_is_next() -> None:
    full, *others = make_manifest().operating_points
    likely = full.model_copy(update={"exit_shares": (0.1, 0.1, 0.4, 0.4)})
    runtime = runtime_of(make_manifest(operating_points=(likely, *others)))
    parameters = Parameters(exit=full.name, top_k=1)
    ahead, behind = (course_of(runtime, parameters, ahead=ahead) for ahead in (True, False))
    assert (ahead.job.slots, behind.job.slots) == (2, 1)
    assert ahead.thresholds == behind.thresholds
    one_each = prefetch_targets(behind.continue_probability, (1,) * len(behind.thresholds))
    assert set(one_each) == {1}
    assert course_of(runtime, parameters) is ahead


def test_a_video_that_needs_all_of_its_frames_has_them_decoded_ahead_even_in_a_crowd() -> None:
    runtime = runtime_of(make_manifest())
    parameters = Parameters(exit="full", top_k=1)
    assert course_of(runtime, parameters, ahead=False) == course_of(runtime, parameters)


@pytest.mark.parametrize("max_gflops", [None, 0.005])
def test_all_frames_of_a_clip_are_decoded_ahead_unless_its_glances_may_be_enough(max_gflops: float | None) -> None:
    early = OperatingPoint(name="early", thresholds=(None,), glance_thresholds=(0.9,), expected_gflops=0.001)
    never = early.model_copy(update={"name": "never", "glance_thresholds": (None,)})
    manifest = make_clip_manifest(
        operating_points=(make_clip_manifest().point("full"), early, never),
        graphs=(make_graph("glance", kind="clip", glance_exit=True), make_graph("focus", kind="clip", frames=6)),
    )
    for point, slots in (("full", None), ("never", None), ("early", 1)):
        assert slots_for(manifest, Parameters(exit=point, top_k=1, max_gflops=max_gflops)) == slots
        assert may_spare_focus_frames(manifest, point) == (slots == 1)


def test_a_decoder_can_hold_every_frame_of_a_clip(tmp_path: Path) -> None:
    clip = make_clip_manifest(
        sampling=Sampling(frames=8, focus_frames=12, order=tuple(range(8))),
        graphs=(make_graph("glance", kind="clip", frames=8), make_graph("focus", kind="clip", frames=12)),
    )
    slots = pool_settings([clip], Settings(bundle=tmp_path)).slots
    assert slots == 20, "with fewer places its only step would never begin"
