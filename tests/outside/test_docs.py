"""Runs the commands in README and the docs, unless they are marked with a reason.

A comment that readers do not see marks a block that is not run: ``<!-- not run: REASON -->``.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from .conftest import COMMAND, service
from .visit import ROOT

FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = {path.name: path.read_text(encoding="utf-8") for path in FILES}
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>.*?) -->\n)?^```(?P<language>.*)\n(?P<code>(?:.*\n)*?)^```$", re.MULTILINE
)
SERVE = re.compile(r"^\S*adafocus serve .*\n", re.MULTILINE)
SILENT = {"json", "text"}
PYTHON = str(COMMAND.with_name("python"))

CLIPS = """
import sys
from pathlib import Path
from tests.video.clips import make_clip

for number in range(10):
    clip = Path(sys.argv[1], "val" if number < 2 else "train", ("jump", "run")[number % 2], f"{number}.mp4")
    clip.parent.mkdir(parents=True, exist_ok=True)
    clip.write_bytes(make_clip(20 + number))
"""
BRIEF = """
inherits = "small_scratch"
data.fewest_draws = 0
optimiser.epochs = 3
"""
"""In place of the recipe `small`, which takes minutes however few the clips are."""


class Block(NamedTuple):
    page: str
    number: int
    language: str
    code: str
    reason: str | None

    @property
    def name(self) -> str:
        return f"{self.page}-{self.number}"


BLOCKS = [
    Block(page, number, found["language"], found["code"], found["reason"])
    for page, text in PAGES.items()
    for number, found in enumerate(FENCE.finditer(text))
]
RUN = [block for block in BLOCKS if block.language not in SILENT and block.reason is None]


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of clips, parted as docs/training.md draws it."""
    made = tmp_path_factory.mktemp("docs") / "clips"
    run([PYTHON, "-c", CLIPS, str(made)], ROOT)
    return made


@pytest.fixture
def folder(tmp_path: Path, clips: Path) -> Path:
    """A place to work in, with what the pages speak of where they have it."""
    for name in (".venv", "samples", "bundles/sky"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("clips", "my clips"):
        shutil.copytree(clips, tmp_path / name)
    (tmp_path / "brief.toml").write_text(BRIEF, encoding="utf-8")
    return tmp_path


def run(command: list[str], folder: Path) -> str:
    path = f"{COMMAND.parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=160)
    assert done.returncode == 0, done.stderr
    return done.stdout


def here(code: str, url: str) -> str:
    """The same for the service of this test, and in a time that a test has."""
    code = code.replace("http://localhost:8000", url).replace("localhost:8000", url.removeprefix("http://"))
    code = code.replace("adafocus bench ", f"adafocus bench --url {url} ")
    return code.replace("--config small ", "--config brief.toml ").replace("curl ", "curl -sS --fail-with-body ")


@pytest.mark.parametrize("block", RUN, ids=[block.name for block in RUN])
def test_it_runs(url: str, folder: Path, block: Block) -> None:
    code = here(block.code, url)
    if "# needs: kserve" in code:
        pytest.importorskip("kserve.inference_client", reason="all of kserve is 450 MB, so its client is run by hand")
    if "adafocus train" in code and subprocess.run([PYTHON, "-c", "import torch"], capture_output=True).returncode:
        pytest.skip("torch is not installed; make test installs it")
    if block.language == "sh":
        told = run(["bash", "-euo", "pipefail", "-c", SERVE.sub("", code)], folder)
    else:
        interpreter = sys.executable if "# needs: " in code else PYTHON
        told = run([interpreter, "-W", "error", "-c", code] if "httpx" in code else [interpreter, "-c", code], folder)
    assert told.strip()
    assert '"status": 4' not in told
    for line in SERVE.findall(code):
        with service(*shlex.split(line)[2:], folder=folder):
            pass  # it was ready


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: str) -> None:
    blocks = [block for block in BLOCKS if block.page == page]
    assert len(blocks) * 2 == len(re.findall("^ *```", PAGES[page], re.MULTILINE))
    assert PAGES[page].count("<!-- not run:") == sum(block.reason is not None for block in blocks)
    for block in blocks:
        assert block.language in {"sh", "python", *SILENT}, f"{block.name}: one of sh, python, json, text"
        assert block.reason is None or block.reason.strip()
        if block.language == "text":
            assert not re.search(r"^\S*(adafocus|python3?|curl|make|docker|pip|torchrun) ", block.code, re.MULTILINE)


def test_the_page_names_every_code_of_the_api() -> None:
    source = (ROOT / "service" / "errors.py").read_text(encoding="utf-8")
    codes = set(re.findall(r"├── \w+\s+\d{3} (\w+)|└── \w+\s+\d{3} (\w+)", source))
    named = {code for pair in codes for code in pair if code}
    assert len(named) > 15
    assert {code for code in named if f"`{code}`" not in PAGES["api.md"]} == set()


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_links_to_is_there(page: str) -> None:
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for name in re.findall(r"\]\(([\w/.-]+)(?:#[\w-]+)?\)", PAGES[page]):
        assert (folder / name).exists(), name
