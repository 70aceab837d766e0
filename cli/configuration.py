"""Settings of a run: from options, then from the environment; the shipped bundle, if none is named."""

from __future__ import annotations

import os
from pathlib import Path

import click
from pydantic import ValidationError

from adafocus.service.settings import ENV_PREFIX, Settings, explain

SHIPPED = Path(__file__).resolve().parent.parent
"""Where `bundles` and `samples` are: the checkout, or the installed package."""


def settings_from(options: dict[str, object]) -> Settings:
    """Return the settings of this run. An option that is None was not given.

    Raises:
        click.ClickException: a setting is invalid, or there is no bundle.
    """
    given = {name: value for name, value in options.items() if value is not None}
    named = any(name in given or os.environ.get(f"{ENV_PREFIX}{name.upper()}") for name in ("bundle", "bundles"))
    if not named:
        given["bundle"] = shipped_bundle(SHIPPED / "bundles")
    try:
        return Settings(**given)  # type: ignore[arg-type]  # pydantic converts and checks them
    except ValidationError as error:
        raise click.ClickException(explain(error)) from error


def shipped_samples() -> Path | None:
    """Return the folder of sample clips; None if it is not installed or another folder is set."""
    folder = SHIPPED / "samples"
    return folder if folder.is_dir() and not os.environ.get(f"{ENV_PREFIX}SAMPLES") else None


def shipped_bundle(folder: Path) -> Path:
    """Return the first bundle in a folder of bundles.

    Raises:
        click.ClickException: the folder holds no bundle.
    """
    found = sorted(manifest.parent for manifest in folder.glob("*/manifest.json"))
    if not found:
        raise click.ClickException(
            f"no bundle is given and {folder} holds none; use --bundle DIR or set {ENV_PREFIX}BUNDLE"
        )
    return found[0]
