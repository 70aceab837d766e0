"""The decoder runs ahead of the engine only for a video that probably needs all of its frames."""

from __future__ import annotations

from pathlib import Path

import pytest

from adafocus.bundle.manifest import OperatingPoint, Sampling
from adafocus.service.classify import may_spare_focus_frames, slots_for
from adafocus.service.resources import pool_settings
from adafocus.service.schemas.parameters import Parameters
from adafocus.service.settings import Settings
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
