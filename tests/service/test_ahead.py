"""The decoder runs ahead of the engine only for a video that probably needs all of its frames."""

from __future__ import annotations

import pytest

from adafocus.service.classify import slots_for
from adafocus.service.schemas.classify import Parameters
from tests.bundle.factory import make_manifest


@pytest.mark.parametrize(
    ("shares", "max_gflops", "slots"),
    [
        (None, None, None),  # nothing is known of it
        ((0.0, 0.0, 0.0, 1.0), None, None),  # as at `full`
        ((0.1, 0.1, 0.1, 0.7), None, None),
        ((0.1, 0.1, 0.4, 0.4), None, 1),
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
