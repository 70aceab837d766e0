"""The help of every verb, and the names that options had before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from adafocus.cli.main import SUMMARIES, adafocus, main


def verb(name: str) -> click.Command:
    command = adafocus.get_command(click.Context(adafocus, info_name="adafocus"), name)
    assert command is not None
    return command


@pytest.mark.parametrize("name", SUMMARIES)
def test_help_has_an_example_and_a_sentence_for_every_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"Example: adafocus {name} " in " ".join(capsys.readouterr().out.split())
    for option in verb(name).params:
        if isinstance(option, click.Option):
            assert option.help is not None, option.name
            assert option.help[0].isupper() or option.help.startswith("cpu"), option.help
            assert option.help.endswith("."), option.help


def test_summaries_are_imperative_sentences() -> None:
    for text in SUMMARIES.values():
        assert text[0].isupper()
        assert text.endswith(".")


RENAMED = {
    "train": {
        "--held-aside": ("--holdout", "0.25", "holdout", 0.25),
        "--watch-split": ("--validation-split", "val", "validation_split", "val"),
    },
}


@pytest.mark.parametrize(("name", "old"), [(name, old) for name, options in RENAMED.items() for old in options])
def test_options_still_work_by_their_old_names_which_help_does_not_show(
    name: str, old: str, capsys: pytest.CaptureFixture[str]
) -> None:
    new, text, parameter, value = RENAMED[name][old]
    command = verb(name)
    required = ["--data", "d", "--config", "c", "--out", "o"]
    for flag in (old, new):
        for given in ([flag, text], [f"{flag}={text}"]):
            with command.make_context(name, [*required, *given]) as context:
                assert context.params[parameter] == value
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert new in shown
    assert old not in shown


def test_an_option_by_its_old_name_is_refused_under_its_new_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", "d", "--config", "c", "--out", "o", "--held-aside", "2"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'--holdout'" in line
    assert "--held-aside" not in line


@pytest.mark.parametrize("flag", ["--held-aside", "--holdout"])
def test_the_share_to_hold_out_reaches_the_recipe(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from adafocus.training.errors import TrainingError

    seen: dict[str, Any] = {}

    class Recipe:
        def with_options(self, **given: Any) -> Recipe:
            seen.update(given)
            raise TrainingError("far enough")

    monkeypatch.setattr("adafocus.training.recipe_files.load_recipe", lambda name: Recipe())
    arguments = ["--data", str(tmp_path), "--config", "small", "--out", str(tmp_path / "run")]
    assert main(["train", *arguments, flag, "0.3", "--watch-split", "val"]) == 1
    assert capsys.readouterr().err == "adafocus: far enough\n"
    assert {value for value in seen.values() if value is not None} == {0.3, "val"}
