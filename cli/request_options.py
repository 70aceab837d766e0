"""The options of a request, which `classify` and `batch` share: the query parameters of `POST /classify`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from adafocus.cli.completion import operating_points

Asked = dict[str, str | None]
"""Query parameters by name; None is an option that was not given."""

_MODEL_OPTIONS = (
    click.option(
        "--bundle", type=click.Path(path_type=Path), help="Folder of the bundle; default: the shipped bundle."
    ),
    click.option(
        "--backend", metavar="NAME", help="Runtime, such as onnxruntime-cpu; default: the best one installed."
    ),
)

_PARAMETER_OPTIONS = (
    click.option(
        "--exit",
        metavar="POINT",
        shell_complete=operating_points,
        help="Operating point; default: the default point of the bundle.",
    ),
    click.option("--top-k", metavar="N", help="Number of predictions; default: 5, or all classes if there are fewer."),
    click.option("--max-gflops", metavar="X", help="Maximum compute for each video, in GFLOPs."),
    click.option(
        "--max-decode-ms", metavar="MS", help="Maximum processor time of decoding for each video, milliseconds."
    ),
    click.option(
        "--window",
        "window_s",
        metavar="SECONDS",
        help="Classify each video in windows of this length: segments and events.",
    ),
    click.option(
        "--stride",
        "stride_s",
        metavar="SECONDS",
        help="From the start of one window to the next; default: as --window.",
    ),
    click.option("--event-threshold", metavar="SCORE", help="Least score with which an event begins; default: 0.5."),
    click.option(
        "--event-min",
        "event_min_s",
        metavar="SECONDS",
        help="Leave out shorter events, and bridge interruptions up to this.",
    ),
    click.option("--trace", is_flag=True, help="Add an entry for each step to the results as JSON."),
)

_PARAMETERS = (
    "exit",
    "top_k",
    "max_gflops",
    "max_decode_ms",
    "window_s",
    "stride_s",
    "event_threshold",
    "event_min_s",
)


def request_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of a request.

    The command gets ``bundle``, ``backend`` and ``asked``: the query parameters that the other options stand for. They
    are always strict, because the owner of the machine does not compete with others for it.
    """

    @functools.wraps(command)
    def with_asked(**options: Any) -> int:
        asked: Asked = {name: options.pop(name) for name in _PARAMETERS}
        asked["trace"] = "true" if options.pop("trace") else None
        asked["strict"] = "true"
        return command(asked=asked, **options)

    for option in reversed(_MODEL_OPTIONS + _PARAMETER_OPTIONS):
        option(with_asked)
    return with_asked
