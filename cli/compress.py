"""`adafocus compress`: write a bundle again with its weights in fewer bits, if its answers stay what they were."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from tqdm import tqdm

from adafocus.bundle.store import BundleError, check_replaceable, load_bundle, write_bundle
from adafocus.cli.inspect import describe_compressed
from adafocus.cli.videos import VideoPath, find_videos


@click.command("compress", epilog="Example: adafocus compress bundles/mine --data clips --out bundles/mine-small")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the new bundle; a bundle in it is replaced.",
)
@click.option(
    "--data",
    "data",
    required=True,
    multiple=True,
    type=VideoPath(),
    help="Video, or folder of videos, to compare the answers on; can be repeated. No labels are needed.",
)
@click.option(
    "--agreement",
    type=click.FloatRange(0, 1),
    default=0.99,
    show_default=True,
    help="Share of the videos whose answer after all steps must stay the same.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def command(bundle: Path, out: Path, data: tuple[Path, ...], agreement: float, as_json: bool) -> None:
    """Write a bundle again at a third of its size: its fp32 ONNX graphs with weights in fewer bits.

    The glance's weights are stored in 16 bits, because its errors move the patch, and the focus's in 8. The graphs
    widen them when they are loaded and compute in fp32, so an answer takes the same time as before.
    """
    from adafocus.export.compress import compress
    from adafocus.export.errors import ExportError

    try:
        check_replaceable(out)
        loaded = load_bundle(bundle)
        files = find_videos(data).files
        name = ", ".join(path.absolute().name for path in data)
        with tqdm(files, unit="video", disable=not sys.stderr.isatty(), leave=False, delay=1) as bar:
            made = compress(loaded, bar, name, agreement)
        write_bundle(out, made.manifest, made.files)
    except (ExportError, BundleError) as error:
        raise click.ClickException(str(error)) from error
    compressed = made.manifest.compressed
    if as_json:
        told = {"out": str(out), "bytes_before": made.bytes_before, "bytes_after": made.bytes_after}
        click.echo(json.dumps(told | (compressed.model_dump() if compressed else {}), ensure_ascii=False))
        return
    click.echo(
        f"{out}: written, {made.bytes_before / 2**20:.1f} MiB of graphs before and {made.bytes_after / 2**20:.1f} now"
    )
    if compressed:
        click.echo(describe_compressed(compressed))
