"""Every command line of `adafocus` in README and the docs, whether a test runs it or not, is one that is understood."""

import re
import shlex
from pathlib import Path

import click
import pytest

from adafocus.cli.main import SUMMARIES, adafocus

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\S*/adafocus|adafocus|torchrun .* -m cli\.main) (.*)", re.MULTILINE)
IN_TEXT = re.compile(r"(?<!`)`adafocus ([^`]+)`(?!`)")


def documented() -> list[tuple[str, str]]:
    """Where a command line stands, and what follows the command's name."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = "".join(SHELL.findall(text)).replace("\\\n", " ")
        lines = COMMAND.findall(blocks) + IN_TEXT.findall(SHELL.sub("", text))
        found += [(page.name, " ".join(line.split())) for line in lines]
    return found


LINES = documented()


@pytest.mark.parametrize("line", [line for _, line in LINES], ids=[f"{page}: {line}" for page, line in LINES])
def test_it_is_understood(line: str) -> None:
    verb, *words = shlex.split(line, comments=True)
    root = click.Context(adafocus, info_name="adafocus")
    if verb.startswith("-"):
        adafocus.make_parser(root).parse_args([verb, *words])
        return
    assert verb in SUMMARIES
    command = adafocus.get_command(root, verb)
    assert command is not None
    with click.Context(command, root, info_name=verb) as context:
        try:
            given, _, _ = command.make_parser(context).parse_args(words)
        except click.BadOptionUsage as error:
            assert "requires an argument" in error.message, "in the text an option may be named without its value"
            return
        for parameter in command.params:
            value = given.get(parameter.name or "")
            if isinstance(parameter.type, click.Choice | click.types.IntParamType) and isinstance(value, str):
                parameter.type.convert(value, parameter, context)
    if "--config" in words:
        assert (ROOT / "training" / "configs" / f"{words[words.index('--config') + 1]}.toml").is_file()


def test_there_are_some_of_every_verb() -> None:
    assert {line.split()[0] for _, line in LINES} >= set(SUMMARIES)


def test_what_is_not_understood_is_found() -> None:
    with pytest.raises(click.NoSuchOption):
        test_it_is_understood("export --checkpoint F --onto BUNDLE")
    with pytest.raises(AssertionError):
        test_it_is_understood("classfy samples")


def test_modules_that_are_run_are_there() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    modules = set(re.findall(r"python3? -m (benchmarks\.[\w.]*\w)", pages))
    assert modules
    for name in modules:
        assert ROOT.joinpath(*name.split(".")).with_suffix(".py").is_file(), name
