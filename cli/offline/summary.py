"""What a run has done so far and what it cost: for the progress bar and for the summary at its end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from adafocus.cli.offline.formats import Row

_PREFIXES = ((1e6, "P"), (1e3, "T"), (1.0, "G"), (1e-3, "M"))


@dataclass
class Totals:
    """Sums over rows.

    Attributes:
        videos: rows, with and without an answer.
        errors: rows without an answer, by code.
        exits: answers, by the reason for which the model stopped.
        steps: of all answers together.
        gflops: spent, in 1e9 multiply-adds.
        gflops_full: what the same videos would have cost without an early exit.
    """

    videos: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    exits: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    gflops: float = 0.0
    gflops_full: float = 0.0
    frames_used: int = 0
    frames_decoded: int = 0

    def add(self, row: Row) -> None:
        """Count one row."""
        self.videos += 1
        if "error" in row:
            self.errors[row["error"]["code"]] += 1
            return
        left, cost = row["exit"], row["compute"]
        self.exits[left["reason"]] += 1
        self.steps += left["step"]
        self.gflops += cost["gflops"]
        self.gflops_full += cost["gflops_full"]
        self.frames_used += cost["frames_used"]
        self.frames_decoded += cost["frames_decoded"]

    @property
    def failed(self) -> int:
        """Rows without an answer."""
        return self.errors.total()

    @property
    def answered(self) -> int:
        """Rows with an answer."""
        return self.videos - self.failed

    def so_far(self) -> str:
        """The cost and the errors so far, for the progress bar."""
        return f"{flops(self.gflops)}, {_share(self.gflops, self.gflops_full)} of full, {self.failed} errors"


@dataclass(frozen=True)
class Effort:
    """What this run alone took, without earlier runs that it continued.

    Attributes:
        videos: rows that it added.
        seconds: wall time.
        cpu_seconds: processor time of this process and of its decoders.
    """

    videos: int
    seconds: float
    cpu_seconds: float


def summary(totals: Totals, effort: Effort) -> dict[str, Any]:
    """The summary of a run as an object for JSON."""
    return {
        "videos": totals.videos,
        "answered": totals.answered,
        "errors": dict(sorted(totals.errors.items())),
        "exits": dict(sorted(totals.exits.items())),
        "mean_step": _per(totals.steps, totals.answered),
        "gflops": totals.gflops,
        "gflops_full": totals.gflops_full,
        "gflops_per_video": _per(totals.gflops, totals.answered),
        "frames_used": totals.frames_used,
        "frames_decoded": totals.frames_decoded,
        "this_run": {
            "videos": effort.videos,
            "seconds": round(effort.seconds, 3),
            "videos_per_second": _per(effort.videos, effort.seconds),
            "cpu_seconds_per_video": _per(effort.cpu_seconds, effort.videos),
        },
    }


def as_text(told: dict[str, Any], steps: int) -> str:
    """The summary as lines for a terminal; ``steps`` is how many the model has."""
    run = told["this_run"]
    lines = [f"videos     {told['videos']}, {told['answered']} answered{_counts(told['errors'], '; errors: ')}"]
    if told["answered"]:
        share = _share(told["gflops"], told["gflops_full"])
        each = flops(told["gflops_per_video"])
        lines += [
            f"compute    {flops(told['gflops'])}, {share} of {flops(told['gflops_full'])}; {each} a video",
            f"exits      mean step {told['mean_step']:.2f} of {steps}{_counts(told['exits'], '; ')}",
            f"frames     {told['frames_used']} used, {told['frames_decoded']} decoded",
        ]
    if run["videos"]:
        lines.append(
            f"this run   {run['videos']} videos in {run['seconds']:.1f} s, {run['videos_per_second']:.1f} a second; "
            f"{1e3 * run['cpu_seconds_per_video']:.1f} ms of processor time a video"
        )
    return "\n".join(lines)


def flops(gflops: float) -> str:
    """An amount of compute with the unit that suits it."""
    unit, prefix = next((pair for pair in _PREFIXES if gflops >= pair[0]), _PREFIXES[-1])
    return f"{gflops / unit:.3g} {prefix}FLOPs"


def _counts(counts: dict[str, int], before: str) -> str:
    return before + ", ".join(f"{count} {name}" for name, count in counts.items()) if counts else ""


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f}%" if whole else "0%"


def _per(amount: float, count: float) -> float | None:
    return amount / count if count else None
