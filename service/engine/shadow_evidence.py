"""Evidence that early exits change more answers than they may, which may be looked at after every video. Pure.

A betting e-process: someone who bets, video after video, that an exit has changed the answer cannot expect to gain
if at most the permitted share of them has. The probability that the wealth ever reaches w is then at most 1/w, however
long and however often it is looked at (Ville's inequality; Waudby-Smith and Ramdas 2024, arXiv 2010.09686).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from adafocus.bundle.manifest import Manifest

PERMITTED_SHARE = 0.05
"""Share of changed answers that an operating point without a guarantee may have."""

STAKES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
"""Shares of the wealth that are lost when an answer agrees. The wealth is the mean over bettors, one for each."""

_LARGEST_EXPONENT = 690.0


@dataclass(slots=True)
class EProcess:
    """The wealth of those who bet against a permitted share of failures.

    Attributes:
        permitted: share of failures, above 0 and below 1.
    """

    permitted: float
    _log_wealth: list[float] = field(default_factory=lambda: [0.0] * len(STAKES), init=False)

    def take(self, *, failed: bool) -> None:
        """Take in one more video."""
        for index, stake in enumerate(STAKES):
            gain = stake * (1.0 - self.permitted) / self.permitted
            self._log_wealth[index] += math.log1p(gain if failed else -stake)

    @property
    def wealth(self) -> float:
        """The evidence: 1 at the beginning, small where nothing is wrong, large where something is."""
        return sum(math.exp(min(value, _LARGEST_EXPONENT)) for value in self._log_wealth) / len(STAKES)


class ShadowEvidence:
    """Evidence about each operating point of a bundle, since the service started.

    Args:
        manifest: of the bundle; a guarantee about changed answers states what is permitted.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._points = {
            point.name: EProcess(
                point.guarantee.epsilon
                if point.guarantee is not None and point.guarantee.risk == "answer_changed"
                else PERMITTED_SHARE
            )
            for point in manifest.operating_points
        }

    def take(self, point: str, *, agrees: bool) -> float:
        """Take in one comparison; returns the mean evidence of all points, which is an e-process as well."""
        self._points[point].take(failed=not agrees)
        return sum(process.wealth for process in self._points.values()) / len(self._points)
