"""The query parameters of ``/classify``, parsed and validated against the bundle."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from adafocus.bundle.manifest import Manifest
from adafocus.service.errors import BadParameter

MODEL = "model"
"""The query parameter that names the model; it is no property of a classification."""

DEFAULT_TOP_K = 5
MAX_MILLISECONDS = 86_400_000.0
MAX_GFLOPS = 1e9
MIN_WINDOW_SECONDS, MAX_WINDOW_SECONDS = 0.1, 86_400.0
MIN_EVENT_THRESHOLD, DEFAULT_EVENT_THRESHOLD = 0.01, 0.5
_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?")


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one classification, validated against the bundle."""

    exit: str
    top_k: int
    max_gflops: float | None = None
    max_decode_ms: float | None = None
    deadline_ms: float | None = None
    trace: bool = False
    stream: bool = False
    frames: bool = False
    windows: WindowParameters | None = None
    strict: bool = False
    degraded_from: str | None = None

    def at(self, point: str) -> Parameters:
        """Return the same request at another operating point than it asked for."""
        return self if point == self.exit else replace(self, exit=point, degraded_from=self.exit)


@dataclass(frozen=True, slots=True)
class WindowParameters:
    """How a long video is cut into windows, and how their labels become events.

    Attributes:
        window_s: length of a window, seconds.
        stride_s: from the start of one window to that of the next, seconds.
        event_threshold: least score with which an event begins.
        event_min_s: shorter events are left out; interruptions up to this are bridged.
    """

    window_s: float
    stride_s: float
    event_threshold: float = 0.5
    event_min_s: float = 0.0


def model_and_rest(pairs: Iterable[tuple[str, str]]) -> tuple[str | None, list[tuple[str, str]]]:
    """Take the name of the model out of query parameters; None if they name none.

    Raises:
        BadParameter: it is given more than once.
    """
    pairs = list(pairs)
    names = [value for name, value in pairs if name == MODEL]
    if len(names) > 1:
        raise BadParameter(f"{MODEL} is given more than once; give it once")
    return (names[0] if names else None), [pair for pair in pairs if pair[0] != MODEL]


def parse_parameters(
    pairs: Iterable[tuple[str, str]], manifest: Manifest, allowed: Iterable[str] | None = None
) -> Parameters:
    """Parse and validate query parameters.

    Args:
        pairs: names and values as they came.
        manifest: of the bundle: its operating points, its classes and the cost of a step.
        allowed: the names that the text of an error lists; None: those of `PARAMETERS`.

    Raises:
        BadParameter: a parameter is unknown, repeated or out of range; the text says what is allowed.
    """
    given: dict[str, str] = {}
    for name, value in pairs:
        if name not in PARAMETERS:
            raise BadParameter(f"unknown parameter {_shown(name)}; allowed: {', '.join(allowed or PARAMETERS)}")
        if name in given:
            raise BadParameter(f"{name} is given more than once; give it once")
        given[name] = value
    stream, frames = (_flag(name, given.get(name, "false")) for name in ("stream", "frames"))
    return Parameters(
        exit=_exit(given.get("exit", manifest.default_point), manifest),
        top_k=_top_k(given["top_k"], manifest) if "top_k" in given else min(DEFAULT_TOP_K, len(manifest.labels)),
        max_gflops=_max_gflops(given["max_gflops"], manifest) if "max_gflops" in given else None,
        max_decode_ms=_milliseconds("max_decode_ms", given),
        deadline_ms=_milliseconds("deadline_ms", given),
        trace=_flag("trace", given.get("trace", "false")),
        stream=stream,
        frames=frames,
        windows=_windows(given),
        strict=_flag("strict", given.get("strict", "false")),
    )


