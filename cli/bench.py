"""`adafocus bench`: measure throughput, latency and compute of a running service under load."""

from __future__ import annotations

import asyncio
import json
import math
import re
import sys
from dataclasses import asdict
from pathlib import Path

import click
import httpx
from tqdm import tqdm

from cli.completion import served_operating_points
from cli.load import NO_CLASSIFICATION, Plan, Refusal, Report, Sample, price_of, problem_of, report, run
from cli.videos import VideoPath, find_videos
from service.settings import check_key

_TOO_MUCH = (429, 503, 504)
"""Statuses of a service that would answer if it got fewer requests."""


def _finite(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"must be a finite number, got {value}")
    return value


def _address(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not re.match(r"https?://[^/]", value):
        raise click.BadParameter(f"must be a URL such as http://localhost:8000, got {value!r}")
    return value.rstrip("/")


def _sendable(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else check_key(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command("bench", epilog="Example: adafocus bench --rate 20 --requests 200 --slo 100 samples/*.mp4")
@click.argument("videos", metavar="VIDEO...", nargs=-1, required=True, type=VideoPath())
@click.option(
    "--url", default="http://localhost:8000", show_default=True, callback=_address, help="URL of the service."
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    callback=_finite,
    help="Open loop: send this many requests per second on average (Poisson arrivals).",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1024),
    help="Closed loop: number of clients; each sends a request when the last one is answered. Default: 1.",
)
@click.option(
    "--requests", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="Number of requests."
)
@click.option(
    "--slo",
    type=click.FloatRange(min=0, min_open=True),
    callback=_finite,
    default=100.0,
    show_default=True,
    metavar="MS",
    help="Latency objective in milliseconds; goodput counts the answers within it.",
)
@click.option(
    "--exit",
    "exit_point",
    metavar="POINT",
    shell_complete=served_operating_points,
    help="Operating point; default: the default point of the bundle.",
)
@click.option("--deadline-ms", metavar="MS", help="Deadline of each request in milliseconds.")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed of the arrivals in an open loop.")
@click.option(
    "--key",
    envvar="ADAFOCUS_KEY",
    callback=_sendable,
    help="API key, if the service requires one; also read from ADAFOCUS_KEY.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    videos: tuple[Path, ...],
    url: str,
    rate: float | None,
    concurrency: int | None,
    requests: int,
    slo: float,
    exit_point: str | None,
    deadline_ms: str | None,
    seed: int,
    key: str | None,
    as_json: bool,
) -> int:
    """Send videos to a running service and report throughput, latency, goodput within --slo and GFLOPs per request.

    Without --rate the loop is closed. In an open loop, latency is measured from the moment at which a request was due,
    so that it includes the time that a request waits for a service that cannot keep up.

    Requests without a 200 answer are counted by status and problem code. If fewer than half of the requests are
    answered, the exit code is 1.
    """
    if rate is not None and concurrency is not None:
        raise click.UsageError("--rate (open loop) and --concurrency (closed loop) exclude each other; use one of them")
    asked = {"exit": exit_point, "deadline_ms": deadline_ms}
    plan = Plan(
        url=url,
        clips=[video.read_bytes() for video in find_videos(videos).files],
        parameters={name: value for name, value in asked.items() if value is not None},
        requests=requests,
        rate=rate,
        concurrency=concurrency or 1,
        seed=seed,
        key=key,
    )
    _check(plan)
    samples: list[Sample] = []
    with tqdm(total=requests, unit="req", disable=not sys.stderr.isatty()) as bar:

        def done(sample: Sample) -> None:
            samples.append(sample)
            bar.update()

        asyncio.run(run(plan, done))
    summary = report(samples, slo)
    click.echo(_json(summary) if as_json else _table(summary))
    if summary.refusals:
        click.echo(f"adafocus: {_refused(summary)}", err=True)
    return 0 if summary.mostly_answered else 1


def _check(plan: Plan) -> None:
    """Send one request before the load, so that an error that all would get is reported once."""
    try:
        answer = httpx.post(
            f"{plan.url}/classify", content=plan.clips[0], params=plan.parameters, headers=plan.headers, timeout=60.0
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise click.ClickException(
            f"no service answers at {plan.url} ({error}); start one with 'adafocus serve', or check --url"
        ) from error
    if answer.status_code != 200:
        refusal = Refusal(answer.status_code, *problem_of(answer), count=1)
        raise click.ClickException(f"the first request was refused: {_words(refusal)}")
    if price_of(answer) is None:
        raise click.ClickException(f"{plan.url}: {NO_CLASSIFICATION}; check --url")


def _json(summary: Report) -> str:
    """The report as a JSON object; a latency that does not exist is null, because JSON has no NaN."""
    told = asdict(summary)
    told["latency_ms"] = {name: value if math.isfinite(value) else None for name, value in told["latency_ms"].items()}
    return json.dumps(told)


def _refused(summary: Report) -> str:
    """How many requests were refused and why; if most were, what to do."""
    kinds = "; ".join(f"{refusal.count} × {_words(refusal)}" for refusal in summary.refusals)
    told = f"{summary.requests - summary.answered} of {summary.requests} requests were not answered with 200: {kinds}"
    if summary.mostly_answered:
        return told
    too_much = summary.refusals[0].status in _TOO_MUCH
    return f"{told}; the figures cover fewer than half" + ("; use a lower --rate" if too_much else "")


def _words(refusal: Refusal) -> str:
    name = f"{refusal.status} {refusal.code or ''}".rstrip() if refusal.status else "no answer"
    return f"{name} ({refusal.detail})" if refusal.detail else name


def _table(summary: Report) -> str:
    statuses = ", ".join(f"{status if status != '0' else 'no answer'}: {n}" for status, n in summary.statuses.items())
    shown = {name: f"{value:.1f}" if math.isfinite(value) else "–" for name, value in summary.latency_ms.items()}
    latency = " · ".join(f"{name} {value}" for name, value in shown.items())
    return "\n".join(
        [
            f"requests    {summary.requests} in {summary.seconds:.1f} s ({statuses})",
            f"throughput  {summary.throughput:.1f} answers/s",
            f"goodput     {summary.goodput:.1f} answers/s within {summary.slo_ms:g} ms",
            f"latency     {latency} ms",
            f"compute     {summary.gflops_per_request:.4g} GFLOPs per request, {summary.share_of_full:.0%} of full",
        ]
    )
