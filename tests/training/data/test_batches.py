"""Which clips a step sees, and with which label."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from adafocus.training.data.batches import batches, drawn_labels, own_part
from adafocus.training.data.clips import Clip


def test_every_process_takes_another_part_of_a_batch_of_one_size() -> None:
    parts = [own_part(np.arange(7), rank, 3) for rank in range(3)]
    assert [part.tolist() for part in parts] == [[0, 3], [1, 4], [2, 5]]


def test_an_epoch_draws_as_many_clips_as_asked() -> None:
    labels = np.array([0, 0, 0, 0, 1])
    plain = batches(labels, 2, 0.0, np.random.default_rng(0))
    assert len(plain) == 2
    assert len(set(np.concatenate(plain).tolist())) == 4
    longer = np.concatenate(batches(labels, 2, 0.0, np.random.default_rng(0), fewest=19))
    assert len(longer) == 20
    assert np.bincount(longer).tolist() == [4] * 5
    drawn = labels[np.concatenate(batches(labels, 4, 1.0, np.random.default_rng(0), fewest=4000))]
    assert 0.45 < drawn.mean() < 0.55


def test_a_clip_with_several_labels_is_now_one_now_another() -> None:
    clips = [Clip(Path("a"), 3, "a"), Clip(Path("b"), 0, "b", (7,))]
    drawn = [drawn_labels(clips, np.random.default_rng(seed)) for seed in range(20)]
    assert {first for first, _ in drawn} == {3}
    assert {second for _, second in drawn} == {0, 7}
