"""Certifies rows of exit thresholds: an upper bound on the share of videos that exit with a worse answer.

Learn-then-test (Angelopoulos et al. 2021, arXiv 2110.01052) with fixed-sequence testing, on a binary loss per clip as
in *Fast yet Safe* (Jazbec et al., NeurIPS 2024). Some clips fit a ladder of rows that runs from slow to fast. Other,
independent clips test it: row after row, until the first that fails. Each test is exact, so the promise holds for any
model and any distribution of videos, as long as later videos are drawn like the tested ones.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from adafocus.bundle.exit_rule import ExitRule, should_exit
from adafocus.bundle.guarantee import Guarantee, Risk
from adafocus.training.errors import CalibrationError
from adafocus.training.evaluate.exit_curve import exit_quota_of, solve_thresholds
from adafocus.training.evaluate.exit_layout import ExitLayout
from adafocus.training.evaluate.metrics import Indices, Logits, Truth, label_sets
from adafocus.training.evaluate.operating_points import Thresholds

Bool = npt.NDArray[np.bool_]
Ladder = tuple[tuple[float | None, ...], ...]

FIT_SHARE = 0.3
"""Share of the labelled clips that fit temperatures and ladders; the others test. A ladder needs few clips."""

RATIOS = tuple(float(ratio) for ratio in np.geomspace(64.0, 1 / 64, 97))
"""Ratios of exit shares of one ladder, from nearly all clips at the last step to nearly all at the first."""

LEVELS = 60
"""Confidences that the other ladder takes from each of four series. More rows only cost time."""


@dataclass(frozen=True)
class Exits:
    """The answer and the confidence of each step of each clip.

    Attributes:
        confidences: float32 [N, T].
        answers: int64 [N, T], class indices.
        right: bool [N, T], whether each answer is right; None without labels.
    """

    confidences: npt.NDArray[np.float32]
    answers: Indices
    right: Bool | None

    @classmethod
    def of(cls, logits: Logits, rule: ExitRule, truth: Truth | None = None) -> Self:
        """Exits of clips from their step logits [N, T, C], and labels [N] or [N, C] if there are any.

        Raises:
            CalibrationError: there is no clip, or a logit is not a finite number.
        """
        if not len(logits) or not np.isfinite(logits).all():
            raise CalibrationError("there must be clips to certify on, and their logits must be finite numbers")
        if rule.criterion == "label_margin":
            return cls._of_label_sets(logits, rule, truth)
        answers = logits.argmax(axis=2).astype(np.int64)
        right = None
        if truth is not None and truth.ndim == 1:
            right = answers == truth[:, None]
        elif truth is not None:
            right = np.take_along_axis(truth.astype(np.bool_), answers, axis=1)
        return cls(rule.of_all_steps(logits), answers, right)

    @classmethod
    def _of_label_sets(cls, decisions: Logits, rule: ExitRule, truth: Truth | None) -> Self:
        """Exits whose answers are sets of labels, all of which must be right."""
        right = None if truth is None else ((decisions > 0) == truth[:, None].astype(np.bool_)).all(axis=2)
        return cls(rule.of_all_steps(decisions), label_sets(decisions), right)

    def failures(self, risk: Risk) -> Bool:
        """True where exiting at a step would be a failure: bool [N, T]; never at the last step.

        Raises:
            CalibrationError: the risk needs labels and there are none.
        """
        if risk == "answer_changed":
            return np.asarray(self.answers != self.answers[:, -1:])
        if self.right is None:
            raise CalibrationError("right_answer_lost needs labelled clips; without labels, certify answer_changed")
        return np.asarray(~self.right & self.right[:, -1:])

    def steps(self, thresholds: Thresholds) -> Indices:
        """The step, from 0, at which each clip exits: int64 [N]."""
        row = np.array([math.inf if value is None else value for value in thresholds])
        row[-1] = -math.inf
        return np.asarray(should_exit(self.confidences, row[None, :]).argmax(axis=1), dtype=np.int64)

    def only(self, kept: Indices | Bool) -> Exits:
        """The same of some clips."""
        return Exits(self.confidences[kept], self.answers[kept], None if self.right is None else self.right[kept])


def clips_needed(epsilon: float, confidence: float) -> int:
    """Fewest tested clips that certify ``epsilon``, if none of them fails: 59 for 5 % at 95 %."""
    return math.ceil(math.log(_alpha(confidence)) / math.log1p(-epsilon) - 1e-9)


def smallest_epsilon(clips: int, confidence: float) -> float:
    """The smallest epsilon that so many tested clips can certify, if none of them fails; 1 for no clips."""
    return 1.0 if clips < 1 else float(-np.expm1(math.log(_alpha(confidence)) / clips))


def failures_allowed(clips: int, epsilon: float, confidence: float) -> int:
    """Most failures among the tested clips that still certify ``epsilon``; -1 if even none would not.

    A row whose true risk is ``epsilon`` or more has at most so many failures with a probability of at most
    ``1 - confidence``: that is what an exact binomial p-value of at most ``1 - confidence`` means.
    """
    cumulative, allowed = 0.0, -1
    for failures in range(clips + 1):
        log_ways = math.lgamma(clips + 1) - math.lgamma(failures + 1) - math.lgamma(clips - failures + 1)
        cumulative += math.exp(log_ways + failures * math.log(epsilon) + (clips - failures) * math.log1p(-epsilon))
        if cumulative > _alpha(confidence) + 1e-12:
            break
        allowed = failures
    return allowed


def _alpha(confidence: float) -> float:
    return 1.0 - confidence


def split_units(units: Sequence[str], share: float = FIT_SHARE, seed: int = 0) -> tuple[Bool, Indices]:
    """Split clips at random into those that fit and those that test, without dividing a unit.

    Clips of one unit (one recording, or byte-identical ones) are not independent. So a unit fits or tests as a whole,
    and one clip of it, drawn at random, is tested: the promise is about a random clip of a random unit. The draw
    depends on the names and the seed alone, neither on the order of the clips nor on what a model answers.

    Returns:
        bool [N], which clips fit; and the indices of the tested clips, one per unit.
    """
    members: defaultdict[str, list[int]] = defaultdict(list)
    for index, unit in enumerate(units):
        members[unit].append(index)
    names = sorted(members, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    fitting = set(names[: round(share * len(names))])
    tested = [
        members[name][int.from_bytes(hashlib.sha256(f"{seed} one {name}".encode()).digest()[:8]) % len(members[name])]
        for name in names
        if name not in fitting
    ]
    return np.array([unit in fitting for unit in units], dtype=np.bool_), np.array(sorted(tested), dtype=np.int64)


def ratio_ladder(fit: Exits, used: Bool | None = None) -> Ladder:
    """Rows by the published solver, ratio after ratio of exit shares; the first row never exits early.

    Args:
        fit: clips that never test.
        used: bool [T], the exits that rows may use; None: all.
    """
    used = np.ones(fit.confidences.shape[1], dtype=np.bool_) if used is None else used
    rows = [solve_thresholds(fit.confidences, exit_quota_of(ratio, used)) for ratio in RATIOS]
    return tuple(dict.fromkeys([(None,) * len(used), *rows]))


def level_ladder(fit: Exits, used: Bool | None = None) -> Ladder:
    """Rows that ask for the same confidence at every exit, from the highest on; the first row never exits early.

    The confidences are those of the clips, of all exits and of the first one, where most clips leave.
    """
    used = np.ones(fit.confidences.shape[1], dtype=np.bool_) if used is None else used
    sure = fit.confidences[:, used]
    levels = np.unique(np.concatenate([_levels(sure[:, :-1]), _levels(sure[:, :1])]))[::-1]
    early = used.copy()
    early[-1] = False
    rows = (tuple(float(level) if there else None for there in early) for level in levels)
    return ((None,) * len(used), *rows)


def _levels(confidences: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Some of the confidences, spread evenly over their ranks, and more densely among the highest."""
    falling = np.sort(confidences, axis=None)[::-1]
    ranks = [space(1, len(falling), LEVELS) for space in (np.geomspace, np.linspace)]
    return np.asarray(falling[np.concatenate(ranks).astype(int) - 1])


