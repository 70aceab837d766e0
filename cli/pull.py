"""`adafocus pull`: fetch a bundle over HTTPS, and keep it only if every checksum is right."""

from __future__ import annotations

import hashlib
import hmac
import re
import sys
import tempfile
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

import click
from tqdm import tqdm

from adafocus.bundle.manifest import Manifest
from adafocus.bundle.store import MANIFEST, BundleError, load_bundle, read_manifest

_PATIENCE_SECONDS = 60.0
_CHUNK_BYTES = 1 << 20
_LARGEST_MANIFEST_BYTES = 16 << 20


def _https(ctx: click.Context, param: click.Parameter, value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "https" or not parts.hostname:
        raise click.BadParameter(f"must begin with https:// and name a host, got {_shown(value)!r}")
    return value


def _sha256(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise click.BadParameter(f"must be 64 hexadecimal digits, got {value!r}")
    return value.lower() if value else None


@click.command(
    "pull", epilog="Example: adafocus pull https://models.example.org/mine/3 --out bundles/mine --sha256 1f9a…"
)
@click.argument("url", callback=_https)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the bundle; it must not exist.")
@click.option(
    "--sha256",
    callback=_sha256,
    metavar="HEX",
    help="SHA-256 of the manifest, which fixes all files; anything else is refused.",
)
def command(url: str, out: Path, sha256: str | None) -> None:
    """Fetch a bundle: the folder at URL, which holds manifest.json and the files that it names.

    The bundle appears at --out when everything is there and verified. Without --sha256 the server is trusted for what
    the manifest says; the checksum that is printed can be given the next time.
    """
    if out.exists() or out.is_symlink():
        raise click.ClickException(f"{out} exists already; choose another folder with --out, or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as place:
        folder = Path(place) / "bundle"
        folder.mkdir()
        try:
            digest = _fetch(url, folder, sha256)
            manifest = load_bundle(folder).manifest
        except BundleError as error:
            raise click.ClickException(str(error).replace(str(folder), _shown(url))) from error
        except HTTPError as error:
            error.close()
            raise click.ClickException(f"{_shown(url)} cannot be fetched: {error}") from error
        except (OSError, HTTPException) as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise click.ClickException(f"{_shown(url)} cannot be fetched: {reason}") from error
        folder.rename(out)
    click.echo(f"{out}: {manifest.name} {manifest.version}, manifest sha256 {digest}")


def _fetch(url: str, folder: Path, sha256: str | None) -> str:
    """Fetch the manifest and then the files that it names; return the SHA-256 of the manifest."""
    opener = build_opener(ProxyHandler(), HTTPSHandler(), _OnlyHttps())
    _download(opener, _inside(url, MANIFEST), folder / MANIFEST, _LARGEST_MANIFEST_BYTES, None)
    digest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    if sha256 is not None and not hmac.compare_digest(digest, sha256):
        raise click.ClickException(f"{_shown(url)} has a manifest with sha256 {digest}, and {sha256} was asked for")
    manifest = read_manifest(folder)
    with _bar(manifest) as bar:
        for graph in manifest.graphs:
            _download(opener, _inside(url, graph.file), folder / graph.file, graph.bytes, bar)
    return digest


def _download(opener: OpenerDirector, url: str, path: Path, most_bytes: int, bar: tqdm | None) -> None:
    """Write what is at the URL to a new file, up to a number of bytes."""
    with opener.open(Request(url), timeout=_PATIENCE_SECONDS) as answer, path.open("xb") as stream:  # noqa: S310 - the opener takes https alone
        left = most_bytes
        while chunk := answer.read(min(_CHUNK_BYTES, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise click.ClickException(f"{_shown(url)} is larger than the {most_bytes} bytes that it may have")
            stream.write(chunk)
            if bar is not None:
                bar.update(len(chunk))


class _OnlyHttps(HTTPRedirectHandler):
    """Follows redirects to HTTPS only: what was asked for over TLS does not come without it."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """Return the request to the new address.

        Raises:
            URLError: it is not HTTPS.
        """
        if urlsplit(newurl).scheme != "https":
            fp.close()
            raise URLError(f"it redirects to {_shown(newurl)}, which is not https://")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _bar(manifest: Manifest) -> tqdm:
    size = sum(graph.bytes for graph in manifest.graphs)
    return tqdm(total=size, unit="B", unit_scale=True, disable=not sys.stderr.isatty(), leave=False, delay=1)


def _inside(url: str, name: str) -> str:
    """The URL of a file in the folder at a URL; a query, such as a signature, is kept."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}", fragment=""))


def _shown(url: str) -> str:
    """The URL without a password or a query, which may hold a secret."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))
