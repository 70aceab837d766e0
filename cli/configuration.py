"""Where verbs that serve get their settings: options, then the environment, then the bundle of the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import click
from pydantic import ValidationError

from service.settings import ENV_PREFIX, Settings, explain

CHECKOUT = Path(__file__).resolve().parent.parent


def settings_from(options: dict[str, object]) -> Settings:
    """The settings of this run. An option that is None was not given.

    Raises:
        click.ClickException: a setting is not acceptable, or there is no bundle.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if "bundle" not in given and not os.environ.get(f"{ENV_PREFIX}BUNDLE"):
        given["bundle"] = shipped_bundle(CHECKOUT / "bundles")
    try:
        return Settings(**given)  # type: ignore[arg-type]  # pydantic converts and checks them
    except ValidationError as error:
        raise click.ClickException(explain(error)) from error


def shipped_samples() -> Path | None:
    """The sample clips of the checkout, if this is one and nothing else was set."""
    folder = CHECKOUT / "samples"
    return folder if folder.is_dir() and not os.environ.get(f"{ENV_PREFIX}SAMPLES") else None


def shipped_bundle(folder: Path) -> Path:
    """The first bundle in a folder of bundles.

    Raises:
        click.ClickException: there is none.
    """
    found = sorted(manifest.parent for manifest in folder.glob("*/manifest.json"))
    if not found:
        raise click.ClickException(
            f"no bundle was named, and {folder} holds none; give --bundle DIR or set {ENV_PREFIX}BUNDLE"
        )
    return found[0]
