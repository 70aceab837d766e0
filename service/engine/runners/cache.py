"""The folder in which runtimes keep prepared models."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from service.engine.runners.base import RunnerError


def check_cache(cache: Path) -> None:
    """Make the folder if it is missing, and check that nobody else can write what will be run from it.

    Raises:
        RunnerError: it cannot be made, or others can write to it.
    """
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = cache.stat()
    except OSError as error:
        raise RunnerError(f"model_cache {cache} cannot be used: {error.strerror}") from error
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RunnerError(f"model_cache {cache} must belong to the service's user, and be writable by nobody else")
