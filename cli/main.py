"""The command `adafocus`: dispatches to a verb and turns every expected failure into one line.

A verb is a click command named ``command`` in ``cli/<verb>.py``. It is imported only when it is called, so that
``serve`` never loads torch and ``train`` never loads the service. A verb that needs torch imports it when it runs, so
that its ``--help`` works where torch is not installed. A verb raises `click.ClickException` when something fails (exit
code 1) and `click.UsageError` when it was called wrongly (exit code 2), or returns its exit code.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from adafocus.cli import completion

SUMMARIES = {
    "serve": "Run the HTTP service.",
    "classify": "Classify videos in files, folders, buckets and at URLs, without HTTP.",
    "batch": "Classify many videos into a folder of results, and resume.",
    "watch": "Watch live streams: windows in, events out.",
    "train": "Train a model end to end on labelled videos.",
    "evaluate": "Measure accuracy and compute of a checkpoint on labelled videos.",
    "calibrate": "Solve the temperature and the exit thresholds on held-out videos.",
    "export": "Convert a checkpoint to a bundle.",
    "compress": "Write a bundle again at a third of its size.",
    "inspect": "Show what is in a bundle.",
    "pull": "Fetch a bundle from a server, a bucket or a registry, and verify it.",
    "bench": "Put load on a running service and measure throughput, latency and compute.",
}
"""The verbs in the order in which a user needs them. They are listed here so that ``--help`` imports none of them."""

EXTRAS = {
    "batch": "serve,parquet",
    "train": "train",
    "evaluate": "train",
    "calibrate": "train",
    "export": "export",
    "compress": "export",
}
"""The extra that a verb needs, if it is not `serve`."""

INTERRUPTED = 130


class Verbs(click.Group):
    """A click group that imports a verb only when the verb is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the verbs."""
        return list(SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a verb; None if there is no verb of that name."""
        if cmd_name not in SUMMARIES:
            return None
        command = importlib.import_module(f"adafocus.cli.{cmd_name}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"adafocus.cli.{cmd_name}.command is not a click command")
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the verb.

        Raises:
            click.ClickException: a package that the verb needs is not installed.
        """
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            verb = ctx.invoked_subcommand or ""
            raise click.ClickException(
                f"{verb!r} needs the package {error.name!r}, which is not installed; in a checkout, run "
                f".venv/bin/pip install -c constraints.txt -e '.[{EXTRAS.get(verb, 'serve')}]'"
            ) from error

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a verb, without importing any, or an option."""
        verbs = [CompletionItem(name, help=text) for name, text in SUMMARIES.items() if name.startswith(incomplete)]
        return verbs + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(SUMMARIES.items()))


def _print_completion(ctx: click.Context, param: click.Parameter, shell: str | None) -> None:
    if shell is None or ctx.resilient_parsing:
        return
    click.echo(completion.script(shell, ctx.command))
    ctx.exit()


def _print_version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    try:
        version = importlib.metadata.version("adafocus")
    except importlib.metadata.PackageNotFoundError:
        version = "(not installed as a package)"
    click.echo(f"adafocus {version}")
    ctx.exit()


@click.command(
    cls=Verbs,
    subcommand_metavar="VERB ...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Example: adafocus classify samples --exit balanced",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
@click.option(
    "--completion",
    type=click.Choice(completion.SHELLS),
    is_eager=True,
    expose_value=False,
    callback=_print_completion,
    help='Print the completion script of a shell; to use it: eval "$(adafocus --completion bash)".',
)
def adafocus() -> None:
    """Classify videos with AdaFocusV2: look at a frame at a time, and stop as soon as the answer is certain enough."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 only on success, 2 for wrong usage, 130 when interrupted."""
    try:
        result = adafocus.main(arguments, prog_name="adafocus", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.message, err=True)
        return error.exit_code
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "adafocus"
        return _fail(f"{error.format_message().rstrip('.')}; try '{path} --help'", error.exit_code)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has closed it. Without this, the interpreter would fail when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", 1)
    return result if isinstance(result, int) else 0


def _fail(message: str, code: int) -> int:
    click.echo("adafocus: " + " ".join(message.split()), err=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
