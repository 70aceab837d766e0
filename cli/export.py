"""`adafocus export`: convert a checkpoint to a bundle, which is verified before it is written."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from adafocus.bundle.store import BundleError, check_replaceable, write_bundle
from adafocus.cli.inspect import describe_flops, describe_reduced
from adafocus.cli.options import snap_option
from adafocus.cli.videos import print_left_out
from adafocus.export.choices import FORMATS, PRECISIONS
from adafocus.video.sampler import Snap

if TYPE_CHECKING:
    from adafocus.export.calibration_set import LabelledClips
    from adafocus.export.exporter import Export

_SAMPLES = Path(__file__).resolve().parent.parent / "samples"
_SAMPLES_USED = 1


def _comma_separated(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(","))


@click.command(
    "export",
    epilog="Example: adafocus export --checkpoint ckpt.best.pth.tar --config actnet_mbv2_p128 --labels classes.txt "
    "--out bundles/actnet",
)
@click.option(
    "--checkpoint",
    required=True,
    type=click.Path(path_type=Path),
    help="Checkpoint of `train`, or a file that the authors released.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder of the bundle; a bundle in it is replaced."
)
@click.option("--config", metavar="NAME", help="Published recipe; required for the authors' files.")
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="File with one label per line; default: the labels of the checkpoint.",
)
@click.option(
    "--calibration", type=click.Path(path_type=Path), help="Calibration file of `calibrate`, with the operating points."
)
@click.option(
    "--format",
    "formats",
    default=FORMATS[0],
    callback=_comma_separated,
    show_default=True,
    help=f"Graph formats, separated by commas: {', '.join(FORMATS)}.",
)
@click.option(
    "--precision",
    "precisions",
    default=PRECISIONS[0],
    callback=_comma_separated,
    show_default=True,
    help=f"Precisions of the graphs, separated by commas: {', '.join(PRECISIONS)}.",
)
@snap_option("that of the calibration, or of the checkpoint")
@click.option("--name", help="Name of the bundle; default: the name of its folder.")
@click.option("--model-version", default="1", show_default=True, help="Version of the bundle.")
@click.option("--licence", help="Licence of the bundle; default: that of the checkpoint.")
@click.option(
    "--verify-with",
    "videos",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Video to verify the graphs on; can be repeated. Default: a sample clip.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Labelled clips, as for `train`; required to measure what a precision other than fp32 loses.",
)
@click.option("--split", metavar="NAME", help="Split of the data to use; default: train, if there is one.")
@click.option(
    "--glance-exit",
    is_flag=True,
    help="Let the glance graph give the logits of its auxiliary head, for exits after the glance. Default: only if a "
    "point of the calibration needs them.",
)
@click.option("--allow-loss", is_flag=True, help="Write a precision even if it loses more accuracy than permitted.")
@click.option("--dry-run", is_flag=True, help="Export and verify, but only print what would be written.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def command(
    checkpoint: Path,
    out: Path,
    config: str | None,
    labels: Path | None,
    calibration: Path | None,
    formats: tuple[str, ...],
    precisions: tuple[str, ...],
    snap: Snap | None,
    name: str | None,
    model_version: str,
    licence: str | None,
    videos: tuple[Path, ...],
    data: Path | None,
    split: str | None,
    glance_exit: bool,
    allow_loss: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Convert a checkpoint to a bundle that is ready to serve.

    The exported graphs must reproduce the torch model on noise, on texture and on a real video, step by step;
    otherwise nothing is written. What a precision other than fp32 loses is measured on labelled clips.
    """
    from adafocus.export.errors import ExportError
    from adafocus.export.exporter import Request, export, stages

    request = Request(
        checkpoint=checkpoint,
        name=name or _default_name(out),
        version=model_version,
        config=config,
        labels=labels,
        calibration=calibration,
        licence=licence,
        formats=formats,
        precisions=precisions,
        videos=videos or _samples(),
        clips=_labelled(data, split) if data else None,
        allow_loss=allow_loss,
        snap=snap,
        glance_exit=glance_exit,
    )
    try:
        check_replaceable(out)
        with _progress(len(stages(formats, precisions)) + 1) as on_stage:
            made = export(request, on_stage)
            if not dry_run:
                on_stage("writing")
                write_bundle(out, made.manifest, made.files)
    except (ExportError, BundleError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(_as_object(out, made, written=not dry_run), ensure_ascii=False))
    else:
        click.echo("\n".join(_as_text(out, made, written=not dry_run)))


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """Show a bar with the current stage, if standard error is a terminal."""
    with tqdm(
        total=total, leave=False, disable=not sys.stderr.isatty(), bar_format="{desc:<24} {bar} {elapsed}"
    ) as bar:
        begun: list[str] = []

        def on_stage(stage: str) -> None:
            bar.update(1 if begun else 0)
            begun.append(stage)
            bar.set_description_str(stage)

        yield on_stage


def _labelled(data: Path, split: str | None) -> LabelledClips:
    from adafocus.export.calibration_set import LabelledClips, LabelledVideo
    from adafocus.training.data.manifests import default_split, list_clips
    from adafocus.training.errors import TrainingError

    try:
        split = split or default_split(data)
        found = list_clips(data, split)
        print_left_out(found.left_out)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    name = found.source.get("name", data.name) + (f", split {split}" if split else "")
    videos = tuple(LabelledVideo(clip.path, clip.label, clip.identity) for clip in found.clips)
    return LabelledClips(name, found.labels, videos)


def _default_name(out: Path) -> str:
    """The name of the folder, without the characters that a bundle's name cannot have."""
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "_", out.absolute().name).lstrip("._-")
    return cleaned[:64] or "bundle"


def _samples() -> tuple[Path, ...]:
    """A sample clip of the checkout, if there is one."""
    return tuple(sorted(_SAMPLES.glob("*.mp4"))[:_SAMPLES_USED])


def _as_object(out: Path, made: Export, *, written: bool) -> dict[str, Any]:
    return {
        "path": str(out),
        "written": written,
        "verified": {fmt: asdict(agreement) for fmt, agreement in made.agreements.items()},
        "manifest": made.manifest.model_dump(mode="json"),
    }


def _as_text(out: Path, made: Export, *, written: bool) -> Iterator[str]:
    manifest = made.manifest
    yield f"{out}: {'written' if written else 'would be written (dry run)'}, {manifest.name} version {manifest.version}"
    for graph in manifest.graphs:
        yield f"  {graph.file}  {graph.bytes / 2**20:.1f} MiB  sha256 {graph.sha256[:16]}…"
    yield f"  manifest.json  operating points {', '.join(point.name for point in manifest.operating_points)}"
    for fmt, agreement in made.agreements.items():
        yield (
            f"Verified {fmt} on {agreement.videos} videos of {agreement.steps} steps: logits differ from torch by at "
            f"most {agreement.logits_max:.1e} on the same patches, {agreement.end_to_end_max:.1e} end to end; "
            f"patch centres by {agreement.centres_max:.1e}"
        )
    for reduced in manifest.reduced:
        yield describe_reduced(reduced)
    yield from describe_flops(manifest)
