"""The command line as a whole: verbs found lazily, failures in one line."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import click
import pytest

from adafocus.cli import main as cli
from adafocus.cli.train import PRECISIONS
from adafocus.training.recipe import AskedPrecision


def failing(error: BaseException) -> click.Command:
    @click.command("inspect")
    def command() -> None:
        raise error

    return command


def run(monkeypatch: pytest.MonkeyPatch, command: click.Command, *arguments: str) -> int:
    monkeypatch.setattr(cli.Verbs, "get_command", lambda *_: command)
    return cli.main(["inspect", *arguments])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (click.ClickException("no such bundle;\n name another"), 1, "adafocus: no such bundle; name another\n"),
        (click.UsageError("wrong"), 2, "adafocus: wrong; try 'adafocus inspect --help'\n"),
        (PermissionError(13, "Permission denied", "a.mp4"), 1, "adafocus: a.mp4: Permission denied\n"),
        (KeyboardInterrupt(), 130, "adafocus: interrupted\n"),
    ],
)
def test_a_failure_is_one_line_and_a_code(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, failing(error)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.lstrip("\n") == line


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        run(monkeypatch, failing(ZeroDivisionError()))


def test_a_verbs_return_value_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, click.Command("inspect", callback=lambda: 1)) == 1
    assert run(monkeypatch, click.Command("inspect", callback=lambda: None)) == 0


WITHOUT_TORCH = (
    "import sys; sys.modules.update(dict.fromkeys(['torch', 'onnx', 'matplotlib'])); "
    "from adafocus.cli.main import main; "
)


def without_torch(arguments: list[str], project_root: Path) -> subprocess.CompletedProcess[str]:
    script = f"{WITHOUT_TORCH} sys.exit(main({arguments!r}))"
    return subprocess.run([sys.executable, "-c", script], cwd=project_root, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("verb", cli.SUMMARIES)
def test_every_verb_explains_itself_by_example_where_only_serving_is_installed(verb: str, project_root: Path) -> None:
    done = without_torch([verb, "--help"], project_root)
    assert done.returncode == 0, done.stderr
    assert f"Example: adafocus {verb} " in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["train", "--data", "d", "--config", "small", "--out", "o"], "train"),
        (["evaluate", "--checkpoint", "c", "--data", "d"], "train"),
        (["calibrate", "--checkpoint", "c", "--data", "d", "--out", "o"], "train"),
        (["export", "--checkpoint", "c", "--out", "o"], "export"),
    ],
)
def test_a_missing_package_is_named_with_what_to_install(arguments: list[str], extra: str, project_root: Path) -> None:
    done = without_torch(arguments, project_root)
    assert done.returncode == 1
    assert done.stderr == (
        f"adafocus: '{arguments[0]}' needs the package 'torch', which is not installed; "
        f"in a checkout, run .venv/bin/pip install -c constraints.txt -e '.[{extra}]'\n"
    )


def test_the_precisions_of_training_are_the_recipes() -> None:
    assert get_args(AskedPrecision) == PRECISIONS


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], []])
def test_a_wrong_call_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    assert capsys.readouterr().out == ""


def test_help_lists_the_verbs_and_imports_none_of_them(project_root: Path) -> None:
    script = (
        "import sys; from adafocus.cli.main import main; code = main(['--help']);"
        "heavy = {'torch', 'fastapi', 'av', 'numpy', 'onnxruntime', 'pydantic'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=project_root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in cli.SUMMARIES)
    assert "Example:" in done.stdout


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("adafocus ")
