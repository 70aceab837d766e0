"""`adafocus bench`: measure throughput, latency and compute of a running service under load."""

from __future__ import annotations

import json
import math
import re
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import click
from tqdm import tqdm

from adafocus.cli.completion import served_operating_points
from adafocus.cli.load.connection import Endpoint
from adafocus.cli.load.plan import Plan, arrivals
from adafocus.cli.load.report import LATE_MS, NO_CLASSIFICATION, LoadReport, Refusal, Sample, report
from adafocus.cli.load.run import run
from adafocus.cli.videos import VideoPath, find_videos
from adafocus.service.settings import check_key

_TOO_MUCH = (429, 503, 504)
"""Statuses that mean that the service would answer if it got fewer requests."""

_MAX_REQUESTS = 1_000_000
_STEP_SECONDS = 10.0


def _rates(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...]:
    if value is None:
        return ()
    try:
        rates = tuple(float(word) for word in value.split(","))
    except ValueError:
        rates = ()
    if not rates or not all(math.isfinite(rate) and rate > 0 for rate in rates):
        raise click.BadParameter(f"must be a number above 0, or several such as 10,20,40, got {value!r}")
    return rates


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
    "rates",
    callback=_rates,
    metavar="R[,R...]",
    help="Open loop: send this many requests per second on average (Poisson arrivals); several rates: a step load.",
)
@click.option(
    "--step-seconds",
    type=click.FloatRange(min=0, min_open=True),
    callback=_finite,
    metavar="S",
    help=f"How long each rate lasts, instead of --requests. Default with several rates: {_STEP_SECONDS:g}.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1024),
    help="Closed loop: number of clients; each sends a request when the last one is answered. Default: 1.",
)
@click.option("--requests", type=click.IntRange(1, _MAX_REQUESTS), help="Number of requests; default: 100.")
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
    rates: tuple[float, ...],
    step_seconds: float | None,
    concurrency: int | None,
    requests: int | None,
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
    step_seconds = _step_seconds(rates, step_seconds, concurrency, requests)
    asked = {"exit": exit_point, "deadline_ms": deadline_ms}
    plan = Plan(
        url=url,
        clips=[video.read_bytes() for video in find_videos(videos).files],
        parameters={name: value for name, value in asked.items() if value is not None},
        requests=requests or 100,
        rates=rates,
        step_seconds=step_seconds,
        concurrency=concurrency or 1,
        seed=seed,
        key=key,
    )
    summary = _sent(plan, slo)
    click.echo(_json(summary) if as_json else _table(summary))
    for line in _complaints(summary):
        click.echo(f"adafocus: {line}", err=True)
    return 0 if summary.mostly_answered else 1


def _step_seconds(
    rates: tuple[float, ...], given: float | None, concurrency: int | None, requests: int | None
) -> float | None:
    """Return the seconds that each rate lasts; None if the number of requests decides.

    Raises:
        click.UsageError: options that contradict each other.
    """
    if not rates:
        if given is not None:
            raise click.UsageError("--step-seconds needs --rate")
        return None
    if concurrency is not None:
        raise click.UsageError("--rate (open loop) and --concurrency (closed loop) exclude each other; use one of them")
    seconds = _STEP_SECONDS if given is None and len(rates) > 1 else given
    if seconds is not None and requests is not None:
        raise click.UsageError("--step-seconds and several rates say how long the load lasts; omit --requests")
    return seconds


def _sent(plan: Plan, slo_ms: float) -> LoadReport:
    """Send the load, after one request to see whether it can be answered, and sum it up."""
    total = _total(plan)
    endpoint = _endpoint(plan)
    _check(plan, endpoint)
    samples: list[Sample] = []
    with tqdm(total=total, unit="req", disable=not sys.stderr.isatty()) as bar:

        def done(sample: Sample) -> None:
            samples.append(sample)
            bar.update()

        begun = time.process_time()
        run(plan, endpoint, done)
        return report(samples, slo_ms, plan, time.process_time() - begun)


def _total(plan: Plan) -> int:
    """Return the number of requests of the load.

    Raises:
        click.UsageError: none, or too many.
    """
    if plan.step_seconds is None:
        return plan.requests
    if sum(plan.rates) * plan.step_seconds > _MAX_REQUESTS:
        raise click.UsageError(f"--rate and --step-seconds make more than {_MAX_REQUESTS} requests")
    total = sum(1 for _ in arrivals(plan))
    if total == 0:
        raise click.UsageError("--rate and --step-seconds make no request at all; ask for more of either")
    return total


