"""`adafocus pull`: fetch a bundle, and keep it only if every checksum is right, and its signature if a key is given."""

from __future__ import annotations

import hashlib
import hmac
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
from tqdm import tqdm

from adafocus.bundle.manifest import Manifest
from adafocus.bundle.store import MANIFEST, BundleError, load_bundle, read_manifest
from adafocus.cli.bundle_sources.base import BundleSource, MissingFileError, SourceError, shown
from adafocus.cli.bundle_sources.buckets import BucketFolder
from adafocus.cli.bundle_sources.https import HttpsFolder
from adafocus.cli.bundle_sources.registry import RegistryArtifact, parse_reference
from adafocus.cli.bundle_sources.signatures import LARGEST_SIGNATURE_BYTES, SUFFIX, read_key, verify

if TYPE_CHECKING:
    from minisign import PublicKey

_LARGEST_MANIFEST_BYTES = 16 << 20
_KINDS = "https://HOST/PATH, s3://BUCKET/KEY, gs://BUCKET/KEY or oci://HOST/NAME:TAG"


def _url(ctx: click.Context, param: click.Parameter, value: str) -> str:
    parts = urlsplit(value)
    known = parts.scheme in ("https", "s3", "gs") and parts.hostname
    if not known and parse_reference(value) is None:
        raise click.BadParameter(f"must be {_KINDS}, got {shown(value)!r}")
    return value


def _sha256(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise click.BadParameter(f"must be 64 hexadecimal digits, got {value!r}")
    return value.lower() if value else None


@click.command(
    "pull", epilog="Example: adafocus pull https://models.example.org/mine/3 --out bundles/mine --sha256 1f9a…"
)
@click.argument("url", callback=_url)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the bundle; it must not exist.")
@click.option(
    "--sha256",
    callback=_sha256,
    metavar="HEX",
    help="SHA-256 of the manifest, which fixes all files; anything else is refused.",
)
@click.option(
    "--key",
    metavar="FILE|KEY",
    envvar="ADAFOCUS_PULL_KEY",
    show_envvar=True,
    help="Public key of minisign, or a file with one; a bundle that it did not sign is refused.",
)
def command(url: str, out: Path, sha256: str | None, key: str | None) -> None:
    """Fetch a bundle: the folder at URL, which holds manifest.json and the files that it names.

    URL is https://HOST/PATH, s3://BUCKET/KEY, gs://BUCKET/KEY, or an artifact oci://HOST/NAME:TAG of a registry. The
    bundle appears at --out when everything is there and verified. Without --sha256 or --key the server is trusted for
    what the manifest says; the checksum that is printed can be given the next time.
    """
    if out.exists() or out.is_symlink():
        raise click.ClickException(f"{out} exists already; choose another folder with --out, or remove it")
    try:
        public_key = read_key(key) if key else None
    except SourceError as error:
        raise click.ClickException(f"--key: {error}") from error
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as place:
        folder = Path(place) / "bundle"
        folder.mkdir()
        try:
            digest, signed = _fetch(_source(url), folder, url, sha256, public_key)
            manifest = load_bundle(folder).manifest
        except BundleError as error:
            raise click.ClickException(str(error).replace(str(folder), shown(url))) from error
        except SourceError as error:
            raise click.ClickException(f"{shown(url)} cannot be fetched: {error}") from error
        folder.rename(out)
    click.echo(f"{out}: {manifest.name} {manifest.version}, manifest sha256 {digest}")
    if signed is not None:
        click.echo(f"signature verified; its comment: {signed}")


def _source(url: str) -> BundleSource:
    reference = parse_reference(url)
    if reference is not None:
        return RegistryArtifact(reference)
    return HttpsFolder(url) if urlsplit(url).scheme == "https" else BucketFolder(url)


def _fetch(
    source: BundleSource, folder: Path, url: str, sha256: str | None, key: PublicKey | None
) -> tuple[str, str | None]:
    """Fetch the manifest, check it, and fetch the files that it names.

    Returns:
        The SHA-256 of the manifest, and the trusted comment of its signature if a key is given.
    """
    _download(source, MANIFEST, folder / MANIFEST, _LARGEST_MANIFEST_BYTES, url, None)
    content = (folder / MANIFEST).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if sha256 is not None and not hmac.compare_digest(digest, sha256):
        raise click.ClickException(f"{shown(url)} has a manifest with sha256 {digest}, and {sha256} was asked for")
    signed = None if key is None else _check_signature(source, content, url, key)
    manifest = read_manifest(folder)
    with _bar(manifest) as bar:
        for graph in manifest.graphs:
            _download(source, graph.file, folder / graph.file, graph.bytes, url, bar)
    return digest, signed


def _check_signature(source: BundleSource, manifest: bytes, url: str, key: PublicKey) -> str:
    name = f"{MANIFEST}{SUFFIX}"
    signature = b""
    try:
        for chunk in source.fetch(name):
            signature += chunk
            if len(signature) > LARGEST_SIGNATURE_BYTES:
                raise SourceError(f"{name} is larger than the {LARGEST_SIGNATURE_BYTES} bytes that it may have")
        return verify(key, manifest, signature)
    except MissingFileError as error:
        raise click.ClickException(
            f"{shown(url)} is not signed, and --key demands a signature: {name} is missing ({error})"
        ) from error
    except SourceError as error:
        raise click.ClickException(f"{shown(url)} is refused: {error}") from error


def _download(source: BundleSource, name: str, path: Path, most_bytes: int, url: str, bar: tqdm | None) -> None:
    """Write a file of the source to a new file, up to a number of bytes."""
    left = most_bytes
    with path.open("xb") as stream:
        for chunk in source.fetch(name):
            left -= len(chunk)
            if left < 0:
                raise click.ClickException(
                    f"{name} of {shown(url)} is larger than the {most_bytes} bytes that it may have"
                )
            stream.write(chunk)
            if bar is not None:
                bar.update(len(chunk))


def _bar(manifest: Manifest) -> tqdm:
    size = sum(graph.bytes for graph in manifest.graphs)
    return tqdm(total=size, unit="B", unit_scale=True, disable=not sys.stderr.isatty(), leave=False, delay=1)
