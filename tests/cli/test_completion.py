"""What the shell completes, asked as the shell asks."""

import subprocess
import sys
from pathlib import Path

import pytest

from cli.main import SUMMARIES, main
from tests.e2e.tiny import write_tiny_bundle


def completed(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What bash would offer at the end of the line."""
    monkeypatch.setenv("_ADAFOCUS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 0
    return [offer.partition(",")[2] for offer in capsys.readouterr().out.split()]


def test_verbs_and_their_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert completed("adafocus ", monkeypatch, capsys) == list(SUMMARIES)
    assert completed("adafocus cl", monkeypatch, capsys) == ["classify"]
    assert "--draw" in completed("adafocus classify --", monkeypatch, capsys)


def test_the_operating_points_of_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny").path
    line = f"adafocus classify --bundle {bundle} --exit "
    assert completed(line, monkeypatch, capsys) == ["full", "accurate", "balanced", "fast"]
    assert completed(line + "f", monkeypatch, capsys) == ["full", "fast"]
    assert completed(f"adafocus classify --bundle {tmp_path} --exit ", monkeypatch, capsys) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--completion", shell]) == 0
    assert "_ADAFOCUS_COMPLETE" in capsys.readouterr().out


def test_a_verbs_name_is_completed_without_loading_any() -> None:
    script = (
        "import os, sys; os.environ.update(_ADAFOCUS_COMPLETE='bash_complete', COMP_WORDS='adafocus ', COMP_CWORD='1');"
        "from cli.main import main\n"
        "try: main([])\n"
        "except SystemExit: print('loaded', [name for name in ('torch', 'service', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "loaded []" in done.stdout
