"""The wheel that is built from this tree contains exactly the expected packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

PACKAGES = {"bundle", "video", "model", "training", "export", "service", "cli"}


@pytest.fixture(scope="module")
def wheel(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built by setuptools alone from a copy, so that nothing is downloaded and the checkout stays clean."""
    tree = tmp_path_factory.mktemp("tree")
    for name in (*PACKAGES, "bundles", "samples"):
        shutil.copytree(project_root / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(project_root / name, tree / name)
    script = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", script, str(tree / "out")], cwd=tree, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(tree / "out" / done.stdout.splitlines()[-1])


def test_its_top_level_packages_are_the_rooms(wheel: zipfile.ZipFile, project_root: Path) -> None:
    version = tomllib.loads((project_root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert {name.split("/")[0] for name in wheel.namelist()} == PACKAGES | {f"adafocus-{version}.dist-info"}
    (top,) = (name for name in wheel.namelist() if name.endswith("top_level.txt"))
    assert set(wheel.read(top).decode().split()) == PACKAGES


def test_it_holds_every_module_and_what_modules_read(wheel: zipfile.ZipFile, project_root: Path) -> None:
    modules = {
        path.relative_to(project_root).as_posix() for name in PACKAGES for path in (project_root / name).rglob("*.py")
    }
    assert modules <= set(wheel.namelist())
    for pattern in ("training/configs/*.toml", "service/web/*"):
        files = {path.relative_to(project_root).as_posix() for path in project_root.glob(pattern)}
        assert files and files <= set(wheel.namelist())
    assert "bundle/py.typed" in wheel.namelist()
