"""Where the bundles of a service lie, and under which names they are served."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from adafocus.bundle.repository import find_bundles
from adafocus.bundle.store import BundleError, read_manifest
from adafocus.service.settings import Settings


def folders_of(settings: Settings) -> dict[str, Path]:
    """The folder of each bundle that may be served, by the name that it is served under.

    A single bundle has the name in its manifest; of several, each has the name of its folder.

    Raises:
        BundleError: the folder of bundles, or the single bundle, cannot be read.
    """
    if settings.bundles is not None:
        return find_bundles(settings.bundles)
    return {read_manifest(settings.bundle).name: settings.bundle}


def default_of(settings: Settings, names: Iterable[str]) -> str:
    """The name of the model that answers requests that name none: the configured one, or the first.

    Raises:
        BundleError: there is no model of the configured name.
    """
    names = list(names)
    if settings.default_model is None:
        return names[0]
    if settings.default_model not in names:
        raise BundleError(f"default_model is {settings.default_model!r}; there are {', '.join(names)}")
    return settings.default_model
