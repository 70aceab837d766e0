"""What the shell may complete: the script that teaches it, and the operating points of the bundle at hand."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_ADAFOCUS_COMPLETE"


def script(shell: str, program: click.Command) -> str:
    """What the shell evaluates once to learn to complete the program.

    Raises:
        click.UsageError: no such shell is known.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"--completion knows {', '.join(SHELLS)}; got {shell!r}")
    return kind(program, {}, "adafocus", VARIABLE).source()


def operating_points(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The points of the bundle that the command line names so far, or else of the one shipped."""
    # Imported here: whoever completes a verb's name need not wait for this.
    from bundle.store import BundleError, load_bundle
    from cli.configuration import CHECKOUT, shipped_bundle

    try:
        named = ctx.params.get("bundle")
        manifest = load_bundle(Path(named) if named else shipped_bundle(CHECKOUT / "bundles")).manifest
    except (BundleError, click.ClickException, OSError):
        return []  # a shell that completes is no place for an error
    return [
        CompletionItem(point.name, help=f"{point.expected_gflops:.3g} GFLOPs")
        for point in manifest.operating_points
        if point.name.startswith(incomplete)
    ]
