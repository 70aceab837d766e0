"""Answers on snapped frames beside those on frames as sampled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.certified_sets import Pool
from benchmarks.snapping import compared
from tests.bundle.factory import make_manifest


def test_what_is_the_same_has_no_gain_and_other_clips_are_refused() -> None:
    manifest = make_manifest()
    clips, classes = 40, len(manifest.labels)
    logits = np.random.default_rng(0).normal(size=(clips, manifest.steps, classes)).astype(np.float32)
    pool = Pool(logits, logits[:, -1].argmax(axis=1), np.arange(clips).astype(str))
    full = {str(row["point"]): row for row in compared(pool, pool, manifest)}["full"]
    assert (full["right_plain"], full["right_snapped"], full["same_answer"]) == (clips, clips, 1.0)
    assert (full["gain_low"], full["gain_high"]) == (0.0, 0.0)
    worse = replace(pool, logits=-logits)
    assert {str(row["point"]): row for row in compared(pool, worse, manifest)}["full"]["gain_high"] == -1.0
    with pytest.raises(ValueError, match="different clips"):
        compared(pool, replace(pool, units=pool.units[::-1]), manifest)
