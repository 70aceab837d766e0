"""Operating points between calibration and export: plain values, and the JSON file that holds them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from adafocus.bundle.exit_rule import CalibrationProtocol, ExitCriterion, ExitRule
from adafocus.bundle.guarantee import METHOD, Guarantee
from adafocus.training.errors import CalibrationError
from adafocus.video.sampler import Snap

Thresholds = Sequence[float | None]


def as_row(thresholds: Thresholds) -> npt.NDArray[np.float64]:
    """Return thresholds as numbers ``[T]``: infinity where no clip leaves, minus infinity at the last step."""
    row = np.array([math.inf if value is None else value for value in thresholds], dtype=np.float64)
    row[-1] = -math.inf
    return row


@dataclass(frozen=True)
class Point:
    """An operating point: one threshold per step (None never leaves there; the last step always answers).

    ``expected_gflops`` and ``expected_accuracy`` were measured on the calibration clips; ``exit_shares`` are the shares
    of those clips that left at each step. ``guarantee`` is None where nothing was certified. ``glance_thresholds`` are
    those of the exits after the glance, one per step; None: there are none.
    """

    name: str
    thresholds: tuple[float | None, ...]
    expected_gflops: float
    expected_accuracy: float
    exit_shares: tuple[float, ...]
    guarantee: Guarantee | None = None
    glance_thresholds: tuple[float | None, ...] | None = None


@dataclass(frozen=True)
class Calibration:
    """The result of a calibration: the file that ``adafocus export --calibration`` reads.

    ``protocol`` is ``holdout`` if the clips were unseen in training, ``paper`` if they were the training clips.
    ``temperatures`` has one per step, used instead of ``temperature``; None means the same at all steps.
    ``checkpoint`` is the sha256 of the file whose model the guarantees were tested with. ``snap`` says how the frames
    were sampled; None: not stated. ``glance_temperatures`` are those of the exits after the glance, one per step.
    ``label_thresholds`` has one per label where a video may have several.
    """

    temperature: float
    criterion: ExitCriterion
    points: tuple[Point, ...]
    default: str
    clips: int
    notes: str
    protocol: CalibrationProtocol = "holdout"
    temperatures: tuple[float, ...] | None = None
    checkpoint: str | None = None
    snap: Snap | None = None
    glance_temperatures: tuple[float, ...] | None = None
    label_thresholds: tuple[float, ...] | None = None

    @property
    def exit_rule(self) -> ExitRule:
        """How the confidence of each step is computed."""
        heat = self.temperatures or (self.temperature,) * len(self.points[0].thresholds)
        return ExitRule(self.criterion, heat, self.label_thresholds or ())

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
                thresholds=_thresholds(item["thresholds"]) or (),
                expected_gflops=float(item["expected_gflops"]),
                expected_accuracy=float(item["expected_accuracy"]),
                exit_shares=tuple(float(value) for value in item["exit_shares"]),
                guarantee=_guarantee(item.get("guarantee")),
                glance_thresholds=_thresholds(item.get("glance_thresholds")),
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
            protocol=data.get("protocol", "holdout"),
            temperatures=_floats(data.get("temperatures")),
            checkpoint=data.get("checkpoint"),
            snap=data.get("snap"),
            glance_temperatures=_floats(data.get("glance_temperatures")),
            label_thresholds=_floats(data.get("label_thresholds")),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CalibrationError(f"{path} is not a calibration file: {error}") from error


def _guarantee(data: Mapping[str, Any] | None) -> Guarantee | None:
    if data is None:
        return None
    return Guarantee(
        risk=data["risk"],
        epsilon=float(data["epsilon"]),
        confidence=float(data["confidence"]),
        clips=int(data["clips"]),
        failures=int(data["failures"]),
        method=str(data.get("method", METHOD)),
    )


def _thresholds(values: Sequence[float | None] | None) -> tuple[float | None, ...] | None:
    return None if values is None else tuple(None if value is None else float(value) for value in values)


def _floats(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(value) for value in values)