def best_ladder(fit: Exits, risk: Risk, epsilons: Sequence[float], layout: ExitLayout | None = None) -> Ladder:
    """The ladder that is expected to be cheapest at these risks, measured on the clips that fit, which never test.

    All risks share one ladder, so that a looser promise is never more expensive than a stricter one.
    """
    failures, rows = fit.failures(risk), np.arange(len(fit.answers))
    layout = layout or ExitLayout.of_steps(fit.answers.shape[1])

    def cost(ladder: Ladder) -> float:
        exits = [fit.steps(row) for row in ladder]
        failed = np.maximum.accumulate([failures[rows, steps].mean() for steps in exits])
        means = [float(layout.costs[steps].mean()) for steps in exits]
        return sum(means[int(np.searchsorted(failed, epsilon, side="right")) - 1] for epsilon in epsilons)

    return min((make(fit, used) for used in layout.families for make in (level_ladder, ratio_ladder)), key=cost)


@dataclass(frozen=True)
class CertifiedRow:
    """The fastest row of a ladder that passed the test, and the numbers of its guarantee."""

    thresholds: tuple[float | None, ...]
    guarantee: Guarantee


def certify(ladder: Ladder, test: Exits, risk: Risk, epsilon: float, confidence: float) -> CertifiedRow | None:
    """Test a ladder from its slow end on clips that did not fit it.

    Args:
        ladder: rows from slow to fast; the first never exits early, and so never fails.
        test: independent clips.
        risk: what a failure is.
        epsilon: bound on the share of failures.
        confidence: of the promise.

    Returns:
        The last row before the first that fails; None if there are too few clips to certify anything.
    """
    allowed = failures_allowed(len(test.answers), epsilon, confidence)
    if allowed < 0:
        return None
    table, rows = test.failures(risk), np.arange(len(test.answers))
    best, failed = ladder[0], 0
    for row in ladder:
        found = int(table[rows, test.steps(row)].sum())
        if found > allowed:
            break
        best, failed = row, found
    return CertifiedRow(best, Guarantee(risk, epsilon, confidence, len(rows), failed))