PARAMETERS: dict[str, str] = {
    "exit": "Name of an operating point of the bundle. Default: the bundle's default point.",
    "top_k": f"Number of predictions, at most the number of classes. Default: {DEFAULT_TOP_K}, or all if fewer.",
    "max_gflops": "Limit on the compute of this request. The best answer so far is returned when the next step would "
    "exceed it. Default: no limit.",
    "max_decode_ms": "Limit on the processor time of decoding. The best answer so far is returned when it is used up; "
    "the first frame is always decoded. Default: no limit.",
    "deadline_ms": "Time limit from the first byte of the request. The best answer so far is returned when it passes, "
    "or 504 if there is none yet. Default: no limit.",
    "trace": "`true` adds one entry per step to the answer. Default: `false`.",
    "stream": "`true` returns `text/event-stream`: an event `step` per step and one `result`. Default: `false`.",
    "frames": "`true` adds the frame of each step to its event as a small JPEG. Ignored without `stream=true`. "
    "Default: `false`.",
    "window_s": "Length in seconds of the windows in which a long video is classified: `segments` and `events` in the "
    "answer; with `stream=true`, an event `segment` per window. Default: the whole video is one.",
    "stride_s": "Seconds from the start of one window to that of the next. Only with `window_s`. Default: `window_s`.",
    "event_threshold": "Least score with which an event begins. Only with `window_s`. "
    f"Default: {DEFAULT_EVENT_THRESHOLD:g}.",
    "event_min_s": "Events shorter than this are left out, and interruptions up to this are bridged, in seconds. Only "
    "with `window_s`. Default: 0.",
    "strict": "`true` never uses a cheaper operating point than `exit` while the service is busy. Default: `false`.",
}
"""The query parameters and their descriptions."""

_OF_WINDOWS = ("stride_s", "event_threshold", "event_min_s")


def _windows(given: Mapping[str, str]) -> WindowParameters | None:
    if "window_s" not in given:
        for name in _OF_WINDOWS:
            if name in given:
                raise BadParameter(f"{name} needs window_s; give both, or neither")
        return None
    window_s = _between("window_s", given["window_s"], MIN_WINDOW_SECONDS, MAX_WINDOW_SECONDS)
    return WindowParameters(
        window_s,
        stride_s=_between("stride_s", given["stride_s"], MIN_WINDOW_SECONDS, MAX_WINDOW_SECONDS)
        if "stride_s" in given
        else window_s,
        event_threshold=_between(
            "event_threshold", given.get("event_threshold", str(DEFAULT_EVENT_THRESHOLD)), MIN_EVENT_THRESHOLD, 1
        ),
        event_min_s=_between("event_min_s", given.get("event_min_s", "0"), 0, MAX_WINDOW_SECONDS),
    )


def _between(name: str, value: str, least: float, most: float) -> float:
    number = _number(value)
    if number is None or not least <= number <= most:
        raise BadParameter(f"{name} must be a number from {least:g} to {most:g}, got {_shown(value)}")
    return number


def _exit(value: str, manifest: Manifest) -> str:
    names = [point.name for point in manifest.operating_points]
    if value not in names:
        raise BadParameter(f"exit must be one of {', '.join(names)}, got {_shown(value)}")
    return value


def _top_k(value: str, manifest: Manifest) -> int:
    classes = len(manifest.labels)
    if not (value.isascii() and value.isdecimal() and len(value) < 10 and 1 <= int(value) <= classes):
        raise BadParameter(f"top_k must be a whole number from 1 to {classes}, got {_shown(value)}")
    return int(value)


def _max_gflops(value: str, manifest: Manifest) -> float:
    least = manifest.flops.per_step / 1e9
    number = _number(value)
    # Below the cost of the first step there could be no answer at all.
    if number is None or not least <= number <= MAX_GFLOPS:
        raise BadParameter(
            f"max_gflops must be a number from {least:g}, the cost of one step, to {MAX_GFLOPS:g}, got {_shown(value)}"
        )
    return number


def _milliseconds(name: str, given: Mapping[str, str]) -> float | None:
    if name not in given:
        return None
    number = _number(given[name])
    if number is None or not 1 <= number <= MAX_MILLISECONDS:
        raise BadParameter(f"{name} must be a number from 1 to {MAX_MILLISECONDS:.0f}, got {_shown(given[name])}")
    return number


def _flag(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise BadParameter(f"{name} must be true or false, got {_shown(value)}")
    return value == "true"


def _number(value: str) -> float | None:
    # float() alone would also accept "nan", "1_000", blanks and the digits of every script.
    return float(value) if _NUMBER.fullmatch(value) else None


def _shown(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:40] + "…")
