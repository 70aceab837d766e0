"""An environment that holds what the extra `serve` brings, and nothing else: no torch, no other runtime.

It is made of links to the distributions of this environment, so that it needs no network; which ones, their own
metadata say.
"""

from __future__ import annotations

import json
import subprocess
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROGRAM = "import sys; from adafocus.cli.main import main; sys.argv[0] = 'adafocus'; sys.exit(main())"


@dataclass(frozen=True)
class Environment:
    """A Python of its own."""

    folder: Path
    project: Path

    @property
    def packages(self) -> Path:
        """Where its distributions lie."""
        return next(self.folder.glob("lib/python*/site-packages"))

    def run(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a line of Python in the project's folder, alone: no variable and no user's package is seen."""
        command = [self.folder / "bin" / "python", "-s", "-c", code, *arguments]
        plain = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, cwd=self.project, env=plain, capture_output=True, text=True, timeout=120)

    def refusal(self, *options: str) -> str:
        """What `serve` says that it ends with, in its last line."""
        done = self.run(PROGRAM, "serve", "--port", "0", *options)
        assert done.returncode == 1, done.stderr
        *before, last = done.stderr.splitlines()
        assert all(json.loads(line)["level"] == "info" for line in before), done.stderr
        return last


def needed(extra: str) -> Iterator[metadata.Distribution]:
    """Everything that an extra of this project brings, as pip would find it."""
    waiting, seen = [("adafocus", extra)], set[tuple[str, str]]()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        found = metadata.distribution(name)
        if name != "adafocus":
            yield found
        for text in found.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": wanted}):
                waiting += [(requirement.name, inner) for inner in ("", *requirement.extras)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Environment:
    made = Environment(tmp_path_factory.mktemp("serve") / "venv", project_root)
    venv.create(made.folder, with_pip=False, symlinks=True)
    for distribution in needed("serve"):
        for top in {path.parts[0] for path in distribution.files or () if path.parts[0] != ".."}:
            link = made.packages / top
            if not link.exists():
                link.symlink_to(Path(str(distribution.locate_file(top))))
    return made


def test_it_holds_no_torch(environment: Environment) -> None:
    code = "import importlib.util as u; print([n for n in ('torch', 'onnx', 'openvino', 'PIL') if u.find_spec(n)])"
    assert environment.run(code).stdout == "[]\n"


def test_it_classifies(environment: Environment) -> None:
    done = environment.run(PROGRAM, "classify", "samples/drone.mp4", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["predictions"][0]["label"] == "drone"
    assert (answer["model"]["backend"], answer["model"]["precision"]) == ("onnxruntime-cpu", "fp32")


def test_it_serves(environment: Environment) -> None:
    """Up to readiness, and down again."""
    code = (
        "import logging, os, signal; from adafocus.service import app\n"
        "class Ready(logging.Handler):\n"
        "    def emit(self, record):\n"
        "        if record.getMessage() == 'ready': os.kill(os.getpid(), signal.SIGINT)\n"
        "logging.getLogger('adafocus.app').addHandler(Ready())\n" + PROGRAM
    )
    done = environment.run(code, "serve", "--port", "0")
    said = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    (ready,) = (line for line in said if line["message"] == "ready")
    assert (ready["backend"], ready["precision"]) == ("onnxruntime-cpu", "fp32")


@pytest.mark.parametrize(
    ("backend", "line"),
    [
        ("torchscript", "adafocus: backend torchscript needs torch, which is not installed; pip install -e '.[torch]'"),
        (
            "openvino",
            "adafocus: backend openvino needs openvino, which is not installed; pip install -e '.[openvino]'",
        ),
        (
            "onnxruntime-cuda",
            "adafocus: backend onnxruntime-cuda needs onnxruntime-gpu, which is not installed; "
            "uninstall onnxruntime, then pip install -e '.[gpu]'",
        ),
    ],
)
def test_what_is_not_there_is_named_in_one_line(environment: Environment, backend: str, line: str) -> None:
    assert environment.refusal("--backend", backend) == line


@pytest.mark.parametrize("options", [(), ("--backend", "onnxruntime-cpu"), ("--backend", "onnxruntime-cuda")])
def test_both_packages_of_onnxruntime_are_an_error(environment: Environment, options: tuple[str, ...]) -> None:
    second = environment.packages / "onnxruntime_gpu-1.31.1.dist-info"
    second.mkdir(exist_ok=True)
    (second / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
    try:
        assert "onnxruntime and onnxruntime-gpu are both installed" in environment.refusal(*options)
    finally:
        (second / "METADATA").unlink()
        second.rmdir()
