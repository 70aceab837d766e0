"""Reads, verifies and writes a bundle folder. Only this module knows the file names of a bundle.

Every failure is a ``BundleError``, whose message is one line that names the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from adafocus.bundle.manifest import Graph, GraphFormat, Manifest
from adafocus.bundle.signature import check_signatures

MANIFEST = "manifest.json"
_MAX_MANIFEST_BYTES = 16 << 20
VERIFIERS = 4
"""Number of files whose checksums are computed in parallel."""

_SUFFIX: dict[GraphFormat, str] = {"onnx": "onnx", "torchscript": "ts"}


class BundleError(ValueError):
    """A bundle that cannot be read, trusted or written; the message is one line and names the file."""


@dataclass(frozen=True)
class Bundle:
    """A bundle folder whose manifest is valid and whose files are the ones that the manifest describes."""

    path: Path
    manifest: Manifest

    def file(self, graph: Graph) -> Path:
        """Path of a graph's file."""
        return self.path / graph.file


def graph_file_name(graph: Graph) -> str:
    """The file name that a graph of this component, format and precision has in a new bundle."""
    precision = "" if graph.precision == "fp32" else f".{graph.precision}"
    return f"{graph.component}{precision}.{_SUFFIX[graph.format]}"


def read_manifest(folder: Path) -> Manifest:
    """Parse and check the manifest of a bundle folder. The files that it names are not read.

    Raises:
        BundleError: there is none, it is not JSON, or a field is missing or out of range.
    """
    path = folder / MANIFEST
    try:
        with _open_regular(path) as stream:
            text = stream.read(_MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise BundleError(
            f"{path}: cannot be read ({_reason(error)}); a bundle is a folder with a {MANIFEST}"
        ) from error
    if len(text) > _MAX_MANIFEST_BYTES:
        raise BundleError(f"{path}: is larger than the limit of {_MAX_MANIFEST_BYTES} bytes for a manifest")
    try:
        manifest = Manifest.model_validate_json(text)
        if any(graph.file == MANIFEST for graph in manifest.graphs):
            raise BundleError(f"{path}: a graph cannot be named {MANIFEST}")
        check_signatures(manifest)
    except ValidationError as error:
        raise BundleError(f"{path}: {_first_problem(error)}") from error
    except BundleError:
        raise
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from error
    return manifest


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle and verify every file it names: existence, size, sha256, signature.

    Raises:
        BundleError: the manifest is unusable, or a file is missing or is not the one that was exported.
    """
    bundle = Bundle(folder, read_manifest(folder))
    with ThreadPoolExecutor(min(VERIFIERS, len(bundle.manifest.graphs))) as pool:
        for _ in pool.map(lambda graph: _verify(bundle.file(graph), graph), bundle.manifest.graphs):
            pass
    return bundle


def write_bundle(folder: Path, manifest: Manifest, files: Mapping[str, bytes | Path]) -> Bundle:
    """Write a bundle atomically: into a temporary sibling folder that is verified, synced and then renamed.

    An existing bundle is replaced; a folder that holds anything else is not.

    Args:
        folder: the bundle's folder; missing parents are created.
        manifest: the content of ``manifest.json``.
        files: the content, or the path of a file to copy, for exactly the graph files that the manifest names.

    Raises:
        BundleError: the folder cannot be replaced, the files are not the manifest's, or writing failed. Nothing
            is left behind.
    """
    named = sorted(graph.file for graph in manifest.graphs)
    if sorted(files) != named:
        raise BundleError(f"{folder}: the files given are {sorted(files)}, the manifest names {named}")
    check_replaceable(folder)
    folder = folder.absolute()
    try:
        with _parents(folder), _temporary_sibling(folder) as temporary:
            for name, content in files.items():
                _write_file(temporary / name, content)
            _write_file(temporary / MANIFEST, (manifest.model_dump_json(indent=2) + "\n").encode())
            _sync(temporary)
            try:
                load_bundle(temporary)
            except BundleError as error:
                raise BundleError(f"not written: {str(error).replace(str(temporary), str(folder))}") from error
            _put_in_place(temporary, folder)
    except OSError as error:
        raise BundleError(f"{folder}: cannot be written ({_reason(error)})") from error
    return Bundle(folder, manifest)


def check_replaceable(folder: Path) -> None:
    """Check that writing a bundle to ``folder`` would replace only an older bundle.

    Raises:
        BundleError: it would not; the message names the file that would be lost.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_symlink() or not folder.is_dir():
        raise BundleError(f"{folder}: exists and is not a folder")
    present = {entry.name for entry in folder.iterdir()}
    if not present:
        return
    try:
        stated = json.loads((folder / MANIFEST).read_bytes())
        known = {MANIFEST, *(graph["file"] for graph in stated["graphs"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder}: is not empty and is not a bundle, so it is not replaced") from error
    strangers = sorted(present - known)
    if strangers:
        raise BundleError(f"{folder}: holds {strangers[0]!r}, which is not part of the bundle, so it is not replaced")


def _open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; a pipe would keep its reader waiting, and a device is endless.

    Raises:
        BundleError: it is not a regular file.
        OSError: it cannot be opened.
    """
    stream = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")  # noqa: SIM115, PTH123 - the caller closes it
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise BundleError(f"{path}: is not a regular file")
    return stream


def _verify(path: Path, graph: Graph) -> None:
    try:
        if not path.is_file():
            raise BundleError(f"{path}: is missing")
        if not path.resolve().is_relative_to(path.parent.resolve()):
            raise BundleError(f"{path}: is a link out of the bundle; a bundle's files lie in its folder")
        size = path.stat().st_size
        if size != graph.bytes:
            raise BundleError(f"{path}: has {size} bytes, the manifest says {graph.bytes}; export or fetch it again")
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({_reason(error)})") from error
    if digest != graph.sha256:
        raise BundleError(
            f"{path}: sha256 is {digest[:12]}…, the manifest says {graph.sha256[:12]}…; export or fetch it again"
        )


@contextmanager
def _parents(folder: Path) -> Iterator[None]:
    missing = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for parent in missing:
            with suppress(OSError):
                parent.rmdir()
        raise


@contextmanager
def _temporary_sibling(folder: Path) -> Iterator[Path]:
    # Not tempfile.mkdtemp: its mode 0700 would stay with the bundle and lock out the account that serves it.
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.tmp")
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(temporary: Path, folder: Path) -> None:
    if not folder.exists():
        temporary.rename(folder)
        _sync(folder.parent)
        return
    check_replaceable(folder)
    with _temporary_sibling(folder) as aside:
        older = folder.rename(aside / folder.name)
        try:
            temporary.rename(folder)
        except BaseException:
            older.rename(folder)
            raise
        _sync(folder.parent)


def _write_file(path: Path, content: bytes | Path) -> None:
    with path.open("xb") as out:
        if isinstance(content, bytes):
            out.write(content)
        else:
            with content.open("rb") as source:
                shutil.copyfileobj(source, out, 1 << 20)
        out.flush()
        os.fsync(out.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ").replace("\n", " ")
    return f"{where}: {message}" if where else message
