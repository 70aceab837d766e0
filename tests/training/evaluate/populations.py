"""Made populations of videos whose exits go wrong in different ways, and in a known share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from adafocus.training.evaluate.metrics import Logits


@dataclass(frozen=True)
class Population:
    """Step logits of made videos.

    Attributes:
        hard: share of videos whose evidence comes at a later step.
        misled: share of videos that look like another class, convincingly, until half of the steps or more.
        noise: standard deviation of what steps add at random.
        steps, classes: sizes.
    """

    hard: float
    misled: float
    noise: float
    steps: int = 8
    classes: int = 6

    def draw(self, clips: int, random: np.random.Generator) -> tuple[Logits, npt.NDArray[np.int64]]:
        """Step logits float32 [N, T, C] and labels int64 [N]."""
        labels, rows = random.integers(0, self.classes, clips), np.arange(clips)
        hard = random.random(clips) < self.hard
        ready = np.where(hard, random.integers(1, self.steps, clips), 0)[:, None]
        step = np.arange(self.steps)[None, :]
        noise = random.normal(0, 0.6, (clips, 1, self.classes)) + random.normal(
            0, self.noise, (clips, self.steps, self.classes)
        )
        noise[rows[:, None], step, labels[:, None]] += np.where(step >= ready, 4.0, 0.6)
        other = (labels + random.integers(1, self.classes, clips)) % self.classes
        until = np.where(random.random(clips) < self.misled, random.integers(self.steps // 2, self.steps, clips), 0)
        noise[rows[:, None], step, other[:, None]] += np.where(step < until[:, None], 8.0, 0.0)
        return (2 * noise).astype(np.float32), labels.astype(np.int64)


POPULATIONS = {
    "easy": Population(hard=0.1, misled=0.0, noise=0.3),
    "late": Population(hard=0.4, misled=0.002, noise=0.5),
    "misled": Population(hard=0.25, misled=0.03, noise=0.4),
}
