"""What docs/api.md tells readers to type and to run, typed and run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import COMMAND, ROOT

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place to work in, with the samples where the page has them."""
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    return tmp_path


def run(command: list[str], folder: Path) -> str:
    path = f"{COMMAND.parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("language", "code"), BLOCKS, ids=[f"{number}-{language}" for number, (language, _) in enumerate(BLOCKS)]
)
def test_it_runs(url: str, folder: Path, language: str, code: str) -> None:
    here = code.replace("http://localhost:8000", url).replace("localhost:8000", url.removeprefix("http://"))
    if language == "sh":
        told = run(["bash", "-euo", "pipefail", "-c", here.replace("curl ", "curl -sS --fail-with-body ")], folder)
    else:
        interpreter = sys.executable if "tritonclient" in code else str(COMMAND.with_name("python"))
        told = run([interpreter, "-W", "error", "-c", here] if "httpx" in code else [interpreter, "-c", here], folder)
    assert told.strip()
    assert '"status": 4' not in told


def test_the_page_names_every_code_of_the_api() -> None:
    source = (ROOT / "service" / "errors.py").read_text(encoding="utf-8")
    codes = set(re.findall(r"├── \w+\s+\d{3} (\w+)|└── \w+\s+\d{3} (\w+)", source))
    named = {code for pair in codes for code in pair if code}
    assert len(named) > 15
    assert {code for code in named if f"`{code}`" not in PAGE} == set()


def test_its_pictures_are_there() -> None:
    for name in re.findall(r"\]\((pictures/[^)]+)\)", PAGE):
        assert (ROOT / "docs" / name).is_file()
