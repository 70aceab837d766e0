"""A runner that takes the times of a device and computes nothing: what is left of a rate is the engine's doing.

It fetches frames as the runner for CUDA does (`service.engine.runners.frame_fetch`): a call to the C library for every
frame says which bytes are to be copied where. Instead of a driver that lets the device copy them, `memcpy` copies the
first 64 bytes, so that a wrong address shows.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adafocus.bundle.manifest import FrameGeometry, Manifest, Precision, Sampling
from adafocus.bundle.store import Bundle, load_bundle
from adafocus.service.engine.runners.base import (
    BatchInputs,
    BatchOutputs,
    Float32,
    FocusOutput,
    GlanceOutput,
    Int64,
    StateWidths,
    UInt8,
)
from adafocus.service.engine.runners.frame_fetch import FrameFetch
from adafocus.service.engine.runners.graphs import batch_sizes_up_to
from adafocus.service.engine.runners.selection import GPU_MAX_BATCH
from adafocus.service.frame_memory import FrameSegment
from adafocus.service.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
BUNDLE = ROOT / "bundles" / "sky"
STEPS = 16
CROP = 224
CLASSES = 200

MEASURED_SIZES = (1, 8, 32, 128, 256)


@dataclass(frozen=True, slots=True)
class DeviceTimes:
    """What both graphs of a model take on a device, in seconds, at each of `MEASURED_SIZES`."""

    glance: tuple[float, ...]
    focus: tuple[float, ...]

    def of(self, rows: int) -> tuple[float, float]:
        """Seconds of glance and focus for a batch size; between two that were measured, on a straight line."""
        glance = float(np.interp(rows, MEASURED_SIZES, self.glance))
        return glance, float(np.interp(rows, MEASURED_SIZES, self.focus))

    def frames_per_s(self, rows: int) -> float:
        """The device's own rate, if it is never kept waiting."""
        return rows / sum(self.of(rows))


DEVICES: Mapping[str, DeviceTimes] = {
    # actnet_mbv2_p128 in fp16, ONNX Runtime 1.31.1, everything on the device.
    "h200-fp16": DeviceTimes(
        glance=(0.00120, 0.00114, 0.00220, 0.00715, 0.0140), focus=(0.00180, 0.00148, 0.00185, 0.00496, 0.00921)
    ),
    # The same replayed as CUDA graphs, from graphs without the look-ahead loop.
    "h200-fp16-graphs": DeviceTimes(
        glance=(0.00048, 0.00088, 0.00199, 0.00688, 0.0137), focus=(0.00061, 0.00082, 0.00155, 0.00456, 0.00886)
    ),
}

WIDTHS = StateWidths(policy=1024, pooled=2048)
FEATURES = 1280

DEVICE_VARIABLE = "SIMULATED_DEVICE"


@dataclass(frozen=True, slots=True)
class _Ticket:
    """A batch at the device, and when it will be done."""

    rows: int
    done_at: float
    glance: float
    focus: float


class SimulatedCopies:
    """Takes the copies that a device's driver would carry out; see `CopyEngine`."""

    COPIED_BYTES = 64
    _memcpy = ctypes.CDLL(None).memcpy
    _memcpy.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    _memcpy.restype = None

    def register(self, address: int, size: int) -> None:
        """Every address can be read."""

    def unregister(self, address: int) -> None:
        """Nothing is kept."""

    def copy(self, destination: int, source: int, size: int) -> int:
        """Copy the first bytes."""
        self._memcpy(destination, source, self.COPIED_BYTES)
        return 0