def _endpoint(plan: Plan) -> Endpoint:
    try:
        return Endpoint.find(plan.url)
    except (OSError, ValueError) as error:
        raise _nobody(plan, str(error)) from error


def _check(plan: Plan, endpoint: Endpoint) -> None:
    """Send one request before the load, so that an error that all would get is reported once."""
    samples: list[Sample] = []
    one = replace(plan, clips=plan.clips[:1], requests=1, rates=(), step_seconds=None, concurrency=1)
    run(one, endpoint, samples.append)
    (sample,) = samples
    if sample.detail == NO_CLASSIFICATION:
        raise click.ClickException(f"{plan.url}: {NO_CLASSIFICATION}; check --url")
    if sample.status == 0:
        raise _nobody(plan, sample.detail or "")
    if sample.status != 200:
        refusal = Refusal(sample.status, sample.code, sample.detail, count=1)
        raise click.ClickException(f"the first request was refused: {_words(refusal)}")


def _nobody(plan: Plan, why: str) -> click.ClickException:
    return click.ClickException(
        f"no service answers at {plan.url} ({why}); start one with 'adafocus serve', or check --url"
    )


def _json(summary: LoadReport) -> str:
    """The report as an object; without an answer there is no latency, and JSON has no NaN."""
    told = asdict(summary)
    for part in (told, *told["steps"]):
        latency = part["latency_ms"]
        part["latency_ms"] = {name: value if math.isfinite(value) else None for name, value in latency.items()}
    return json.dumps(told)


def _complaints(summary: LoadReport) -> list[str]:
    """Return warnings about the figures: requests that were refused, and a rate that was not kept."""
    lines = [_refused(summary)] if summary.refusals else []
    if not summary.kept_rate:
        lines.append(
            f"the load generator did not keep the rate: it sent {summary.sent_late} of {summary.requests} requests "
            f"more than {LATE_MS:g} ms late, at most {summary.most_late_ms:.0f} ms; "
            "lower --rate or run it on another machine"
        )
    return lines


def _refused(summary: LoadReport) -> str:
    """Return the number of refused requests and their statuses; if most were refused, also what to do about it."""
    kinds = "; ".join(f"{refusal.count} × {_words(refusal)}" for refusal in summary.refusals)
    told = f"{summary.requests - summary.answered} of {summary.requests} requests were not answered with 200: {kinds}"
    if summary.mostly_answered:
        return told
    too_much = summary.refusals[0].status in _TOO_MUCH
    return f"{told}; the figures cover fewer than half" + ("; use a lower --rate" if too_much else "")


def _words(refusal: Refusal) -> str:
    name = f"{refusal.status} {refusal.code or ''}".rstrip() if refusal.status else "no answer"
    return f"{name} ({refusal.detail})" if refusal.detail else name


def _table(summary: LoadReport) -> str:
    lines = [
        f"requests    {summary.requests} in {summary.seconds:.1f} s ({_statuses(summary.statuses)})",
        f"throughput  {summary.throughput:.1f} answers/s",
        f"goodput     {summary.goodput:.1f} answers/s within {summary.slo_ms:g} ms",
        f"latency     {_latency(summary.latency_ms)} ms",
        f"compute     {summary.gflops_per_request:.4g} GFLOPs per request, {summary.share_of_full:.0%} of full",
        f"generator   {summary.generator_cpu_ms:.2g} ms of processor time per request, {summary.sent_late} sent late",
    ]
    lines += [
        f"step        {step.rate:g}/s: {step.throughput:.1f} answers/s, {step.goodput:.1f} within {summary.slo_ms:g} ms"
        f" · {_latency(step.latency_ms)} ms · {_statuses(step.statuses)}"
        for step in summary.steps
    ]
    return "\n".join(lines)


def _statuses(statuses: dict[str, int]) -> str:
    return ", ".join(f"{status if status != '0' else 'no answer'}: {n}" for status, n in statuses.items()) or "none"


def _latency(latency_ms: dict[str, float]) -> str:
    shown = {name: f"{value:.1f}" if math.isfinite(value) else "–" for name, value in latency_ms.items()}
    return " · ".join(f"{name} {value}" for name, value in shown.items())
