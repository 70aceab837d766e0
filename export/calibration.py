"""The calibration file: temperature, exit criterion and operating points as JSON, written by ``adafocus calibrate``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adafocus.bundle.exit_rule import CalibrationProtocol
from adafocus.bundle.manifest import FULL, ExitCriterion, OperatingPoint
from adafocus.export.errors import ExportError, reason


class Calibration(BaseModel):
    """The content of a calibration file; its points have the manifest's form."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    temperature: float = Field(gt=0)
    temperatures: tuple[float, ...] | None = Field(default=None, description="one per step")
    glance_temperatures: tuple[float, ...] | None = Field(default=None, description="one per step, after the glance")
    label_thresholds: tuple[float, ...] | None = Field(default=None, description="one per label, of several labels")
    criterion: ExitCriterion
    points: tuple[OperatingPoint, ...]
    default: str
    clips: int | None = Field(default=None, ge=1, description="how many videos it was solved on")
    notes: str | None = None
    checkpoint: str | None = Field(default=None, description="sha256 of the checkpoint that was tested")
    snap: Literal["none", "keyframe"] | None = Field(default=None, description="how its frames were sampled")
    protocol: CalibrationProtocol = Field(default="holdout", description="which clips it was solved on")

    @property
    def exits_after_glance(self) -> bool:
        """Whether a point exits after a glance."""
        return any(value is not None for point in self.points for value in point.glance_thresholds or ())

    def operating_points(self, full: OperatingPoint) -> tuple[OperatingPoint, ...]:
        """The points of a bundle: the file's, with ``full`` in front if the file does not state it."""
        return self.points if any(point.name == FULL for point in self.points) else (full, *self.points)

    def require_checkpoint(self, path: Path) -> None:
        """Check that what the points guarantee was tested with this checkpoint. Points without guarantee fit any.

        Raises:
            ExportError: it was tested with another one, or the checkpoint cannot be read.
        """
        if self.checkpoint is None or all(point.guarantee is None for point in self.points):
            return
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ExportError(f"{path}: cannot be read ({reason(error)})") from error
        if found != self.checkpoint:
            raise ExportError(
                f"the guarantees of the calibration belong to another checkpoint (sha256 {self.checkpoint[:16]}…; "
                f"{path} has {found[:16]}…); calibrate this checkpoint, or export the one that was calibrated"
            )


def read_calibration(path: Path) -> Calibration:
    """Read a calibration file.

    Raises:
        ExportError: it cannot be read, or a field is missing or out of range.
    """
    try:
        return Calibration.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({reason(error)})") from error
    except ValidationError as error:
        raise ExportError(f"{path}: not a calibration file: {first_problem(error)}") from error


def first_problem(error: ValidationError) -> str:
    """The first of pydantic's errors in one line."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ").replace("\n", " ")
    return f"{where}: {message}" if where else message
