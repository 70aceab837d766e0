"""Models kept as a runtime has prepared them for this processor: mapped into memory by every service that uses them.

A graph's weights are copied and laid out anew by each process that loads it. Written once in that layout, they are
pages of one file, which the system holds once for all, and a start has nothing left to lay out.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from adafocus.bundle.instructions import features, onnx_session_entries
from adafocus.bundle.manifest import Graph
from adafocus.service.engine.runners.base import RunnerError

MODEL = "model.onnx"

Prepare = Callable[[Path, Path], None]
"""Writes what a graph's file becomes, into the file named second; more may lie beside it. Raises OSError."""

logger = logging.getLogger("adafocus.runner")


def check_cache(cache: Path) -> None:
    """Create the folder if it is missing, and check that no other user can write to it, because its files are run.

    Raises:
        RunnerError: it cannot be made, or others can write to it.
    """
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = cache.stat()
    except OSError as error:
        raise RunnerError(f"model_cache {cache} cannot be used: {error.strerror}") from error
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RunnerError(f"model_cache {cache} must belong to the service's user, and be writable by no other user")


def kept_model(cache: Path, file: Path, graph: Graph, version: str, prepare: Prepare) -> Path:
    """The prepared model of a graph's verified file, made now if there is none; the file itself if it cannot be made.

    Args:
        cache: folder to which no other user can write (`check_cache`).
        file: of the graph.
        graph: what the bundle says of it.
        version: of the runtime; another one prepares for itself.
        prepare: makes it.
    """
    folder = cache / f"{graph.component}-{graph.precision}-{_key(graph, version)}"
    if not (folder / MODEL).exists():
        try:
            _keep(cache, file, folder, prepare)
        except OSError as error:
            fields = {"folder": str(cache), "because": str(error)}
            logger.warning("the prepared model cannot be kept", extra={"fields": fields})
            return file
    return folder / MODEL


def _key(graph: Graph, version: str) -> str:
    """Changes with the graph, the runtime, and whatever of the processor or the session may decide a layout."""
    entries = (f"{name}={value}" for name, value in onnx_session_entries().items())
    parts = (graph.sha256, version, *sorted(features()), *sorted(entries))
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]


def _keep(cache: Path, file: Path, folder: Path, prepare: Prepare) -> None:
    """Make it beside its place and rename it: it is there whole or not at all. Another process may do the same."""
    made = Path(tempfile.mkdtemp(prefix=".making-", dir=cache))
    try:
        prepare(file, made / MODEL)
        for path in made.iterdir():
            with path.open("rb") as written:
                os.fsync(written.fileno())
        made.rename(folder)
    except OSError:
        if not (folder / MODEL).exists():
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
