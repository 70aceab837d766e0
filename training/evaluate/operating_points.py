"""Operating points on their way from calibration to a bundle: plain values and the JSON they travel in."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundle.exit_rule import ExitCriterion
from training.errors import CalibrationError

Thresholds = Sequence[float | None]


def as_row(thresholds: Thresholds) -> npt.NDArray[np.float64]:
    """Thresholds as numbers ``[T]``: infinity where a step never lets a clip leave, minus infinity at the last."""
    row = np.array([math.inf if value is None else value for value in thresholds], dtype=np.float64)
    row[-1] = -math.inf
    return row


@dataclass(frozen=True)
class Point:
    """An operating point: one threshold per step (None never leaves there; the last step always answers).

    ``expected_gflops`` and ``expected_accuracy`` were measured on the calibration clips; ``exit_shares`` are the shares
    of those clips that left at each step.
    """

    name: str
    thresholds: tuple[float | None, ...]
    expected_gflops: float
    expected_accuracy: float
    exit_shares: tuple[float, ...]


@dataclass(frozen=True)
class Calibration:
    """What calibration found: the file that ``adafocus export --calibration`` reads."""

    temperature: float
    criterion: ExitCriterion
    points: tuple[Point, ...]
    default: str
    clips: int
    notes: str

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def load_calibration(path: Path) -> Calibration:
    """Read what `Calibration.save` wrote.

    Raises:
        CalibrationError: not such a file.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        points = tuple(
            Point(
                name=str(item["name"]),
                thresholds=tuple(None if value is None else float(value) for value in item["thresholds"]),
                expected_gflops=float(item["expected_gflops"]),
                expected_accuracy=float(item["expected_accuracy"]),
                exit_shares=tuple(float(value) for value in item["exit_shares"]),
            )
            for item in data["points"]
        )
        return Calibration(
            temperature=float(data["temperature"]),
            criterion=data["criterion"],
            points=points,
            default=str(data["default"]),
            clips=int(data["clips"]),
            notes=str(data["notes"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CalibrationError(f"{path} is no calibration file: {error}") from error