class SimulatedRunner:
    """Sleeps for as long as the device would compute.

    Args:
        times: of the device.
        max_batch: rows of the largest batch; batches are padded as those of a real runner.
        classes: C of the logits, which favour no class.
        frame_bytes: of one frame.

    Attributes:
        late_seconds: how much later than the device each batch was done, because a sleep ended late.
    """

    backend = "simulated"
    precision: Precision = "fp16"
    widths = WIDTHS
    look_ahead = 1

    def __init__(self, times: DeviceTimes, max_batch: int, classes: int, frame_bytes: int) -> None:
        self._sizes = batch_sizes_up_to(max_batch)
        self._seconds = {size: times.of(size) for size in self._sizes}  # looked up: a device does not compute its times
        self._classes = classes
        self._free_at = 0.0
        self._fetch = FrameFetch(SimulatedCopies(), frame_bytes)
        self._memory = mmap.mmap(-1, self._sizes[-1] * frame_bytes)
        self._address = np.frombuffer(self._memory, dtype=np.uint8).ctypes.data
        self._waiter = 0
        self.late_seconds: list[float] = []
        widths = (2, classes, self.widths.policy, self.widths.pooled)
        self._outputs = [_zeros(self._sizes[-1], width) for width in widths]

    def padded(self, rows: int) -> int:
        """The smallest planned batch size that holds the rows."""
        return next(size for size in self._sizes if rows <= size)

    def glance(self, frames: UInt8, policy_state: Float32) -> GlanceOutput:
        """Zeros, when the device would have them."""
        rows = len(frames)
        time.sleep(self._seconds[self.padded(rows)][0])
        return GlanceOutput(_zeros(rows, FEATURES), _zeros(rows, 2), _zeros(rows, self.widths.policy))

    def focus(
        self, frames: UInt8, patch_centre: Float32, glance_feature: Float32, pooled_state: Float32, step: Int64
    ) -> FocusOutput:
        """Zeros, when the device would have them."""
        rows = len(frames)
        time.sleep(self._seconds[self.padded(rows)][1])
        return FocusOutput(_zeros(rows, self._classes), _zeros(rows, self.widths.pooled))

    def submit(self, inputs: BatchInputs) -> _Ticket:
        """Queue a batch behind the one that runs."""
        if inputs.frame_places is not None:
            self._fetch.fetch(inputs.frame_places, self._address)
        glance, focus = self._seconds[len(inputs.step)]
        self._free_at = max(self._free_at, time.monotonic()) + glance + focus
        return _Ticket(len(inputs.step), self._free_at, glance, focus)

    def wait(self, ticket: object) -> BatchOutputs:
        """Zeros, when the device would have them."""
        if not isinstance(ticket, _Ticket):
            raise TypeError(f"a ticket comes from submit, got {type(ticket).__name__}")
        if self._waiter != threading.get_ident():
            self._waiter = threading.get_ident()
            sleep_exactly()
        left = ticket.done_at - time.monotonic()
        if left > 0:
            time.sleep(left)
            self.late_seconds.append(time.monotonic() - ticket.done_at)
        return BatchOutputs(*(array[: ticket.rows] for array in self._outputs), ticket.glance, ticket.focus)

    def attach(self, segment: FrameSegment) -> None:
        """See `FrameFetcher`."""
        self._fetch.attach(segment)

    def detach(self, segment: FrameSegment) -> None:
        """See `FrameFetcher`."""
        self._fetch.detach(segment)

    def warm_up(self) -> None:
        """Nothing to warm."""

    def close(self) -> None:
        """Nothing to give back."""


def make_simulated(bundle: Bundle, settings: Settings) -> SimulatedRunner:
    """A runner for a whole service, whose device the variable `DEVICE_VARIABLE` names."""
    device = DEVICES[os.environ[DEVICE_VARIABLE]]
    manifest = bundle.manifest
    frame_bytes = 3 * manifest.geometry.crop**2
    return SimulatedRunner(device, settings.max_batch or GPU_MAX_BATCH, len(manifest.labels), frame_bytes)


def simulated_manifest() -> Manifest:
    """A model of 16 steps on frames of 224 pixels, as far as the engine needs to know it."""
    shipped = load_bundle(BUNDLE).manifest
    return shipped.model_copy(
        update={
            "labels": tuple(f"class {index}" for index in range(CLASSES)),
            "steps": STEPS,
            "geometry": FrameGeometry(resize=256, crop=CROP),
            "sampling": Sampling(frames=STEPS, order=tuple(range(STEPS))),
        }
    )


def make_core(device: str, batch: int) -> tuple[Manifest, SimulatedRunner]:
    """What the engine's core runs."""
    return simulated_manifest(), SimulatedRunner(DEVICES[device], batch, CLASSES, 3 * CROP**2)


def sleep_exactly() -> None:
    """End the sleeps of this thread when they should: Linux else lets them be 50 µs late, to save wake-ups."""
    pr_set_timerslack, one_nanosecond = 29, 1
    ctypes.CDLL(None).prctl(pr_set_timerslack, ctypes.c_ulong(one_nanosecond), 0, 0, 0)


def _zeros(rows: int, width: int) -> Float32:
    return np.zeros((rows, width), dtype=np.float32)
