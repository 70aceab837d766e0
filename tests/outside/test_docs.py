"""What the docs tell readers to type and to run against the service, typed and run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import COMMAND, ROOT

PAGES = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("api.md", "operating-points.md")}
BLOCKS = [
    (f"{name}-{number}", language, code)
    for name, page in PAGES.items()
    for number, (language, code) in enumerate(
        re.findall(r"^```(sh|python)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    )
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place to work in, with the samples where the page has them."""
    for name in ("samples", "bundles"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def run(command: list[str], folder: Path) -> str:
    path = f"{COMMAND.parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("language", "code"), [block[1:] for block in BLOCKS], ids=[block[0] for block in BLOCKS])
def test_it_runs(url: str, folder: Path, language: str, code: str) -> None:
    if "# needs: kserve" in code:
        pytest.importorskip("kserve.inference_client", reason="all of kserve is 450 MB, so its client is run by hand")
    here = code.replace("http://localhost:8000", url).replace("localhost:8000", url.removeprefix("http://"))
    if language == "sh":
        told = run(["bash", "-euo", "pipefail", "-c", here.replace("curl ", "curl -sS --fail-with-body ")], folder)
    else:
        interpreter = sys.executable if "# needs: " in code else str(COMMAND.with_name("python"))
        told = run([interpreter, "-W", "error", "-c", here] if "httpx" in code else [interpreter, "-c", here], folder)
    assert told.strip()
    assert '"status": 4' not in told


def test_the_page_names_every_code_of_the_api() -> None:
    source = (ROOT / "service" / "errors.py").read_text(encoding="utf-8")
    codes = set(re.findall(r"├── \w+\s+\d{3} (\w+)|└── \w+\s+\d{3} (\w+)", source))
    named = {code for pair in codes for code in pair if code}
    assert len(named) > 15
    assert {code for code in named if f"`{code}`" not in PAGES["api.md"]} == set()


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_links_to_is_there(page: str) -> None:
    for name in re.findall(r"\]\(([\w/.-]+)\)", PAGES[page]):
        assert (ROOT / "docs" / name).is_file()
