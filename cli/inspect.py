"""`adafocus inspect`: show what is in a bundle, and check that its files are those that were exported."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from adafocus.bundle.kinds import KINDS
from adafocus.bundle.manifest import FULL, Compressed, Flops, Manifest, Reduced
from adafocus.bundle.store import Bundle, BundleError, load_bundle
from adafocus.cli.certification import in_words

WIDTH = 100
_LABELS_SHOWN = 20


@click.command("inspect", epilog="Example: adafocus inspect bundles/sky")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def command(bundle: Path, as_json: bool) -> None:
    """Show what is in a bundle: labels, sizes, FLOPs, operating points and files.

    Every file is verified against its checksum. A damaged bundle gives one line and exit code 1.
    """
    try:
        loaded = load_bundle(bundle)
    except BundleError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(as_object(loaded), ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join(as_text(loaded)))


def as_object(bundle: Bundle) -> dict[str, Any]:
    """The bundle as plain data: the manifest, with the totals and checks that a script would otherwise repeat."""
    manifest = bundle.manifest
    return {
        "path": str(bundle.path),
        "manifest": manifest.model_dump(mode="json"),
        "gflops": {
            "per_step": {"served": manifest.flops.per_step / 1e9, "paper": manifest.flops.paper_per_step / 1e9},
            "per_video": {"served": manifest.flops_full / 1e9, "paper": manifest.paper_flops_full / 1e9},
        },
        "files": [
            {"file": graph.file, "bytes": graph.bytes, "sha256": graph.sha256, "verified": True}
            for graph in manifest.graphs
        ],
    }


def as_text(bundle: Bundle) -> Iterator[str]:
    """The bundle as lines of text."""
    manifest = bundle.manifest
    yield from _rows(_identity(manifest))
    yield ""
    yield from describe_flops(manifest)
    yield ""
    yield from _operating_points(manifest)
    for reduced in manifest.reduced:
        yield from textwrap.wrap(describe_reduced(reduced), WIDTH, subsequent_indent="  ")
    if manifest.compressed is not None:
        yield from textwrap.wrap(describe_compressed(manifest.compressed), WIDTH, subsequent_indent="  ")
    yield ""
    yield "Files"
    yield from _table(
        ("file", "what", "size", "sha256", ""),
        [
            (
                graph.file,
                f"{graph.component}, {graph.format} {graph.precision}",
                f"{graph.bytes / 2**20:.1f} MiB",
                graph.sha256,
                "verified",
            )
            for graph in manifest.graphs
        ],
        right={2},
    )


_FRAMES = {
    "crop": "shorter side to {resize}, centre {crop} × {crop} pixels",
    "letterbox": "the whole frame, longer side to {crop}, on a square of {crop} × {crop} pixels",
    "squeeze": "the whole frame, stretched to {crop} × {crop} pixels",
}
"""How each `FrameGeometry.fit` is described."""


def describe_compressed(compressed: Compressed) -> str:
    """How weights are stored and what that changed, in a sentence."""
    return (
        f"Weights are stored in fewer bits and widened when a graph is loaded. Of {compressed.clips} videos of "
        f"{compressed.data}, {compressed.agreement:.1%} have the same answer as before after all steps, and "
        f"{compressed.agreement_at_exits:.1%} at the operating point that changed the most."
    )


def _identity(manifest: Manifest) -> Iterator[tuple[str, str]]:
    sampling, geometry, data = manifest.sampling, manifest.geometry, manifest.provenance
    yield "bundle", f"{manifest.name}, version {manifest.version}, {manifest.kind} model"
    yield "licence", manifest.licence
    yield "labels", _labels(manifest.labels)
    if manifest.label_thresholds is not None:
        bounds = zip(manifest.labels, manifest.label_thresholds, strict=True)
        shown = ", ".join(f"{label} {bound:.3g}" for label, bound in list(bounds)[:_LABELS_SHOWN])
        yield "present", f"several labels, from a score of {shown}"
    yield "frames", _FRAMES[geometry.fit].format(resize=geometry.resize, crop=geometry.crop)
    yield "patch", f"{manifest.patch_size} × {manifest.patch_size} pixels of those"
    yield "steps", KINDS[manifest.kind].describe_steps(manifest.steps, sampling)
    if sampling.first_frame:
        yield "sampled", f"from frame {sampling.first_frame} on"
    if sampling.snap == "keyframe":
        yield "snapped", "to the nearest key frame of each interval, if it has one"
    yield "data", "; ".join(filter(None, [data.data, data.data_source, data.data_licence]))
    if data.recipe:
        yield "recipe", data.recipe + (f", seed {data.seed}" if data.seed is not None else "")
    if data.metrics:
        yield "metrics", ", ".join(f"{name} {value:.4g}" for name, value in data.metrics.items())
    if data.notes:
        yield "notes", data.notes


def _labels(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:_LABELS_SHOWN])
    more = len(labels) - _LABELS_SHOWN
    return f"{len(labels)}: {shown}" + (f" and {more} more" if more > 0 else "")


def describe_flops(manifest: Manifest) -> Iterator[str]:
    """FLOPs per video, step and stage, as served and as the paper counts, and what each count includes."""
    flops, steps = manifest.flops, manifest.steps
    step = f"per {KINDS[manifest.kind].step_unit}"
    rows = [
        (
            f"per video ({steps} steps)" if steps > 1 else "per video",
            three_digits(manifest.flops_full),
            three_digits(manifest.paper_flops_full),
        ),
        (step, _giga(flops.per_step), _giga(flops.paper_per_step)),
        *_stages(flops),
    ]
    yield "GFLOPs"
    yield from _table(("", "as served", "paper's counting"), rows, right={1, 2})
    yield from textwrap.wrap(flops.convention, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _stages(flops: Flops) -> Iterator[tuple[str, str, str]]:
    for stage, served in (("glance", flops.glance), ("focus", flops.focus)):
        parts = [part for part in flops.parts if part.component == stage]
        yield f"  {stage}", _giga(served), _giga(sum(part.flops for part in parts)) if parts else ""
        for part in parts:
            yield f"    {part.name}", _giga(part.flops), _giga(part.flops)
    for part in flops.parts:
        if part.component is None:
            yield f"  {part.name}", "–", _giga(part.flops)


def _operating_points(manifest: Manifest) -> Iterator[str]:
    points = manifest.operating_points
    yield f"Operating points (default: {manifest.default_point})"
    if manifest.calibration_protocol == "paper":
        yield "  thresholds were solved on the training clips, as published: the accuracies are optimistic"
    yield from _table(
        ("name", "GFLOPs per video", "of full", "accuracy"),
        [
            (
                point.name,
                three_digits(point.expected_gflops * 1e9),
                f"{point.expected_gflops * 1e9 / manifest.flops_full:.0%}",
                "–" if point.expected_accuracy is None else f"{point.expected_accuracy:.3f}",
            )
            for point in points
        ],
        right={1, 2, 3},
    )
    yield from (f"  {point.name}: {in_words(point.guarantee)}" for point in points if point.guarantee)
    yield from _thresholds_after_glances(manifest)
    early = [point for point in points if any(value is not None for value in point.thresholds)]
    if not early:
        return
    temperature = () if manifest.temperatures is None else ("temperature",)
    heat = f"temperature {manifest.temperature:g}" if manifest.temperatures is None else "the temperature of each step"
    yield f"Thresholds on {manifest.exit_criterion} at {heat} (–: no exit at this step)"
    yield from _table(
        ("step", "GFLOPs so far", *temperature, *(point.name for point in early)),
        [
            (
                str(step + 1),
                three_digits((step + 1) * manifest.flops.per_step),
                *(f"{manifest.exit_rule.temperatures[step]:g}" for _ in temperature),
                *(_threshold(point.thresholds[step], last=step + 1 == manifest.steps) for point in early),
            )
            for step in range(manifest.steps)
        ],
        right=set(range(3 + len(early))),
    )


def _thresholds_after_glances(manifest: Manifest) -> Iterator[str]:
    points = [point for point in manifest.operating_points if point.glance_thresholds is not None]
    if not points:
        return
    yield "Thresholds after the glance of a step, before its focus (–: no exit there)"
    yield from _table(
        ("step", "GFLOPs so far", "temperature", *(point.name for point in points)),
        [
            (
                str(step + 1),
                three_digits(step * manifest.flops.per_step + manifest.flops.glance),
                f"{manifest.glance_exit_rule.temperatures[step]:g}",
                *(_threshold((point.glance_thresholds or ())[step], last=False) for point in points),
            )
            for step in range(manifest.steps)
        ],
        right=set(range(3 + len(points))),
    )


def describe_reduced(reduced: Reduced) -> str:
    """Return one line about the accuracy that a precision loses against fp32."""
    shifts = ", ".join(f"{name} {shift:+.2f}" for name, shift in reduced.exit_step_shift.items() if name != FULL)
    kept = f"; {len(reduced.kept)} layers kept in fp32" if reduced.kept else ""
    return (
        f"{reduced.precision} on {reduced.clips} clips of {reduced.data}: fp32's answer for {reduced.agreement:.1%}, "
        f"accuracy {reduced.accuracy:.4f} (fp32 {reduced.accuracy_fp32:.4f})"
        + (f"; mean exit step {shifts}" if shifts else "")
        + kept
    )


def _threshold(value: float | None, *, last: bool) -> str:
    if last:
        return "answers"
    return "–" if value is None else f"{value:.4f}"


def three_digits(flops: float) -> str:
    """Format FLOPs as GFLOPs with three significant digits: 26956472288 becomes ``27.0``."""
    giga = flops / 1e9
    return f"{giga:.{max(0, 2 - math.floor(math.log10(giga)))}f}"


def _giga(flops: int) -> str:
    return f"{flops / 1e9:.9f}"


def _rows(rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    for name, value in rows:
        yield from textwrap.wrap(value, WIDTH, initial_indent=f"{name:<9}", subsequent_indent=" " * 9) or [name]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], right: set[int]) -> Iterator[str]:
    """Format aligned columns; those in ``right`` are aligned to the right."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        yield ("  " + "  ".join(cells)).rstrip()
