"""Bundles in OCI registries: an artifact with a layer for each file, as `oras push` makes it.

The layer of a file is the one with its name as title. Requests follow the OCI distribution specification 1.1; an
anonymous token is fetched where a registry wants one, or one for the user of Docker's configuration file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit

from adafocus.cli.bundle_sources.base import MissingFileError, SourceError
from adafocus.cli.bundle_sources.https import HttpsOpener, chunks

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
TITLE = "org.opencontainers.image.title"

_LARGEST_DOCUMENT_BYTES = 4 << 20
_UNAUTHORIZED = 401
_NOT_FOUND = 404

_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"oci://(?P<host>[A-Za-z0-9.-]+(?::\d{{1,5}})?)/(?P<name>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?",
    flags=re.ASCII,
)
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Reference:
    """An artifact in a registry.

    Attributes:
        host: with the port, if there is one.
        name: of the repository.
        version: a tag or a digest.
    """

    host: str
    name: str
    version: str


def parse_reference(url: str) -> Reference | None:
    """What ``oci://HOST/NAME:TAG`` or ``oci://HOST/NAME@sha256:…`` names; None if it is neither.

    The tag is ``latest`` if there is none; a digest is stronger than a tag.
    """
    found = _REFERENCE.fullmatch(url)
    if found is None:
        return None
    return Reference(found["host"], found["name"], found["digest"] or found["tag"] or "latest")


class RegistryArtifact:
    """A bundle as an artifact. Every byte is compared with its digest."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._opener = HttpsOpener()
        self._authorization: str | None = None
        self._layers: dict[str, str] | None = None

    def fetch(self, name: str) -> Iterator[bytes]:
        """See `BundleSource`."""
        if self._layers is None:
            self._layers = self._read_layers()
        if name not in self._layers:
            raise MissingFileError(f"the artifact has no file {name!r}")
        digest = self._layers[name]
        found = hashlib.sha256()
        with self._open(f"blobs/{digest}") as answer:
            for chunk in chunks(answer):
                found.update(chunk)
                yield chunk
        if f"sha256:{found.hexdigest()}" != digest:
            raise SourceError(
                f"{name!r} is not what the artifact's manifest says; its digest is sha256:{found.hexdigest()}"
            )

    def _read_layers(self) -> dict[str, str]:
        """By file name: the digest of its layer."""
        version = self._reference.version
        with self._open(f"manifests/{version}", {"Accept": MANIFEST_TYPE}) as answer:
            content = _read(answer)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if version.startswith("sha256:") and digest != version:
            raise SourceError(f"the registry answered with a manifest of digest {digest}, not {version}")
        layers = _object(content).get("layers")
        try:
            found = {layer["annotations"][TITLE]: layer["digest"] for layer in layers or [] if TITLE in _notes(layer)}
        except (TypeError, KeyError) as error:
            raise SourceError("the artifact's manifest does not list its layers as OCI manifests do") from error
        if not all(isinstance(one, str) and re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in found.values()):
            raise SourceError("the artifact has a layer whose digest is not a sha256")
        return found

    @contextmanager
    def _open(self, path: str, headers: dict[str, str] | None = None) -> Iterator[HTTPResponse]:
        """Open what lies under the repository; with a token, if the registry wants one."""
        url = f"https://{self._reference.host}/v2/{self._reference.name}/{path}"
        if self._authorization is None:
            try:
                with self._opener.open(url, headers) as answer:
                    yield answer
                    return
            except HTTPError as error:
                if error.code != _UNAUTHORIZED:
                    raise _refused(error) from error
                error.close()
                self._authorization = self._authorize(error.headers.get("WWW-Authenticate", ""))
        try:
            with self._opener.open(url, headers, self._authorization) as answer:
                yield answer
        except HTTPError as error:
            raise _refused(error) from error

    def _authorize(self, challenge: str) -> str:
        """The value of the header Authorization that a challenge asks for."""
        known = credentials(self._reference.host)
        basic = f"Basic {known}" if known else None
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic" and basic is not None:
            return basic
        asked = dict(_PARAMETER.findall(rest))
        realm = asked.pop("realm", "")
        if kind.lower() != "bearer" or urlsplit(realm).scheme != "https":
            raise SourceError("the registry wants a login that is not known here; log in with docker login")
        asked.setdefault("scope", f"repository:{self._reference.name}:pull")
        try:
            with self._opener.open(f"{realm}?{urlencode(asked)}", authorization=basic) as answer:
                told = _object(_read(answer))
        except HTTPError as error:
            raise _refused(error) from error
        token = told.get("token") or told.get("access_token")
        if not isinstance(token, str) or not token.isprintable():
            raise SourceError("the registry's token service gave no token")
        return f"Bearer {token}"


def credentials(host: str) -> str | None:
    """User and password of a registry in base64, as ``docker login`` keeps them; None if it keeps none as a file."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        known = json.loads((folder / "config.json").read_bytes())["auths"][host]["auth"]
        base64.b64decode(known, validate=True)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(known)


def _notes(layer: Any) -> dict[str, Any]:
    notes = layer.get("annotations") if isinstance(layer, dict) else None
    return notes if isinstance(notes, dict) else {}


def _refused(error: HTTPError) -> SourceError:
    error.close()
    return (MissingFileError if error.code == _NOT_FOUND else SourceError)(f"the registry answered {error}")


def _read(answer: HTTPResponse) -> bytes:
    content = answer.read(_LARGEST_DOCUMENT_BYTES + 1)
    if len(content) > _LARGEST_DOCUMENT_BYTES:
        raise SourceError(f"the registry's answer is larger than {_LARGEST_DOCUMENT_BYTES} bytes")
    return content


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise SourceError("the registry's answer is not JSON") from error
    if not isinstance(found, dict):
        raise SourceError("the registry's answer is not a JSON object")
    return found
