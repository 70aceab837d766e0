from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adafocus.bundle import store
from adafocus.bundle.manifest import Manifest
from adafocus.bundle.store import BundleError, graph_file_name, load_bundle, read_manifest, write_bundle
from tests.bundle.factory import CONTENT, make_clip_manifest, make_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "toy"


def write_toy(folder: Path, manifest: Manifest | None = None) -> None:
    write_bundle(folder, manifest or make_manifest(), dict(CONTENT))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("make", [make_manifest, make_clip_manifest])
def test_what_is_written_is_read_back(folder: Path, make: Callable[[], Manifest]) -> None:
    write_toy(folder, make())
    bundle = load_bundle(folder)
    assert bundle.manifest == make()
    glance = bundle.manifest.graph("glance", "onnx", "fp32")
    assert bundle.file(glance).read_bytes() == CONTENT["glance.onnx"]
    assert sorted(entry.name for entry in folder.iterdir()) == ["focus.onnx", "glance.onnx", "manifest.json"]
    assert [entry.name for entry in folder.parent.iterdir()] == ["toy"]


def test_files_may_be_given_as_paths_and_are_copied(tmp_path: Path, folder: Path) -> None:
    source = tmp_path / "source.onnx"
    source.write_bytes(CONTENT["glance.onnx"])
    write_bundle(folder, make_manifest(), {**CONTENT, "glance.onnx": source})
    assert load_bundle(folder).manifest.name == "toy"
    assert source.exists()


def test_missing_parents_are_made_and_the_mode_follows_the_umask(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "toy"
    write_toy(folder)
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777


def test_graph_files_are_named_by_component_precision_and_format() -> None:
    glance = make_manifest().graph("glance", "onnx", "fp32")
    assert graph_file_name(glance) == "glance.onnx"
    assert graph_file_name(glance.model_copy(update={"precision": "int8"})) == "glance.int8.onnx"
    assert graph_file_name(glance.model_copy(update={"format": "torchscript"})) == "glance.ts"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "focus.onnx").unlink(), "focus.onnx: is missing"),
        (lambda f: (f / "focus.onnx").write_bytes(b"short"), "focus.onnx: has 5 bytes, the manifest says 32"),
        (lambda f: (f / "glance.onnx").write_bytes(CONTENT["glance.onnx"].upper()), "glance.onnx: sha256 is"),
        (lambda f: (f / "manifest.json").unlink(), "manifest.json: cannot be read (no such file or directory)"),
        (lambda f: (f / "manifest.json").write_text("{"), "manifest.json: Invalid JSON"),
        (lambda f: (f / "manifest.json").write_text("[]"), "manifest.json: Input should be an object"),
        (lambda f: edit(f, lambda m: m.pop("labels")), "manifest.json: labels: Field required"),
        (lambda f: edit(f, lambda m: m.update(schema_version=9)), "schema_version must be 1 for this version"),
        (lambda f: edit(f, lambda m: m["graphs"][0].update(file="../x")), "graphs.0.file: String should match"),
        (lambda f: edit(f, lambda m: m["graphs"][0].update(file="manifest.json")), "cannot be named manifest.json"),
        (lambda f: edit(f, lambda m: m["graphs"][1].update(component="glance")), "two graphs have the same"),
        (lambda f: edit(f, lambda m: m["graphs"][1].update(precision="int8")), "there is no focus graph as onnx fp32"),
        (
            lambda f: edit(f, lambda m: m["graphs"][1]["outputs"][0].update(shape=["batch", 5])),
            "focus.onnx: logits is float32 ['batch', 5], expected float32 ['batch', 3]",
        ),
        (
            lambda f: edit(f, lambda m: m["graphs"][0]["inputs"].pop()),
            "glance.onnx: inputs are frames, expected frames, policy_state",
        ),
        (lambda f: (f / "manifest.json").write_bytes(b" " * ((16 << 20) + 1)), "larger than"),
    ],
)
def test_damage_is_named_in_one_line(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    write_toy(folder)
    damage(folder)
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_manifest_is_readable_without_its_files(folder: Path) -> None:
    write_toy(folder)
    (folder / "focus.onnx").unlink()
    assert read_manifest(folder).name == "toy"


def test_a_bundle_is_replaced_by_a_newer_one(folder: Path) -> None:
    write_toy(folder)
    write_toy(folder, make_manifest(version="2.0"))
    assert load_bundle(folder).manifest.version == "2.0"
    assert [entry.name for entry in folder.parent.iterdir()] == ["toy"]


def test_a_damaged_bundle_and_an_empty_folder_may_be_replaced(folder: Path) -> None:
    folder.mkdir()
    write_toy(folder)
    (folder / "focus.onnx").unlink()
    write_toy(folder)
    assert load_bundle(folder).manifest.name == "toy"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("holiday.jpg", "x", "is not empty and is not a bundle"),
        ("manifest.json", '{"name": "some web app"}', "is not empty and is not a bundle"),
        ("manifest.json", '{"graphs": 3}', "is not empty and is not a bundle"),
    ],
)
def test_a_folder_that_is_no_bundle_is_left_alone(folder: Path, name: str, content: str, message: str) -> None:
    folder.mkdir()
    (folder / name).write_text(content)
    with pytest.raises(BundleError, match=message):
        write_toy(folder)
    assert (folder / name).read_text() == content


