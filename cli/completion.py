"""Shell completion: the script for the shell, and the names of operating points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_ADAFOCUS_COMPLETE"

_PATIENCE_SECONDS = 1.0
"""A user who presses the tabulator key does not wait longer for a service."""


def script(shell: str, program: click.Command) -> str:
    """Return the script that a shell evaluates to complete the program.

    Raises:
        click.UsageError: the shell is not supported.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"--completion must be one of {', '.join(SHELLS)}, got {shell!r}")
    return kind(program, {}, "adafocus", VARIABLE).source()


def operating_points(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete an operating point of the bundle that ``--bundle`` names so far, or else of the shipped one."""
    # Imported here so that completing the name of a verb stays fast.
    from adafocus.bundle.store import BundleError, load_bundle
    from adafocus.cli.configuration import SHIPPED, shipped_bundle

    try:
        named = ctx.params.get("bundle")
        manifest = load_bundle(Path(named) if named else shipped_bundle(SHIPPED / "bundles")).manifest
    except (BundleError, click.ClickException, OSError):
        return []  # completion must not print an error
    points = {point.name: point.expected_gflops for point in manifest.operating_points}
    return _items(points, incomplete)


def served_operating_points(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete an operating point of the service at ``--url``; if it does not answer, of the shipped bundle."""
    import httpx

    key = ctx.params.get("key")
    try:
        answer = httpx.get(
            f"{ctx.params['url']}/model",
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=_PATIENCE_SECONDS,
        )
        points = {point["name"]: float(point["expected_gflops"]) for point in answer.json()["operating_points"]}
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError):
        return operating_points(ctx, param, incomplete)
    return _items(points, incomplete)


def _items(gflops: Mapping[str, float], incomplete: str) -> list[CompletionItem]:
    return [
        CompletionItem(name, help=f"{cost:.3g} GFLOPs") for name, cost in gflops.items() if name.startswith(incomplete)
    ]
