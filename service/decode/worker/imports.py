"""Imports that must happen before the sandbox, which forbids later ones."""

from __future__ import annotations

import importlib
import pkgutil

import av


def import_all_of_av() -> None:
    """Import all of PyAV, which imports some of its parts only on first use."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name not in ("av.__main__", "av.datasets"):  # a program, and a downloader
            importlib.import_module(module.name)