def test_a_bundle_with_a_strangers_file_is_left_alone(folder: Path) -> None:
    write_toy(folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"'notes\.txt', which is not part of the bundle"):
        write_toy(folder)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_file_in_the_way_is_left_alone(folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(BundleError, match="exists and is not a folder"):
        write_toy(folder)
    assert folder.read_text() == "a file"


def test_files_that_the_manifest_does_not_describe_are_refused(folder: Path) -> None:
    with pytest.raises(BundleError, match="the manifest names"):
        write_bundle(folder, make_manifest(), {"glance.onnx": b"only one"})
    with pytest.raises(BundleError, match=r"not written: .*toy/focus\.onnx: has 5 bytes"):
        write_bundle(folder, make_manifest(), {**CONTENT, "focus.onnx": b"other"})
    assert list(folder.parent.iterdir()) == []


def test_a_failure_in_the_middle_leaves_nothing_behind(tmp_path: Path, folder: Path) -> None:
    files = {**CONTENT, "focus.onnx": tmp_path / "gone.onnx"}
    with pytest.raises(BundleError, match=r"toy: cannot be written \(no such file"):
        write_bundle(folder, make_manifest(), files)
    with pytest.raises(BundleError, match="cannot be written"):
        write_bundle(tmp_path / "deep" / "down" / "toy", make_manifest(), files)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_rename_brings_the_older_bundle_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_toy(folder)
    rename = Path.rename

    def full_disk(self: Path, target: Path) -> Path:
        if self.name.endswith(".tmp"):
            raise OSError(28, os.strerror(28))
        return rename(self, target)

    monkeypatch.setattr(store.Path, "rename", full_disk)
    with pytest.raises(BundleError, match="no space left on device"):
        write_toy(folder, make_manifest(version="2.0"))
    assert load_bundle(folder).manifest.version == "1.0"
    assert [entry.name for entry in folder.parent.iterdir()] == ["toy"]


def test_an_interrupt_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_put_in_place", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_toy(folder)
    assert list(folder.parent.iterdir()) == []


def test_a_pipe_as_manifest_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(BundleError, match="is not a regular file"):
        read_manifest(tmp_path)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path, folder: Path) -> None:
    write_toy(folder)
    graph = next(path for path in folder.iterdir() if path.name != "manifest.json")
    graph.rename(tmp_path / "elsewhere")
    graph.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="link out of the bundle"):
        load_bundle(folder)


def test_a_label_of_ten_megabytes_is_refused(folder: Path) -> None:
    write_toy(folder)

    def lengthen(stated: dict[str, Any]) -> None:
        stated["labels"][0] = "x" * 10_000_000

    edit(folder, lengthen)
    with pytest.raises(BundleError, match="a label may have 1000 characters") as refusal:
        read_manifest(folder)
    assert len(str(refusal.value)) < 500
