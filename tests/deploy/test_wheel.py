"""The wheel that is built from this tree has one top-level name and holds everything that it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

FOLDERS = ("bundle", "video", "model", "training", "export", "service", "cli")
LARGEST_BYTES = 5_000_000  # three and a half of them are the weights of the shipped bundle


def build(project_root: Path, tree: Path, folders: tuple[str, ...]) -> Path:
    """Build the wheel with setuptools alone and from a copy, so that nothing is downloaded or left in the checkout."""
    for name in folders:
        shutil.copytree(project_root / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(
        project_root / "adafocus", tree / "adafocus", symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(project_root / name, tree / name)
    script = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", script, str(tree / "out")], cwd=tree, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return tree / "out" / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def built(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's file."""
    return build(project_root, tmp_path_factory.mktemp("tree"), (*FOLDERS, "bundles", "samples"))


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    """The wheel, opened."""
    return zipfile.ZipFile(built)


def test_its_only_top_level_package_is_adafocus(wheel: zipfile.ZipFile, project_root: Path) -> None:
    version = tomllib.loads((project_root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert {name.split("/")[0] for name in wheel.namelist()} == {"adafocus", f"adafocus-{version}.dist-info"}
    (top,) = (name for name in wheel.namelist() if name.endswith("top_level.txt"))
    assert wheel.read(top).decode().split() == ["adafocus"]


def test_it_holds_every_module_and_what_modules_read(wheel: zipfile.ZipFile, project_root: Path) -> None:
    modules = {path.relative_to(project_root) for name in FOLDERS for path in (project_root / name).rglob("*.py")}
    read = {
        path.relative_to(project_root)
        for pattern in ("training/configs/*.toml", "service/web/*", "bundles/*/*", "samples/*.mp4")
        for path in project_root.glob(pattern)
    }
    assert modules and read
    assert {f"adafocus/{path.as_posix()}" for path in modules | read} <= set(wheel.namelist())
    assert "adafocus/py.typed" in wheel.namelist()


def test_it_is_small(built: Path) -> None:
    assert built.stat().st_size < LARGEST_BYTES


def test_it_runs_where_there_is_no_checkout(built: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(built).extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-P", "-c", "from adafocus.cli.configuration import SHIPPED, settings_from as settings;"
         "print(SHIPPED, settings({}).bundle)"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shipped, bundle = done.stdout.split()
    assert Path(shipped) == (tmp_path / "site" / "adafocus").resolve()
    assert Path(bundle).parent == Path(shipped) / "bundles"


def test_the_serving_image_builds_it_from_a_part_of_the_folders(project_root: Path, tmp_path: Path) -> None:
    names = set(zipfile.ZipFile(build(project_root, tmp_path, ("bundle", "video", "service", "cli"))).namelist())
    assert "adafocus/service/app.py" in names
    assert not any(name.startswith(("adafocus/model/", "adafocus/training/", "adafocus/export/")) for name in names)
