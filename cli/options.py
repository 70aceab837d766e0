"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


SNAPS = ("none", "keyframe")


def snap_option(default: str) -> Callable[[Decorated], Decorated]:
    """The option ``--snap``.

    Args:
        default: what happens without it, for the help text.
    """
    return click.option(
        "--snap",
        type=click.Choice(SNAPS),
        help="Where sampled frames lie: none, in the middle of each interval; keyframe, at the key frame nearest to "
        f"it, which saves decoding. Default: {default}.",
    )


class RenamedOption(click.Option):
    """An option that still accepts the names that it had before; help and errors show only the new one.

    Args:
        param_decls: the new name, and the name of the parameter, as for `click.Option`.
        old: the names that it had.
        attributes: as for `click.Option`.
    """

    def __init__(self, param_decls: Sequence[str], old: Sequence[str], **attributes: Any) -> None:
        super().__init__(param_decls, **attributes)
        self.old = tuple(old)

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Register the new name and the old ones."""
        shown, self.opts = self.opts, [*self.opts, *self.old]
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts = shown
